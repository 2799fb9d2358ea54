/*
 * P8 and P9: idle CPUs let threads run, and leave no dirt behind.
 *
 * Owns nothing. Changes the age bound and puts it back.
 */
#include "kernel/promise/promise.h"
#include "kernel/measure.h"
#include "kernel/policy.h"
#include "kernel/rest.h"
#include "sched/sched.h"

#define ORDER 13 /* 32 MiB of dirt at a time */

/* Soils and frees 32 MiB of the node, or less where there is less. */
static void make_dirt(unsigned node)
{
    for (unsigned order = ORDER; order >= ORDER_PAGEBLOCK; order--) {
        pfn_t pfn = mm_take(order, TAKE_ANY | TAKE_THIS_NODE, node);
        if (pfn == PFN_NONE)
            continue;
        measure_soil(pfn, order);
        mm_free(pfn, order);
        return;
    }
}

/* ---- P8 ---- */

static void nothing(void *unused)
{
    (void)unused;
}

void promise_idle_yields(struct promise_result *r)
{
    enum { ROUNDS = 12, WAKES = 20, REST_S = 5 };
    struct counts before, after;
    struct sched_stats stats;
    u64 most = 0, wakes = 0;

    if (nr_cpus < 2) {
        promise_none(r, "one CPU: it is never idle while somebody looks");
        return;
    }
    measure_settle(MM_ALL_NODES, 100 * NS_PER_MS);
    counts_take(&before);
    sched_stats_reset();
    for (unsigned round = 0; round < ROUNDS; round++) {
        make_dirt(cpu_node(1 + round % (nr_cpus - 1)));
        for (unsigned i = 0; i < WAKES; i++, wakes++) {
            struct helper h;
            if (!helper_start(&h, 1 + i % (nr_cpus - 1), nothing, NULL))
                break;
            while (!load_acquire(&h.done)) /* awake: this CPU should not scrub itself */
                cpu_relax();
        }
    }
    counts_since(&before, &after);
    for (unsigned cpu = 1; cpu < nr_cpus; cpu++) {
        sched_cpu_stats(cpu, &stats);
        most = MAX(most, stats.clears_before_run_max);
    }
    u64 idle = after.idle_local + after.idle_remote;
    if (idle == 0) {
        promise_none(r, "idle CPUs clear nothing");
        return;
    }
    struct rest rest;
    bool asleep = rest_wait(REST_S * NS_PER_S, &rest);
    promise_say(r, most <= 1 && asleep,
                "most clears before a woken thread ran: %lu (%lu wakes, %lu frames cleared "
                "meanwhile); then all CPUs %s",
                most, wakes, idle, asleep ? "sleep" : "do not come to sleep");
}

/* ---- P9 ---- */

/* Dirt with every CPU of `busy` at work (~1u: of none): frames that stay dirty. */
#define NOBODY (MM_ALL_NODES - 1)
static u64 forgotten(unsigned node, unsigned busy, u64 wait_ns)
{
    u64 took;
    measure_settle(node, 100 * NS_PER_MS);
    if (busy != NOBODY && !spinners_start(busy))
        return 0;
    make_dirt(node);
    u64 left = measure_clean_within(node, 0, wait_ns, &took);
    if (busy != NOBODY)
        spinners_stop();
    return left;
}

void promise_no_dirt_forgotten(struct promise_result *r)
{
    enum { AGE_MS = 100, WAIT_S = 2 };
    /* The largest that has a CPU: a node without is never busy. */
    unsigned node = cpu_node(measure_cpu(measure_node(), 0));
    struct mm_policy saved, p;
    u64 idle, helped = 0, aged;

    idle = forgotten(node, NOBODY, WAIT_S * NS_PER_S);
    if (nr_nodes > 1)
        helped = forgotten(node, node, WAIT_S * NS_PER_S);
    mm_policy_get(&saved);
    p = saved;
    p.age_ms = AGE_MS;
    policy_apply(&p);
    aged = forgotten(node, MM_ALL_NODES, (WAIT_S + 1) * NS_PER_S);
    policy_apply(&saved);
    promise_say(r, idle == 0 && helped == 0 && aged == 0,
                "frames still dirty after %d s: CPUs idle %lu, its node busy %lu; after %d s, all "
                "busy, age bound %d ms: %lu",
                WAIT_S, idle, helped, WAIT_S + 1, AGE_MS, aged);
}
