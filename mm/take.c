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

/* Where a block below the order of a pageblock can be had. */
struct place {
    u32 pb;
    unsigned bit;       /* the first frame of the run that fits best */
    struct part512 run; /* it */
};

/* The same of those runs that match. Of a whole one that is all or nothing. */
static __attribute__((noinline)) bool
place_look_closely(const struct zone *z, u32 i, unsigned order, enum pb_view view, struct place *p)
{
    const struct pageblock *pb = &z->pb[i];
    if (pb->nr_free) {
        p->bit = runs512_find_among(&pb->free, pb->runs[LIST_ANY], &pb->dirty, view == VIEW_DIRTY,
                                    order);
    } else {
        struct map512 m = pageblock_view_locked(z, i, view);
        p->bit = map512_next(&m, 0);
    }
    if (p->bit == MAP512_NONE)
        return false;
    part512_run(&p->run, p->bit, order);
    return true;
}

/*
 * The best run of this order in pageblock i. What fits best among all free frames mostly matches
 * the view as it is; only if not is it looked for among those that do.
 */
static bool place_look(const struct zone *z, u32 i, unsigned order, enum pb_view view,
                       struct place *p)
{
    const struct pageblock *pb = &z->pb[i];
    p->pb = i;
    if (likely(pb->nr_free)) {
        p->bit = runs512_find(&pb->free, pb->runs[LIST_ANY], order);
        if (likely(p->bit != MAP512_NONE)) {
            part512_run(&p->run, p->bit, order);
            if (likely(pageblock_run_in_view_locked(z, i, &p->run, view)))
                return true;
        }
    }
    return place_look_closely(z, i, order, view, p);
}

/*
 * In a partly free pageblock that holds a dirty run of this order: the fullest that serves, if it
 * is dirty there, so that whole ones stay whole; else one of the next few dirty ones. Who does not
 * care leaves the clean for those who do, but does not search for long.
 */
static bool place_find_dirty_part(const struct zone *z, unsigned order, struct place *p)
{
    enum { LOOKS = 8 };
    u32 i = pageblock_find_locked(z, LIST_ANY, order), from = 0;
    if (i != PB_NONE && z->pb[i].nr_dirty && place_look(z, i, order, VIEW_DIRTY, p))
        return true;
    for (unsigned look = 0; look < LOOKS && from < z->nr_pbs; look++, from = i + 1) {
        i = gigablock_next_dirty_locked(z, from);
        if (i == PB_NONE || i < from)
            return false;
        if (z->pb[i].nr_free && place_look(z, i, order, VIEW_DIRTY, p))
            return true;
    }
    return false;
}

static bool place_find(struct zone *z, unsigned order, enum pb_view view, struct place *p)
{
    u32 i;
    if (view == VIEW_DIRTY) {
        if (place_find_dirty_part(z, order, p))
            return true;
    } else {
        i = pageblock_find_locked(z, view == VIEW_CLEAN ? LIST_CLEAN : LIST_ANY, order);
        if (i != PB_NONE)
            return place_look(z, i, order, view, p);
    }
    /* A whole one may be mixed, and what the view has of it less than the order. */
    i = gigablock_find_locked(z, view, ORDER_PAGEBLOCK);
    return i != PB_NONE && place_look(z, i, order, view, p);
}

bool take_from_zone_locked(struct zone *z, const struct take_request *r, enum pb_view view,
                           struct taken *out)
{
    u32 i;
    unsigned order = r->order, bit = 0;
    if (order >= ORDER_PAGEBLOCK) {
        i = gigablock_find_locked(z, view, order);
        if (i == PB_NONE)
            return false;
        gigablock_get_locked(z, i, order, r->clean ? &out->dirt : NULL);
    } else {
        struct place p;
        if (!place_find(z, order, view, &p))
            return false;
        i = p.pb;
        bit = p.bit;
        pageblock_get_locked(z, i, &p.run, r->clean ? &out->dirt.map : NULL);
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
    return (s64)have >= (s64)(1ULL << order) &&
           (order < ORDER_PAGEBLOCK || gigablock_may_have(z, order));
}

static bool take_from_node(const struct take_request *r, unsigned node, enum pb_view view,
                           struct taken *out)
{
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct zone *z = &mm_zones[n];
        if (z->node != node || !worth_locking(z, r->order, view))
            continue;
        spin_lock(&z->lock);
        bool got = take_from_zone_locked(z, r, view, out);
        spin_unlock(&z->lock);
        if (got)
            return true;
    }
    return false;
}

/* ---- this CPU's store ---- */

/* At most `limit` of the frames: the lowest. */
static void keep_lowest(struct map512 *m, unsigned limit)
{
    unsigned end = 0, n = 0;
    if (map512_count(m) <= limit)
        return;
    map512_for_each(bit, m)
    {
        end = bit;
        if (n++ == limit)
            break;
    }
    struct map512 lower = map512_range(0, end);
    map512_and(m, &lower);
}

/*
 * Moves frames of one kind from zone z into this CPU's store, which is empty. All under one lock
 * hold, so that a taker who sweeps sees them in the one place or in the other (rule 2). With the
 * gate shut a store takes nothing: somebody waits for every frame.
 */
static bool store_refill(struct zone *z, enum store_kind kind, enum pb_view view)
{
    struct place p;
    struct zone *old = store_zone(kind); /* its pageblock still counts a store out */
    if (old && old != z) {
        spin_lock(&old->lock);
        store_give_up_locked(old, kind);
        spin_unlock(&old->lock);
    }
    spin_lock(&z->lock);
    store_give_up_locked(z, kind);
    bool found = !z->waiters && place_find(z, 0, view, &p);
    if (found) {
        u32 since = zone_pb_since(z, p.pb);
        struct map512 share = pageblock_view_locked(z, p.pb, view);
        /*
         * All of the pageblock that the view has, but for takers of clean frames who found none:
         * they clear each dirty one themselves, and soon there may be clean ones again.
         */
        if (kind == STORE_CLEAN && view != VIEW_CLEAN)
            keep_lowest(&share, 32);
        struct part512 frames = part512_of(&share);
        unsigned n = pageblock_get_locked(z, p.pb, &frames, NULL);
        z->outside += n;
        store_fill_locked(z, kind, p.pb, &share, n, view == VIEW_CLEAN, since);
    }
    spin_unlock(&z->lock);
    return found;
}

/* Preemption off, as all along the store's path. */
static __attribute__((noinline)) bool refill_from_home(enum store_kind kind, unsigned node)
{
    static const enum pb_view views[NR_STORES][2] = {
        [STORE_CLEAN] = {VIEW_CLEAN, VIEW_DIRTY}, [STORE_ANY] = {VIEW_DIRTY, VIEW_CLEAN}};
    if (node != mm_home_node(cpu_node(cpu_id())))
        return false;
    for (unsigned v = 0; v < 2; v++)
        for (unsigned n = 0; n < mm_zone_count; n++)
            if (mm_zones[n].node == node && worth_locking(&mm_zones[n], 0, views[kind][v]) &&
                store_refill(&mm_zones[n], kind, views[kind][v]))
                return true;
    return false;
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
    bool stream = t->order > 6 && part512_count(&t->dirt.map) > 64;
    struct map512 dirty = part512_map(&t->dirt.map);
    if (map512_empty(&dirty))
        return 0;
    if (t->order <= ORDER_PAGEBLOCK) {
        n = clear_frames(first, &dirty, stream);
    } else {
        struct map512 full;
        map512_fill(&full);
        stream = true;
        first = ALIGN_DOWN(t->pfn, 1ULL << ORDER_GIGABLOCK);
        map512_for_each(bit, &dirty)
        {
            pfn_t pb = first + bit * 512;
            bool all = part512_test(&t->dirt.all, bit);
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
        unsigned node = i ? mm_node_near(r->node, i) : r->node;
        if (take_from_node(r, node, r->clean ? VIEW_CLEAN : VIEW_DIRTY, out) ||
            take_from_node(r, node, VIEW_ANY, out))
            return true;
    }
    return false;
}

static void taken_from_store(struct taken *t, pfn_t pfn, bool dirty)
{
    t->zone = zone_of(pfn);
    t->pfn = pfn;
    t->order = 0;
    part512_run(&t->dirt.map, (unsigned)(pfn % 512), 0);
    if (!dirty)
        t->dirt.map.to = t->dirt.map.from;
}

/* Out of this CPU's store, filled again if it is empty. */
static bool take_from_store(const struct take_request *r, struct taken *out)
{
    enum store_kind kind = r->clean ? STORE_CLEAN : STORE_ANY;
    bool dirty;
    preempt_disable();
    pfn_t pfn = store_pop_slowly(kind, r->node, &dirty);
    if (pfn == PFN_NONE && refill_from_home(kind, r->node))
        pfn = store_pop_slowly(kind, r->node, &dirty); /* a sweep may have emptied it again */
    preempt_enable();
    if (pfn == PFN_NONE)
        return false;
    taken_from_store(out, pfn, dirty);
    return true;
}

static bool take(unsigned order, enum take_flags flags, unsigned node, struct taken *out)
{
    bool this_node = flags & TAKE_THIS_NODE;
    struct take_request r = {.order = order,
                             .clean = flags & TAKE_CLEAN,
                             .this_node = this_node,
                             .node = this_node ? node : mm_home_node(node)};
    return (order == 0 && take_from_store(&r, out)) || take_by_preference(&r, out) ||
           take_decide(&r, out);
}

static __attribute__((noinline)) pfn_t take_the_long_way(unsigned order, enum take_flags flags,
                                                         unsigned node, u64 *cleared)
{
    struct taken t;
    if (!take(order, flags, node, &t))
        return PFN_NONE;
    if (flags & TAKE_CLEAN)
        *cleared += clear_taken(&t);
    return t.pfn;
}

/*
 * The short way: out of this CPU's store, which holds frames of its own node only, with no lock
 * and no fence. Whatever else there is to do is the long way's, which begins anew: this function
 * then has nothing to keep in mind, and saves no register.
 */
pfn_t limpid_take(unsigned order, enum take_flags flags, unsigned node, u64 *cleared)
{
    if (likely(order == 0)) {
        pfn_t pfn;
        preempt_disable();
        bool done = store_pop(flags & TAKE_CLEAN ? STORE_CLEAN : STORE_ANY, node, &pfn);
        preempt_enable();
        if (likely(done))
            return pfn;
    }
    if (order > ORDER_MAX || node >= nr_nodes)
        return PFN_NONE;
    return take_the_long_way(order, flags, node, cleared);
}

pfn_t limpid_take_dirty(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt)
{
    struct taken t;
    map512_zero(dirt);
    if (order > ORDER_PAGEBLOCK || node >= nr_nodes)
        return PFN_NONE;
    if (!take(order, flags | TAKE_CLEAN, node, &t))
        return PFN_NONE;
    *dirt = part512_map(&t.dirt.map);
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
