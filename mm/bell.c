/*
 * The bell: see mm/bell.h. Owns the published state of every CPU. Lock-free; the orderings are
 * the protocol's:
 *
 *     A: frees                               B: about to sleep
 *     dirt into the maps; unlock             xchg(state, ASLEEP)     full fence
 *     full fence                             may I claim? -> looks at the dirt
 *     reads states: B asleep -> kick
 *
 * One of the two sees the other: either A reads ASLEEP and kicks, or B's look comes after A's
 * dirt. The same pair with BUSY in the place of ASLEEP covers a CPU that leaves the idle loop:
 * it publishes BUSY, and then rings for what it leaves behind (rule 14).
 */
#include "mm/bell.h"
#include "mm/limpid.h"
#include "mm/strategy/strategy.h"

static u32 states[MAX_CPUS];          /* (a) enum cpu_state */
static u16 node_cpu[MAX_CPUS];        /* (c) CPUs sorted by node */
static u16 node_first[MAX_NODES + 1]; /* (c) node n's CPUs: node_cpu[node_first[n] .. [n + 1]) */

void bell_init(void)
{
    unsigned n = 0;
    for (unsigned node = 0; node < MAX_NODES; node++) {
        node_first[node] = (u16)n;
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            if (cpu_node(cpu) == node)
                node_cpu[n++] = (u16)cpu;
    }
    node_first[MAX_NODES] = (u16)n;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        store_relaxed(&states[cpu], CPU_BUSY); /* nobody is in the idle loop yet */
}

void mm_cpu_state_set(enum cpu_state state)
{
    /* Full fence: pairs with the one in bell_ring(). */
    xchg(&states[cpu_id()], (u32)state);
}

enum cpu_state mm_cpu_state(unsigned cpu)
{
    /* Who draws conclusions from dirt and states together looked at the dirt first. */
    full_fence();
    return (enum cpu_state)load_relaxed(&states[cpu]);
}

unsigned bell_node_cpus(unsigned node)
{
    return node_first[node + 1] - node_first[node];
}

bool bell_node_busy(unsigned node)
{
    for (unsigned n = node_first[node]; n < node_first[node + 1]; n++)
        if (load_relaxed(&states[node_cpu[n]]) != CPU_BUSY)
            return false;
    return true;
}

/* A sleeping CPU of the node, or MAX_CPUS; *awake: another one is in the idle loop anyway. */
static unsigned find_sleeper(unsigned node, bool *awake)
{
    unsigned sleeper = MAX_CPUS, self = cpu_id();
    *awake = false;
    for (unsigned n = node_first[node]; n < node_first[node + 1]; n++) {
        u32 state = load_relaxed(&states[node_cpu[n]]);
        if (state == CPU_AWAKE && node_cpu[n] != self)
            *awake = true;
        if (state == CPU_ASLEEP)
            sleeper = node_cpu[n];
    }
    return sleeper;
}

/*
 * Wakes a CPU that was read ASLEEP, once: AWAKE is published for it, for it will look before it
 * sleeps again, and whoever rings next finds it so and sends no second kick. If the state has
 * changed meanwhile, it woke by itself or was woken after our dirt was published: it will see it,
 * in its next look or in the one that rule 14 asks of a CPU that leaves.
 */
static void wake(unsigned cpu)
{
    if (cas(&states[cpu], (u32)CPU_ASLEEP, (u32)CPU_AWAKE))
        cpu_kick(cpu);
}

void bell_ring(const struct zone *z)
{
    if (load_relaxed(&z->nr_dirty) == 0 || !mm_scrub_enabled() || strategy_now()->leaves_free_dirty)
        return;
    /* Home first; with nobody idle there, the nearest node that has somebody (rule 15). */
    bell_ring_node(z->node, nr_nodes);
}

void bell_ring_node(unsigned node, unsigned reach)
{
    full_fence(); /* the dirt before the states: pairs with mm_cpu_state_set() */
    if (load_relaxed(&states[cpu_id()]) == CPU_AWAKE && cpu_node(cpu_id()) == node)
        return; /* we are in the idle loop ourselves and will look */
    for (unsigned i = 0; i < reach; i++) {
        bool awake;
        unsigned sleeper = find_sleeper(i ? mm_node_near(node, i) : node, &awake);
        if (awake)
            return; /* looks again before it sleeps */
        if (sleeper != MAX_CPUS) {
            wake(sleeper);
            return;
        }
    }
    /* All are busy: whoever leaves its thread for the idle loop looks first thing. */
}

void bell_wake_next(const struct zone *z)
{
    /* Helpers come in only where nobody is at home, as zone_to_scrub() grants it. */
    bell_wake_next_node(z->node, bell_node_busy(z->node) ? nr_nodes : 1);
}

void bell_wake_next_node(unsigned node, unsigned reach)
{
    bool awake;
    unsigned sleeper = MAX_CPUS;
    for (unsigned i = 0; i < reach && sleeper == MAX_CPUS; i++)
        sleeper = find_sleeper(mm_node_near(node, i), &awake);
    if (sleeper != MAX_CPUS)
        wake(sleeper);
}

void limpid_bell_pass_on(void)
{
    for (unsigned n = 0; n < mm_zone_count; n++)
        bell_ring(&mm_zones[n]);
}
