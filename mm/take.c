/*
 * Taking: which zone, which frames, in which order of preference (design section 5, "Take").
 *
 *   1. this CPU's store, for order 0                                       no lock
 *   2. each zone alone: clean at home, dirty at home, then node by node    one zone lock at a time
 *   3. the decision: all allowed zones locked in rank order, stores swept; take, wait for
 *      claims with the gate shut, or fail                                  mm/wait.c
 *
 * Dirty frames are cleared after the locks are dropped, by the taker, preemptibly.
 * Next: mm/wait.c.
 */
#include "mm/take.h"
#include "mm/info.h"
#include "mm/limpid.h"
#include "mm/store.h"

/* ---- out of one zone ---- */

static bool serves_dirty(const struct zone *z, u32 i, unsigned order)
{
    struct map512 m = pageblock_view_locked(z, i, VIEW_DIRTY);
    return map512_max_order(&m) >= (int)order;
}

/*
 * A partly free pageblock that holds a dirty run of this order: the fullest that serves, if it is
 * dirty there, so that whole ones stay whole; else one of the next few dirty ones. Who does not
 * care leaves the clean for those who do, but does not search for long.
 */
static u32 find_dirty_part(const struct zone *z, unsigned order)
{
    enum { LOOKS = 8 };
    u32 i = pageblock_find_locked(z, LIST_ANY, order), from = 0;
    if (i != PB_NONE && serves_dirty(z, i, order))
        return i;
    for (unsigned look = 0; look < LOOKS && from < z->nr_pbs; look++, from = i + 1) {
        i = gigablock_next_dirty_locked(z, from);
        if (i == PB_NONE || i < from)
            return PB_NONE;
        if (z->pb[i].nr_free && serves_dirty(z, i, order))
            return i;
    }
    return PB_NONE;
}

static u32 find_pageblock(struct zone *z, unsigned order, enum pb_view view)
{
    u32 i;
    if (view == VIEW_DIRTY)
        i = find_dirty_part(z, order);
    else
        i = pageblock_find_locked(z, view == VIEW_CLEAN ? LIST_CLEAN : LIST_ANY, order);
    return i != PB_NONE ? i : gigablock_find_locked(z, view, ORDER_PAGEBLOCK);
}

bool take_from_zone_locked(struct zone *z, unsigned order, enum pb_view view, struct taken *out)
{
    u32 i;
    unsigned bit = 0;
    if (order >= ORDER_PAGEBLOCK) {
        i = gigablock_find_locked(z, view, order);
        if (i == PB_NONE)
            return false;
        gigablock_get_locked(z, i, order, &out->dirt);
    } else {
        i = find_pageblock(z, order, view);
        if (i == PB_NONE)
            return false;
        struct map512 m = pageblock_view_locked(z, i, view);
        bit = map512_find(&m, order);
        /* A whole mixed pageblock is listed by what it would serve; a dirty run may be smaller. */
        if (bit == MAP512_NONE)
            return false;
        struct map512 frames = map512_range(bit, 1u << order);
        out->dirt.map = pageblock_get_locked(z, i, &frames);
    }
    z->outside += 1ULL << order;
    out->zone = z;
    out->pfn = zone_pb_pfn(z, i) + bit;
    out->order = order;
    return true;
}

/* Could the zone have it, by its counters? Only a hint: whether to take the lock at all. */
static bool worth_locking(const struct zone *z, unsigned order, enum pb_view view)
{
    u64 free = load_relaxed(&z->nr_free), dirty = load_relaxed(&z->nr_dirty);
    u64 have = view == VIEW_ANY ? free : view == VIEW_DIRTY ? dirty : free - dirty;
    return (s64)have >= (s64)(1ULL << order);
}

static bool take_from_node(const struct take_request *r, unsigned node, enum pb_view view,
                           struct taken *out)
{
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct zone *z = &mm_zones[n];
        if (z->node != node || !worth_locking(z, r->order, view))
            continue;
        spin_lock(&z->lock);
        bool got = take_from_zone_locked(z, r->order, view, out);
        spin_unlock(&z->lock);
        if (got)
            return true;
    }
    return false;
}

/* ---- this CPU's store ---- */

/* Which frames of pageblock i go into an empty store: at most `limit` of them. */
static struct map512 store_share(const struct zone *z, u32 i, enum pb_view view, unsigned limit)
{
    struct map512 m = pageblock_view_locked(z, i, view);
    if (map512_count(&m) > limit) {
        unsigned end = 0, n = 0;
        map512_for_each(bit, &m)
        {
            end = bit;
            if (n++ == limit)
                break;
        }
        struct map512 lower = map512_range(0, end);
        map512_and(&m, &lower);
    }
    return m;
}

/*
 * Moves frames of one kind from zone z into this CPU's store. All under one lock hold, so that a
 * taker who sweeps sees them in the one place or in the other (rule 2). With the gate shut a
 * store takes nothing: somebody waits for every frame.
 */
static bool store_refill(struct zone *z, enum store_kind kind, enum pb_view view)
{
    /*
     * All of the pageblock that the view has, but for takers of clean frames who found none:
     * they clear each dirty one themselves, and soon there may be clean ones again.
     */
    unsigned limit = kind == STORE_CLEAN && view != VIEW_CLEAN ? 32 : 512;
    spin_lock(&z->lock);
    u32 i = z->waiters ? PB_NONE : find_pageblock(z, 0, view);
    if (i != PB_NONE) {
        u32 since = zone_pb_since(z, i);
        struct map512 m = store_share(z, i, view, limit);
        pageblock_get_locked(z, i, &m);
        z->outside += map512_count(&m);
        store_fill_locked(z, kind, i, &m, view == VIEW_CLEAN, since);
    }
    spin_unlock(&z->lock);
    return i != PB_NONE;
}

/* Preemption off, as all along the store's path. */
static bool refill_from_home(enum store_kind kind, unsigned node)
{
    static const enum pb_view views[NR_STORES][2] = {
        [STORE_CLEAN] = {VIEW_CLEAN, VIEW_DIRTY}, [STORE_ANY] = {VIEW_DIRTY, VIEW_CLEAN}};
    struct zone *old = store_zone(kind);
    if (old) { /* empty, but its pageblock still counts a store out */
        spin_lock(&old->lock);
        store_sweep_own_locked(old);
        spin_unlock(&old->lock);
        bell_ring(old);
    }
    for (unsigned v = 0; v < 2; v++)
        for (unsigned n = 0; n < mm_zone_count; n++)
            if (mm_zones[n].node == node && worth_locking(&mm_zones[n], 0, views[kind][v]) &&
                store_refill(&mm_zones[n], kind, views[kind][v]))
                return true;
    return false;
}

/*
 * Out of this CPU's store, which holds frames of its own node only: the short way, with no lock
 * and no fence. PFN_NONE: the long way.
 */
static pfn_t take_from_store(bool clean, unsigned node, bool *dirty)
{
    enum store_kind kind = clean ? STORE_CLEAN : STORE_ANY;
    preempt_disable();
    pfn_t pfn = PFN_NONE;
    if (node == mm_home_node(cpu_node(cpu_id()))) {
        pfn = store_pop(kind, dirty);
        if (unlikely(pfn == PFN_NONE) && refill_from_home(kind, node))
            pfn = store_pop(kind, dirty); /* a sweep may have emptied it again */
    }
    preempt_enable();
    return pfn;
}

/* ---- clearing what was taken ---- */

static void clear_one(pfn_t pfn, bool stream)
{
    if (stream)
        clear_frame_stream(frame_va(pfn));
    else
        clear_ordinary(frame_va(pfn), FRAME_SIZE);
}

static u64 clear_frames(pfn_t first, const struct map512 *frames, bool stream)
{
    map512_for_each(bit, frames) clear_one(first + bit, stream);
    return map512_count(frames);
}

/* Exactly the dirty frames, never a clean one (P6); how many. No lock, preemption on. */
static u64 clear_taken(const struct taken *t)
{
    struct zone *z = t->zone;
    pfn_t first = ALIGN_DOWN(t->pfn, 512);
    u64 n = 0;
    /* What fits into a cache is used from there soon; what does not would only evict. */
    bool stream = t->order > 6 && map512_count(&t->dirt.map) > 64;
    if (map512_empty(&t->dirt.map))
        return 0;
    if (t->order <= ORDER_PAGEBLOCK) {
        n = clear_frames(first, &t->dirt.map, stream);
    } else {
        struct map512 full;
        map512_fill(&full);
        stream = true;
        first = ALIGN_DOWN(t->pfn, 1ULL << ORDER_GIGABLOCK);
        map512_for_each(bit, &t->dirt.map)
        {
            pfn_t pb = first + bit * 512;
            bool all = map512_test(&t->dirt.all, bit);
            n += clear_frames(pb, all ? &full : &z->pb[zone_pb(z, pb)].dirty, true);
        }
    }
    if (stream)
        clear_fence(); /* the block may be used on another CPU next */
    bool local = cpu_node(cpu_id()) == z->node;
    fetch_add(local ? &z->scrubbed_takers_local : &z->scrubbed_takers_remote, n);
    info_count_taker(z, n);
    return n;
}

/* ---- the call ---- */

/* Own node first, then the others by distance, or not at all. */
static bool take_by_preference(const struct take_request *r, struct taken *out)
{
    for (unsigned i = 0; i < (r->this_node ? 1 : nr_nodes); i++) {
        unsigned node = mm_node_near(r->node, i);
        if (take_from_node(r, node, r->clean ? VIEW_CLEAN : VIEW_DIRTY, out) ||
            take_from_node(r, node, VIEW_ANY, out))
            return true;
    }
    return false;
}

static __attribute__((noinline)) pfn_t take_the_long_way(const struct take_request *r, u64 *cleared)
{
    struct taken t = {.pfn = PFN_NONE};
    if (!take_by_preference(r, &t) && !take_decide(r, &t))
        return PFN_NONE;
    if (r->clean)
        *cleared += clear_taken(&t);
    return t.pfn;
}

static __attribute__((noinline)) void clear_stored(pfn_t pfn, u64 *cleared)
{
    struct taken t = {.zone = zone_of(pfn), .pfn = pfn};
    map512_set(&t.dirt.map, (unsigned)(pfn % 512));
    *cleared += clear_taken(&t);
}

pfn_t limpid_take(unsigned order, enum take_flags flags, unsigned node, u64 *cleared)
{
    bool clean = flags & TAKE_CLEAN, this_node = flags & TAKE_THIS_NODE, dirty = false;
    if (order > ORDER_MAX || node >= nr_nodes)
        return PFN_NONE;
    if (!this_node)
        node = mm_home_node(node);
    if (order == 0) {
        pfn_t pfn = take_from_store(clean, node, &dirty);
        if (likely(pfn != PFN_NONE)) {
            if (clean && dirty)
                clear_stored(pfn, cleared);
            return pfn;
        }
    }
    struct take_request r = {.order = order, .clean = clean, .this_node = this_node, .node = node};
    return take_the_long_way(&r, cleared);
}

pfn_t limpid_take_dirty(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt)
{
    bool this_node = flags & TAKE_THIS_NODE, dirty = false;
    map512_zero(dirt);
    if (order > ORDER_PAGEBLOCK || node >= nr_nodes)
        return PFN_NONE;
    if (!this_node)
        node = mm_home_node(node);
    struct taken t = {.pfn = order ? PFN_NONE : take_from_store(true, node, &dirty)};
    if (t.pfn != PFN_NONE) {
        if (dirty)
            map512_set(dirt, (unsigned)(t.pfn % MAP512_BITS));
        return t.pfn;
    }
    struct take_request r = {.order = order, .clean = true, .this_node = this_node, .node = node};
    if (!take_by_preference(&r, &t) && !take_decide(&r, &t))
        return PFN_NONE;
    *dirt = t.dirt.map;
    return t.pfn;
}

void limpid_scrub_carried(pfn_t pfn, unsigned frames)
{
    struct zone *z = zone_of(pfn);
    bool stream = frames > 64; /* as in clear_taken() */
    for (unsigned i = 0; i < frames; i++)
        clear_one(pfn + i, stream);
    if (stream)
        clear_fence();
    fetch_add(&z->scrubbed_at_map, frames);
}
