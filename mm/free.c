/*
 * The way of a freed frame, first half: from its owner into the maps, dirty. Metadata only (P7):
 * one frame goes into this CPU's stores, a block into its pageblock's map, a large block into its
 * gigablock's map in a few words. Then the bell. Next: mm/scrub.c.
 */
#include "mm/bell.h"
#include "mm/gigablock.h"
#include "mm/limpid.h"
#include "mm/store.h"
#include "mm/strategy/strategy.h"

/* n: how many frames they are. */
static inline __attribute__((always_inline)) void
free_frames_locked(struct zone *z, u32 i, const struct part512 *frames, u64 n, bool dirty)
{
    static const struct map512 none;
    pageblock_check_owned_locked(z, i, frames);
    z->outside -= n;
    pageblock_put_locked(z, i, frames, dirty ? &frames->map : &none, stamp_ms());
}

/* Nobody can give back more than has been handed out. */
static void outside_check(const struct zone *z, pfn_t pfn, u64 frames)
{
    if (z->outside < frames)
        panic("P2 one owner: double free at pfn 0x%llx (node %u): %llu frames given back, only "
              "%llu are out",
              (unsigned long long)pfn, z->node, (unsigned long long)frames,
              (unsigned long long)z->outside);
}

static void free_by_pageblock(struct zone *z, pfn_t pfn, unsigned order, bool dirty);

static inline __attribute__((always_inline)) void free_block(struct zone *z, pfn_t pfn,
                                                             unsigned order, bool dirty)
{
    u32 i = zone_pb(z, pfn);
    spin_lock(&z->lock);
    outside_check(z, pfn, 1ULL << order);
    if (order < ORDER_PAGEBLOCK) {
        struct part512 frames;
        part512_run(&frames, (unsigned)(pfn % 512), order);
        free_frames_locked(z, i, &frames, 1ULL << order, dirty);
    } else if (likely(gigablock_put_locked(z, i, order, dirty, stamp_ms()))) {
        z->outside -= 1ULL << order;
    } else {
        spin_unlock(&z->lock);
        free_by_pageblock(z, pfn, order, dirty);
        return;
    }
    spin_unlock_keep_preempt_off(&z->lock);
    if (dirty)
        bell_ring(z);
    preempt_enable();
}

static __attribute__((noinline)) void free_by_pageblock(struct zone *z, pfn_t pfn, unsigned order,
                                                        bool dirty)
{
    for (u64 n = 0; n < 1ULL << order; n += 1ULL << ORDER_PAGEBLOCK)
        free_block(z, pfn + n, ORDER_PAGEBLOCK, dirty);
}

/* The zone of a block that somebody gives back. */
static inline __attribute__((always_inline)) struct zone *zone_of_block(pfn_t pfn, unsigned order)
{
    struct zone *z = zone_of(pfn);
    if (!z || order > ORDER_MAX || !IS_ALIGNED(pfn, 1ULL << order) ||
        pfn + (1ULL << order) > z->end)
        panic("P2 one owner: free of what is no block: pfn 0x%llx, order %u",
              (unsigned long long)pfn, order);
    return z;
}

static __attribute__((noinline)) void free_the_long_way(pfn_t pfn, unsigned order)
{
    const struct strategy *s = strategy_now();
    struct zone *z = zone_of_block(pfn, order);
    bool dirty = !(s->before_free && s->before_free(pfn, 1ULL << order));
    free_block(z, pfn, order, dirty);
}

/* A single frame that is not for the short way, by stores: another word, a full buffer, a sweep. */
static __attribute__((noinline)) void free_one_slowly(pfn_t pfn)
{
    struct zone *z = zone_of_block(pfn, 0);
    preempt_disable();
    store_push_slowly(z, pfn);
    preempt_enable();
}

void limpid_free(pfn_t pfn, unsigned order)
{
    if (likely(order == 0 && !strategy_now()->before_free)) {
        preempt_disable();
        bool done = store_push(pfn);
        preempt_enable();
        if (unlikely(!done))
            free_one_slowly(pfn);
        return;
    }
    free_the_long_way(pfn, order);
}

/* The frames of one pageblock that are in one zone. */
static void free_mask(struct zone *z, pfn_t first, const struct map512 *frames)
{
    const struct strategy *s = strategy_now();
    bool dirty = true;
    if (s->before_free) {
        map512_for_each(bit, frames) dirty = !s->before_free(first + bit, 1);
    }
    struct part512 part = part512_of(frames);
    unsigned n = part512_count(&part);
    spin_lock(&z->lock);
    outside_check(z, first, n);
    free_frames_locked(z, zone_pb(z, first), &part, n, dirty);
    spin_unlock_keep_preempt_off(&z->lock);
    if (dirty)
        bell_ring(z);
    preempt_enable();
}

void limpid_free_mask(pfn_t first, const struct map512 *frames)
{
    struct map512 left = *frames;
    unsigned bit;
    ASSERT(IS_ALIGNED(first, 512));
    /* A pageblock in which two nodes meet belongs to two zones. */
    while ((bit = map512_next(&left, 0)) != MAP512_NONE) {
        struct zone *z = zone_of(first + bit);
        if (!z)
            panic("P2 one owner: free of pfn 0x%llx, which is no memory",
                  (unsigned long long)(first + bit));
        u64 end = MIN(z->end - first, 512ULL);
        struct map512 part = map512_range(bit, (unsigned)end - bit);
        map512_and(&part, &left);
        free_mask(z, first, &part);
        map512_andnot(&left, &part);
    }
}
