/*
 * bench scrub: what a frame costs an idle CPU, claims, locks and bells included, against the bare
 * clear of the same memory; and all CPUs of the machine against one.
 *
 * Owns nothing. Limits the scrubbers by the policy, and puts it back.
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "kernel/policy.h"
#include "sched/sched.h"

#define ORDER   14 /* 64 MiB */
#define LOST_NS (2 * NS_PER_S)

static pfn_t dirt_take(unsigned node)
{
    pfn_t pfn = mm_take(ORDER, TAKE_ANY | TAKE_THIS_NODE, node);
    if (pfn != PFN_NONE)
        measure_soil(pfn, ORDER);
    return pfn;
}

/* Nanoseconds a frame from the free to the last clean one. */
static u64 scrub_once(const struct bench_side *s)
{
    struct mm_policy saved, p;
    pfn_t pfn = dirt_take(s->node);
    u64 ns;

    if (pfn == PFN_NONE)
        return 0;
    mm_policy_get(&saved);
    p = saved;
    p.scrubbers = s->arg;
    policy_apply(&p);
    u64 began = time_ns();
    mm_free(pfn, ORDER);
    while (measure_unclean(s->node) && time_ns() - began < LOST_NS)
        thread_sleep(NS_PER_MS / 2);
    ns = time_ns() - began;
    policy_apply(&saved);
    return measure_unclean(s->node) ? 0 : MAX(ns >> ORDER, 1);
}

static u64 clear_once(const struct bench_side *s)
{
    pfn_t pfn = dirt_take(s->node);
    if (pfn == PFN_NONE)
        return 0;
    u64 began = time_ns();
    for (u64 i = 0; i < 1ULL << ORDER; i++)
        clear_frame_stream(frame_va(pfn + i));
    clear_fence();
    u64 ns = time_ns() - began;
    mm_free(pfn, ORDER);
    measure_settle(s->node, LOST_NS);
    return MAX(ns >> ORDER, 1);
}

void bench_scrub(void)
{
    unsigned node = cpu_node(cpu_id());
    struct bench_side one = {.name = "one-cpu", .sample = scrub_once, .node = node, .arg = 1};
    struct bench_side all = {.name = "all-cpus", .sample = scrub_once, .node = node};
    struct bench_side bare = {.name = "the-bare-clear", .sample = clear_once, .node = node};
    struct counts before, after;

    if (!mm_scrub_enabled()) {
        bench_none("scrub", "idle scrubbing is off");
        return;
    }
    measure_settle(node, LOST_NS); /* a busy host takes its time */
    counts_take(&before);
    if (scrub_once(&all))
        counts_since(&before, &after);
    else
        after = (struct counts){0};
    if (after.idle_local + after.idle_remote < 1ULL << (ORDER - 1)) {
        bench_none("scrub", "no idle CPU scrubs under this strategy");
        return;
    }
    bench_race_row("scrub.one-cpu", "ns", &one, &bare);
    bench_race_row("scrub.all-cpus", "ns", &all, &one);
}
