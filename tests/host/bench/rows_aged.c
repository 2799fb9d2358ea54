/*
 * Rows: what is left of large blocks after long use, and what that use costs.
 */
#include "sides.h"

#include <math.h>
#include <stdlib.h>

/* Whole pageblocks that can be had; they are given back. */
static unsigned count_whole(enum which w)
{
    static pfn_t block[16384];
    unsigned n = 0;
    side_flush(w);
    while (n < ARRAY_SIZE(block) && (block[n] = side_take(w, 9)) != PFN_NONE)
        n++;
    for (unsigned i = 0; i < n; i++)
        side_free(w, block[i], 9);
    return n;
}

/* ---- all taken, a random half freed, then turnovers: a random one back, another one taken ---- */

enum { TURNS = 10000 };

struct aged {
    u32 *pfn;
    unsigned nr; /* held */
    u64 random;
};

BODY turn_body(enum which w, void *arg)
{
    struct aged *a = arg;
    for (unsigned n = 0; n < TURNS; n++) {
        unsigned i = (unsigned)(((bench_random(&a->random) >> 32) * a->nr) >> 32);
        side_free(w, a->pfn[i], 0);
        a->pfn[i] = (u32)side_take(w, 0);
    }
}
FOR_EACH_SIDE(turn, turn_body);

BODY age_body(enum which w, void *arg)
{
    struct aged *a = arg;
    pfn_t pfn;
    for (a->nr = 0; (pfn = side_take(w, 0)) != PFN_NONE; a->nr++)
        a->pfn[a->nr] = (u32)pfn;
    unsigned half = a->nr / 2;
    while (a->nr > half) {
        unsigned i = (unsigned)(bench_random(&a->random) % a->nr);
        side_free(w, a->pfn[i], 0);
        a->pfn[i] = a->pfn[--a->nr];
    }
}
FOR_EACH_SIDE(age, age_body);

static void rows_turnovers(void)
{
    static const enum which sides[2] = {LIMPID, CLASSIC};
    unsigned mib = bench_quick ? 1024 : 8192;
    unsigned samples = bench_quick ? 100 : 2000; /* 20M turnovers */
    struct aged a[2];
    struct bench_values ns[2] = {{0}};
    double whole[2], ideal[2];
    boot_limpid(mib);
    boot_classic(mib);
    for (unsigned s = 0; s < 2; s++) {
        a[s].random = 99 + s;
        a[s].pfn = malloc(((size_t)mib << 8) * 2 * sizeof(u32));
        age[sides[s]](&a[s]);
    }
    for (unsigned n = 0; n < 2 * samples; n++) {
        unsigned s = (n & 3) == 0 || (n & 3) == 3 ? 0 : 1;
        double t = bench_sample(turn[sides[s]], &a[s]);
        if (t >= 0)
            values_add(&ns[s], t / TURNS);
    }
    for (unsigned s = 0; s < 2; s++) {
        whole[s] = count_whole(sides[s]);
        /* As many frames are free as were freed at first: half of all. */
        ideal[s] = a[s].nr / 512;
        free(a[s].pfn);
    }
    row_add((struct row){"aged memory: whole pageblocks", whole[0], "pageblocks", ideal[0],
                         "the ideal", BAR_AT_LEAST, 0.99});
    row_add((struct row){"  the textbook: whole pageblocks", whole[1], "pageblocks", ideal[1],
                         "the ideal", BAR_NONE, 0});
    row_add((struct row){"aged memory: one turnover", values_quantile(&ns[0], 0.5), "ns",
                         values_quantile(&ns[1], 0.5), "the textbook", BAR_AT_MOST, 1.0});
    values_free(&ns[0]);
    values_free(&ns[1]);
}

/* ---- blocks of orders 0 to 9, mixed ---- */

enum { MIXED_STEPS = 2000, HELD_MAX = 1 << 20 };

struct mixed {
    struct {
        u32 pfn;
        u8 order;
    } * held;
    unsigned nr;
    u64 frames, limit; /* held, and where to stop */
    u64 random;
};

BODY mixed_body(enum which w, void *arg)
{
    struct mixed *m = arg;
    for (unsigned n = 0; n < MIXED_STEPS; n++) {
        u64 r = bench_random(&m->random) >> 16;
        bool full = m->frames > m->limit;
        /* As many frees as takes in the long run: the limit sees to that. */
        if (m->nr && (full || r % 16 < 7)) {
            unsigned i = (unsigned)((r >> 4) % m->nr);
            side_free(w, m->held[i].pfn, m->held[i].order);
            m->frames -= 1ULL << m->held[i].order;
            m->held[i] = m->held[--m->nr];
        } else {
            unsigned order = (unsigned)((r >> 8) % 10);
            pfn_t pfn = side_take(w, order);
            if (pfn == PFN_NONE || m->nr == HELD_MAX)
                continue;
            m->held[m->nr].pfn = (u32)pfn;
            m->held[m->nr++].order = (u8)order;
            m->frames += 1ULL << order;
        }
    }
}
FOR_EACH_SIDE(mixed, mixed_body);

static void rows_mixed(void)
{
    static const enum which sides[2] = {LIMPID, CLASSIC};
    unsigned samples = bench_quick ? 150 : 1000;
    struct mixed m[2];
    struct bench_values ns[2] = {{0}};
    double whole[2];
    boot_limpid(2048);
    boot_classic(2048);
    for (unsigned s = 0; s < 2; s++)
        m[s] = (struct mixed){.held = malloc(sizeof(m[s].held[0]) * HELD_MAX),
                              .limit = 2048ULL * 256 * 6 / 10,
                              .random = 7};
    for (unsigned n = 0; n < 2 * samples; n++) {
        unsigned s = (n & 3) == 0 || (n & 3) == 3 ? 0 : 1;
        double t = bench_sample(mixed[sides[s]], &m[s]);
        if (t >= 0)
            values_add(&ns[s], t / MIXED_STEPS);
    }
    for (unsigned s = 0; s < 2; s++) {
        whole[s] = count_whole(sides[s]);
        free(m[s].held);
    }
    row_add((struct row){"mixed orders 0 to 9: whole pageblocks", whole[0], "pageblocks", whole[1],
                         "the textbook", BAR_AT_LEAST, 0.99});
    row_add((struct row){"mixed orders 0 to 9: one take or free", values_quantile(&ns[0], 0.5),
                         "ns", values_quantile(&ns[1], 0.5), "the textbook", BAR_AT_MOST, 3.0});
    values_free(&ns[0]);
    values_free(&ns[1]);
}

void rows_aged(void)
{
    rows_turnovers();
    rows_mixed();
}
