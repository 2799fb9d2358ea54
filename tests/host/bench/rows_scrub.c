/*
 * Rows: how fast dirt goes, and what takers feel of it. A scrubber is the second thread in a loop
 * of mm_scrub_step(), as the idle loop calls it.
 */
#include "sides.h"
#include "mm/claim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the scrub rate ---- */

enum { STEPS = 6 }; /* of a pageblock each, a sample */

static u64 done_by[2]; /* frames in the last sample, by CPU */

static void scrub_work(void *arg)
{
    unsigned cpu = cpu_id();
    (void)arg;
    mm_cpu_state_set(CPU_AWAKE);
    u64 before = mm_cpu_scrubbed(cpu);
    for (unsigned n = 0; n < STEPS; n++)
        mm_scrub_step();
    done_by[cpu] = mm_cpu_scrubbed(cpu) - before;
    mm_cpu_state_set(CPU_BUSY);
}

/* A GiB, and the frames of it that are held while the others are dirty and free. */
struct ground {
    struct map512 freed;
    pfn_t block[512];
    unsigned nr;
};

static void ground_stage(struct ground *g, u64 word)
{
    boot_limpid(1024);
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        g->freed.w[i] = word;
    for (g->nr = 0; g->nr < 512; g->nr++)
        g->block[g->nr] = mm_take(9, TAKE_ANY, 0);
    mm_free(mm_take(8, TAKE_ANY, 0), 8);
    while (mm_scrub_step()) /* the little that is left beside it */
        ;
    for (unsigned n = 0; n < g->nr; n++)
        mm_free_mask(g->block[n], &g->freed);
}

/* All of it dirty again, without a clear. */
static void ground_soil(const struct ground *g)
{
    struct mm_zone_info z;
    mm_zone_info(0, &z);
    if (z.dirty > 64 * 256)
        return;
    if (map512_full(&g->freed)) {
        static pfn_t block[512];
        unsigned n = 0;
        while (n < 512 && (block[n] = mm_take(9, TAKE_ANY, 0)) != PFN_NONE)
            n++;
        while (n)
            mm_free(block[--n], 9);
        return;
    }
    unsigned nr = 0;
    pfn_t *frame = malloc(sizeof(pfn_t) << 18);
    while (nr < 1u << 17 && (frame[nr] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        nr++;
    while (nr)
        mm_free(frame[--nr], 0);
    mm_stores_flush();
    free(frame);
}

static double scrub_one(void *arg)
{
    ground_soil(arg);
    double ns = bench_sample(scrub_work, arg);
    return ns < 0 || done_by[0] == 0 ? -1 : ns / ((double)done_by[0] / 256);
}

static double scrub_two(void *arg)
{
    ground_soil(arg);
    double ns = bench_sample_both(scrub_work, arg, arg);
    return ns < 0 || done_by[0] == 0 || done_by[1] == 0
               ? -1
               : ns / ((double)(done_by[0] + done_by[1]) / 256);
}

static double bypass_memset(void *arg)
{
    (void)arg;
    return memset_bypass_sample(LIMPID_BASE, LIMPID_BASE + (1 << 18));
}

static double bypass_memset_two(void *arg)
{
    (void)arg;
    return memset_bypass_sample_both(LIMPID_BASE, LIMPID_BASE + (1 << 18));
}

static double gb_per_s(double ns_per_mib)
{
    return MIB / ns_per_mib;
}

static void rows_rate(void)
{
    static struct ground g;
    struct bench_pair m;
    static char of[64];
    memset_choose(LIMPID_BASE, LIMPID_BASE + (1 << 18));
    snprintf(of, sizeof(of), "%s", memset_bypass_name());
    ground_stage(&g, ~0ULL);
    m = bench_abba(scrub_one, bypass_memset, &g, 60, 3);
    row_add((struct row){"scrub rate, whole GiB, 1 CPU", gb_per_s(m.a), "GB/s", gb_per_s(m.b), of,
                         BAR_AT_LEAST, 0.95});
    m = bench_abba(scrub_two, scrub_one, &g, 60, 5);
    row_add((struct row){"scrub rate, whole GiB, 2 CPUs on one node", gb_per_s(m.a), "GB/s",
                         gb_per_s(m.b), "1 CPU", BAR_AT_LEAST, 1.9});
    m = bench_abba(bypass_memset_two, bypass_memset, &g, 60, 4);
    row_add((struct row){"  that memset, 2 CPUs at once", gb_per_s(m.a), "GB/s", gb_per_s(m.b),
                         "1 CPU", BAR_NONE, 0});
    ground_stage(&g, 0xaaaaaaaaaaaaaaaaULL);
    m = bench_abba(scrub_one, bypass_memset, &g, 60, 4);
    row_add((struct row){"scrub rate, dirt in every other frame, 1 CPU", gb_per_s(m.a), "GB/s",
                         gb_per_s(m.b), of, BAR_AT_LEAST, 0.80});
}

/* ---- takes beside a scrubber at full speed ---- */

/*
 * Some machines' clocks have steps of 10 ns, as much as a take takes: the median is that of groups. Few
 * takes meet a scrubber at the lock, and those show in p99.9, which is of single ones.
 */
enum { TAKES = 1500, GROUP = 16, GROUPS = 100 };

struct latency {
    unsigned order;
    u32 ticks[TAKES]; /* of single takes */
    u32 group[GROUPS];
};

static void latency_work(void *arg)
{
    struct latency *l = arg;
    for (unsigned n = 0; n < TAKES; n++) {
        u64 begin = rdtsc();
        pfn_t pfn = mm_take(l->order, TAKE_ANY, 0);
        l->ticks[n] = (u32)(rdtsc() - begin);
        mm_free(pfn, l->order);
    }
    for (unsigned n = 0; n < GROUPS; n++) {
        pfn_t pfn[GROUP];
        u64 begin = rdtsc();
        for (unsigned i = 0; i < GROUP; i++)
            pfn[i] = mm_take(l->order, TAKE_ANY, 0);
        l->group[n] = (u32)(rdtsc() - begin);
        for (unsigned i = 0; i < GROUP; i++)
            mm_free(pfn[i], l->order);
    }
}

static void scrubber(void *arg)
{
    (void)arg;
    mm_cpu_state_set(CPU_AWAKE);
    while (!bench_stop())
        if (!mm_scrub_step())
            cpu_relax();
    mm_cpu_state_set(CPU_BUSY);
}

/* What two readings of the clock with nothing between them differ by. */
static double clock_ticks(void)
{
    struct bench_values v = {0};
    for (unsigned n = 0; n < 1000; n++) {
        u64 begin = rdtsc();
        compiler_barrier();
        values_add(&v, (double)(rdtsc() - begin));
    }
    double ticks = values_quantile(&v, 0.5);
    values_free(&v);
    return ticks;
}

static double ns_of(double ticks)
{
    return ticks * (double)bench_ns_per_tick_32 / 4294967296.0;
}

static void takes_beside(unsigned order, const char *name_50, const char *name_999)
{
    static struct ground g;
    static struct latency l;
    struct bench_values with = {0}, without = {0}, grouped_with = {0}, grouped_without = {0};
    double clock = clock_ticks();
    u64 end = time_ns() + (u64)(bench_quick ? 1e9 : 5e9);
    unsigned want = bench_quick ? 20 : 100, kept[2] = {0};
    ground_stage(&g, ~0ULL);
    l.order = order;
    for (unsigned turn = 0; time_ns() < end && (kept[0] < want || kept[1] < want); turn++) {
        bool beside = (turn & 3) == 1 || (turn & 3) == 2;
        ground_soil(&g);
        double ns = beside ? bench_sample_beside(latency_work, &l, scrubber)
                           : bench_sample(latency_work, &l);
        if (ns < 0)
            continue;
        for (unsigned n = 0; n < TAKES; n++)
            values_add(beside ? &with : &without, ns_of(MAX(l.ticks[n] - clock, 0)));
        for (unsigned n = 0; n < GROUPS; n++)
            values_add(beside ? &grouped_with : &grouped_without,
                       ns_of(MAX(l.group[n] - clock, 0)) / GROUP);
        kept[beside]++;
    }
    row_add((struct row){name_50, values_quantile(&grouped_with, 0.5), "ns",
                         values_quantile(&grouped_without, 0.5), "no scrubber", BAR_AT_MOST, 1.2});
    row_add((struct row){name_999, values_quantile(&with, 0.999), "ns",
                         values_quantile(&without, 0.999), "no scrubber", BAR_AT_MOST, 6});
    values_free(&with);
    values_free(&without);
    values_free(&grouped_with);
    values_free(&grouped_without);
}

/* ---- where everything is claimed ---- */

/*
 * A bare round trip, to compare with: a CPU that streams clears looks at one word after each and
 * answers in another, behind the fence that a claim's return needs too.
 */
static struct {
    u32 ask __attribute__((aligned(64)));    /* (a) */
    u32 answer __attribute__((aligned(64))); /* (a) */
} trip __attribute__((aligned(64)));

static void streamer(void *arg)
{
    pfn_t frame = LIMPID_BASE, end = LIMPID_BASE + (1 << 18);
    (void)arg;
    while (!bench_stop()) {
        clear_frame_stream(frame_va(frame));
        frame = frame + 1 < end ? frame + 1 : LIMPID_BASE;
        u32 ask = load_acquire(&trip.ask);
        if (ask != load_relaxed(&trip.answer)) {
            clear_fence();
            store_release(&trip.answer, ask);
        }
    }
}

enum { ASKS = 30 };

struct asks {
    struct bench_values *v;
    double clock;
    u64 random;
    pfn_t first; /* the free pageblock */
};

/* So that we do not ask always at the same point of a clear. */
static void wait_a_bit(struct asks *a)
{
    u64 until = rdtsc() + 2000 + bench_random(&a->random) % 2000;
    while (rdtsc() < until)
        cpu_relax();
}

static void trips_work(void *arg)
{
    struct asks *a = arg;
    for (unsigned n = 0; n < ASKS; n++) {
        wait_a_bit(a);
        u64 begin = rdtsc();
        u32 mine = trip.ask + 1;
        store_release(&trip.ask, mine);
        while (load_acquire(&trip.answer) != mine)
            cpu_relax();
        values_add(a->v, ns_of(MAX((double)(rdtsc() - begin) - a->clock, 0)));
    }
}

static u32 pause_asked, pause_seen; /* (a) odd: the scrubber is to stand still; what it saw */

static void pausing_scrubber(void *arg)
{
    (void)arg;
    mm_cpu_state_set(CPU_AWAKE);
    while (!bench_stop()) {
        u32 asked = load_acquire(&pause_asked);
        store_release(&pause_seen, asked);
        if (asked & 1)
            cpu_relax();
        else
            mm_scrub_step();
    }
    mm_cpu_state_set(CPU_BUSY);
}

/* The pageblock at `first` is all free memory, or some of it ours: all of it free and dirty. */
static void soil_pageblock(pfn_t first)
{
    u32 odd = load_relaxed(&pause_asked) + 1;
    store_relaxed(&bench_resched, 1); /* no need to clear all of the claim first */
    store_release(&pause_asked, odd);
    while (load_acquire(&pause_seen) != odd)
        cpu_relax();
    store_relaxed(&bench_resched, 0);
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
    mm_free(first, 9);
    store_release(&pause_asked, odd + 1);
}

/* All free memory is one pageblock, and that is claimed whenever we ask. */
static void claimed_work(void *arg)
{
    struct asks *a = arg;
    const struct zone *z = &mm_zones[0];
    for (unsigned n = 0; n < ASKS; n++) {
        soil_pageblock(a->first);
        u64 give_up = rdtsc() + 10000000;
        while ((load_relaxed(&z->nr_claims) == 0 || load_relaxed(&z->nr_free) != 0) &&
               rdtsc() < give_up)
            cpu_relax();
        wait_a_bit(a);
        if (load_relaxed(&z->nr_free) != 0 || load_relaxed(&z->nr_claims) == 0)
            continue; /* the scrubber has lost its core, or found the time to clear it all */
        u64 begin = rdtsc();
        pfn_t pfn = mm_take(0, TAKE_ANY, 0);
        u64 ticks = rdtsc() - begin;
        if (pfn == PFN_NONE)
            panic("P4 scrubbing hides nothing: a take failed while frames were claimed");
        values_add(a->v, ns_of(MAX((double)ticks - a->clock, 0)));
    }
}

static void rows_claimed(void)
{
    struct bench_values bare = {0}, claimed = {0};
    struct asks a = {.clock = clock_ticks(), .random = 5};
    static pfn_t block[1024];
    boot_limpid(1024);
    unsigned nr = 0;
    while ((block[nr] = mm_take(9, TAKE_ANY, 0)) != PFN_NONE)
        nr++;
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
    mm_stores_flush();
    a.first = block[0];
    mm_free(a.first, 9);
    for (unsigned turn = 0; turn < (bench_quick ? 24 : 120); turn++) {
        bool is_bare = (turn & 3) == 0 || (turn & 3) == 3;
        a.v = is_bare ? &bare : &claimed;
        unsigned kept = a.v->nr;
        if (bench_sample_beside(is_bare ? trips_work : claimed_work, &a,
                                is_bare ? streamer : pausing_scrubber) < 0)
            a.v->nr = kept;
    }
    struct mm_zone_info z;
    mm_zone_info(0, &z);
    row_add((struct row){"order 0 where all is claimed, p50", values_quantile(&claimed, 0.5), "ns",
                         values_quantile(&bare, 0.5), "bare round trip to a CPU that clears",
                         BAR_AT_MOST, 2});
    row_add((struct row){"order 0 where all is claimed, clears waited for, most",
                         (double)z.max_clears_waited, "clears", NAN, NULL, BAR_AT_MOST, 1});
    values_free(&bare);
    values_free(&claimed);
}

/* ---- one dirty frame in a clean GiB ---- */

static void row_one_dirty(void)
{
    unsigned served = 0;
    boot_limpid(1024);
    pfn_t rest[512];
    unsigned nr = 0;
    pfn_t gib = mm_take(18, TAKE_ANY, 0);
    while (nr < 512 && (rest[nr] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        nr++; /* what lies beside the GiB */
    mm_stores_flush();
    mm_free(gib, 18);
    while (mm_scrub_step())
        ;
    /* One frame of it taken and given back: dirty, whatever stands in it. */
    struct map512 one = map512_range(77, 1);
    pfn_t pb = mm_take(9, TAKE_CLEAN, 0);
    struct map512 others;
    map512_fill(&others);
    map512_clear(&others, 77);
    mm_free_mask(pb, &others);
    while (mm_scrub_step())
        ;
    mm_free_mask(pb, &one);
    for (unsigned n = 0; n < 512; n++) {
        u64 cleared = 0;
        if (mm_take_counted(9, TAKE_CLEAN, 0, &cleared) != PFN_NONE && cleared == 0)
            served++;
    }
    row_add((struct row){"order 9 clean, one dirty frame in a GiB: without a clear", served,
                         "of 512", 512, "all", BAR_AT_LEAST, 511.0 / 512});
}

void rows_scrub(void)
{
    rows_rate();
    takes_beside(0, "order 0 beside a scrubber, p50", "order 0 beside a scrubber, p99.9");
    takes_beside(9, "order 9 beside a scrubber, p50", "order 9 beside a scrubber, p99.9");
    rows_claimed();
    row_one_dirty();
}
