/*
 * The way of a freed frame, second half: an idle CPU claims it, clears it, gives it back clean.
 * One step handles the dirty free frames of one pageblock, however scattered they are: two short
 * lock holds and one store fence for up to 512 clears. Next: mm/claim.c, sched/idle.c.
 */
#include "mm/bell.h"
#include "mm/claim.h"
#include "mm/limpid.h"
#include "mm/policy.h"
#include "mm/scrub.h"
#include "mm/strategy/strategy.h"

/* Counted at every clear: a line each, or two scrubbers pull one line to and fro all the time. */
static struct {
    u64 frames; /* (o) others read it relaxed */
} __attribute__((aligned(64))) scrubbed_by[MAX_CPUS];

/*
 * The grant test without the lock: dirt, gate open, policy. The claim looks again under the lock.
 */
static bool has_work(const struct zone *z)
{
    return load_relaxed(&z->nr_dirty) != 0 && load_relaxed(&z->waiters) == 0 &&
           policy_claim_may(z->node);
}

/*
 * A zone that this CPU may scrub: of its own node, or else of the nearest node that has dirt
 * and no CPU to scrub it (help). NULL: none.
 */
static struct zone *zone_to_scrub(void)
{
    unsigned home = cpu_node(cpu_id());
    for (unsigned i = 0; i < nr_nodes; i++) {
        unsigned node = mm_node_near(home, i);
        for (unsigned n = 0; n < mm_zone_count; n++) {
            struct zone *z = &mm_zones[n];
            if (z->node == node && has_work(z) && (node == home || bell_node_busy(node)))
                return z;
        }
    }
    return NULL;
}

/* The same question, were it not for the rate limit: when will the first such zone be free of it? */
u64 limpid_scrub_may_at(void)
{
    unsigned home = cpu_node(cpu_id());
    u64 first = 0;
    if (strategy_now()->leaves_free_dirty)
        return 0;
    for (unsigned n = 0; n < mm_zone_count; n++) {
        const struct zone *z = &mm_zones[n];
        if (load_relaxed(&z->nr_dirty) == 0 || (z->node != home && !bell_node_busy(z->node)))
            continue;
        u64 at = policy_rate_free_at(z->node);
        if (at && (first == 0 || at < first))
            first = at;
    }
    return first;
}

bool scrub_claim_may(void)
{
    return zone_to_scrub() != NULL;
}

/*
 * Clears frame after frame of the claim; gives those cleared. Between two clears only plain
 * loads and stores: a locked instruction there would drain the write-combining buffers, and where
 * that costs more than a clear the clear itself has none (arch/x86_64/clear.c).
 */
static struct map512 clear_claimed(const struct zone *z, struct claim *c)
{
    struct map512 cleared = {{0}}, todo = c->mask;
    pfn_t first = zone_pb_pfn(z, c->pb);
    u64 *count = &scrubbed_by[cpu_id()].frames;
    u32 n = 0;
    map512_for_each(bit, &todo)
    {
        /*
         * Counted before the clear: whoever shuts the gate or wakes a thread here then knows
         * which clear we are in. A clear leaves nothing of before in the store buffer: when the
         * look below is made, these counts are visible. So a gate or a wake that the look has
         * missed saw them, and at most one further clear is begun behind it (P4, P8).
         */
        store_relaxed(&c->begun, ++n);
        store_relaxed(count, *count + 1);
        clear_frame_stream(frame_va(first + bit));
        map512_set(&cleared, bit);
        /*
         * After the first frame, not before it (rule 16): a taker that shuts the gate again and
         * again cannot keep us from ever clearing one. Relaxed: the gate is a request, what it
         * guards is handed over under the lock.
         */
        if (load_relaxed(&z->waiters) || need_resched())
            break;
    }
    zone_fetch(z, c->pb); /* what the return will write, while the last clears drain */
    clear_fence(); /* streaming clears before the return's lock makes them visible as clean */
    return cleared;
}

static u64 clear_ns; /* (a) running mean; a lost update costs nothing but a sample */

void scrub_note_time(u64 ns, u32 frames)
{
    u64 old = load_relaxed(&clear_ns), sample = ns / frames;
    if (old && sample > 2 * old)
        sample = 2 * old; /* a step that was interrupted, or whose vCPU lost its core */
    store_relaxed(&clear_ns, old ? old - old / 16 + sample / 16 : sample);
}

u64 mm_clear_ns(void)
{
    return load_relaxed(&clear_ns);
}

/* Between claim and return, on the CPU that claimed. Gives the clean frames back, and the rest. */
void scrub_claimed(struct zone *z)
{
    u64 begun = time_ns();
    struct map512 cleared = clear_claimed(z, claim_own());
    u64 ended = time_ns();
    spin_lock(&z->lock);
    bool handed = claim_return_locked(z, &cleared);
    spin_unlock(&z->lock);
    if (handed)
        bell_ring(z);
    scrub_note_time(ended - begun, claim_own()->begun); /* now nobody waits for us */
}

bool scrub_claim_step(void)
{
    preempt_disable(); /* rule 10: from claim to return, or a woken taker here would wait for us */
    struct zone *z = zone_to_scrub();
    if (!z) {
        preempt_enable();
        return false;
    }
    spin_lock(&z->lock);
    bool claimed = claim_take_locked(z);
    bool more = load_relaxed(&z->nr_dirty) != 0;
    spin_unlock(&z->lock);
    if (claimed) {
        if (more)
            bell_wake_next(z);
        scrub_claimed(z);
    }
    preempt_enable();
    return claimed;
}

void scrub_count_clear(void)
{
    u64 *count = &scrubbed_by[cpu_id()].frames;
    store_relaxed(count, *count + 1);
}

u64 mm_cpu_scrubbed(unsigned cpu)
{
    return cpu < nr_cpus ? load_relaxed(&scrubbed_by[cpu].frames) : 0;
}

bool limpid_scrub_step(void)
{
    const struct strategy *s = strategy_now();
    return !s->leaves_free_dirty && s->idle_step();
}

bool limpid_scrub_may(void)
{
    const struct strategy *s = strategy_now();
    return !s->leaves_free_dirty && s->idle_may();
}
