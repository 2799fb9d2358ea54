/*
 * P4 and P5: what a taker gets while others scrub, and what happens under a lock.
 *
 * Owns nothing.
 */
#include "kernel/promise/promise.h"
#include "kernel/measure.h"
#include "kernel/steps.h"
#include "sched/sched.h"

/* ---- P4 ---- */

/* A node with nothing free but one block: who asks for it gets that or is refused for nothing. */
struct lone {
    unsigned node, order;
    pfn_t block;
    struct ballast rest;
    u64 asked, refused; /* requests; and those that were refused though all of it was free */
    u64 scrubbing;      /* requests that came while idle CPUs were at it */
};

static bool lone_make(struct lone *l, unsigned leave)
{
    for (l->order = 14; l->order >= 10; l->order--) {
        l->block = mm_take(l->order, TAKE_ANY | TAKE_THIS_NODE, l->node);
        if (l->block != PFN_NONE)
            break;
    }
    if (l->block == PFN_NONE)
        return false;
    ballast_take(&l->rest, l->node, leave);
    return true;
}

/* Frees the block, soiled, and waits until idle CPUs are at it, or plainly are not. */
static void lone_free(struct lone *l)
{
    struct counts before, after;
    measure_soil(l->block, l->order);
    counts_take(&before);
    mm_free(l->block, l->order);
    l->block = PFN_NONE;
    for (u64 end = time_ns() + 5 * NS_PER_MS; time_ns() < end;) {
        counts_since(&before, &after);
        if (after.clears > 64)
            break;
    }
    l->scrubbing += after.clears > 64 && after.clears < 1ULL << l->order;
}

static pfn_t lone_ask(struct lone *l, unsigned order)
{
    l->asked++;
    return mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, l->node);
}

/* Having it back, whatever it takes: the scrubbers' business ends some time. */
static bool lone_take_back(struct lone *l)
{
    for (u64 end = time_ns() + 3 * NS_PER_S; l->block == PFN_NONE && time_ns() < end;) {
        thread_sleep(NS_PER_MS);
        l->block = mm_take(l->order, TAKE_ANY | TAKE_THIS_NODE, l->node);
    }
    return l->block != PFN_NONE;
}

void promise_hides_nothing(struct promise_result *r)
{
    enum { ROUNDS = 24 };
    struct lone l = {.node = measure_node()};
    struct mm_costs costs;
    unsigned small = nr_nodes > 1; /* with one node the machine itself lives on what is left */
    u64 lost = 0;

    measure_settle(l.node, 100 * NS_PER_MS);
    if (!lone_make(&l, small ? 0 : 2048)) {
        promise_none(r, "no block of 4 MiB is free");
        return;
    }
    mm_costs_reset();
    for (unsigned round = 0; round < ROUNDS && !lost; round++) {
        lone_free(&l);
        if (small && round % 2) { /* all of it is there: so is one frame */
            pfn_t one = lone_ask(&l, 0);
            if (one == PFN_NONE)
                l.refused++;
            else
                mm_free(one, 0);
        }
        l.block = lone_ask(&l, l.order);
        if (l.block == PFN_NONE) {
            l.refused++;
            lost += !lone_take_back(&l);
        }
    }
    mm_costs_get(&costs);
    if (l.block != PFN_NONE)
        mm_free(l.block, l.order);
    ballast_free(&l.rest);
    promise_say(r, l.refused == 0 && lost == 0 && costs.max_clears_waited <= 1,
                "%lu of %lu requests refused though all was free, %lu of them in mid-scrub; most "
                "clears waited for: %lu%s",
                l.refused, l.asked, l.scrubbing, costs.max_clears_waited,
                lost ? "; the block never came back" : "");
}

/* ---- P5 ---- */

/*
 * In basic blocks. The number matters little: a hold that is bounded stays far below it, one that
 * grows with what is taken or freed passes it at 16 MiB or so.
 */
#define STEPS_BOUND 16384

/* A large dirty block that a taker wants clean, with nothing else to be had: all of it is his. */
static void large_and_dirty(unsigned node)
{
    static struct lone l; /* too big for a stack that has another ballast on it */
    bool was_on = mm_scrub_enabled();
    l = (struct lone){.node = node};
    if (!lone_make(&l, nr_nodes > 1 ? 0 : 2048))
        return;
    mm_scrub_enable(false);
    measure_soil(l.block, l.order);
    mm_free(l.block, l.order);
    l.block = mm_take(l.order, TAKE_CLEAN | TAKE_THIS_NODE, node);
    mm_scrub_enable(was_on);
    if (l.block != PFN_NONE)
        mm_free(l.block, l.order);
    ballast_free(&l.rest);
}

static void some_of_everything(unsigned node)
{
    static const unsigned orders[] = {0, 3, 9, 12, 16, 18};
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        struct pile pile = PILE_EMPTY;
        unsigned order = orders[i];
        pile_take(&pile, order, i % 2 ? TAKE_CLEAN : TAKE_ANY, node, order < 9 ? 600 : 1);
        pile_soil(&pile, order);
        pile_free(&pile, order);
        thread_sleep(NS_PER_MS);
        pile_take(&pile, order, TAKE_CLEAN, node, order < 9 ? 600 : 1); /* in mid-scrub */
        pile_free(&pile, order);
    }
    large_and_dirty(node);
    measure_settle(node, 100 * NS_PER_MS);
}

void promise_no_clear_locked(struct promise_result *r)
{
    unsigned node = measure_node();
    struct counts before, after;
    struct mm_costs costs;

    measure_settle(MM_ALL_NODES, 500 * NS_PER_MS); /* what the boot left is nobody's doing */
    steps_reset();
    mm_costs_reset();
    counts_take(&before);
    some_of_everything(node);
    counts_since(&before, &after);
    mm_costs_get(&costs);
    /* Where the image does not count them, what the allocator says: records that it touched. */
    u64 steps = steps_counted() ? steps_max() : costs.max_hold_steps;
    if (steps)
        promise_say(r, after.clears_locked == 0 && steps <= STEPS_BOUND,
                    "%lu of %lu clears under a zone lock; longest hold %lu steps of %u allowed",
                    after.clears_locked, after.clears, steps, STEPS_BOUND);
    else
        promise_say(r, after.clears_locked == 0, "%lu of %lu clears under a zone lock",
                    after.clears_locked, after.clears);
}
