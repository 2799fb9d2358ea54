/*
 * bench wake: how many frames an idle CPU clears after a thread has become runnable there and
 * before it runs it. One is the promise (P8): the frame in hand. Counted by the scheduler, never
 * timed: on a host with fewer cores than the machine has CPUs a time says nothing.
 *
 * Owns nothing.
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "lib/log.h"
#include "sched/sched.h"

#define ORDER 13 /* 32 MiB of dirt at a time */

static void nothing(void *unused)
{
    (void)unused;
}

void bench_wake(void)
{
    enum { ROUNDS = 16, WAKES = 20 };
    struct sched_stats stats;
    u64 most = 0, wakes = 0;

    if (nr_cpus < 2) {
        bench_none("wake", "one CPU: it is never idle while somebody measures");
        return;
    }
    sched_stats_reset();
    struct counts before, after;
    counts_take(&before);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned node = cpu_node(1 + round % (nr_cpus - 1));
        pfn_t pfn = mm_take(ORDER, TAKE_ANY | TAKE_THIS_NODE, node);
        if (pfn != PFN_NONE)
            mm_free(pfn, ORDER);
        for (unsigned i = 0; i < WAKES; i++, wakes++) {
            struct helper h;
            if (!helper_start(&h, 1 + i % (nr_cpus - 1), nothing, NULL))
                return;
            while (!load_acquire(&h.done)) /* awake: this CPU should not scrub itself */
                cpu_relax();
        }
    }
    counts_since(&before, &after);
    for (unsigned cpu = 1; cpu < nr_cpus; cpu++) {
        sched_cpu_stats(cpu, &stats);
        most = MAX(most, stats.clears_before_run_max);
    }
    log_line("bench wake: %lu wakes while idle CPUs cleared %lu frames", wakes,
             after.idle_local + after.idle_remote);
    if (after.idle_local + after.idle_remote == 0)
        bench_none("wake", "no idle CPU scrubs under this strategy");
    else
        bench_row("wake", most, "clears", 1, "the-promise");
}
