/*
 * See rest.h. Owns nothing.
 *
 * Why no time is measured to find forgotten dirt: who frees memory publishes AWAKE for the CPU
 * that it rings, so at no moment may there be claimable dirt with everybody asleep, however slow
 * the host is. The thread that looks runs on a CPU that is BUSY, which rings nobody and is not
 * rung. A CPU that goes to sleep publishes ASLEEP and looks once more; so a sample counts only if
 * it is the same many times in a row, with time for that look between.
 *
 * Next: mm/bell.c, sched/idle.c.
 */
#include "kernel/rest.h"
#include "lib/printf.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define SAME    50                   /* samples in a row */
#define GAP_NS  (200 * 1000ULL)      /* between them */
#define STEP_NS (2 * 1000 * 1000ULL) /* one look while this CPU may scrub */

static bool rest_others_sleep(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (cpu != cpu_id() && load_acquire(&cpu_by_id(cpu)->online) &&
            mm_cpu_state(cpu) != CPU_ASLEEP)
            return false;
    return true;
}

static bool rest_alone(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (cpu != cpu_id() && load_acquire(&cpu_by_id(cpu)->online))
            return false;
    return true;
}

static void rest_spin(u64 ns)
{
    for (u64 end = time_ns() + ns; time_ns() < end;)
        cpu_relax();
}

bool rest_wait(u64 ns, struct rest *out)
{
    u64 began = time_ns();
    struct mm_zone_info i;

    for (unsigned same = 0; same < SAME;) {
        if (time_ns() - began > ns)
            return false;
        same = rest_others_sleep() ? same + 1 : 0;
        if (rest_alone()) /* nobody else would scrub: let this one */
            thread_sleep(STEP_NS);
        else
            rest_spin(GAP_NS);
    }
    out->ns = time_ns() - began;
    mm_node_info(MM_ALL_NODES, &i);
    out->dirty = i.dirty;
    return true;
}

bool rest_is_limited(void)
{
    struct mm_policy p;
    mm_policy_get(&p);
    return !mm_scrub_enabled() || p.rate_mib;
}

const char *rest_check(u64 ns)
{
    static char text[100]; /* one thread rests at a time */
    struct mm_zone_info i;
    struct rest rest;
    u64 last = ~0ULL, progress = 0;

    if (!rest_wait(ns, &rest)) {
        snprintf(text, sizeof(text), "after %lu s some CPU is not asleep yet", ns / 1000000000);
        return text;
    }
    if (rest.dirty && !rest_alone()) {
        snprintf(text, sizeof(text), "every other CPU sleeps, and %lu frames are dirty",
                 rest.dirty);
        return text;
    }
    /* What this CPU's own store keeps goes home when it sleeps. */
    for (u64 now = progress = time_ns(); now - progress < ns; now = time_ns()) {
        mm_node_info(MM_ALL_NODES, &i);
        u64 left = i.dirty + i.stored_dirty + i.in_flight;
        if (left == 0)
            return NULL;
        if (left < last) {
            last = left;
            progress = now;
        }
        thread_sleep(STEP_NS);
    }
    snprintf(text, sizeof(text), "%lu frames stay dirty", last);
    return text;
}
