/* lib/elf64: one good image, and everything in it made wrong once. */
#include "lib/elf64.h"
#include "tests/host/lib/parse.h"

#define LIMIT 0x0000800000000000ULL

enum { PH = 64, TEXT = 0, DATA = 56 }; /* the program headers, and two of them */

static struct bytes elf;
static struct elf64 out;

static void phdr(u32 type, u32 flags, u64 offset, u64 vaddr, u64 filesz, u64 memsz)
{
    bytes_32(&elf, type);
    bytes_32(&elf, flags);
    bytes_64(&elf, offset);
    bytes_64(&elf, vaddr);
    bytes_64(&elf, vaddr);
    bytes_64(&elf, filesz);
    bytes_64(&elf, memsz);
    bytes_64(&elf, 4096);
}

/* The data segment comes first: the parser sorts. Then text, an empty one, and a stack note. */
static void good_image(void)
{
    bytes_free(&elf);
    bytes_add(&elf, "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0", 16);
    bytes_16(&elf, 2);
    bytes_16(&elf, 62);
    bytes_32(&elf, 1);
    bytes_64(&elf, 0x401010);
    bytes_64(&elf, PH);
    bytes_64(&elf, 0);
    bytes_32(&elf, 0);
    bytes_16(&elf, 64);
    bytes_16(&elf, 56);
    bytes_16(&elf, 4);
    bytes_16(&elf, 0);
    bytes_16(&elf, 0);
    bytes_16(&elf, 0);
    phdr(1, ELF64_READ | ELF64_EXEC, 0x140, 0x401000, 0x20, 0x20);
    phdr(1, ELF64_READ | ELF64_WRITE, 0x160, 0x400100, 0x10, 0x900);
    phdr(1, ELF64_READ, 0, 0, 0, 0);
    phdr(0x6474e551, ELF64_READ | ELF64_WRITE, 0, 0, 0, 0);
    bytes_zero(&elf, 0x140 - elf.len);
    for (unsigned i = 0; i < 0x30; i++)
        bytes_8(&elf, (u8)i);
}

static void elf_good(void)
{
    const char *why = "not set";
    good_image();
    CHECK_EQ(elf64_parse(elf.data, elf.len, LIMIT, &out, &why), 0);
    CHECK(why == NULL);
    CHECK_EQ(out.nr, 2);
    CHECK_EQ(out.entry, 0x401010);
    CHECK_EQ(out.segment[0].vaddr, 0x400100);
    CHECK_EQ(out.segment[0].memsz, 0x900);
    CHECK_EQ(out.segment[0].filesz, 0x10);
    CHECK_EQ(out.segment[0].flags, ELF64_READ | ELF64_WRITE);
    CHECK_EQ(((const u8 *)out.segment[0].data)[0], 0x20);
    CHECK_EQ(out.segment[1].flags, ELF64_READ | ELF64_EXEC);
}

static void put(size_t at, u64 v, size_t size)
{
    memcpy(elf.data + at, &v, size);
}

static void refused(const char *part)
{
    const char *why = NULL;
    CHECK_EQ(elf64_parse(elf.data, elf.len, LIMIT, &out, &why), E_FORMAT);
    CHECK_HAS(why, part);
    CHECK_EQ(out.nr, 0);
    good_image();
}

static void elf_bad_headers(void)
{
    good_image();
    elf.len = 63;
    refused("shorter");
    put(0, 0x7f, 4);
    refused("not an ELF");
    put(4, 1, 1);
    refused("64-bit");
    put(5, 2, 1);
    refused("little-endian");
    put(20, 2, 4);
    refused("version 1");
    put(16, 3, 2); /* ET_DYN */
    refused("ET_EXEC");
    put(18, 183, 2);
    refused("x86-64");
    put(54, 32, 2);
    refused("unknown size");
    put(56, 0, 2);
    refused("no program headers");
    put(56, 65, 2);
    refused("too many program headers");
    put(56, 60, 2);
    refused("past the end");
    put(32, ~0ULL - 100, 8);
    refused("past the end");
    put(32, elf.len - 4 * 56 + 1, 8);
    refused("past the end");
}

static void elf_bad_segments(void)
{
    good_image();
    put(PH + DATA + 32, 0x901, 8); /* filesz > memsz */
    refused("more bytes in the file");
    put(PH + DATA + 8, ~0ULL, 8); /* the offset */
    refused("past the end of the file");
    put(PH + DATA + 8, elf.len - 15, 8);
    refused("past the end of the file");
    put(PH + DATA + 16, 0xfff, 8); /* the address */
    refused("page 0");
    put(PH + DATA + 16, LIMIT - 0x8ff, 8);
    refused("outside");
    put(PH + DATA + 16, ~0ULL - 0x10, 8);
    refused("outside");
    put(PH + DATA + 40, ~0ULL, 8); /* memsz */
    refused("outside");
    put(PH + DATA + 40, 0xf00, 8); /* its last byte lies just below the text */
    CHECK_EQ(elf64_parse(elf.data, elf.len, LIMIT, &out, NULL), 0);
    put(PH + DATA + 40, 0xf01, 8);
    refused("overlap");
    put(PH + DATA + 16, 0x401000, 8);
    refused("overlap");
    put(PH + DATA + 16, 0x401020, 8);
    refused("one page");
    put(PH + DATA + 4, 7, 4);
    refused("writable and executable");
    put(PH + TEXT, 3, 4);
    refused("dynamic");
    put(PH + TEXT, 2, 4);
    refused("dynamic");
    put(PH + TEXT, 4, 4); /* a note: no text is left */
    refused("entry point");
    put(PH + TEXT, 4, 4);
    put(PH + DATA, 4, 4);
    refused("nothing to load");
    put(24, 0x400100, 8); /* the entry, in the data */
    refused("entry point");
    put(24, 0x401020, 8); /* right behind the text */
    refused("entry point");
    put(24, 0, 8);
    refused("entry point");
}

static void elf_too_many_segments(void)
{
    good_image();
    put(56, 20, 2);
    put(32, elf.len, 8);
    for (unsigned i = 0; i < 20; i++)
        phdr(1, ELF64_READ | ELF64_EXEC, 0, 0x401000 + i * 0x1000, 0x20, 0x20);
    refused("too many segments");
    put(56, 16, 2);
    put(32, elf.len, 8);
    for (unsigned i = 0; i < 16; i++)
        phdr(1, ELF64_READ | ELF64_EXEC, 0, 0x401000 + i * 0x1000, 0x20, 0x20);
    CHECK_EQ(elf64_parse(elf.data, elf.len, LIMIT, &out, NULL), 0);
    CHECK_EQ(out.nr, 16);
}

/* Whatever is accepted keeps every promise of the header. */
static void elf_noise(void)
{
    unsigned accepted = 0;
    for (unsigned round = 0; round < 50000; round++) {
        good_image();
        for (unsigned n = 1 + check_random() % 4; n; n--)
            elf.data[check_random() % 0x140] = (u8)(check_random() >> check_random() % 9);
        if (elf64_parse(elf.data, elf.len, LIMIT, &out, NULL))
            continue;
        accepted++;
        bool entry_ok = false;
        for (unsigned i = 0; i < out.nr; i++) {
            const struct elf64_segment *s = &out.segment[i];
            const u8 *data = s->data;
            CHECK(s->memsz > 0 && s->filesz <= s->memsz);
            CHECK(s->vaddr >= 4096 && s->vaddr + s->memsz > s->vaddr &&
                  s->vaddr + s->memsz <= LIMIT);
            CHECK(data >= elf.data && data + s->filesz <= elf.data + elf.len);
            CHECK((s->flags & 3) != 3);
            CHECK(i == 0 || (s[-1].vaddr + s[-1].memsz - 1) / 4096 < s->vaddr / 4096);
            entry_ok |= (s->flags & 1) && out.entry >= s->vaddr && out.entry < s->vaddr + s->memsz;
        }
        CHECK(entry_ok);
    }
    CHECK(accepted > 0 && accepted < 50000);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(elf_good);
    RUN(elf_bad_headers);
    RUN(elf_bad_segments);
    RUN(elf_too_many_segments);
    RUN(elf_noise);
    bytes_free(&elf);
    return check_done();
}
