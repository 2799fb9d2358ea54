/*
 * The thread's race, acted: the schedule that the explorer finds in `walk` and `mark`
 * (make explore SCENARIO=mark), by turn gates, on the real machine. It ends in a panic, which
 * tools/thread_test.py expects. Only by name: alloc=classic test=thread.mark.
 *
 *     A: this test                           B: an idle CPU
 *                                            has read the head of a list: the gate holds it there
 *     takes all memory: that block leaves
 *     its list, and its links are poison
 *     opens the gate
 *                                            reads the next link: panic
 */
#include "arch.h"
#include "lib/string.h"
#include "mm/classic/strategy/strategy.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest.h"

static u32 stands; /* (a) a CPU is at the gate */
static u32 open;   /* (a) it may go on */

/* The first CPU that stands on a block waits, once. Preemption is off there, interrupts are on. */
static void hold_on_a_block(const char *point, pfn_t pfn)
{
    (void)pfn;
    if (strcmp(point, "walk: on a block") != 0 || xchg(&stands, 1u))
        return;
    while (!load_acquire(&open)) /* pairs with the release in act() */
        cpu_relax();
}

static bool comes_true(const u32 *flag)
{
    u64 until = time_ns() + 20000000000ULL;
    while (!load_acquire(flag) && time_ns() < until)
        cpu_relax();
    return load_acquire(flag);
}

static void act(const char *strategy)
{
    if (!ktest_alloc_is("classic", "the ground that the thread stands on"))
        return;
    pfn_t pfn = mm_take(4, TAKE_ANY, 0);
    store_release(&classic_gate, hold_on_a_block);
    CHECK(mm_strategy_set(strategy) == 0);
    mm_free(pfn, 4); /* dirt, and the bell */
    CHECK_MSG(comes_true(&stands), "nobody came to the gate");
    for (unsigned order = ORDER_MAX + 1; order-- > 0;)
        while (mm_take(order, TAKE_ANY, 0) != PFN_NONE)
            ;
    store_release(&open, 1u);
    thread_sleep(5000000000ULL);
    CHECK_MSG(false, "%s: a block was taken from under a CPU, and nothing came of it", strategy);
}

static void walk(void)
{
    act("walk");
}

static void mark(void)
{
    act("mark");
}

static const struct ktest cases[] = {
    {"walk", walk, 2, 0},
    {"mark", mark, 2, 0},
};
KTEST_SUITE_BY_NAME(thread, cases);
