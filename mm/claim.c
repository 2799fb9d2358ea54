/*
 * Claims: see mm/claim.h. Owns the claim slots; each is guarded by the lock of the zone it names.
 *
 * Why a claim and not a flag on the frame, the race of the 2014 thread cannot be written down:
 *
 *     A: taker                               B: idle scrub
 *                                            lock; frames leave the maps; unlock
 *     lock; looks: they are not there
 *     takes others, or shuts the gate
 *     unlock                                 clears a frame, sees the gate
 *                                            sfence; lock; frames back in the maps; unlock
 *
 * B stands on nothing that A could unlink, and A sees B's clears: sfence orders them before B's
 * unlock, which A's lock pairs with.
 */
#include "mm/claim.h"
#include "mm/gigablock.h"
#include "mm/info.h"
#include "mm/policy.h"
#include "mm/retire.h"
#include "mm/wait.h"

static struct claim claims[MAX_CPUS];
static u32 cursor[MAX_CPUS]; /* (o) where this CPU looks next; spreads the CPUs of a node */

struct claim *claim_own(void)
{
    return &claims[cpu_id()];
}

const struct claim *claim_of_cpu(unsigned cpu)
{
    return &claims[cpu];
}

static void claim_pageblock(struct zone *z, u32 i, bool aged)
{
    struct claim *c = claim_own();
    c->since = zone_pb_since(z, i);
    c->mask = pageblock_view_locked(z, i, VIEW_DIRTY);
    struct part512 frames = part512_of(&c->mask);
    z->in_flight += pageblock_get_locked(z, i, &frames, NULL);
    pageblock_out_locked(z, i, 1);
    z->nr_claims++;
    c->pb = i;
    store_relaxed(&c->begun, 0);
    c->marked = false;
    c->aged = aged;
    store_relaxed(&c->zone, z);
}

bool claim_take_locked(struct zone *z)
{
    unsigned cpu = cpu_id();
    ASSERT(spin_held(&z->lock));
    ASSERT(claims[cpu].zone == NULL);
    if (z->waiters) /* rule 6: the gate is looked at where it is raised, under the lock */
        return false;
    u32 i = gigablock_next_dirty_locked(z, cursor[cpu] < z->nr_pbs ? cursor[cpu] : 0);
    if (i == PB_NONE || !policy_claim_begin(z->node))
        return false;
    cursor[cpu] = i + 1;
    claim_pageblock(z, i, false);
    return true;
}

bool claim_take_aged_locked(struct zone *z, u32 i)
{
    ASSERT(spin_held(&z->lock));
    ASSERT(claim_own()->zone == NULL);
    if (z->waiters)
        return false;
    claim_pageblock(z, i, true);
    return true;
}

bool claim_return_locked(struct zone *z, const struct map512 *cleared)
{
    unsigned cpu = cpu_id();
    struct claim *c = &claims[cpu];
    ASSERT(spin_held(&z->lock));
    ASSERT(c->zone == z);
    if (c->marked)
        z->max_clears_waited = MAX(z->max_clears_waited, (u64)(c->begun - c->mark));
    unsigned handed = wait_hand_over_locked(z, c, cleared);
    struct map512 back = c->mask;
    if (handed != MAP512_NONE) {
        map512_clear(&back, handed);
        z->outside++;
    }
    struct map512 dirt = back;
    map512_andnot(&dirt, cleared);
    unsigned n = map512_count(cleared);

    z->in_flight -= map512_count(&c->mask);
    z->nr_claims--;
    store_relaxed(&c->zone, NULL);
    pageblock_out_locked(z, c->pb, -1);
    struct part512 frames = part512_of(&back);
    pageblock_put_locked(z, c->pb, &frames, &dirt, c->since);

    z->oldest_scrubbed_ms = MAX(z->oldest_scrubbed_ms, now_ms() - c->since);
    if (!c->aged)
        policy_claim_end(z->node, n);
    info_count_claim(z, c->aged, n);
    if (c->aged)
        z->scrubbed_aged += n;
    else if (cpu_node(cpu) == z->node)
        z->scrubbed_idle_local += n;
    else
        z->scrubbed_idle_remote += n;
    /* Release: a waiter that sees the new count and then takes the lock finds the frames. */
    store_release(&z->returns, z->returns + 1);
    return handed != MAP512_NONE;
}

bool claim_holds_locked(const struct zone *z, u32 i, const struct part512 *frames, unsigned *out)
{
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && *out; cpu++) {
        const struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) != z || c->pb != i)
            continue;
        if (part512_meets(frames, &c->mask))
            return true;
        --*out;
    }
    return false;
}

/* What pageblock i would have free with every claim on it back. */
static struct map512 view_with_claims(const struct zone *z, u32 i)
{
    struct map512 m = pageblock_view_locked(z, i, VIEW_ANY);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) == z && c->pb == i)
            map512_or(&m, &c->mask);
    }
    if (z->pb[i].has_bad) {
        struct part512 all = part512_of(&m);
        retire_filter_locked(z, i, &all);
        m = all.map;
    }
    return m;
}

unsigned claim_frames_locked(const struct zone *z, u32 i)
{
    unsigned n = 0;
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && z->nr_claims; cpu++) {
        const struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) == z && c->pb == i)
            n += map512_count(&c->mask);
    }
    return n;
}

unsigned claim_least_missing_locked(const struct zone *z)
{
    unsigned least = 512;
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && z->nr_claims; cpu++) {
        const struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) != z)
            continue;
        unsigned missing = 512 - z->pb[c->pb].nr_free - claim_frames_locked(z, c->pb);
        least = missing ? MIN(least, missing) : least;
    }
    return least;
}

/* Which pageblocks of a gigablock would be wholly free with every claim back. */
static struct map512 gig_with_claims(const struct zone *z, const struct gigablock *g)
{
    struct map512 whole = g->free;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct claim *c = &claims[cpu];
        unsigned bit;
        if (load_relaxed(&c->zone) != z || zone_pb_gig(z, c->pb, &bit) != g)
            continue;
        struct map512 m = view_with_claims(z, c->pb);
        if (map512_full(&m))
            map512_set(&whole, bit);
    }
    return whole;
}

bool claim_would_serve_locked(const struct zone *z, unsigned order)
{
    ASSERT(spin_held(&z->lock));
    if (z->nr_claims == 0)
        return false;
    if (order == 0 && z->in_flight > z->nr_bad)
        return true; /* a good frame is in one of them, whichever */
    const struct gigablock *last = NULL;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) != z)
            continue;
        struct map512 m;
        unsigned bit;
        if (order < ORDER_PAGEBLOCK) {
            m = view_with_claims(z, c->pb);
            if (runs512_have(runs512_of(&m), order))
                return true;
            continue;
        }
        const struct gigablock *g = zone_pb_gig(z, c->pb, &bit);
        if (g == last)
            continue; /* scrubbers work side by side: mostly the one just looked at */
        m = gig_with_claims(z, g);
        if (runs512_have(runs512_of(&m), order - ORDER_PAGEBLOCK))
            return true;
        last = g;
    }
    return false;
}

void claim_mark_locked(struct zone *z)
{
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && z->nr_claims; cpu++) {
        struct claim *c = &claims[cpu];
        if (load_relaxed(&c->zone) == z && !c->marked) {
            c->mark = load_relaxed(&c->begun);
            c->marked = true;
            store_relaxed(&z->marked_pb, c->pb);
        }
    }
}

void claim_unmark_locked(struct zone *z)
{
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && z->nr_claims; cpu++)
        if (load_relaxed(&claims[cpu].zone) == z)
            claims[cpu].marked = false;
}
