/* The firmware's map settled, and the list of free ranges against an array of frames. */
#include "lib/errors.h"
#include "lib/memmap.h"
#include "tests/host/lib/parse.h"

static struct bootinfo info;

static void start_over(void)
{
    memset(&info, 0, sizeof(info));
    warnings_clear();
}

static void add(u64 start, u64 end, u32 type)
{
    bootinfo_add_ram(&info, start, end - start, type, warning_add, NULL);
}

static void settle(void)
{
    bootinfo_settle_ram(&info, warning_add, NULL);
    for (unsigned i = 0; i < info.nr_ram; i++) {
        CHECK(info.ram[i].start < info.ram[i].end);
        CHECK(i == 0 || info.ram[i - 1].end <= info.ram[i].start);
    }
}

#define CHECK_RAM(i, s, e, t)             \
    do {                                  \
        CHECK_EQ(info.ram[i].start, (s)); \
        CHECK_EQ(info.ram[i].end, (e));   \
        CHECK_EQ(info.ram[i].type, (t));  \
    } while (0)

static void ram_good(void)
{
    start_over();
    add(0, 0x9fc00, 1);
    add(0x9fc00, 0xa0000, 2);
    add(0x100000, 0x7fe00000, 1);
    add(0x7fe00000, 0x7fe10000, 3);
    add(0x7fe10000, 0x7fe20000, 4);
    add(0x7fe20000, 0x7fe30000, 5);
    add(0x7fe30000, 0x80000000, 77);
    add(0x100000000, 0x180000000, 1);
    settle();
    CHECK_QUIET();
    CHECK_EQ(info.nr_ram, 8);
    CHECK_RAM(0, 0, 0x9fc00, RAM_USABLE);
    CHECK_RAM(3, 0x7fe00000, 0x7fe10000, RAM_ACPI);
    CHECK_RAM(4, 0x7fe10000, 0x7fe20000, RAM_NVS);
    CHECK_RAM(5, 0x7fe20000, 0x7fe30000, RAM_BAD);
    CHECK_RAM(6, 0x7fe30000, 0x80000000, RAM_RESERVED);
}

static void ram_out_of_order(void)
{
    start_over();
    add(0x300000, 0x400000, 1);
    add(0x100000, 0x200000, 1);
    settle();
    CHECK_WARNED(1, "out of order");
    CHECK_EQ(info.nr_ram, 2);
    CHECK_RAM(0, 0x100000, 0x200000, RAM_USABLE);
}

static void ram_overlapping(void)
{
    start_over();
    add(0x100000, 0x900000, 1);
    add(0x200000, 0x300000, 2);
    add(0x280000, 0x400000, 3);
    settle();
    CHECK_WARNED(1, "overlap");
    CHECK_EQ(info.nr_ram, 4);
    CHECK_RAM(0, 0x100000, 0x200000, RAM_USABLE);
    CHECK_RAM(1, 0x200000, 0x300000, RAM_RESERVED);
    CHECK_RAM(2, 0x300000, 0x400000, RAM_ACPI);
    CHECK_RAM(3, 0x400000, 0x900000, RAM_USABLE);

    start_over(); /* neighbours and doubles of one type become one */
    add(0x100000, 0x200000, 1);
    add(0x200000, 0x300000, 1);
    add(0x250000, 0x300000, 1);
    settle();
    CHECK_EQ(info.nr_ram, 1);
    CHECK_RAM(0, 0x100000, 0x300000, RAM_USABLE);
}

static void ram_wrapping(void)
{
    start_over();
    add(0x100000, 0x200000, 1);
    bootinfo_add_ram(&info, 0xfffffffffff00000, 0x200000, 1, warning_add, NULL);
    CHECK_WARNED(1, "past the end");
    CHECK_EQ(info.nr_ram, 1);
    bootinfo_add_ram(&info, 0xfffffffffff00000, 0x200000, 2, warning_add, NULL);
    bootinfo_add_ram(&info, 0x5000, 0, 1, warning_add, NULL);
    CHECK_EQ(warned.nr, 1);
    settle();
    CHECK_WARNED(2, "2 more ranges are empty, wrap or find no room");
    CHECK_EQ(info.nr_ram, 2);
    CHECK_RAM(1, 0xfffffffffff00000, ~0ULL, RAM_RESERVED);

    start_over();
    bootinfo_add_ram(&info, 0x5000, 0, 1, warning_add, NULL);
    CHECK_WARNED(1, "empty range at 0x5000");
}

static void ram_questions(void)
{
    start_over();
    add(0x1800, 0x9fc00, 1);
    add(0x100000, 0x300000, 1);
    add(0x300000, 0x400000, 2);
    settle();
    CHECK(bootinfo_usable(&info, 0x2000, 0x9f000));
    CHECK(!bootinfo_usable(&info, 0x1800, 0x3000)); /* not all of its first frame is usable */
    CHECK(!bootinfo_usable(&info, 0x9f000, 0x9f800));
    CHECK(!bootinfo_usable(&info, 0x2ff000, 0x301000));
    CHECK(!bootinfo_usable(&info, 0x200000, 0x200000));
    CHECK(!bootinfo_usable(&info, 0x200000, 0x1000));
    CHECK(bootinfo_touches_usable(&info, 0x2fffff, 0x400000));
    CHECK(!bootinfo_touches_usable(&info, 0x300000, 0x500000));
    CHECK(!bootinfo_touches_usable(&info, 0xa0000, 0x100000));
}

static void ram_use_rsdp(void)
{
    start_over();
    add(0x100000, 0x300000, 1);
    add(0x300000, 0x400000, 2);
    settle();
    info.module_start = 0x120000;
    info.module_end = 0x121000;
    CHECK(!bootinfo_use_rsdp(&info, 0x2f8000)); /* half of it is reserved */
    CHECK(!bootinfo_use_rsdp(&info, 0x111000)); /* the module */
    CHECK(!bootinfo_use_rsdp(&info, ~0xfffULL));
    CHECK(!bootinfo_use_rsdp(&info, 0x800000));
    CHECK_EQ(info.nr_ram, 2);
    CHECK_EQ(info.rsdp_phys, 0);
    info.rsdp_copy_len = 20;
    CHECK(bootinfo_use_rsdp(&info, 0x200010));
    CHECK_EQ(info.rsdp_phys, 0x200010);
    CHECK_EQ(info.rsdp_copy_len, 0);
    CHECK_EQ(info.nr_ram, 4);
    CHECK_RAM(1, 0x200010, 0x210010, RAM_ACPI);
    CHECK_QUIET();
}

/* However many ranges come, what some range forbids is never usable. */
static void ram_too_many(void)
{
    start_over();
    for (u64 i = 0; i < BOOT_RANGES_MAX; i++)
        add(i * 0x100000, i * 0x100000 + 0x80000 + i * 0x1000 % 0x40000, 1);
    add(0x50000, 0x60000, 2);
    settle();
    CHECK_HAS(warned.text, "more than");
    for (unsigned i = 0; i < info.nr_ram; i++)
        CHECK(info.ram[i].type != RAM_USABLE || info.ram[i].end <= 0x50000 ||
              info.ram[i].start >= 0x60000);
}

static void ram_random(void)
{
    enum { SPACE = 256 };
    static const u8 strictness[] = {
        [RAM_USABLE] = 1, [RAM_ACPI] = 2, [RAM_NVS] = 3, [RAM_RESERVED] = 4, [RAM_BAD] = 5};
    for (unsigned round = 0; round < 3000; round++) {
        u8 want[SPACE] = {0};
        start_over();
        for (unsigned n = check_random() % 60; n; n--) {
            u64 start = check_random() % SPACE, end = start + 1 + check_random() % (SPACE - start);
            u32 type = 1 + check_random() % 5;
            add(start, end, type);
            enum ram_type t = info.ram[info.nr_ram - 1].type;
            for (u64 i = start; i < end; i++)
                want[i] = MAX(want[i], strictness[t]);
        }
        settle();
        u8 got[SPACE] = {0};
        for (unsigned i = 0; i < info.nr_ram; i++) {
            for (u64 at = info.ram[i].start; at < info.ram[i].end; at++)
                got[at] = strictness[info.ram[i].type];
            if (i > 0 && info.ram[i - 1].end == info.ram[i].start)
                CHECK(info.ram[i - 1].type != info.ram[i].type);
        }
        CHECK(memcmp(got, want, SPACE) == 0);
    }
}

/* ---- the list of what is free ---- */

static struct memmap map;

static void memmap_rounds(void)
{
    map.nr = 0;
    CHECK_EQ(memmap_add(&map, 0x1001, 0x4fff, 3), 0);
    CHECK_EQ(map.nr, 1);
    CHECK_EQ(map.range[0].start, 0x2000);
    CHECK_EQ(map.range[0].end, 0x4000);
    CHECK_EQ(map.range[0].node, 3);
    CHECK_EQ(memmap_add(&map, 0x8001, 0x8fff, 0), 0); /* no whole frame */
    CHECK_EQ(memmap_bytes(&map), 0x2000);
    CHECK_EQ(memmap_remove(&map, 0x3fff, 0x4000), 0); /* outwards */
    CHECK_EQ(memmap_bytes(&map), 0x1000);
    CHECK_EQ(memmap_add(&map, ~0ULL - 10, ~0ULL, 0), 0); /* no overflow at the end */
    CHECK_EQ(memmap_remove(&map, 0x100000, ~0ULL), 0);
    CHECK_EQ(memmap_set_node(&map, ~0ULL - 10, ~0ULL, 1), 0);
    CHECK_EQ(memmap_bytes(&map), 0x1000);
}

static void memmap_takes_highest(void)
{
    map.nr = 0;
    memmap_add(&map, 0, 0x100000, 0);
    memmap_add(&map, 0x200000, 0x800000, 0);
    CHECK_EQ(memmap_take(&map, 5000, 0x1000, ~0ULL), 0x7fe000);
    CHECK_EQ(memmap_take(&map, 0x1000, 0x200000, ~0ULL), 0x600000);
    CHECK_EQ(memmap_take(&map, 0x1000, 0x1000, 0x100000), 0xff000);
    CHECK_EQ(memmap_take(&map, 0x1000, 1, 0x1000), 0); /* frame 0 would say "none" */
    CHECK_EQ(memmap_take(&map, 0x10000000, 0x1000, ~0ULL), 0);
    CHECK_EQ(memmap_take(&map, ~0ULL, 0x1000, ~0ULL), 0);
    CHECK_EQ(memmap_take(&map, 0, 0x1000, ~0ULL), 0);
    CHECK_EQ(memmap_bytes(&map), 0x100000 + 0x600000 - 0x2000 - 0x1000 - 0x1000);

    u64 before = memmap_bytes(&map); /* an empty range has no frame, wherever it begins */
    CHECK_EQ(memmap_remove(&map, 0x300800, 0x300800), 0);
    CHECK_EQ(memmap_remove(&map, 0x300900, 0x300800), 0);
    CHECK_EQ(memmap_bytes(&map), before);
}

static void memmap_full(void)
{
    map.nr = 0;
    for (u64 i = 0; i < MEMMAP_MAX; i++)
        CHECK_EQ(memmap_add(&map, i * 0x10000, i * 0x10000 + 0x8000, 0), 0);
    CHECK_EQ(memmap_add(&map, 0x9000, 0xa000, 0), E_NOSPC);
    CHECK_EQ(memmap_add(&map, 0x8000, 0x9000, 0), 0); /* grows a neighbour */
    u64 before = memmap_bytes(&map);
    CHECK_EQ(memmap_remove(&map, 0x1000, 0x2000), E_NOSPC); /* the larger half stays */
    CHECK_EQ(memmap_bytes(&map), before - 0x2000);
    CHECK_EQ(map.range[0].start, 0x2000);
    CHECK_EQ(memmap_set_node(&map, 0x13000, 0x14000, 1), E_NOSPC);
    u64 at = memmap_take(&map, 0x1000, 0x4000, ~0ULL); /* a hole, so a half is lost */
    CHECK(at != 0);
    for (unsigned i = 0; i < map.nr; i++)
        CHECK(at + 0x1000 <= map.range[i].start || at >= map.range[i].end);
}

/* Against one byte a frame: 0 not free, else node + 1. */
static void memmap_random(void)
{
    enum { FRAMES = 300 };
    for (unsigned round = 0; round < 400; round++) {
        u8 want[FRAMES] = {0};
        map.nr = 0;
        for (unsigned step = 0; step < 60; step++) {
            u64 start = check_random() % FRAMES, end = start + check_random() % (FRAMES - start);
            unsigned node = check_random() % 3;
            switch (check_random() % 4) {
            case 0:
                CHECK_EQ(memmap_add(&map, start * 4096, end * 4096, node), 0);
                for (u64 i = start; i < end; i++)
                    want[i] = want[i] ? want[i] : (u8)(node + 1);
                break;
            case 1:
                CHECK_EQ(memmap_remove(&map, start * 4096, end * 4096), 0);
                for (u64 i = start; i < end; i++)
                    want[i] = 0;
                break;
            case 2:
                CHECK_EQ(memmap_set_node(&map, start * 4096, end * 4096, node), 0);
                for (u64 i = start; i < end; i++)
                    want[i] = want[i] ? (u8)(node + 1) : 0;
                break;
            default: {
                u64 bytes = (1 + check_random() % 8) * 4096, align = 4096u << check_random() % 4;
                u64 limit = end * 4096;
                u64 at = memmap_take(&map, bytes, align, limit);
                CHECK(at % align == 0 && (at == 0 || at + bytes <= limit));
                for (u64 i = at / 4096; at && i < (at + bytes) / 4096; i++) {
                    CHECK(want[i] != 0);
                    want[i] = 0;
                }
                break;
            }
            }
            u8 got[FRAMES] = {0};
            for (unsigned i = 0; i < map.nr; i++) {
                CHECK(map.range[i].start < map.range[i].end);
                CHECK(i == 0 || map.range[i - 1].end <= map.range[i].start);
                for (u64 at = map.range[i].start / 4096; at < map.range[i].end / 4096; at++)
                    got[at] = (u8)(map.range[i].node + 1);
            }
            CHECK(memcmp(got, want, FRAMES) == 0);
        }
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(ram_good);
    RUN(ram_out_of_order);
    RUN(ram_overlapping);
    RUN(ram_wrapping);
    RUN(ram_questions);
    RUN(ram_use_rsdp);
    RUN(ram_too_many);
    RUN(ram_random);
    RUN(memmap_rounds);
    RUN(memmap_takes_highest);
    RUN(memmap_full);
    RUN(memmap_random);
    return check_done();
}
