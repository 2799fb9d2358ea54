/*
 * P6 and P7: clean memory stays so, and freeing clears nothing.
 *
 * Owns nothing.
 */
#include "kernel/promise/promise.h"
#include "kernel/measure.h"
#include "sched/sched.h"

/* ---- P6 ---- */

/*
 * A clean block, the only free memory of the node, of which one frame gets dirty: how many of its
 * pageblocks can still be had without a clear, of how many, and how many of the clean frames cannot
 * be told to be clean without a look at each? False: the block never was clean.
 */
struct speck {
    u64 served, blocks, spoilt;
};
static bool speck(unsigned node, struct speck *s)
{
    enum { ORDER = 14 };
    struct mm_costs after;
    struct ballast rest;
    struct pile taken = PILE_EMPTY;
    pfn_t block = mm_take(ORDER, TAKE_ANY | TAKE_THIS_NODE, node);
    bool clean = false;

    *s = (struct speck){.blocks = 1ULL << (ORDER - ORDER_PAGEBLOCK)};
    if (block == PFN_NONE)
        return false;
    ballast_take(&rest, node, 0);
    measure_soil(block, ORDER);
    mm_free(block, ORDER);
    if (measure_settle(node, 100 * NS_PER_MS) == 0) {
        clean = true;
        mm_scrub_enable(false);
        pfn_t one = mm_take(0, TAKE_ANY | TAKE_THIS_NODE, node);
        if (one != PFN_NONE) {
            measure_soil(one, 0);
            mm_free(one, 0);
        }
        thread_sleep(2 * NS_PER_MS); /* the idle loop gives back what the CPU had at hand */
        mm_costs_get(&after);
        s->spoilt = after.spoilt;
        for (u64 i = 0; i < s->blocks; i++) {
            u64 cleared = 0;
            pfn_t pfn =
                mm_take_counted(ORDER_PAGEBLOCK, TAKE_CLEAN | TAKE_THIS_NODE, node, &cleared);
            if (pfn == PFN_NONE)
                break;
            s->served += cleared == 0;
            *(pfn_t *)frame_va(pfn) = taken.first;
            taken.first = pfn;
        }
        pile_free(&taken, ORDER_PAGEBLOCK);
        mm_scrub_enable(true);
    }
    ballast_free(&rest);
    return clean;
}

/* Until idle CPUs are at the dirt that was just made, or plainly are not. */
static void wait_for_scrubbers(void)
{
    struct counts before, now;
    counts_take(&before);
    for (u64 end = time_ns() + 3 * NS_PER_MS; time_ns() < end;) {
        counts_since(&before, &now);
        if (now.clears > 64)
            break;
    }
}

/*
 * Dirt made and scrubbed and taken, over and over: how many clears hit what was clean? One block is
 * all that is free, so that who takes it takes it while it is dirty, in mid-scrub, and clean.
 */
static u64 cleared_again(unsigned node, u64 *clears)
{
    enum { ROUNDS = 24, ORDER = 13 };
    struct ballast all;
    struct counts before, after;
    pfn_t block = mm_take(ORDER, TAKE_ANY | TAKE_THIS_NODE, node);

    /* All of it soiled, so that whatever is zero from here on has been cleared. */
    ballast_take(&all, node, nr_nodes > 1 ? 0 : 2048);
    for (unsigned order = 0; order <= ORDER_MAX; order++)
        pile_soil(&all.of[order], order);
    clear_watch(true);
    counts_take(&before);
    for (unsigned round = 0; round < ROUNDS && block != PFN_NONE; round++) {
        measure_soil(block, ORDER);
        mm_free(block, ORDER);
        if (round % 4)
            wait_for_scrubbers();
        if (round % 4 == 3)
            measure_settle(node, 20 * NS_PER_MS);
        do {
            block = mm_take(ORDER, TAKE_CLEAN | TAKE_THIS_NODE, node);
        } while (block == PFN_NONE && measure_free(node) >= 1ULL << ORDER);
    }
    if (block != PFN_NONE) {
        measure_soil(block, ORDER);
        mm_free(block, ORDER);
    }
    ballast_free(&all);
    measure_settle(node, 100 * NS_PER_MS);
    counts_since(&before, &after);
    clear_watch(false);
    *clears = after.clears;
    return after.clears_again;
}

void promise_cleanliness(struct promise_result *r)
{
    unsigned node = measure_node();
    struct speck s;
    u64 clears;

    measure_settle(MM_ALL_NODES, 100 * NS_PER_MS);
    u64 again = cleared_again(node, &clears);
    if (speck(node, &s))
        promise_say(r, s.served + 1 >= s.blocks && s.spoilt == 0 && again == 0,
                    "one dirty frame in a clean block: %lu of %lu pageblocks served without a "
                    "clear, %lu frames spoilt; %lu of %lu clears hit clean frames",
                    s.served, s.blocks, s.spoilt, again, clears);
    else if (again)
        promise_say(r, false, "%lu of %lu clears hit clean frames", again, clears);
    else
        promise_none(r, "no free frame is ever clean; %lu of %lu clears hit clean ones", again,
                     clears);
}

/* ---- P7 ---- */

void promise_free_is_free(struct promise_result *r)
{
    static const struct {
        unsigned order, blocks;
    } sizes[] = {{14, 1}, {9, 16}, {4, 64}, {0, 1024}};
    unsigned node = measure_node();
    u64 frames = 0, clears = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct pile pile = PILE_EMPTY;
        pile_take(&pile, sizes[i].order, TAKE_ANY, node, sizes[i].blocks);
        pile_soil(&pile, sizes[i].order);
        frames += pile.frames;
        preempt_disable(); /* so that what this CPU clears is what the free clears */
        u64 before = counts_cpu_clears(cpu_id());
        pile_free(&pile, sizes[i].order);
        clears += counts_cpu_clears(cpu_id()) - before;
        preempt_enable();
    }
    promise_say(r, clears == 0, "%lu clears in freeing %lu frames", clears, frames);
}
