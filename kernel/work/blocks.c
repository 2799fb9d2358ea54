/*
 * Scenarios with a node that holds one free block and nothing else: a huge order in mid-scrub, and
 * one dirty frame in a clean block.
 *
 * Owns nothing.
 */
#include "kernel/work/work.h"
#include "sched/sched.h"

/* The largest block there is, of at most this order, and the rest of the node out of the way. */
static pfn_t lone_take(struct work *w, unsigned *order)
{
    pfn_t pfn = PFN_NONE;
    while (*order > ORDER_PAGEBLOCK &&
           (pfn = mm_take(*order, TAKE_ANY | TAKE_THIS_NODE, w->node)) == PFN_NONE)
        --*order;
    w->held = pfn != PFN_NONE;
    if (w->held) /* with one node the machine itself lives on what is left */
        ballast_take(&w->rest, w->node, nr_nodes > 1 ? 0 : 2048);
    return pfn;
}

/* Until a good part of the dirt is clean, or plainly nobody is at it. */
static void wait_for_mid_scrub(u64 frames)
{
    struct counts before, now;
    counts_take(&before);
    for (u64 end = time_ns() + 5 * NS_PER_MS; time_ns() < end;) {
        counts_since(&before, &now);
        if (now.clears >= frames)
            break;
    }
}

void work_huge(struct work *w)
{
    enum { ROUNDS = 12, ORDER = 15 };
    unsigned order = ORDER;
    u64 ns[ROUNDS], asked = 0;
    pfn_t pfn = lone_take(w, &order);

    if (pfn == PFN_NONE) {
        w->failed++;
        return;
    }
    while (asked < ROUNDS && pfn != PFN_NONE) {
        measure_soil(pfn, order);
        mm_free(pfn, order);
        wait_for_mid_scrub(1ULL << (order - 3));
        u64 began = time_ns();
        pfn = mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, w->node);
        w->failed += pfn == PFN_NONE;
        /* Refused: it asks again until it has it. The scrubbers' business ends some time. */
        while (pfn == PFN_NONE && time_ns() - began < NS_PER_S) {
            thread_sleep(NS_PER_MS / 4);
            pfn = mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, w->node);
        }
        ns[asked] = time_ns() - began; /* of asking and getting */
        hist_add(&w->take, ns[asked++]);
    }
    work_value("order", order, "order");
    work_value("asked", asked, "takes");
    work_us("create", measure_median(ns, (unsigned)asked));
    if (pfn != PFN_NONE) {
        measure_soil(pfn, order);
        mm_free(pfn, order);
    }
}

void work_speck(struct work *w)
{
    unsigned order = ORDER_GIGABLOCK;
    struct pile taken = PILE_EMPTY;
    bool was_on = mm_scrub_enabled();
    struct mm_costs costs;
    u64 served = 0, took;
    pfn_t block = lone_take(w, &order);

    if (block == PFN_NONE) {
        w->failed++;
        return;
    }
    measure_soil(block, order);
    mm_free(block, order);
    work_value("left_dirty",
               measure_clean_within(w->node, 0, 2 * NS_PER_S, &took) * (FRAME_SIZE / KIB), "KiB");
    work_us("clean_after", took);
    mm_scrub_enable(false);
    pfn_t one = mm_take(0, TAKE_ANY | TAKE_THIS_NODE, w->node);
    if (one != PFN_NONE) {
        measure_soil(one, 0);
        mm_free(one, 0);
    }
    thread_sleep(2 * NS_PER_MS); /* the idle loop gives back what the CPU had at hand */
    mm_costs_get(&costs);
    u64 began = time_ns(), blocks = 1ULL << (order - ORDER_PAGEBLOCK);
    for (u64 i = 0; i < blocks; i++) {
        u64 cleared = 0, asked = time_ns();
        pfn_t pfn =
            mm_take_counted(ORDER_PAGEBLOCK, TAKE_CLEAN | TAKE_THIS_NODE, w->node, &cleared);
        hist_add(&w->take, time_ns() - asked);
        if (pfn == PFN_NONE)
            break;
        served += cleared == 0;
        *(pfn_t *)frame_va(pfn) = taken.first;
        taken.first = pfn;
    }
    work_us("create", time_ns() - began);
    work_value("order", order, "order");
    work_value("served_clean", served, "blocks");
    work_value("spoilt", kib(costs.spoilt), "KiB");
    work_value("blocks", blocks, "blocks");
    pile_soil(&taken, ORDER_PAGEBLOCK);
    pile_free(&taken, ORDER_PAGEBLOCK);
    mm_scrub_enable(was_on);
}
