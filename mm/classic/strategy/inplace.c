/*
 * `inplace`: as Xen does it since 2017 (Boris Ostrovsky's series), after the thread. A block is
 * cleared where it stands on its list. Its head is marked; a taker who wants it asks the scrubber
 * to stop and waits until it lets go, which is after the frame at hand. One scrubber a node.
 * first_dirty says where dirt begins, so nobody looks at what is clean before it, and clean blocks
 * stand first on a list.
 *
 *     A: takes, heap lock held               B: idle
 *                                            lock; marks the last block; unlock
 *     the block it wants is marked           clears frame k
 *     sets BK_ABORT, spins                   sees BK_ABORT: first_dirty = k + 1, unmarks
 *     goes on with it                        lock; counts; unlock
 *
 * No frame is hidden, and nobody stands on a link. It fails by its index: what stands behind the
 * first dirty frame of a block counts as dirty. One dirty frame spoils its block:
 *
 *     A: wants 2 MiB of zeroes               the only free block: 1 GiB, frame 0 dirty
 *     no clean block: takes a dirty one
 *     splits it: 512 MiB, 256 MiB, ...       each half behind frame 0: "dirty from its start"
 *     512 blocks, of which 511 are zero      0 of them known to be
 *
 * And A spins for a clear with the lock of all heaps held; idle CPUs of one node do not share its
 * work; a node whose CPUs are all busy gets no help. Freeing next to a marked block stops the
 * scrubber as well, for the two are to merge.
 */
#include "mm/classic/strategy/strategy.h"

/* Clears in the marked block until it is done or somebody wants it or us. How far it came. */
static u32 inplace_clear(struct scrub *s, u32 i, unsigned order, u32 at)
{
    enum { LOOKS = 64 }; /* clean records that are passed over between two looks */
    struct record *head = rec(s->h, i);
    for (u32 n = 0; at < 1u << order; at++) {
        if (load_relaxed(&rec(s->h, i + at)->flags) & FR_DIRTY) {
            scrub_clear(s, i + at);
            dirt_drop_one(&s->drop, i + at, 0);
        } else if (++n % LOOKS) {
            continue;
        }
        if (load_relaxed(&head->flags) & BK_ABORT || scrub_must_stop(s))
            return at + 1;
    }
    return at;
}

bool inplace_step(struct scrub *s)
{
    struct heap *h = s->h;
    heap_lock();
    u32 i = h->scrubbing ? LINK_NONE : heap_find_dirty_locked(h, 0);
    if (i == LINK_NONE) {
        heap_unlock();
        return false;
    }
    store_relaxed(&h->scrubbing, true);
    struct record *r = rec(h, i);
    unsigned order = r->order;
    u32 at = r->first_dirty;
    flags_change(r, 0, BK_SCRUBBING);
    heap_unlock();

    at = inplace_clear(s, i, order, at);
    dirt_drop_end(&s->drop);
    /*
     * Let go before the lock is asked for: a taker may hold it and wait for this. From here on the
     * block may be anybody's; the release in the flags hands over what was cleared.
     */
    store_relaxed(&r->first_dirty, at);
    flags_change(r, BK_SCRUBBING | BK_ABORT, 0);
    gate("inplace: let go", h, i);

    heap_lock();
    heap_settle_locked(h, i); /* if it is still there */
    store_relaxed(&h->scrubbing, false);
    heap_unlock();
    return true;
}

bool inplace_may(const struct heap *h)
{
    return !load_relaxed(&h->scrubbing);
}

const struct classic_strategy strategy_inplace = {
    .common = {.name = "inplace"},
    .step = inplace_step,
    .may = inplace_may,
    .stops = true,
    .alone = true,
};
