/*
 * Promises of a bootinfo that multiboot2, PVH and the settling of the memory map share, and the
 * firmware's map as an oracle reads it: any byte is what the strictest range over it says.
 */
#ifndef TESTS_HOST_FUZZ_BOOTINFO_H
#define TESTS_HOST_FUZZ_BOOTINFO_H

#include "lib/bootinfo.h"
#include "tests/host/fuzz/fuzz.h"

struct given { /* one range as the firmware gave it */
    u64 start, bytes;
    u32 type;
};

#define GIVEN_MAX 5000

static struct {
    struct given range[GIVEN_MAX];
    unsigned nr;
} given;

__attribute__((unused)) static void given_add(u64 start, u64 bytes, u32 type)
{
    if (given.nr < GIVEN_MAX)
        given.range[given.nr++] = (struct given){start, bytes, type};
}

/* 0: nothing there; then as lib/bootinfo.h orders them: usable < ACPI < NVS < reserved < bad. */
__attribute__((unused)) static unsigned e820_rank(u32 type)
{
    return type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 3 : type == 5 ? 5 : 4;
}

__attribute__((unused)) static unsigned ram_rank(enum ram_type type)
{
    switch (type) {
    case RAM_USABLE:
        return 1;
    case RAM_ACPI:
        return 2;
    case RAM_NVS:
        return 3;
    case RAM_RESERVED:
        return 4;
    case RAM_BAD:
        return 5;
    }
    FUZZ_CHECK(false, "memory of no type: %d", (int)type);
    return 0;
}

static bool given_covers(const struct given *g, u64 at)
{
    if (g->bytes == 0 || (g->type == 1 && g->start + g->bytes < g->start))
        return false; /* empty, or usable and wrapping */
    return at - g->start < g->bytes && at >= g->start;
}

static unsigned given_rank(u64 at)
{
    unsigned rank = 0;
    for (unsigned i = 0; i < given.nr; i++)
        if (given_covers(&given.range[i], at))
            rank = MAX(rank, e820_rank(given.range[i].type));
    return rank;
}

static unsigned settled_rank(const struct bootinfo *info, u64 at)
{
    for (unsigned i = 0; i < info->nr_ram; i++)
        if (info->ram[i].start <= at && at < info->ram[i].end)
            return ram_rank(info->ram[i].type);
    return 0;
}

/* What was too much for the table may be missing, but nothing becomes usable by that. */
static void given_compare_at(const struct bootinfo *info, u64 at, bool all)
{
    unsigned want = given_rank(at), got = settled_rank(info, at);
    if (at == ~0ULL)
        return; /* ends are exclusive: the last byte cannot be in a range */
    if (all)
        FUZZ_CHECK(got == want, "%#llx is of rank %u, not %u", (unsigned long long)at, got, want);
    else
        FUZZ_CHECK(got != 1 || want == 1, "%#llx is usable, not of rank %u", (unsigned long long)at,
                   want);
}

/* At every border of either side, and just before it. */
__attribute__((unused)) static void given_compare(const struct bootinfo *info)
{
    /* Settled, n ranges have at most 2n - 1 pieces: half the table is always enough. */
    bool all = given.nr <= BOOT_RANGES_MAX / 2;
    unsigned some = MIN(given.nr, 64u); /* the work is quadratic */
    for (unsigned i = 0; i < some; i++) {
        u64 start = given.range[i].start, end = start + given.range[i].bytes;
        given_compare_at(info, start, all);
        given_compare_at(info, start - 1, all);
        given_compare_at(info, end, all);
        given_compare_at(info, end - 1, all);
    }
    for (unsigned i = 0; i < info->nr_ram; i++) {
        given_compare_at(info, info->ram[i].start, all);
        given_compare_at(info, info->ram[i].end - 1, all);
    }
}

/* Sorted, disjoint, none empty, neighbours of one type joined. */
__attribute__((unused)) static void ram_check(const struct bootinfo *info)
{
    FUZZ_CHECK(info->nr_ram <= BOOT_RANGES_MAX, "%u ranges", info->nr_ram);
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        FUZZ_CHECK(r->start < r->end, "range %u", i);
        FUZZ_CHECK(ram_rank(r->type), "range %u", i);
        if (i == 0)
            continue;
        FUZZ_CHECK(r[-1].end <= r->start, "range %u overlaps its neighbour", i);
        FUZZ_CHECK(r[-1].end < r->start || r[-1].type != r->type, "range %u is not joined", i);
    }
}

__attribute__((unused)) static void bootinfo_check(const struct bootinfo *info)
{
    const struct framebuffer *fb = &info->fb;
    ram_check(info);
    FUZZ_CHECK(info->loader && *info->loader, "no loader");
    FUZZ_CHECK(memchr(info->cmdline, 0, sizeof(info->cmdline)), "a command line without an end");
    FUZZ_CHECK(info->module_start < info->module_end || (!info->module_start && !info->module_end),
               "a module of no length");
    FUZZ_CHECK(info->rsdp_copy_len == 0 || info->rsdp_copy_len == 20 || info->rsdp_copy_len == 36,
               "an RSDP of %u bytes", info->rsdp_copy_len);
    if (!fb->phys)
        return;
    FUZZ_CHECK(fb->bpp == 24 || fb->bpp == 32, "%u bits", fb->bpp);
    FUZZ_CHECK(fb->width && fb->height && (u64)fb->width * (fb->bpp / 8) <= fb->pitch, "its lines");
    FUZZ_CHECK((u64)fb->pitch * fb->height <= 256 * MIB, "its size");
    FUZZ_CHECK(fb->phys + (u64)fb->pitch * fb->height > fb->phys, "it wraps");
    FUZZ_CHECK(fb->red_shift <= fb->bpp - 8 && fb->green_shift <= fb->bpp - 8 &&
                   fb->blue_shift <= fb->bpp - 8,
               "its colours");
}

/* After a call that refused: nothing of the input is in it. */
__attribute__((unused)) static void bootinfo_check_empty(const struct bootinfo *info)
{
    struct bootinfo empty;
    memset(&empty, 0, sizeof(empty));
    empty.loader = info->loader;
    FUZZ_CHECK(memcmp(info, &empty, sizeof(empty)) == 0, "refused, but not empty");
}

#endif
