/*
 * See lib/multiboot2.h. Multiboot2 specification 2.0, section 3.6: 8 bytes of header, then tags
 * of {u32 type, u32 size}, each at a multiple of 8, the last of type 0.
 */
#include "lib/multiboot2.h"
#include "lib/bytes.h"
#include "lib/errors.h"
#include "lib/string.h"

enum mb2_tag { /* section 3.6.x by the number */
               MB2_END = 0,
               MB2_CMDLINE = 1,
               MB2_MODULE = 3,
               MB2_MMAP = 6,
               MB2_FRAMEBUFFER = 8,
               MB2_RSDP_OLD = 14,
               MB2_RSDP_NEW = 15,
};

/* More than any loader makes: a size above it is no boot information. */
#define MB2_TOTAL_MAX (4 * MIB)
#define SCREEN_MAX    (256 * MIB) /* 8192 by 8192 */

#define LINES_MAX 16 /* of warnings: nonsense can be wrong at every byte */

struct parse {
    struct bootinfo *out;
    parse_warn_fn warn;
    void *ctx;
    unsigned lines;
};

#define mb2_warn(p, ...)                                  \
    do {                                                  \
        if ((p)->lines++ < LINES_MAX)                     \
            parse_warn((p)->warn, (p)->ctx, __VA_ARGS__); \
    } while (0)

/* Each reader gets a tag with its header; size has been checked against the end of the data. */
static void mb2_read_cmdline(struct parse *p, const u8 *tag, u32 size)
{
    const char *text = (const char *)tag + 8;
    u32 len = 0, max = size - 8;
    while (len < max && text[len])
        len++;
    if (len == max)
        mb2_warn(p, "multiboot2: the command line has no end, cut");
    if (len >= BOOT_CMDLINE_MAX) {
        mb2_warn(p, "multiboot2: the command line has %u bytes, cut to %u", len,
                 BOOT_CMDLINE_MAX - 1);
        len = BOOT_CMDLINE_MAX - 1;
    }
    memcpy(p->out->cmdline, text, len);
    p->out->cmdline[len] = 0;
}

static void mb2_read_module(struct parse *p, const u8 *tag, u32 size)
{
    if (size < 16) {
        mb2_warn(p, "multiboot2: module tag of %u bytes left out", size);
        return;
    }
    u64 start = read_le32(tag + 8), end = read_le32(tag + 12);
    if (start >= end)
        mb2_warn(p, "multiboot2: empty module left out");
    else if (p->out->module_end)
        mb2_warn(p, "multiboot2: only the first module is used");
    else {
        p->out->module_start = start;
        p->out->module_end = end;
    }
}

static void mb2_read_mmap(struct parse *p, const u8 *tag, u32 size)
{
    u32 entry = size >= 16 ? read_le32(tag + 8) : 0;
    if (entry < 24 || entry % 8) {
        mb2_warn(p, "multiboot2: memory map with entries of %u bytes left out", entry);
        return;
    }
    u32 at = 16;
    for (; size - at >= entry; at += entry)
        bootinfo_add_ram(p->out, read_le64(tag + at), read_le64(tag + at + 8),
                         read_le32(tag + at + 16), p->warn, p->ctx);
    if (at != size)
        mb2_warn(p, "multiboot2: the memory map ends inside an entry");
}

static void mb2_read_framebuffer(struct parse *p, const u8 *tag, u32 size)
{
    if (size < 31) {
        mb2_warn(p, "multiboot2: framebuffer tag of %u bytes left out", size);
        return;
    }
    u8 kind = tag[29]; /* 0 palette, 1 RGB, 2 text */
    if (kind == 2)
        return; /* no pixels: the log goes to serial only */
    struct framebuffer fb = {
        .phys = read_le64(tag + 8),
        .pitch = read_le32(tag + 16),
        .width = read_le32(tag + 20),
        .height = read_le32(tag + 24),
        .bpp = tag[28],
    };
    /* The spec's text and its header file differ by a byte here; loaders follow the header. */
    bool ok = kind == 1 && size >= 38 && (fb.bpp == 24 || fb.bpp == 32);
    if (ok) {
        fb.red_shift = tag[32];
        fb.green_shift = tag[34];
        fb.blue_shift = tag[36];
        ok = tag[33] == 8 && tag[35] == 8 && tag[37] == 8 && fb.red_shift <= fb.bpp - 8 &&
             fb.green_shift <= fb.bpp - 8 && fb.blue_shift <= fb.bpp - 8;
    }
    ok = ok && fb.phys && fb.width && fb.height && fb.pitch / (fb.bpp / 8u) >= fb.width &&
         (u64)fb.pitch * fb.height <= SCREEN_MAX && fb.phys + (u64)fb.pitch * fb.height > fb.phys;
    if (ok)
        p->out->fb = fb;
    else
        mb2_warn(p, "multiboot2: framebuffer of kind %u, %ux%ux%u: no screen", kind, fb.width,
                 fb.height, fb.bpp);
}

static void mb2_read_rsdp(struct parse *p, const u8 *tag, u32 size, u32 len)
{
    if (size < 8 + len) {
        mb2_warn(p, "multiboot2: RSDP tag of %u bytes left out", size);
    } else if (p->out->rsdp_copy_len < len) { /* the newer one wins, in whatever order */
        memcpy(p->out->rsdp_copy, tag + 8, len);
        p->out->rsdp_copy_len = len;
    }
}

int multiboot2_parse(const void *data, u64 len, parse_warn_fn warn, void *ctx, struct bootinfo *out)
{
    const u8 *base = data;
    struct parse p = {out, warn, ctx, 0};

    memset(out, 0, sizeof(*out));
    out->loader = "multiboot2";
    if (len < 8)
        return E_FORMAT;
    u32 total = read_le32(base);
    if (total < 16 || total > MB2_TOTAL_MAX)
        return E_FORMAT;
    if (total > len) {
        mb2_warn(&p, "multiboot2: boot information of %u bytes, only %llu can be read", total,
                 (unsigned long long)len);
        total = (u32)len;
    }

    bool ended = false;
    u32 at = 8;
    while (!ended && at <= total && total - at >= 8) {
        const u8 *tag = base + at;
        u32 type = read_le32(tag), size = read_le32(tag + 4);
        if (size < 8 || size > total - at) {
            mb2_warn(&p, "multiboot2: tag %u of %u bytes at offset %u: the rest is left out", type,
                     size, at);
            break;
        }
        switch (type) {
        case MB2_END:
            ended = true;
            break;
        case MB2_CMDLINE:
            mb2_read_cmdline(&p, tag, size);
            break;
        case MB2_MODULE:
            mb2_read_module(&p, tag, size);
            break;
        case MB2_MMAP:
            mb2_read_mmap(&p, tag, size);
            break;
        case MB2_FRAMEBUFFER:
            mb2_read_framebuffer(&p, tag, size);
            break;
        case MB2_RSDP_OLD:
            mb2_read_rsdp(&p, tag, size, 20);
            break;
        case MB2_RSDP_NEW:
            mb2_read_rsdp(&p, tag, size, 36);
            break;
        }
        at += ALIGN_UP(size, 8u);
    }
    if (!ended)
        mb2_warn(&p, "multiboot2: the boot information has no end tag");
    if (p.lines > LINES_MAX)
        parse_warn(warn, ctx, "multiboot2: %u more tags are wrong", p.lines - LINES_MAX);
    bootinfo_settle_ram(out, warn, ctx);
    return 0;
}
