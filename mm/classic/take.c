/*
 * Taking on classic: one lock hold over all allowed heaps, so that a request that fails has looked
 * at everything at one moment. What was dirty is cleared by the taker after the unlock, if it
 * wants zeroes and no strategy has done so.
 *
 * The flags of a dirty block change under the lock, a record for each frame, as Xen went through
 * them with heap_lock held: so a hold grows with the block, whatever the strategy. Next: free.c.
 */
#include "mm/classic/classic_backend.h"
#include "mm/classic/info.h"
#include "mm/classic/strategy/strategy.h"

/* The clean ones stand first on a list. */
static u32 clean_of(const struct heap *h, unsigned k)
{
    u32 i = h->head[k];
    return i != LINK_NONE && !(load_relaxed(&rec(h, i)->flags) & BK_DIRT) ? i : LINK_NONE;
}

/* The dirty ones last; not one that is being scrubbed if another one serves. */
static u32 dirty_of(const struct heap *h, unsigned k)
{
    u32 i = h->tail[k];
    for (unsigned look = 0; look < 2 && i != LINK_NONE; look++, i = rec(h, i)->prev) {
        u8 f = load_relaxed(&rec(h, i)->flags);
        if (!(f & BK_DIRT))
            return LINK_NONE;
        if (!(f & BK_SCRUBBING))
            return i;
    }
    return LINK_NONE;
}

u32 heap_pick_locked(struct heap *h, unsigned order, bool clean)
{
    for (unsigned pass = 0; pass < 3; pass++) {
        for (unsigned k = order; k <= ORDER_MAX; k++) {
            u32 i = pass == 2 ? h->head[k] : (pass == 0) == clean ? clean_of(h, k) : dirty_of(h, k);
            heap_steps_locked(1);
            /* In pass 2 all that is left is being scrubbed: it has to be stopped. */
            if (i != LINK_NONE && heap_claim_locked(h, i))
                return i;
        }
    }
    return LINK_NONE;
}

/* The dirty frames of the taken block become the taker's, to be cleared if it wants zeroes. */
static u32 own_dirt_locked(struct heap *h, u32 i, unsigned order, u32 first_dirty, bool clean)
{
    struct dirt_drop d = {.h = h};
    u32 n = 0;
    for (u32 at = first_dirty; at < 1u << order; at++) {
        heap_steps_locked(1);
        n += dirt_drop_one(&d, i + at, clean ? FR_MINE : 0);
    }
    dirt_drop_end(&d);
    return n;
}

struct taken {
    struct heap *h;
    u32 i, first_dirty;
    u32 nr_mine;
    const struct classic_strategy *s;
};

static bool take_locked(struct heap *h, unsigned order, bool clean, struct taken *t)
{
    const struct classic_strategy *s = classic_strategy;
    u32 block =
        s->pick_locked ? s->pick_locked(h, order, clean) : heap_pick_locked(h, order, clean);
    if (block == LINK_NONE && h->unmerged) {
        heap_merge_all_locked(h);
        block =
            s->pick_locked ? s->pick_locked(h, order, clean) : heap_pick_locked(h, order, clean);
    }
    if (block == LINK_NONE)
        return false;
    t->h = h;
    t->s = s;
    t->i = heap_carve_locked(h, block, order, block, &t->first_dirty);
    t->nr_mine = 0;
    if (t->first_dirty != NO_DIRT)
        t->nr_mine = own_dirt_locked(h, t->i, order, t->first_dirty, clean);
    h->allocated += 1ULL << order;
    return true;
}

/* A block of this order is free, but somebody has it aside or keeps takers off. */
static bool is_detained_locked(struct heap *h, unsigned order)
{
    for (unsigned k = order; k <= ORDER_MAX; k++) {
        if (h->out[k])
            return true;
        if (!classic_strategy->pick_locked)
            continue; /* where a taker may stop a scrubber, no mark keeps it off */
        for (u32 i = h->tail[k]; i != LINK_NONE; i = rec(h, i)->prev)
            if (load_relaxed(&rec(h, i)->flags) & BK_SCRUBBING)
                return true;
    }
    return false;
}

static void clear_mine(const struct taken *t, unsigned order)
{
    bool stream = t->nr_mine > 64; /* what does not fit into a cache would only evict */
    u32 left = t->nr_mine;
    for (u32 at = t->first_dirty; left && at < 1u << order; at++) {
        struct record *r = rec(t->h, t->i + at);
        if (!(load_relaxed(&r->flags) & FR_MINE))
            continue;
        void *frame = frame_va(heap_pfn(t->h, t->i + at));
        if (stream)
            clear_frame_stream(frame);
        else
            clear_ordinary(frame, FRAME_SIZE);
        store_relaxed(&r->flags, (u8)0); /* the frame is ours: no scrubber writes here */
        left--;
    }
    if (stream)
        clear_fence();
    heaps_count_taker(t->h, t->nr_mine);
}

pfn_t heaps_take(unsigned order, enum take_flags flags, unsigned node, u64 *cleared)
{
    bool clean = flags & TAKE_CLEAN, got = false;
    struct heap *nearest = NULL;
    struct taken t;
    if (order > ORDER_MAX || node >= nr_nodes)
        return PFN_NONE;
    unsigned reach = flags & TAKE_THIS_NODE ? 1 : nr_nodes;
    u64 waited = heap_lock_counting();
    for (unsigned n = 0; n < reach && !got; n++) {
        struct heap *h = heap_of_node(mm_node_near(node, n));
        if (!h)
            continue;
        nearest = nearest ? nearest : h;
        got = take_locked(h, order, clean, &t);
    }
    if (nearest && waited) {
        nearest->waits++;
        nearest->clears_waited += waited;
        nearest->max_clears_waited = MAX(nearest->max_clears_waited, waited);
    }
    bool detained = false;
    for (unsigned n = 0; n < reach && !got; n++) {
        struct heap *h = heap_of_node(mm_node_near(node, n));
        detained = detained || (h && is_detained_locked(h, order));
    }
    if (nearest && !got) {
        nearest->failed++;
        nearest->failed_detained += detained;
    }
    heap_unlock();
    if (!got)
        return PFN_NONE;
    if (clean && t.nr_mine) {
        clear_mine(&t, order);
        *cleared += t.nr_mine;
    }
    if (t.s->taken)
        t.s->taken(t.h, t.i, order);
    return heap_pfn(t.h, t.i);
}
