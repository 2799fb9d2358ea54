/* lib/multiboot2: good boot information, broken tags, and noise. */
#include "lib/errors.h"
#include "lib/multiboot2.h"
#include "tests/host/lib/parse.h"

static struct bytes mb;
static struct bootinfo info;

static void begin(void)
{
    bytes_free(&mb);
    bytes_zero(&mb, 8); /* total_size, reserved */
    warnings_clear();
}

/* A tag with these bytes after its header. */
static void tag(u32 type, struct bytes body)
{
    bytes_32(&mb, type);
    bytes_32(&mb, (u32)body.len + 8);
    bytes_add(&mb, body.data, body.len);
    bytes_align(&mb, 8);
    bytes_free(&body);
}

static void tag_text(u32 type, const char *text)
{
    struct bytes b = {0};
    bytes_add(&b, text, strlen(text) + 1);
    tag(type, b);
}

static void tag_module(u32 start, u32 end)
{
    struct bytes b = {0};
    bytes_32(&b, start);
    bytes_32(&b, end);
    bytes_add(&b, "guests", 7);
    tag(3, b);
}

static struct bytes mmap_body(u32 entry_size)
{
    struct bytes b = {0};
    bytes_32(&b, entry_size);
    bytes_32(&b, 0);
    return b;
}

static void mmap_entry(struct bytes *b, u64 start, u64 len, u32 type)
{
    bytes_64(b, start);
    bytes_64(b, len);
    bytes_32(b, type);
    bytes_32(b, 0);
}

static void tag_framebuffer(u64 phys, u32 pitch, u32 width, u32 height, u8 bpp, u8 kind)
{
    struct bytes b = {0};
    bytes_64(&b, phys);
    bytes_32(&b, pitch);
    bytes_32(&b, width);
    bytes_32(&b, height);
    bytes_8(&b, bpp);
    bytes_8(&b, kind);
    bytes_16(&b, 0);
    bytes_add(&b, "\x10\x08\x08\x08\x00\x08", 6);
    tag(8, b);
}

static void tag_rsdp(u32 type, size_t len, u8 fill)
{
    struct bytes b = {0};
    for (size_t i = 0; i < len; i++)
        bytes_8(&b, fill);
    tag(type, b);
}

static int finish(void)
{
    tag(0, (struct bytes){0});
    bytes_put_32(&mb, 0, (u32)mb.len);
    return multiboot2_parse(mb.data, mb.len, warning_add, NULL, &info);
}

static void mb2_good(void)
{
    begin();
    tag_text(1, "test=all seed=4");
    tag_text(2, "GRUB 2.06");
    tag_module(0x100000, 0x180000);
    struct bytes b = mmap_body(24);
    mmap_entry(&b, 0, 0x9fc00, 1);
    mmap_entry(&b, 0x100000, 0x7ff00000, 1);
    mmap_entry(&b, 0xfffc0000, 0x40000, 2);
    tag(6, b);
    tag_framebuffer(0xfd000000, 4096, 1024, 768, 32, 1);
    tag_rsdp(15, 36, 0xbb);
    tag_rsdp(14, 20, 0xaa);
    tag_text(4711, "unknown");
    CHECK_EQ(finish(), 0);
    CHECK_QUIET();
    CHECK_STR(info.loader, "multiboot2");
    CHECK_STR(info.cmdline, "test=all seed=4");
    CHECK_EQ(info.module_start, 0x100000);
    CHECK_EQ(info.module_end, 0x180000);
    CHECK_EQ(info.nr_ram, 3);
    CHECK_EQ(info.ram[1].start, 0x100000);
    CHECK_EQ(info.ram[1].end, 0x80000000);
    CHECK_EQ(info.ram[2].type, RAM_RESERVED);
    CHECK_EQ(info.fb.phys, 0xfd000000);
    CHECK_EQ(info.fb.width, 1024);
    CHECK_EQ(info.fb.red_shift, 16);
    CHECK_EQ(info.fb.green_shift, 8);
    CHECK_EQ(info.fb.blue_shift, 0);
    CHECK_EQ(info.rsdp_copy_len, 36);
    CHECK_EQ(info.rsdp_copy[0], 0xbb);
}

static void mb2_old_rsdp_and_wide_entries(void)
{
    begin();
    tag_rsdp(14, 20, 0xaa);
    struct bytes b = mmap_body(32); /* a later version's entries: the rest is skipped */
    mmap_entry(&b, 0x1000, 0x1000, 1);
    bytes_64(&b, ~0ULL);
    mmap_entry(&b, 0x5000, 0x1000, 1);
    bytes_64(&b, ~0ULL);
    tag(6, b);
    CHECK_EQ(finish(), 0);
    CHECK_QUIET();
    CHECK_EQ(info.rsdp_copy_len, 20);
    CHECK_EQ(info.nr_ram, 2);
    CHECK_EQ(info.ram[1].start, 0x5000);
}

static void mb2_not_boot_information(void)
{
    begin();
    CHECK_EQ(multiboot2_parse(mb.data, 8, warning_add, NULL, &info), E_FORMAT);
    CHECK_EQ(multiboot2_parse(mb.data, 4, warning_add, NULL, &info), E_FORMAT);
    bytes_put_32(&mb, 0, 0x7fffffff);
    CHECK_EQ(multiboot2_parse(mb.data, 8, warning_add, NULL, &info), E_FORMAT);
    CHECK_EQ(info.nr_ram, 0);
    CHECK_QUIET();
}

static void mb2_broken_parts(void)
{
    begin(); /* the module is broken, what stands behind it is not lost */
    struct bytes b = {0};
    bytes_32(&b, 5);
    tag(3, b);
    tag_text(1, "kept");
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "module");
    CHECK_STR(info.cmdline, "kept");

    begin();
    tag_module(0x5000, 0x5000);
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "empty module");
    CHECK_EQ(info.module_end, 0);

    begin();
    tag_module(0x5000, 0x6000);
    tag_module(0x7000, 0x8000);
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "only the first");
    CHECK_EQ(info.module_start, 0x5000);

    begin(); /* entries too small to be any */
    tag(6, mmap_body(16));
    tag(6, mmap_body(0));
    tag(6, mmap_body(~0u));
    tag(6, (struct bytes){0});
    CHECK_EQ(finish(), 0);
    CHECK_EQ(warned.nr, 4);
    CHECK_EQ(info.nr_ram, 0);

    begin(); /* a map that ends inside an entry keeps the whole ones */
    b = mmap_body(24);
    mmap_entry(&b, 0x1000, 0x1000, 1);
    bytes_64(&b, 0x9000);
    tag(6, b);
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "inside an entry");
    CHECK_EQ(info.nr_ram, 1);

    begin();
    tag_rsdp(14, 8, 1);
    tag_rsdp(15, 20, 1);
    CHECK_EQ(finish(), 0);
    CHECK_EQ(warned.nr, 2);
    CHECK_EQ(info.rsdp_copy_len, 0);
}

static void mb2_command_lines(void)
{
    begin();
    struct bytes b = {0};
    bytes_add(&b, "open", 4); /* no NUL */
    tag(1, b);
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "no end");
    CHECK_STR(info.cmdline, "open");

    begin();
    char text[3000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    tag_text(1, text);
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "cut to 2047");
    CHECK_EQ(strlen(info.cmdline), BOOT_CMDLINE_MAX - 1);

    begin();
    tag(1, (struct bytes){0});
    CHECK_EQ(finish(), 0);
    CHECK_STR(info.cmdline, "");
}

static void mb2_framebuffers(void)
{
    begin(); /* text mode is no fault */
    tag_framebuffer(0xb8000, 160, 80, 25, 16, 2);
    CHECK_EQ(finish(), 0);
    CHECK_QUIET();
    CHECK_EQ(info.fb.phys, 0);
    static const struct {
        u64 phys;
        u32 pitch, width, height;
        u8 bpp, kind;
    } bad[] = {
        {0xfd000000, 4096, 1024, 768, 8, 0},   {0xfd000000, 4096, 1024, 768, 15, 1},
        {0xfd000000, 4092, 1024, 768, 32, 1},  {0, 4096, 1024, 768, 32, 1},
        {0xfd000000, 4096, 1024, 0, 32, 1},    {0xfd000000, 4096, 0, 768, 32, 1},
        {~0ULL - 100, 4096, 1024, 768, 32, 1}, {0xfd000000, 1 << 20, 1024, 1 << 20, 32, 1},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        begin();
        tag_framebuffer(bad[i].phys, bad[i].pitch, bad[i].width, bad[i].height, bad[i].bpp,
                        bad[i].kind);
        CHECK_EQ(finish(), 0);
        CHECK_WARNED(1, "no screen");
        CHECK_EQ(info.fb.phys, 0);
    }
    begin();
    tag(8, (struct bytes){0});
    CHECK_EQ(finish(), 0);
    CHECK_WARNED(1, "left out");
}

static void mb2_broken_frames(void)
{
    begin(); /* a tag that goes past the end */
    tag_text(1, "kept");
    bytes_32(&mb, 3);
    bytes_32(&mb, 1000);
    CHECK_EQ(finish(), 0);
    CHECK_HAS(warned.text, "rest is left out");
    CHECK_STR(info.cmdline, "kept");

    begin(); /* a tag of no size would loop for ever */
    bytes_32(&mb, 9);
    bytes_32(&mb, 0);
    CHECK_EQ(finish(), 0);
    CHECK_HAS(warned.text, "rest is left out");

    begin(); /* no end tag */
    tag_text(1, "kept");
    bytes_put_32(&mb, 0, (u32)mb.len);
    CHECK_EQ(multiboot2_parse(mb.data, mb.len, warning_add, NULL, &info), 0);
    CHECK_WARNED(1, "no end tag");
    CHECK_STR(info.cmdline, "kept");

    begin(); /* says more than there is */
    tag_text(1, "kept");
    bytes_put_32(&mb, 0, 5000);
    CHECK_EQ(multiboot2_parse(mb.data, mb.len, warning_add, NULL, &info), 0);
    CHECK_HAS(warned.text, "can be read");
    CHECK_STR(info.cmdline, "kept");
}

/* Good information with bytes turned over: no answer is wrong, but it has to come to an end. */
static void mb2_noise(void)
{
    for (unsigned round = 0; round < 20000; round++) {
        begin();
        tag_text(1, "a=b");
        tag_module(0x1000, 0x2000);
        struct bytes b = mmap_body(24);
        mmap_entry(&b, 0x1000, 0x1000, 1);
        mmap_entry(&b, 0x3000, 0x1000, 1);
        tag(6, b);
        tag_framebuffer(0xfd000000, 4096, 1024, 768, 32, 1);
        tag_rsdp(14, 20, 0xaa);
        tag(0, (struct bytes){0});
        bytes_put_32(&mb, 0, (u32)mb.len);
        for (unsigned n = 1 + check_random() % 6; n; n--)
            mb.data[check_random() % mb.len] = (u8)(check_random() >> check_random() % 9);
        multiboot2_parse(mb.data, mb.len - check_random() % 9, warning_add, NULL, &info);
        CHECK(strlen(info.cmdline) < BOOT_CMDLINE_MAX && info.nr_ram <= BOOT_RANGES_MAX);
        CHECK(info.module_start <= info.module_end);
    }
    bytes_free(&mb);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(mb2_good);
    RUN(mb2_old_rsdp_and_wide_entries);
    RUN(mb2_not_boot_information);
    RUN(mb2_broken_parts);
    RUN(mb2_command_lines);
    RUN(mb2_framebuffers);
    RUN(mb2_broken_frames);
    RUN(mb2_noise);
    bytes_free(&mb);
    return check_done();
}
