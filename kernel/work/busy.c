/*
 * Scenarios in which nobody is idle where the dirt is: one node busy, and all of them.
 *
 * Owns nothing. Changes the age bound and puts it back.
 */
#include "kernel/work/work.h"
#include "kernel/policy.h"
#include "sched/sched.h"

#define WAIT_NS (2 * NS_PER_S)
#define FRESH   (32 * MIB / FRAME_SIZE) /* the sampler's own dirt, which always comes anew */

/* Half of S is soiled and freed while the CPUs of `busy` are at work; then it is wanted clean. */
static void dirt_while_busy(struct work *w, unsigned busy)
{
    struct pile pile = PILE_EMPTY;
    u64 blocks = w->frames / 2 >> ORDER_PAGEBLOCK, took;

    if (pile_take(&pile, ORDER_PAGEBLOCK, TAKE_ANY, w->node, blocks) < blocks)
        w->failed++;
    pile_soil(&pile, ORDER_PAGEBLOCK);
    if (spinners_start(busy)) {
        u64 began = time_ns();
        pile_free(&pile, ORDER_PAGEBLOCK);
        work_us("destroy", time_ns() - began);
        u64 left = measure_clean_within(w->node, FRESH, WAIT_NS, &took);
        work_us("clean_after", took);
        work_value("left_dirty", left * (FRAME_SIZE / KIB), "KiB");
        began = time_ns();
        if (pile_take(&pile, ORDER_PAGEBLOCK, TAKE_CLEAN, w->node, blocks) < blocks)
            w->failed++;
        work_us("create", time_ns() - began);
        spinners_stop();
    }
    pile_soil(&pile, ORDER_PAGEBLOCK);
    pile_free(&pile, ORDER_PAGEBLOCK);
}

void work_one_busy(struct work *w)
{
    dirt_while_busy(w, w->node);
}

void work_all_busy(struct work *w)
{
    struct mm_policy saved, p;
    mm_policy_get(&saved);
    p = saved;
    p.age_ms = 200;
    policy_apply(&p);
    dirt_while_busy(w, MM_ALL_NODES);
    policy_apply(&saved);
}
