/*
 * `locked`: idle CPUs walk the free lists and clear, with heap_lock held. It is what Bob rules out
 * in the thread: iterating the list without the lock is hard, and with it "it might be heavy lock
 * contention".
 *
 * Nothing can go wrong in memory: who holds the lock stands safely on every list. Here in its best
 * form: one frame a lock hold, the next one found at once (dirty blocks stand last on their list,
 * first_dirty says where to look), and the lock is fair. But each taker queues behind the clears
 * of all the idle CPUs that stand before it, and the more there are the longer:
 *
 *     A: takes                               B1, B2, B3: idle
 *                                            B1: lock; finds a frame, clears it
 *     lock: waits                            B2, B3: wait for the lock before A
 *                                            B1: unlock. B2: clears. unlock. B3: clears. unlock
 *     has the lock, three clears later
 *
 * Nor do more CPUs clear faster: only one is in at a time, in the whole machine.
 */
#include "mm/classic/strategy/strategy.h"

static bool locked_step(struct scrub *s)
{
    enum { LOOKS = 512 }; /* records a lock hold */
    struct heap *h = s->h;
    heap_lock();
    u32 i = heap_find_dirty_locked(h, 0);
    if (i == LINK_NONE) {
        heap_unlock();
        return false;
    }
    struct record *r = rec(h, i);
    u32 size = 1u << r->order, at = r->first_dirty, end = MIN(size, at + LOOKS);
    while (at < end && !(load_relaxed(&rec(h, i + at)->flags) & FR_DIRTY))
        at++;
    heap_steps_locked(at - r->first_dirty + 1);
    if (at < end) {
        scrub_clear(s, i + at);
        heap_clear_locked();
        dirt_drop_one(&s->drop, i + at, 0);
        dirt_drop_end(&s->drop);
        at++;
    }
    store_relaxed(&r->first_dirty, at);
    heap_settle_locked(h, i);
    heap_unlock();
    return true;
}

const struct classic_strategy strategy_locked = {
    .common = {.name = "locked"},
    .step = locked_step,
};
