/*
 * See rest.h. Owns nothing.
 *
 * A lost bell hides easily: whoever wakes next, for whatever reason, looks for dirt before it
 * sleeps again. So while we wait nothing may wake anybody: the thread that waits keeps its CPU
 * BUSY, which rings and is rung by nobody, and the aged scrubbers are told that there is no bound.
 * Then it frees a block on every node itself: of all the CPUs that sleep one has to wake for it.
 *
 * Dirt with everybody asleep may be seen for a moment, without a bell being lost: a CPU that goes
 * to sleep publishes ASLEEP and looks once more, and the host may leave it lying in between. What
 * stays so for LOST_NS is lost.
 *
 * Next: mm/bell.c, sched/idle.c.
 */
#include "kernel/rest.h"
#include "kernel/policy.h"
#include "lib/printf.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define SAME    20                          /* looks in a row that find everybody asleep */
#define GAP_NS  (200 * 1000ULL)             /* between them */
#define STEP_NS (2 * 1000 * 1000ULL)        /* one look while this CPU may scrub */
#define LOST_NS (2 * 1000 * 1000 * 1000ULL) /* dirt, and for so long nobody moves */

static bool rest_others_sleep(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (cpu != cpu_id() && load_acquire(&cpu_by_id(cpu)->online) &&
            mm_cpu_state(cpu) != CPU_ASLEEP)
            return false;
    return true;
}

/* No other CPU would scrub this one's node. */
static bool rest_alone(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (cpu != cpu_id() && load_acquire(&cpu_by_id(cpu)->online) &&
            (mm_helps_busy_nodes() || cpu_node(cpu) == cpu_node(cpu_id())))
            return false;
    return true;
}

static void rest_pause(bool alone)
{
    if (alone) { /* nobody else would scrub: let this one */
        thread_sleep(STEP_NS);
        return;
    }
    for (u64 end = time_ns() + GAP_NS; time_ns() < end;)
        cpu_relax();
}

static u64 rest_dirty(void)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    return i.dirty;
}

/* Until all others sleep and nothing is dirty, or will stay so. False: not before `end`. */
static bool rest_settle(u64 end, u64 *dirty)
{
    bool alone = rest_alone();
    u64 since = time_ns();

    *dirty = ~0ULL;
    for (unsigned same = 0;;) {
        u64 now = time_ns();
        if (now > end)
            return false;
        if (!rest_others_sleep()) {
            same = 0;
            since = now;
        } else if (++same >= SAME) {
            u64 was = *dirty;
            *dirty = mm_scrub_enabled() ? rest_dirty() : 0;
            if (*dirty < was) /* somebody scrubs: it may be us, between two looks */
                since = now;
            if (*dirty == 0 || now - since > LOST_NS)
                return true;
        }
        rest_pause(alone);
    }
}

/* How many nodes had a block to take and to free. */
static unsigned rest_make_dirt(void)
{
    unsigned nodes = 0;
    for (unsigned node = 0; node < nr_nodes; node++) {
        pfn_t pfn = PFN_NONE;
        unsigned order = ORDER_PAGEBLOCK + 1;
        while (pfn == PFN_NONE && order-- > 0)
            pfn = mm_take(order, TAKE_ANY | TAKE_THIS_NODE, node);
        if (pfn == PFN_NONE)
            continue;
        mm_free(pfn, order);
        nodes++;
    }
    return nodes;
}

bool rest_is_limited(void)
{
    struct mm_policy p;
    mm_policy_get(&p);
    return !mm_scrub_enabled() || !mm_strategy_scrubs_free() || p.rate_mib;
}

bool rest_wait(u64 ns, struct rest *out)
{
    struct mm_policy saved, p;
    u64 began = time_ns();

    *out = (struct rest){0};
    mm_policy_get(&saved);
    p = saved;
    p.age_ms = 0;
    policy_apply(&p);
    bool slept = rest_settle(began + ns, &out->dirty);
    if (slept && !rest_is_limited() && out->dirty == 0) {
        out->freed = rest_make_dirt();
        slept = rest_settle(began + ns, &out->dirty);
    }
    policy_apply(&saved);
    out->ns = time_ns() - began;
    return slept;
}

const char *rest_check(u64 ns)
{
    static char text[100]; /* one thread rests at a time */
    struct rest rest;

    if (!rest_wait(ns, &rest)) {
        snprintf(text, sizeof(text), "after %lu s some CPU is not asleep yet", ns / 1000000000);
        return text;
    }
    if (rest.dirty) {
        snprintf(text, sizeof(text), "every other CPU sleeps, and %lu frames are dirty",
                 rest.dirty);
        return text;
    }
    return NULL;
}
