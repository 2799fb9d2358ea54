/*
 * The decision of a take that found nothing: with the locks of all allowed zones held in rank
 * order (protocol rule 8), after sweeping every store that could matter (rule 1), so that nothing
 * is free and unseen. Then either it is served; or it would be if claims came back, and the taker shuts the
 * gate and waits; or it fails, and truly so (P4).
 *
 *     A: taker                               B: idle scrub
 *     lock all; sweep; nothing               clears frame k of its claim
 *     waiters++ in all; unlock all
 *     spins on the return counters           sees waiters; sfence
 *     (no lock, preemption off)              lock; returns the claim; returns++; unlock
 *     lock all; sweep; takes
 *     waiters-- in all; unlock all           no claim while waiters != 0: A cannot be starved
 *     rings for the dirt that B left (rule 13)
 *
 * The count stays up from raise to the hold in which the taker has taken or failed (rule 4).
 * The lock is FIFO and the spin is outside of it (rule 12), so B's return comes through.
 *
 * Who waits for one frame need not come for it: the return hands it over, in B's hold.
 *
 *     A: taker                               B: idle scrub
 *     lock all; nothing; waiters++;
 *     asker = A; unlock all
 *     spins, on its own hand too             sees waiters; sfence; lock
 *                                            a frame of the claim: hand = it, by a locked
 *                                            instruction, for B2 of another zone may have one, too
 *     has it                                 asker = none; waiters--; the rest back; unlock; rings
 *
 * A has taken in B's hold, which is where the count goes down: rule 4 holds. The counts of other
 * zones A takes down itself.
 */
#include "mm/wait.h"
#include "mm/claim.h"
#include "mm/store.h"
#include "mm/take.h"

struct wait_hand wait_hands[MAX_CPUS];

static bool allowed(const struct take_request *r, const struct zone *z)
{
    return !r->this_node || z->node == r->node;
}

#define for_each_allowed(z, r)                                         \
    for (struct zone *z = mm_zones; z < mm_zones + mm_zone_count; z++) \
        if (allowed(r, z))

static void lock_allowed(const struct take_request *r)
{
    for_each_allowed(z, r) spin_lock(&z->lock); /* in index order: their lock order */
}

static void unlock_allowed(const struct take_request *r)
{
    for_each_allowed(z, r) spin_unlock(&z->lock);
}

/*
 * Rule 1, unless counting shows that a sweep could change nothing. A request of order 9 or more
 * needs whole pageblocks; a sweep makes one whole only if no more frames are missing in it, with
 * all that take stores were given, than were freed into stores since. The order matters: what
 * stores were given is read first, and stands still while their zones are locked, as maps and
 * claims do; what was freed into them after that, and for these zones it can only grow. So at the
 * moment between the two no pageblock could be made whole, and the request fails by what was free
 * then.
 */
static bool sweep_matters(const struct take_request *r)
{
    u64 least = 512, freed;
    if (r->order < ORDER_PAGEBLOCK)
        return true;
    for_each_allowed(z, r) least = MIN(least, (u64)store_least_missing_locked(z));
    compiler_barrier(); /* the CPU keeps loads in order (SDM3 9.2.2) */
    freed = store_frames_freed();
    if (least <= freed)
        return true;
    for_each_allowed(z, r)
    {
        if (claim_least_missing_locked(z) <= freed || pageblock_may_complete_locked(z, freed))
            return true;
    }
    return false;
}

static bool take_from_maps_locked(const struct take_request *r, struct taken *out)
{
    for (unsigned i = 0; i < (r->this_node ? 1 : nr_nodes); i++) {
        unsigned node = mm_node_near(r->node, i);
        for (unsigned pass = 0; pass < 2; pass++) {
            enum pb_view view = pass ? VIEW_ANY : r->clean ? VIEW_CLEAN : VIEW_DIRTY;
            for_each_allowed(z, r)
            {
                if (z->node != node ||
                    (r->order >= ORDER_PAGEBLOCK && !gigablock_has_locked(z, r->order)))
                    continue;
                if (take_from_zone_locked(z, r, view, out))
                    return true;
            }
        }
    }
    return false;
}

/* *swept is set if stores were emptied into the maps. */
static bool take_locked(const struct take_request *r, struct taken *out, bool *swept)
{
    if (sweep_matters(r)) {
        store_sweep_begin();
        for_each_allowed(z, r) store_sweep_zone_locked(z);
        store_sweep_end();
        *swept = true;
    }
    return take_from_maps_locked(r, out);
}

static bool claims_would_serve(const struct take_request *r)
{
    bool would = false;
    for_each_allowed(z, r) would = would || claim_would_serve_locked(z, r->order);
    return would;
}

static u64 returns_seen(const struct take_request *r)
{
    u64 sum = 0;
    for_each_allowed(z, r) sum += load_acquire(&z->returns); /* pairs with claim_return_locked() */
    return sum;
}

static void gate_raise_locked(const struct take_request *r)
{
    store_relaxed(&wait_hands[cpu_id()].pfn, PFN_NONE);
    for_each_allowed(z, r)
    {
        if (r->order == 0 && z->asker == 0) {
            store_relaxed(&z->asker, cpu_id() + 1);
            z->asks_clean = r->clean;
        }
        store_relaxed(&z->waiters, z->waiters + 1);
        z->waits++;
    }
    /* The gate before the look at how far the claims are, so that no clear is missed. */
    full_fence();
    for_each_allowed(z, r) claim_mark_locked(z);
}

/* The share of `cpu` in the gate of z. */
static void gate_drop_locked(struct zone *z, unsigned cpu)
{
    if (z->asker == cpu + 1)
        store_relaxed(&z->asker, 0);
    store_relaxed(&z->waiters, z->waiters - 1);
    if (z->waiters == 0)
        claim_unmark_locked(z);
}

unsigned wait_hand_over_locked(struct zone *z, const struct claim *c, const struct map512 *cleared)
{
    struct map512 some = c->mask;
    ASSERT(spin_held(&z->lock));
    if (likely(z->asker == 0) || z->pb[c->pb].has_bad)
        return MAP512_NONE; /* which are bad is for the maps' door to find out */
    /* Who does not care leaves the clean for those who do. */
    if (z->asks_clean)
        some = *cleared;
    else if (!map512_within(&some, cleared))
        map512_andnot(&some, cleared);
    unsigned cpu = z->asker - 1, bit = map512_next(&some, 0);
    if (bit == MAP512_NONE || !cas(&wait_hands[cpu].pfn, PFN_NONE, zone_pb_pfn(z, c->pb) + bit))
        return MAP512_NONE;
    gate_drop_locked(z, cpu);
    return bit;
}

/* True if this CPU's taker has been handed its frame. */
static bool handed_over(struct taken *out)
{
    pfn_t pfn = load_acquire(&wait_hands[cpu_id()].pfn); /* acquire: it is zero, if it is to be */
    if (pfn == PFN_NONE)
        return false;
    out->zone = zone_of(pfn);
    out->pfn = pfn;
    out->order = 0;
    out->dirt.map.from = out->dirt.map.to = 0;
    return true;
}

/*
 * Until the taker has taken, been handed its frame, or failed. Locked before, not after. Preemption
 * off from raise to drop (rule 11): nobody may wait behind a gate that sleeps.
 */
static bool wait_and_take(const struct take_request *r, struct taken *out, bool *swept)
{
    bool got, handed;
    for (;;) {
        u64 seen = returns_seen(r); /* under the locks: a later return makes it differ */
        unlock_allowed(r);
        while (!(handed = handed_over(out)) && returns_seen(r) == seen)
            cpu_relax();
        if (handed)
            break;
        for_each_allowed(z, r) zone_fetch(z, load_relaxed(&z->marked_pb));
        lock_allowed(r);
        if ((handed = handed_over(out))) { /* until just now */
            unlock_allowed(r);
            break;
        }
        /* What came back first; stores only if that does not do, for to sweep them takes longer. */
        got = take_from_maps_locked(r, out) || take_locked(r, out, swept);
        if (got || !claims_would_serve(r))
            break;
    }
    for_each_allowed(z, r)
    {
        if (handed && z == out->zone)
            continue; /* there it was done in the hold that handed it over */
        if (handed)
            spin_lock(&z->lock);
        gate_drop_locked(z, cpu_id());
        spin_unlock(&z->lock);
    }
    return handed || got;
}

bool take_decide(const struct take_request *r, struct taken *out)
{
    preempt_disable();
    ASSERT(claim_own()->zone == NULL); /* rule 10: one does not wait for oneself */
    lock_allowed(r);
    bool swept = false;
    bool got = take_locked(r, out, &swept), waited = !got && claims_would_serve(r);
    if (waited) {
        gate_raise_locked(r);
        got = wait_and_take(r, out, &swept);
    } else {
        unlock_allowed(r);
    }
    /* A sweep has put stored dirt into the maps, or scrubbers may have gone to sleep before the
       gate (rule 13). */
    if (swept || waited)
        for_each_allowed(z, r) bell_ring(z);
    preempt_enable();
    return got;
}
