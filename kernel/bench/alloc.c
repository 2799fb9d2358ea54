/*
 * bench alloc: takes and frees, alone, two CPUs at once, and beside idle CPUs that scrub.
 *
 * Owns nothing but the helpers' answers.
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "sched/sched.h"

#define PAIRS 2000
#define HELD  64 /* blocks that one sample holds at a time */

/* Nanoseconds that a take and its free take, on the mean of some thousand. */
static u64 pairs_of(unsigned order, enum take_flags flags, unsigned node)
{
    u64 began = time_ns();
    for (unsigned i = 0; i < PAIRS; i++) {
        pfn_t pfn = mm_take(order, flags | TAKE_THIS_NODE, node);
        if (pfn == PFN_NONE)
            return 0;
        mm_free(pfn, order);
    }
    return MAX((time_ns() - began) / PAIRS, 1);
}

static u64 pairs_any(const struct bench_side *s)
{
    return pairs_of(s->order, TAKE_ANY, s->node);
}

/* What a frame costs if its taker clears it: the best case of all who scrub at allocation. */
static u64 one_clear(const struct bench_side *s)
{
    struct pile pile = PILE_EMPTY;
    u64 ns = 0;
    if (pile_take(&pile, 0, TAKE_ANY, s->node, HELD) == HELD) {
        u64 began = time_ns();
        for (pfn_t pfn = pile.first, next; pfn != PFN_NONE; pfn = next) {
            next = *(pfn_t *)frame_va(pfn);
            clear_ordinary(frame_va(pfn), FRAME_SIZE);
            *(pfn_t *)frame_va(pfn) = next;
        }
        ns = MAX((time_ns() - began) / HELD, 1);
    }
    pile_free(&pile, 0);
    return ns;
}

/* ---- two at once ---- */

static struct pair_job {
    struct helper helper;
    const struct bench_side *side;
    unsigned *ready; /* (a) both begin at the same moment */
    u64 ns;
} job[2];

static void pair_main(void *arg)
{
    struct pair_job *j = arg;
    fetch_add(j->ready, -1u);
    for (unsigned look = 0; load_relaxed(j->ready) && look < 100000; look++)
        cpu_relax(); /* not for ever: the other may have no host core to run on */
    j->ns = pairs_of(j->side->order, TAKE_ANY, j->side->node);
}

static u64 pairs_on(const struct bench_side *s, unsigned cpus)
{
    unsigned ready = cpus;
    u64 ns = 0;
    for (unsigned i = 0; i < cpus; i++) {
        job[i].side = s;
        job[i].ready = &ready;
        job[i].ns = 0;
        helper_start(&job[i].helper, measure_cpu(s->node, i), pair_main, &job[i]);
    }
    for (unsigned i = 0; i < cpus; i++) {
        helper_join(&job[i].helper);
        if (!job[i].ns)
            return 0;
        ns += job[i].ns / cpus;
    }
    return ns;
}

static u64 pairs_one(const struct bench_side *s)
{
    return pairs_on(s, 1);
}

static u64 pairs_two(const struct bench_side *s)
{
    return pairs_on(s, 2);
}

/* ---- beside scrubbers ---- */

static struct hist hist;

/* Takes of order 0, one by one, with or without dirt of 32 MiB that idle CPUs are at. */
static u64 take_beside(const struct bench_side *s)
{
    enum { DIRT_ORDER = 13, TAKES = 1000 };
    pfn_t held[HELD], dirt = mm_take(DIRT_ORDER, TAKE_ANY | TAKE_THIS_NODE, s->node);
    unsigned nr = 0;
    if (dirt == PFN_NONE)
        return 0;
    mm_scrub_enable(s->arg != 0);
    mm_free(dirt, DIRT_ORDER);
    hist_reset(&hist);
    for (unsigned i = 0; i < TAKES; i++) {
        u64 began = time_ns();
        pfn_t pfn = mm_take(0, TAKE_ANY | TAKE_THIS_NODE, s->node);
        hist_add(&hist, time_ns() - began);
        if (pfn != PFN_NONE)
            held[nr++] = pfn;
        if (nr == HELD)
            while (nr)
                mm_free(held[--nr], 0);
    }
    while (nr)
        mm_free(held[--nr], 0);
    mm_scrub_enable(true);
    measure_settle(s->node, 20 * NS_PER_MS);
    return MAX(hist_at(&hist, s->order), 1); /* order: the percentile that is asked for */
}

static void beside_row(const char *name, unsigned node, unsigned per_mille)
{
    struct bench_side with = {.sample = take_beside, .node = node, .order = per_mille, .arg = 1};
    struct bench_side without = with;
    bool was_on = mm_scrub_enabled();
    without.name = "no-scrubber";
    without.arg = 0;
    bench_race_row(name, "ns", &with, &without);
    mm_scrub_enable(was_on);
}

void bench_alloc(void)
{
    unsigned node = cpu_node(cpu_id());
    struct bench_side clear = {.name = "clearing-it", .sample = one_clear, .node = node};
    struct bench_side zero = {.name = "order0", .sample = pairs_any, .node = node};
    struct bench_side nine = zero, one, two;

    bench_race_row("alloc.order0", "ns", &zero, &clear);
    nine.order = ORDER_PAGEBLOCK;
    bench_race_row("alloc.order9", "ns", &nine, &clear);
    one = two = zero;
    one.name = "one-cpu";
    one.sample = pairs_one;
    two.sample = pairs_two;
    if (measure_cpu(node, 0) == measure_cpu(node, 1))
        bench_none("alloc.two-cpus", "the node has one CPU");
    else
        bench_race_row("alloc.two-cpus", "ns", &two, &one);
    beside_row("alloc.beside-scrub.p50", node, 500);
    beside_row("alloc.beside-scrub.p99.9", node, 999);
}
