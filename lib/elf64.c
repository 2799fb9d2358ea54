/*
 * See lib/elf64.h. The headers are read byte-wise: an image may lie at any address. Offsets are
 * those of Elf64_Ehdr and Elf64_Phdr in the ELF-64 format.
 */
#include "lib/elf64.h"
#include "lib/bytes.h"
#include "lib/string.h"

enum {
    EHDR_SIZE = 64,
    PHDR_SIZE = 56,
    PHDRS_MAX = 64, /* more than any guest has; bounds the work */
    ET_EXEC = 2,
    EM_X86_64 = 62,
    PT_LOAD = 1,
    PT_DYNAMIC = 2,
    PT_INTERP = 3,
};

static const char *header_check(const u8 *h, u64 len)
{
    if (len < EHDR_SIZE)
        return "shorter than an ELF header";
    if (memcmp(h, "\177ELF", 4) != 0)
        return "not an ELF file";
    if (h[4] != 2)
        return "not a 64-bit ELF file";
    if (h[5] != 1 || h[6] != 1 || read_le32(h + 20) != 1)
        return "not little-endian ELF of version 1";
    if (read_le16(h + 16) != ET_EXEC)
        return "not a static executable (ET_EXEC)";
    if (read_le16(h + 18) != EM_X86_64)
        return "not for x86-64";
    if (read_le16(h + 54) != PHDR_SIZE)
        return "program headers of an unknown size";
    u64 at = read_le64(h + 32), nr = read_le16(h + 56);
    if (nr == 0)
        return "no program headers";
    if (nr > PHDRS_MAX)
        return "too many program headers";
    if (at > len || nr * PHDR_SIZE > len - at)
        return "program headers past the end of the file";
    return NULL;
}

static const char *segment_read(const u8 *image, u64 len, u64 limit, const u8 *ph,
                                struct elf64_segment *s)
{
    u64 offset = read_le64(ph + 8);
    *s = (struct elf64_segment){
        .vaddr = read_le64(ph + 16),
        .filesz = read_le64(ph + 32),
        .memsz = read_le64(ph + 40),
        .flags = read_le32(ph + 4) & (ELF64_EXEC | ELF64_WRITE | ELF64_READ),
    };
    if (s->filesz > s->memsz)
        return "a segment with more bytes in the file than in memory";
    if (offset > len || s->filesz > len - offset)
        return "a segment past the end of the file";
    if (s->vaddr < FRAME_SIZE)
        return "a segment on page 0";
    if (s->vaddr > limit || s->memsz > limit - s->vaddr)
        return "a segment outside the guest's addresses";
    if ((s->flags & ELF64_WRITE) && (s->flags & ELF64_EXEC))
        return "a segment both writable and executable";
    s->data = image + offset;
    return NULL;
}

/* Keeps the segments in the order of their addresses. */
static const char *segment_insert(struct elf64 *out, const struct elf64_segment *s)
{
    unsigned at = out->nr;
    if (at == ELF64_SEGMENTS_MAX)
        return "too many segments";
    for (; at > 0 && out->segment[at - 1].vaddr > s->vaddr; at--)
        out->segment[at] = out->segment[at - 1];
    out->segment[at] = *s;
    out->nr++;
    return NULL;
}

/* Pages have one set of rights each, so two segments may not even share one. */
static const char *segments_check(const struct elf64 *e)
{
    bool entry_ok = false;
    for (unsigned i = 0; i < e->nr; i++) {
        const struct elf64_segment *s = &e->segment[i];
        if (i > 0) {
            const struct elf64_segment *below = s - 1;
            if (below->vaddr + below->memsz > s->vaddr)
                return "segments that overlap";
            if ((below->vaddr + below->memsz - 1) / FRAME_SIZE == s->vaddr / FRAME_SIZE)
                return "two segments on one page";
        }
        if ((s->flags & ELF64_EXEC) && e->entry >= s->vaddr && e->entry - s->vaddr < s->filesz)
            entry_ok = true;
    }
    if (e->nr == 0)
        return "nothing to load";
    return entry_ok ? NULL : "an entry point outside the executable segments";
}

static const char *elf64_read(const u8 *image, u64 len, u64 limit, struct elf64 *out)
{
    const char *why = header_check(image, len);
    if (why)
        return why;
    const u8 *ph = image + read_le64(image + 32);
    out->entry = read_le64(image + 24);
    for (unsigned i = read_le16(image + 56); i; i--, ph += PHDR_SIZE) {
        u32 type = read_le32(ph);
        if (type == PT_INTERP || type == PT_DYNAMIC)
            return "a dynamic executable";
        if (type != PT_LOAD || read_le64(ph + 40) == 0)
            continue;
        struct elf64_segment s;
        why = segment_read(image, len, limit, ph, &s);
        if (!why)
            why = segment_insert(out, &s);
        if (why)
            return why;
    }
    return segments_check(out);
}

int elf64_parse(const void *image, u64 len, u64 limit, struct elf64 *out, const char **why)
{
    memset(out, 0, sizeof(*out));
    const char *refused = elf64_read(image, len, limit, out);
    if (why)
        *why = refused;
    if (!refused)
        return 0;
    memset(out, 0, sizeof(*out));
    return E_FORMAT;
}
