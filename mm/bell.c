/*
 * The bell: see mm/bell.h. Owns the published state of every CPU. Takes no lock. Who frees comes
 * often and who falls asleep does not, so who frees pays for no fence but that of the zone lock
 * which it took for its dirt:
 *
 *     A: frees                               B: about to sleep
 *     takes z's lock    a locked instruction xchg(state, ASLEEP)     full fence
 *     dirt into the maps                     somebody holds z's lock? waits until he lets go
 *     unlocks           a plain store        may I claim? -> looks at the dirt
 *     reads states: B asleep -> kick
 *
 * A may read the states before its dirt and its unlock are visible, but not before it has the
 * lock. So if A takes the lock before B looks at it, B sees it held, waits, and then sees the dirt;
 * or sees it free again, and the dirt. If A takes it after that look, it reads ASLEEP, and kicks.
 * The same pair with BUSY in the place of ASLEEP covers a CPU that leaves the idle loop: it
 * publishes BUSY, waits, and then rings for the dirt that it leaves behind (rule 14). So whoever is
 * read AWAKE will look once more, and will find A's dirt. And with a switch or a limit in its place:
 * A goes by the old one only if B, who changes it, then finds A's dirt, and rings.
 */
#include "mm/bell.h"
#include "mm/limpid.h"
#include "mm/strategy/strategy.h"

static u32 states[MAX_CPUS]; /* (a) enum cpu_state */
/*
 * (a) never fewer than there are CPUs whose state is ASLEEP: counted before it is, and no longer after
 * it was. Who reads none, where it might read the states, need not read them: whoever falls asleep
 * after that looks at the locks after that.
 */
static u32 nr_asleep __attribute__((aligned(64)));
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
    store_relaxed(&nr_asleep, 0);
}

/* B's half. Behind a full fence; interrupts on. */
static void wait_for_holders(void)
{
    for (unsigned n = 0; n < mm_zone_count; n++)
        spin_wait_for_holder(&mm_zones[n].lock);
}

void mm_cpu_state_set(enum cpu_state state)
{
    if (state == CPU_ASLEEP)
        fetch_add(&nr_asleep, 1);
    /* Full fence: the state before the look at the locks, which pairs with who takes one. */
    if (xchg(&states[cpu_id()], (u32)state) == CPU_ASLEEP)
        fetch_add(&nr_asleep, -1u);
    if (state == CPU_ASLEEP)
        wait_for_holders();
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

/*
 * Wakes a CPU that was read ASLEEP, once: AWAKE is published for it, for it will look before it
 * sleeps again, and whoever rings next finds it so and sends no second kick. If the state has
 * changed meanwhile, it woke by itself or was woken after we had the lock: it will see our dirt
 * before it sleeps again, or in the look that rule 14 asks of a CPU that leaves.
 */
static void wake(unsigned cpu)
{
    if (!cas(&states[cpu], (u32)CPU_ASLEEP, (u32)CPU_AWAKE))
        return;
    fetch_add(&nr_asleep, -1u);
    cpu_kick(cpu);
}

/*
 * Who will look at new dirt of the node, by the states of its CPUs: one that is awake (MAX_CPUS), or
 * one that sleeps if it is woken. NOBODY: all run threads.
 */
#define NOBODY (MAX_CPUS + 1)
static inline unsigned who_looks(unsigned node)
{
    unsigned self = cpu_id(), who = NOBODY;
    for (unsigned n = node_first[node]; n < node_first[node + 1]; n++) {
        unsigned cpu = node_cpu[n];
        u32 state = load_relaxed(&states[cpu]);
        if (state == CPU_ASLEEP)
            who = cpu;
        else if (state == CPU_AWAKE && cpu != self)
            return MAX_CPUS; /* looks again before it sleeps */
    }
    return who;
}

/* With nobody idle at home, the nearest node that has somebody (rule 15). */
static __attribute__((noinline)) void ring_far(unsigned node, unsigned reach)
{
    unsigned who = NOBODY;
    for (unsigned i = 1; i < reach && who == NOBODY; i++)
        who = who_looks(mm_node_near(node, i));
    /* If all are busy: whoever leaves its thread for the idle loop looks first thing. */
    if (who < MAX_CPUS)
        wake(who);
}

/* Behind the fence, or the lock, that orders the look at the states. */
static inline void ring_node(unsigned node, unsigned reach)
{
    unsigned self = cpu_id();
    if (load_relaxed(&states[self]) == CPU_AWAKE && cpu_node(self) == node)
        return; /* we are in the idle loop ourselves and will look */
    unsigned who = who_looks(node);
    if (who < MAX_CPUS)
        wake(who);
    else if (who == NOBODY && reach > 1)
        ring_far(node, reach);
}

void bell_ring(const struct zone *z)
{
    if (load_relaxed(&nr_asleep) == 0) /* all run threads, or look before they sleep */
        return;
    if (load_relaxed(&z->nr_dirty) == 0 || !mm_scrub_enabled() || strategy_now()->leaves_free_dirty)
        return;
    ring_node(z->node, nr_nodes);
}

void bell_ring_node(unsigned node, unsigned reach)
{
    full_fence(); /* the dirt before the states, whatever guards it */
    ring_node(node, reach);
}

void bell_wake_next(const struct zone *z)
{
    /* Helpers come in only where nobody is at home, as zone_to_scrub() grants it. */
    bell_wake_next_node(z->node, bell_node_busy(z->node) ? nr_nodes : 1);
}

void bell_wake_next_node(unsigned node, unsigned reach)
{
    for (unsigned i = 0; i < reach; i++) {
        unsigned near = mm_node_near(node, i);
        for (unsigned n = node_first[near]; n < node_first[near + 1]; n++) {
            if (load_relaxed(&states[node_cpu[n]]) == CPU_ASLEEP) {
                wake(node_cpu[n]);
                return;
            }
        }
    }
}

void limpid_bell_pass_on(void)
{
    full_fence(); /* what has changed (our state, a limit, a switch) before the looks below */
    wait_for_holders();
    for (unsigned n = 0; n < mm_zone_count; n++)
        bell_ring(&mm_zones[n]);
}
