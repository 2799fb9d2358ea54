/*
 * `batch`: Bob Liu's second version of the series that the thread is about. An idle CPU moves dirty
 * blocks from the heap to a private list, up to a batch of them (order 12, 16 MiB, at first:
 * `batch=`), clears them without the lock, and gives them back; flags change when they come back.
 *
 * It is simple and safe: what is on the private list is nobody else's. It fails by what it hides,
 * as Jan says: "You still detain the memory on the local lists from allocation. On a many-node
 * system, the 16Mb per node can certainly sum up."
 *
 *     A: takes                               B: idle
 *                                            lock; the last 16 MiB go to its list; unlock
 *     lock; nothing is free                  clears
 *     fails: out of memory                   clears
 *     kills a guest for it                   lock; gives 16 MiB back; unlock
 *
 * Better than in the thread: it comes back early when a thread wants the CPU, and the blocks that
 * it takes are the dirty ones alone.
 */
#include "mm/classic/strategy/strategy.h"

enum { BATCH_ORDER = 12, TRIES = 16 };

unsigned batch_order(void)
{
    struct mm_policy p;
    mm_policy_get(&p);
    return p.batch ? p.batch : BATCH_ORDER;
}

static u32 count_dirt(const struct heap *h, u32 i, unsigned order)
{
    u32 n = 0;
    for (u32 at = 0; at < 1u << order; at++)
        n += (load_relaxed(&rec(h, i + at)->flags) & FR_DIRTY) != 0;
    return n;
}

/* Takes a dirty block of at most this order off the lists, and puts it on the private one. */
static bool detain_locked(struct heap *h, unsigned order, u32 *mine)
{
    for (unsigned look = 0; look < TRIES; look++) {
        u32 i = heap_find_dirty_locked(h, 0), first_dirty;
        if (i == LINK_NONE || !heap_claim_locked(h, i))
            return false;
        unsigned k = MIN(order, (unsigned)rec(h, i)->order);
        u32 at = heap_next_dirty(h, i, rec(h, i)->order, rec(h, i)->first_dirty);
        heap_steps_locked(at - rec(h, i)->first_dirty);
        if (at == 1u << rec(h, i)->order) { /* it only seemed dirty: it had been split */
            u32 whole = rec(h, i)->order;
            heap_remove_locked(h, i);
            heap_give_locked(h, i, whole, NO_DIRT);
            continue;
        }
        i = heap_carve_locked(h, i, k, i + at, &first_dirty);
        u32 dirty = count_dirt(h, i, k);
        heap_steps_locked(1u << k);
        struct record *r = rec(h, i);
        store_relaxed(&r->order, (u8)k);
        store_relaxed(&r->next, *mine);
        r->first_dirty = first_dirty;
        flags_change(r, 0, BK_OUT);
        *mine = i;
        h->nr_out += 1u << k;
        h->out[k]++;
        store_relaxed(&h->busy_dirt, h->busy_dirt + dirty);
        return true;
    }
    return false;
}

/* Blocks with dirt, up to 2^order frames of them. */
static u32 detain_batch(struct heap *h, unsigned order)
{
    u32 mine = LINK_NONE, left = 1u << order;
    heap_lock();
    while (left && detain_locked(h, 31u - (unsigned)__builtin_clz(left), &mine))
        left -= 1u << rec(h, mine)->order;
    heap_unlock();
    return mine;
}

/* Clears what is on the list; the block and the frame in it that it came to. */
static u32 clear_batch(struct scrub *s, u32 mine, u32 *reached)
{
    for (u32 i = mine; i != LINK_NONE; i = rec(s->h, i)->next) {
        for (u32 at = 0; at < 1u << rec(s->h, i)->order; at++) {
            if (!(load_relaxed(&rec(s->h, i + at)->flags) & FR_DIRTY))
                continue;
            scrub_clear(s, i + at);
            if (scrub_must_stop(s)) {
                *reached = at + 1;
                return i;
            }
        }
    }
    return LINK_NONE;
}

static void give_back_locked(struct scrub *s, u32 i, u32 cleared)
{
    struct heap *h = s->h;
    struct record *r = rec(h, i);
    unsigned k = r->order;
    h->nr_out -= 1u << k;
    h->out[k]--;
    store_relaxed(&h->busy_dirt, h->busy_dirt - count_dirt(h, i, k));
    for (u32 at = 0; at < cleared; at++)
        dirt_drop_one(&s->drop, i + at, 0);
    heap_steps_locked(1u << k);
    u32 dirt = heap_next_dirty(h, i, k, 0);
    store_relaxed(&r->order, (u8)NOT_A_HEAD);
    store_relaxed(&r->next, LINK_POISON);
    flags_change(r, BK_OUT, 0);
    heap_give_locked(h, i, k, dirt == 1u << k ? NO_DIRT : dirt);
}

static bool batch_step(struct scrub *s)
{
    struct heap *h = s->h;
    u32 mine = detain_batch(h, batch_order()), reached = 0, next;
    if (mine == LINK_NONE)
        return false;
    gate("batch: detained", h, mine);
    u32 stopped = clear_batch(s, mine, &reached);
    bool before = true; /* before the block in which it stopped */
    heap_lock();
    for (u32 i = mine; i != LINK_NONE; i = next) {
        next = rec(h, i)->next;
        before = before && i != stopped;
        give_back_locked(s, i, before ? 1u << rec(h, i)->order : i == stopped ? reached : 0);
    }
    dirt_drop_end(&s->drop);
    heap_unlock();
    return true;
}

const struct classic_strategy strategy_batch = {
    .common = {.name = "batch"},
    .step = batch_step,
};
