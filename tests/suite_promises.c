/*
 * The nine promises under the strategy in force, by the tests of kernel/promise/. Under `claim` all
 * of them have to hold; under another strategy a case says what it saw and fails on nothing:
 * tools/compare.py knows what to expect of each. Only by name: test=promises.
 *
 * Owns nothing.
 */
#include "tests/ktest.h"
#include "kernel/promise/promise.h"
#include "lib/string.h"
#include "mm/mm.h"

static void put_to_the_test(unsigned i)
{
    static const char *const outcomes[] = {"holds", "BROKEN", "n/a"};
    struct promise_result r = {.outcome = PROMISE_NONE};
    promises[i].test(&r);
    ktest_note("%s under %s: %s: %s", promises[i].words, mm_strategy_name(), outcomes[r.outcome],
               r.evidence);
    if (strcmp(mm_strategy_name(), "claim") != 0)
        return;
    if (r.outcome == PROMISE_NONE)
        ktest_skip("%s", r.evidence);
    else
        CHECK_MSG(r.outcome == PROMISE_HOLDS, "%s", r.evidence);
}

#define PROMISE_CASE(fn, i)   \
    static void fn(void)      \
    {                         \
        put_to_the_test((i)); \
    }
PROMISE_CASE(p1_no_leak, 0)
PROMISE_CASE(p2_one_owner, 1)
PROMISE_CASE(p3_clean_means_zero, 2)
PROMISE_CASE(p4_scrubbing_hides_nothing, 3)
PROMISE_CASE(p5_no_clearing_under_a_lock, 4)
PROMISE_CASE(p6_cleanliness_survives, 5)
PROMISE_CASE(p7_free_costs_no_clears, 6)
PROMISE_CASE(p8_idle_work_yields, 7)
PROMISE_CASE(p9_no_dirt_is_forgotten, 8)

static const struct ktest cases[] = {
    {"p1_no_leak", p1_no_leak, 0, 0},
    {"p2_one_owner", p2_one_owner, 0, 0},
    {"p3_clean_means_zero", p3_clean_means_zero, 0, 0},
    {"p4_scrubbing_hides_nothing", p4_scrubbing_hides_nothing, 0, 0},
    {"p5_no_clearing_under_a_lock", p5_no_clearing_under_a_lock, 0, 0},
    {"p6_cleanliness_survives", p6_cleanliness_survives, 0, 0},
    {"p7_free_costs_no_clears", p7_free_costs_no_clears, 0, 0},
    {"p8_idle_work_yields", p8_idle_work_yields, 2, 0},
    {"p9_no_dirt_is_forgotten", p9_no_dirt_is_forgotten, 0, 0},
};
KTEST_SUITE_BY_NAME(promises, cases);
