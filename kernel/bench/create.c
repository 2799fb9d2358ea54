/*
 * bench create: 128 MiB of zeroed memory in blocks of 2 MiB, if idle CPUs have had time to scrub
 * it, against memory that was just given back and is dirty.
 *
 * Owns nothing.
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "sched/sched.h"

#define BLOCKS_MAX 64

/* Everything that the node has is dirty (arg 0), or what idle CPUs make of it (arg 1). */
static u64 create_once(const struct bench_side *s)
{
    struct ballast all;
    struct pile pile = PILE_EMPTY;
    bool was_on = mm_scrub_enabled();
    u64 ns = 0;

    mm_scrub_enable(false);
    ballast_take(&all, s->node, 512); /* a little is left for others */
    ballast_free(&all);
    mm_scrub_enable(was_on);
    if (s->arg)
        measure_settle(s->node, 200 * NS_PER_MS);
    mm_scrub_enable(false);
    u64 began = time_ns();
    if (pile_take(&pile, ORDER_PAGEBLOCK, TAKE_CLEAN, s->node, s->order) == s->order)
        ns = MAX(time_ns() - began, 1);
    pile_free(&pile, ORDER_PAGEBLOCK);
    mm_scrub_enable(was_on);
    return ns;
}

void bench_create(void)
{
    unsigned node = cpu_node(cpu_id());
    u64 blocks = MIN(measure_free(node) / 2 >> ORDER_PAGEBLOCK, (u64)BLOCKS_MAX);
    struct bench_side clean = {.name = "after-idle",
                               .sample = create_once,
                               .node = node,
                               .order = (unsigned)blocks,
                               .arg = 1};
    struct bench_side dirty = clean;

    dirty.name = "at-once";
    dirty.arg = 0;
    if (!mm_scrub_enabled())
        bench_none("create", "idle scrubbing is off");
    else if (!blocks)
        bench_none("create", "no two blocks of 2 MiB are free");
    else
        bench_race_row("create.after-idle", "ns", &clean, &dirty);
    measure_settle(node, 100 * NS_PER_MS);
}
