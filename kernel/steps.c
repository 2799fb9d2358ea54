/*
 * See steps.h. Owns one count a CPU, (o) except that steps_reset() writes the maxima of all.
 */
#include "kernel/steps.h"
#include "arch.h"

void __sanitizer_cov_trace_pc(void); /* gcc -fsanitize-coverage=trace-pc calls it by this name */

static struct {
    u64 now; /* (o) steps of the hold that is going on */
    u64 max; /* (o) others read it relaxed */
} __attribute__((aligned(64))) steps[MAX_CPUS];
static bool counted; /* (a) */

static bool holds_zone_lock(const struct cpu *c)
{
    for (unsigned i = 0; i < c->nr_locks_held; i++)
        if (c->locks_held[i]->rank == RANK_ZONE)
            return true;
    return false;
}

/* The block that runs first without a lock ends the hold: a spin_unlock() returns into one. */
void __sanitizer_cov_trace_pc(void)
{
    const struct cpu *c = this_cpu();
    unsigned id = c->id;
    if (c->irq_depth)
        return;
    if (!load_relaxed(&counted))
        store_relaxed(&counted, true);
    if (c->nr_locks_held && holds_zone_lock(c)) {
        u64 now = ++steps[id].now;
        if (now > steps[id].max)
            store_relaxed(&steps[id].max, now);
    } else {
        steps[id].now = 0;
    }
}

bool steps_counted(void)
{
    return load_relaxed(&counted);
}

void steps_reset(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        store_relaxed(&steps[cpu].max, 0);
}

u64 steps_max(void)
{
    u64 max = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        max = MAX(max, load_relaxed(&steps[cpu].max));
    return max;
}
