/*
 * Rows: freeing a dirty GiB in four ways, against the time to clear it; what the records take.
 */
#include "sides.h"

#include <math.h>
#include <stdlib.h>

/* The GiB that is freed lies in 2 GiB of frames that nobody touches: only records are. */
enum { GIB_FRAMES = 1 << 18, GIB_PBS = 512 };

struct gib {
    pfn_t block[2 * GIB_PBS]; /* pageblocks held */
    unsigned nr;
    unsigned from; /* one by one: where the next chunk begins */
};

static void free_order_18(void *arg)
{
    (void)arg;
    mm_free(LIMPID_BASE, 18);
}

static double order_18(void *arg)
{
    if (mm_take(18, TAKE_ANY, 0) != LIMPID_BASE)
        panic("the first GiB is not free");
    return bench_sample(free_order_18, arg);
}

static void free_order_9(void *arg)
{
    struct gib *g = arg;
    for (unsigned n = 0; n < GIB_PBS; n++)
        mm_free(g->block[n], 9);
}

static double order_9(void *arg)
{
    struct gib *g = arg;
    for (unsigned n = 0; n < GIB_PBS; n++)
        g->block[n] = mm_take(9, TAKE_ANY, 0);
    return bench_sample(free_order_9, g);
}

/* Every other frame of two GiB: what a guest that lived long may look like. */
static void free_masks(void *arg)
{
    const struct gib *g = arg;
    struct map512 odd;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        odd.w[i] = 0xaaaaaaaaaaaaaaaaULL;
    for (unsigned n = 0; n < 2 * GIB_PBS; n++)
        mm_free_mask(g->block[n], &odd);
}

static void free_rest(struct gib *g)
{
    struct map512 even;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        even.w[i] = 0x5555555555555555ULL;
    for (unsigned n = 0; n < 2 * GIB_PBS; n++)
        mm_free_mask(g->block[n], &even);
}

static void take_all(struct gib *g)
{
    for (unsigned n = 0; n < 2 * GIB_PBS; n++)
        g->block[n] = mm_take(9, TAKE_ANY, 0);
}

static double by_pageblock(void *arg)
{
    struct gib *g = arg;
    take_all(g);
    double ns = bench_sample(free_masks, g);
    free_rest(g);
    return ns;
}

/* The same frames, 8192 of them a sample. */
enum { CHUNK = 8192, CHUNK_PBS = CHUNK / 256 };

static void free_one_by_one(void *arg)
{
    struct gib *g = arg;
    for (unsigned n = g->from; n < g->from + CHUNK_PBS; n++)
        for (unsigned bit = 1; bit < 512; bit += 2)
            mm_free(g->block[n] + bit, 0);
}

static double one_by_one(void *arg)
{
    struct gib *g = arg;
    struct bench_values v = {0};
    take_all(g);
    for (g->from = 0; g->from < 2 * GIB_PBS; g->from += CHUNK_PBS) {
        double ns = bench_sample(free_one_by_one, g);
        if (ns >= 0)
            values_add(&v, ns);
    }
    free_rest(g);
    double ns = values_quantile(&v, 0.5) * (GIB_FRAMES / CHUNK);
    values_free(&v);
    return isnan(ns) ? -1 : ns;
}

static double clear_gib_ns;
static double clear_gib(void *arg)
{
    (void)arg;
    return clear_gib_ns;
}

void rows_free(void)
{
    static struct gib g;
    static const struct {
        const char *name;
        bench_side free;
        double part;
        unsigned want;
    } ways[] = {{"freeing a dirty GiB, as order 18", order_18, 20000, 60},
                {"freeing a dirty GiB, as 512 of order 9", order_9, 2000, 60},
                {"freeing a dirty GiB, every other frame, by pageblock", by_pageblock, 200, 40},
                {"freeing a dirty GiB, every other frame, one by one", one_by_one, 10, 3}};
    memset_choose(LIMPID_BASE, LIMPID_BASE + GIB_FRAMES / 2);
    clear_gib_ns = memset_best_ns() * 1024;
    boot_limpid(2048);
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        struct bench_pair m = bench_abba(ways[i].free, clear_gib, &g, ways[i].want, 3);
        row_add((struct row){ways[i].name, m.a / 1000, "us", clear_gib_ns / 1000,
                             "clearing it by the best memset", BAR_AT_MOST, 1 / ways[i].part});
    }

    struct mm_zone_info z;
    struct classic_info c;
    boot_limpid(8192);
    boot_classic(8192);
    mm_zone_info(0, &z);
    classic_info(&c);
    double limpid = (double)z.metadata_bytes / (double)z.frames;
    row_add((struct row){"metadata", limpid, "B/frame", NAN, NULL, BAR_AT_MOST, 0.4});
    row_add((struct row){"  the textbook: metadata", (double)c.metadata_bytes / (double)c.frames,
                         "B/frame", NAN, NULL, BAR_NONE, 0});
}
