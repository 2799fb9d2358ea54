/* lib/pvh: start infos in a small physical memory. */
#include "lib/errors.h"
#include "lib/pvh.h"
#include "tests/host/lib/parse.h"

enum { INFO = 0x5000, MODLIST = 0x6000, MEMMAP = 0x7000 };

static struct bootinfo info;

static void entry(struct bytes *b, u64 start, u64 len, u32 type)
{
    bytes_64(b, start);
    bytes_64(b, len);
    bytes_32(b, type);
    bytes_32(b, 0);
}

static void begin(void)
{
    phys_clear();
    warnings_clear();
}

static void start_info(u32 version, u32 nr_modules, u64 cmdline, u32 nr_entries)
{
    struct bytes b = {0};
    bytes_32(&b, PVH_MAGIC);
    bytes_32(&b, version);
    bytes_32(&b, 0);
    bytes_32(&b, nr_modules);
    bytes_64(&b, MODLIST);
    bytes_64(&b, cmdline);
    bytes_64(&b, 0xf5000);
    if (version >= 1) {
        bytes_64(&b, MEMMAP);
        bytes_32(&b, nr_entries);
        bytes_32(&b, 0);
    }
    phys_add(INFO, b);
}

static void module(u64 start, u64 size)
{
    struct bytes b = {0};
    bytes_64(&b, start);
    bytes_64(&b, size);
    bytes_64(&b, 0);
    bytes_64(&b, 0);
    phys_add(MODLIST, b);
}

static void two_ranges(void)
{
    struct bytes b = {0};
    entry(&b, 0, 0x9fc00, 1);
    entry(&b, 0x100000, 0x7ff00000, 1);
    phys_add(MEMMAP, b);
}

static void text(u64 phys, const char *s, size_t len)
{
    struct bytes b = {0};
    bytes_add(&b, s, len);
    phys_add(phys, b);
}

static int parse(void)
{
    return pvh_parse(INFO, phys_map, warning_add, NULL, &info);
}

static void pvh_good(void)
{
    begin();
    start_info(1, 1, 0x8ffd, 2);
    module(0x1000000, 0x8000);
    two_ranges();
    char page[3 + 4096] = "t=1 seed=2"; /* goes over the border of a page */
    text(0x8ffd, page, 3);
    text(0x9000, page + 3, 4096);
    CHECK_EQ(parse(), 0);
    CHECK_QUIET();
    CHECK_STR(info.loader, "PVH");
    CHECK_STR(info.cmdline, "t=1 seed=2");
    CHECK_EQ(info.module_start, 0x1000000);
    CHECK_EQ(info.module_end, 0x1008000);
    CHECK_EQ(info.rsdp_phys, 0xf5000);
    CHECK_EQ(info.nr_ram, 2);
    CHECK_EQ(info.ram[1].end, 0x80000000);
}

static void pvh_bare(void)
{
    begin(); /* no module, no command line */
    start_info(1, 0, 0, 2);
    two_ranges();
    CHECK_EQ(parse(), 0);
    CHECK_QUIET();
    CHECK_STR(info.cmdline, "");
    CHECK_EQ(info.module_end, 0);

    begin();
    start_info(0, 0, 0, 0);
    CHECK_EQ(parse(), 0);
    CHECK_WARNED(1, "version 0");
}

static void pvh_not_one(void)
{
    begin();
    CHECK_EQ(parse(), E_FAULT);
    text(INFO, "not what was looked for, and long enough for one........", 56);
    CHECK_EQ(parse(), E_FORMAT);
    CHECK_EQ(info.nr_ram, 0);
}

static void pvh_broken_parts(void)
{
    begin(); /* nothing of it can be read: all warnings, no crash */
    start_info(1, 1, 0x8000, 2);
    CHECK_EQ(parse(), 0);
    CHECK_EQ(warned.nr, 3);
    CHECK_EQ(info.nr_ram, 0);

    begin();
    start_info(1, 1, 0, 2);
    two_ranges();
    module(0xfffffffffffff000, 0x2000);
    CHECK_EQ(parse(), 0);
    CHECK_WARNED(1, "module");
    CHECK_EQ(info.module_end, 0);

    begin();
    start_info(1, 3, 0, 2);
    two_ranges();
    module(0x1000, 0x2000);
    CHECK_EQ(parse(), 0);
    CHECK_WARNED(1, "only the first");
    CHECK_EQ(info.module_end, 0x3000);

    begin();
    start_info(1, 0, 0, 0xffffffff);
    two_ranges();
    CHECK_EQ(parse(), 0);
    CHECK_EQ(warned.nr, 2);
    CHECK_EQ(info.nr_ram, 0);

    begin(); /* a command line without end */
    start_info(1, 0, 0x8000, 2);
    two_ranges();
    char endless[4096];
    memset(endless, 'x', sizeof(endless));
    text(0x8000, endless, sizeof(endless));
    CHECK_EQ(parse(), 0);
    CHECK_WARNED(1, "longer");
    CHECK_EQ(strlen(info.cmdline), BOOT_CMDLINE_MAX - 1);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(pvh_good);
    RUN(pvh_bare);
    RUN(pvh_not_one);
    RUN(pvh_broken_parts);
    phys_clear();
    return check_done();
}
