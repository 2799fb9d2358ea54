/*
 * memmap: two machines, chosen by the first byte. One settles a firmware's map and is compared
 * with what every byte of it should be; the other adds, removes and takes ranges and is compared
 * with an array that knows every frame.
 */
#include "lib/errors.h"
#include "lib/memmap.h"
#include "tests/host/fuzz/bootinfo.h"

/* ---- the firmware's map ---- */

static void settle_check(struct input *in, bool small)
{
    static struct bootinfo info, before;
    u64 rsdp = input_number(in, small ? 1 : 8) * (small ? FRAME_SIZE / 2 : 1);

    memset(&info, 0, sizeof(info));
    fuzz_warnings = 0;
    given.nr = 0;
    while (in->left && given.nr < 600) {
        u64 start = input_number(in, small ? 1 : 8), bytes = input_number(in, small ? 1 : 8);
        u32 type = (u32)input_number(in, 1) % 7;
        if (small) {
            start *= FRAME_SIZE / 2;
            bytes *= FRAME_SIZE / 2;
        }
        given_add(start, bytes, type);
        bootinfo_add_ram(&info, start, bytes, type, fuzz_warn, NULL);
    }
    bootinfo_settle_ram(&info, fuzz_warn, NULL);
    ram_check(&info);
    given_compare(&info);
    FUZZ_CHECK(fuzz_warnings <= 5, "%u warnings", fuzz_warnings);

    before = info;
    bootinfo_settle_ram(&info, NULL, NULL);
    FUZZ_CHECK(info.nr_ram == before.nr_ram &&
                   memcmp(info.ram, before.ram, info.nr_ram * sizeof(info.ram[0])) == 0,
               "settled twice is another map");
    before = info;
    if (!bootinfo_use_rsdp(&info, rsdp)) {
        FUZZ_CHECK(memcmp(&info, &before, sizeof(info)) == 0, "refused, but not unchanged");
        return;
    }
    ram_check(&info);
    FUZZ_CHECK(info.rsdp_phys == rsdp, "another address");
    FUZZ_CHECK(bootinfo_usable(&before, rsdp, rsdp + BOOT_RSDP_BYTES), "memory that is not usable");
    FUZZ_CHECK(!bootinfo_touches_usable(&info, rsdp, rsdp + BOOT_RSDP_BYTES), "still usable");
    given_add(rsdp, BOOT_RSDP_BYTES, 3);
    given_compare(&info);
}

/* ---- the list of what is free ---- */

#define FRAMES 1088 /* a comb of them fills the table */
#define NOBODY 0xff

static struct memmap map;
static u8 want[FRAMES], was[FRAMES], got[FRAMES]; /* the node of each frame, or NOBODY */
static unsigned combs;                            /* of this input */
static u64 base;                                  /* of frame 0 */

static void map_read(void)
{
    u64 sum = 0;
    memset(got, NOBODY, sizeof(got));
    FUZZ_CHECK(map.nr <= MEMMAP_MAX, "%u ranges", map.nr);
    for (unsigned i = 0; i < map.nr; i++) {
        const struct memrange *r = &map.range[i];
        FUZZ_CHECK(r->start < r->end && IS_ALIGNED(r->start | r->end, FRAME_SIZE), "range %u", i);
        FUZZ_CHECK(r->start >= base && r->end - base <= FRAMES * FRAME_SIZE, "range %u: where?", i);
        if (i > 0)
            FUZZ_CHECK(r[-1].end < r->start || (r[-1].end == r->start && r[-1].node != r->node),
                       "range %u overlaps, is out of order or not joined", i);
        for (u64 at = r->start; at < r->end; at += FRAME_SIZE)
            got[(at - base) / FRAME_SIZE] = (u8)r->node;
        sum += r->end - r->start;
    }
    FUZZ_CHECK(memmap_bytes(&map) == sum, "the sum");
}

/* Exactly what the array says; with a full table memory may be lost, never won. */
static void map_compare(int error, bool full)
{
    map_read();
    FUZZ_CHECK(error == 0 || (error == E_NOSPC && full), "returned %d with %u ranges", error,
               map.nr);
    for (unsigned i = 0; i < FRAMES; i++) {
        bool lost = full && got[i] == NOBODY;
        bool kept = error && got[i] == was[i] && want[i] != NOBODY;
        FUZZ_CHECK(got[i] == want[i] || lost || kept, "frame %u is of node %u, not %u", i, got[i],
                   want[i]);
    }
    memcpy(want, got, sizeof(want));
}

/* The highest place for it below the limit, as frame number; FRAMES: none. */
static unsigned take_want(unsigned frames, unsigned align, u64 limit)
{
    for (unsigned at = FRAMES; at-- > 0;) {
        u64 start = base + at * FRAME_SIZE;
        bool ok = start != 0 && IS_ALIGNED(start / FRAME_SIZE, align) && at + frames <= FRAMES &&
                  start + frames * FRAME_SIZE <= limit && want[at] != NOBODY;
        for (unsigned i = 1; ok && i < frames; i++)
            ok = want[at + i] == want[at];
        if (ok)
            return at;
    }
    return FRAMES;
}

static void map_step(struct input *in)
{
    unsigned op = (unsigned)input_number(in, 1), a = input_number(in, 2) % (FRAMES + 1),
             b = input_number(in, 2) % (FRAMES + 1);
    u64 start = base + a * FRAME_SIZE, end = base + b * FRAME_SIZE;
    unsigned node = op >> 4 & 7, first = a, last = b; /* the frames that are wholly inside */
    bool full = map.nr + 2 > MEMMAP_MAX;
    int error = 0;

    if (op & 0x80 && a < FRAMES) { /* at odd addresses */
        start += 1 + a % (FRAME_SIZE - 1);
        first++;
    }
    if (op & 0x80 && b < FRAMES)
        end += b % FRAME_SIZE;
    memcpy(was, want, sizeof(was));
    switch (op % 5) {
    case 0:
        for (unsigned i = first; i < last; i++)
            want[i] = want[i] == NOBODY ? (u8)node : want[i];
        full |= map.nr + (last > first ? last - first : 0) > MEMMAP_MAX;
        error = memmap_add(&map, start, end, node);
        break;
    case 1:
        for (unsigned i = (unsigned)((start - base) / FRAME_SIZE);
             start < end && i < (end - base + FRAME_SIZE - 1) / FRAME_SIZE; i++)
            want[i] = NOBODY;
        error = memmap_remove(&map, start, end);
        break;
    case 2:
        for (unsigned i = first; i < last; i++)
            want[i] = want[i] == NOBODY ? NOBODY : (u8)node;
        error = memmap_set_node(&map, start, end, node);
        break;
    case 3: {
        unsigned frames = 1 + a % 70, align = 1u << (node % 7);
        unsigned at = take_want(frames, align, end);
        u64 place =
            memmap_take(&map, frames * FRAME_SIZE - (op & 0x80 ? 5 : 0), align * FRAME_SIZE, end);
        FUZZ_CHECK(place == (at == FRAMES ? 0 : base + at * FRAME_SIZE), "took %#llx, not frame %u",
                   (unsigned long long)place, at);
        for (unsigned i = 0; place && i < frames; i++)
            want[at + i] = NOBODY;
        break;
    }
    case 4: /* a comb: the way to a full table. Slow, and two are enough */
        if (combs++ >= 2)
            break;
        for (unsigned i = a; i < b; i += 2) {
            memcpy(was, want, sizeof(was));
            full = map.nr == MEMMAP_MAX;
            want[i] = want[i] == NOBODY ? (u8)node : want[i];
            error = memmap_add(&map, base + i * FRAME_SIZE, base + (i + 1) * FRAME_SIZE, node);
            if (full)
                map_compare(error, full);
            if (error)
                return;
        }
        full = true; /* compared above where it mattered */
        break;
    }
    map_compare(error, full);
}

FUZZ_TARGET(memmap)
{
    struct input in = {data, size};
    u8 mode = (u8)input_number(&in, 1);

    if (mode & 1) {
        settle_check(&in, mode & 2);
        return 0;
    }
    static const u64 bases[] = {0, 0x100000, 0 - (FRAMES + 1) * FRAME_SIZE, 0x7ffff000};
    base = bases[mode >> 1 & 3];
    map.nr = combs = 0;
    memset(want, NOBODY, sizeof(want));
    for (unsigned steps = 0; in.left && steps < 20; steps++)
        map_step(&in);
    return 0;
}
