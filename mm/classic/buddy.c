/*
 * Lists, split and merge: see heap.h. What mm/classic/classic.c shows in its plain form, with
 * what scrubbing adds: where in a block the first dirty frame stands, and who is at work in it.
 * All under the heap lock. Next: take.c.
 */
#include "mm/classic/heap.h"
#include "mm/classic/strategy/strategy.h"

/* ---- lists ---- */

void heap_push_locked(struct heap *h, u32 i, unsigned order, u32 first_dirty)
{
    struct record *r = rec(h, i);
    u32 *head = &h->head[order], *tail = &h->tail[order];
    bool clean = first_dirty == NO_DIRT;
    ASSERT(heap_locked());
    heap_steps_locked(2);
    r->first_dirty = first_dirty;
    store_relaxed(&r->order, (u8)order);
    store_relaxed(&r->next, clean ? *head : LINK_NONE);
    store_relaxed(&r->prev, clean ? LINK_NONE : *tail);
    if (r->next != LINK_NONE)
        store_relaxed(&rec(h, r->next)->prev, i);
    else
        store_relaxed(tail, i);
    if (r->prev != LINK_NONE)
        store_relaxed(&rec(h, r->prev)->next, i);
    else
        store_relaxed(head, i);
    h->nr_free += 1ULL << order;
    if (clean) {
        h->whole_clean += 1ULL << order;
    } else {
        flags_change(r, 0, BK_DIRT);
        store_relaxed(&h->need_scrub, 1);
    }
}

void heap_remove_locked(struct heap *h, u32 i)
{
    struct record *r = rec(h, i);
    ASSERT(heap_locked());
    heap_steps_locked(3);
    if (r->prev != LINK_NONE)
        store_relaxed(&rec(h, r->prev)->next, r->next);
    else
        store_relaxed(&h->head[r->order], r->next);
    if (r->next != LINK_NONE)
        store_relaxed(&rec(h, r->next)->prev, r->prev);
    else
        store_relaxed(&h->tail[r->order], r->prev);
    h->nr_free -= 1ULL << r->order;
    if (r->first_dirty == NO_DIRT)
        h->whole_clean -= 1ULL << r->order;
    store_relaxed(&r->next, LINK_POISON);
    store_relaxed(&r->prev, LINK_POISON);
    store_relaxed(&r->order, (u8)NOT_A_HEAD);
}

void heap_stop_locked(struct heap *h, u32 i)
{
    struct record *r = rec(h, i);
    ASSERT(heap_locked());
    if (!(load_acquire(&r->flags) & BK_SCRUBBING))
        return;
    flags_change(r, 0, BK_ABORT);
    /* Who scrubs looks after each clear, takes no lock before it lets go, and is not preempted. */
    while (load_acquire(&r->flags) & BK_SCRUBBING)
        cpu_relax();
    heap_clear_locked();
    h->waits++;
    h->clears_waited++;
    h->max_clears_waited = MAX(h->max_clears_waited, 1ULL);
}

bool heap_claim_locked(struct heap *h, u32 i)
{
    struct record *r = rec(h, i);
    for (;;) {
        u8 f = load_relaxed(&r->flags);
        if (f & BK_SCRUBBING) {
            if (!classic_strategy->stops)
                return false;
            heap_stop_locked(h, i);
        } else if (!(f & BK_DIRT) || cas(&r->flags, f, (u8)(f & ~BK_DIRT))) {
            return true;
        }
    }
}

/* ---- split ---- */

u32 heap_carve_locked(struct heap *h, u32 i, unsigned order, u32 at, u32 *first_dirty)
{
    unsigned k = rec(h, i)->order;
    u32 dirt = block_dirt(h, i);
    heap_remove_locked(h, i);
    while (k > order) {
        u32 half = 1u << --k;
        /* Behind the first dirty frame nobody knows: it counts as dirty from its start on. */
        u32 low = dirt < half ? dirt : NO_DIRT;
        u32 high = dirt == NO_DIRT ? NO_DIRT : dirt < half ? 0 : dirt - half;
        if (at < i + half) {
            heap_push_locked(h, i + half, k, high);
            dirt = low;
        } else {
            heap_push_locked(h, i, k, low);
            i += half;
            dirt = high;
        }
    }
    *first_dirty = dirt;
    return i;
}

/* ---- merge ---- */

static bool is_listed(const struct heap *h, u32 i, unsigned order)
{
    if (i < h->first || i + (1u << order) > h->end)
        return false;
    const struct record *r = rec(h, i);
    return r->order == order && !(load_relaxed(&r->flags) & BK_OUT);
}

/* Bad frames in the block? Looked for only if there are any at all. */
static bool has_bad(const struct heap *h, u32 i, unsigned order)
{
    if (likely(h->nr_bad == 0))
        return false;
    heap_steps_locked(1u << order);
    for (u32 n = 0; n < 1u << order; n++)
        if (rec(h, i + n)->bad)
            return true;
    return false;
}

static void retire_one_locked(struct heap *h, u32 i)
{
    struct dirt_drop d = {.h = h};
    dirt_drop_one(&d, i, 0);
    dirt_drop_end(&d);
    h->retired++;
}

void heap_give_locked(struct heap *h, u32 i, unsigned order, u32 first_dirty)
{
    ASSERT(heap_locked());
    if (unlikely(has_bad(h, i, order))) {
        if (order == 0) {
            retire_one_locked(h, i);
            return;
        }
        u32 half = 1u << (order - 1);
        heap_give_locked(h, i, order - 1, first_dirty < half ? first_dirty : NO_DIRT);
        heap_give_locked(h, i + half, order - 1,
                         first_dirty == NO_DIRT ? NO_DIRT
                         : first_dirty < half   ? 0
                                                : first_dirty - half);
        return;
    }
    while (order < ORDER_MAX) {
        u32 half = 1u << order, buddy = i ^ half;
        heap_steps_locked(1);
        if (!is_listed(h, buddy, order))
            break;
        if (!heap_claim_locked(h, buddy)) {
            h->unmerged = true; /* somebody scrubs there: later */
            break;
        }
        u32 other = block_dirt(h, buddy);
        heap_remove_locked(h, buddy);
        if (buddy < i) {
            first_dirty = other != NO_DIRT         ? other
                          : first_dirty != NO_DIRT ? first_dirty + half
                                                   : NO_DIRT;
            i = buddy;
        } else if (first_dirty == NO_DIRT && other != NO_DIRT) {
            first_dirty = other + half;
        }
        order++;
    }
    heap_push_locked(h, i, order, first_dirty);
}

u32 heap_block_of(const struct heap *h, u32 i)
{
    for (unsigned k = 0; k <= ORDER_MAX; k++) {
        u32 head = i & ~((1u << k) - 1);
        if (head < h->first)
            break;
        unsigned order = load_relaxed(&rec(h, head)->order);
        if (order != NOT_A_HEAD && order >= k)
            return head;
    }
    return LINK_NONE;
}

/* ---- for scrubbers ---- */

void heap_settle_locked(struct heap *h, u32 i)
{
    struct record *r = rec(h, i);
    if (r->order == NOT_A_HEAD || r->first_dirty == NO_DIRT || block_dirt(h, i) != NO_DIRT ||
        load_relaxed(&r->flags) & (BK_OUT | BK_SCRUBBING))
        return; /* taken meanwhile, or not done yet */
    unsigned order = r->order;
    if (!heap_claim_locked(h, i))
        return;
    heap_remove_locked(h, i);
    heap_push_locked(h, i, order, NO_DIRT);
}

u32 heap_find_dirty_locked(const struct heap *h, unsigned skip)
{
    for (unsigned k = ORDER_MAX + 1; k-- > 0;) {
        for (u32 i = h->tail[k]; i != LINK_NONE; i = rec(h, i)->prev) {
            heap_steps_locked(1);
            u8 f = load_relaxed(&rec(h, i)->flags);
            if (!(f & BK_DIRT))
                break;
            if (!(f & BK_SCRUBBING) && skip-- == 0)
                return i;
        }
    }
    return LINK_NONE;
}

u32 heap_next_dirty(const struct heap *h, u32 i, unsigned order, u32 from)
{
    while (from < 1u << order && !(load_relaxed(&rec(h, i + from)->flags) & FR_DIRTY))
        from++;
    return from;
}

/* A listed block that was claimed stays where it is. */
static void unclaim_locked(struct heap *h, u32 i)
{
    if (rec(h, i)->first_dirty != NO_DIRT)
        flags_change(rec(h, i), 0, BK_DIRT);
}

void heap_merge_all_locked(struct heap *h)
{
    if (!h->unmerged)
        return;
    h->unmerged = false;
    for (unsigned k = 0; k < ORDER_MAX; k++) {
        for (u32 i = h->head[k], next; i != LINK_NONE; i = next) {
            next = rec(h, i)->next;
            heap_steps_locked(2);
            u32 buddy = i ^ 1u << k;
            if (!is_listed(h, buddy, k))
                continue;
            u32 dirt = block_dirt(h, i);
            if (!heap_claim_locked(h, i) || !heap_claim_locked(h, buddy)) {
                /* One of the two is being scrubbed: the other is put back as it was. */
                unclaim_locked(h, i);
                unclaim_locked(h, buddy);
                h->unmerged = true;
                continue;
            }
            if (next == buddy)
                next = rec(h, buddy)->next; /* it leaves the list as well */
            heap_remove_locked(h, i);
            heap_give_locked(h, i, k, dirt);
        }
    }
}

void heap_resort_locked(struct heap *h)
{
    heap_merge_all_locked(h);
    for (unsigned k = 0; k <= ORDER_MAX; k++) {
        u32 end = h->tail[k];
        for (u32 i = h->head[k], next; i != LINK_NONE; i = next) {
            next = i == end ? LINK_NONE : rec(h, i)->next;
            u32 dirt = heap_next_dirty(h, i, k, 0);
            heap_steps_locked(dirt);
            flags_change(rec(h, i), BK_DIRT, 0);
            heap_remove_locked(h, i);
            heap_push_locked(h, i, k, dirt < 1u << k ? dirt : NO_DIRT);
        }
    }
}
