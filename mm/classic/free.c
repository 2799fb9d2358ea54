/*
 * Giving back on classic, and bad frames. Who frees marks each frame dirty while it is still its
 * own, then merges the block under the lock, and rings. Next: scrub.c.
 */
#include "mm/classic/classic_backend.h"
#include "mm/classic/info.h"
#include "mm/classic/scrub.h"
#include "mm/classic/strategy/strategy.h"

static void panic_double_free(pfn_t pfn, unsigned order) __attribute__((noreturn));
static void panic_double_free(pfn_t pfn, unsigned order)
{
    panic("P2 one owner: double free at pfn 0x%llx, order %u", (unsigned long long)pfn, order);
}

/* Free as a whole or in part. Exact under the lock; without it true for what is not ours. */
static bool is_free(const struct heap *h, u32 i, unsigned order)
{
    if (heap_block_of(h, i) != LINK_NONE)
        return true;
    for (u32 n = 1; n < 1u << order; n++)
        if (load_relaxed(&rec(h, i + n)->order) != NOT_A_HEAD)
            return true;
    return false;
}

/* Before the lock: the frames are still their owner's. True: they are zero. */
static bool make_ready(struct heap *h, u32 i, unsigned order)
{
    const struct classic_strategy *s = load_acquire(&classic_strategy);
    if (is_free(h, i, order))
        panic_double_free(heap_pfn(h, i), order);
    if (s->before_free && s->before_free(h, i, 1u << order))
        return true;
    for (u32 n = 0; n < 1u << order; n++)
        store_relaxed(&rec(h, i + n)->flags, (u8)FR_DIRTY);
    return false;
}

static void give_back_locked(struct heap *h, u32 i, unsigned order, bool clean)
{
    if (h->allocated < 1ULL << order || heap_block_of(h, i) != LINK_NONE)
        panic_double_free(heap_pfn(h, i), order);
    h->allocated -= 1ULL << order;
    if (!clean)
        heap_dirt_add_locked(h, i, order);
    heap_give_locked(h, i, order, clean ? NO_DIRT : 0);
}

void heaps_free(pfn_t pfn, unsigned order)
{
    struct heap *h = heap_of(pfn);
    if (!h || order > ORDER_MAX || !IS_ALIGNED(pfn, 1ULL << order) ||
        heap_of(pfn + (1ULL << order) - 1) != h)
        panic("P2 one owner: free of what is no block: pfn 0x%llx, order %u",
              (unsigned long long)pfn, order);
    u32 i = (u32)(pfn - h->base);
    bool clean = make_ready(h, i, order);
    heap_lock();
    give_back_locked(h, i, order, clean);
    heap_unlock_keep_preempt_off();
    if (!clean)
        scrub_ring(h);
    preempt_enable();
}

/* The largest aligned block within the mask that begins at its first frame. */
static unsigned block_at(const struct map512 *mask, unsigned bit)
{
    return MIN(map512_run_order(mask, bit), bit ? (unsigned)__builtin_ctz(bit) : ORDER_PAGEBLOCK);
}

void heaps_free_mask(pfn_t first, const struct map512 *frames)
{
    struct map512 clean = {{0}};
    unsigned order;
    ASSERT(IS_ALIGNED(first, 512));
    for (unsigned bit = map512_next(frames, 0); bit != MAP512_NONE;
         bit = map512_next(frames, bit + (1u << order))) {
        struct heap *h = heap_of(first + bit);
        order = block_at(frames, bit);
        /* A pageblock in which two nodes meet belongs to two heaps: smaller pieces there. */
        while (order && heap_of(first + bit + (1u << order) - 1) != h)
            order--;
        if (!h)
            panic("P2 one owner: free of pfn 0x%llx, which is no memory",
                  (unsigned long long)(first + bit));
        if (make_ready(h, (u32)(first + bit - h->base), order))
            map512_set(&clean, bit);
    }
    struct heap *ring = NULL;
    heap_lock();
    for (unsigned bit = map512_next(frames, 0); bit != MAP512_NONE;
         bit = map512_next(frames, bit + (1u << order))) {
        struct heap *h = heap_of(first + bit);
        order = block_at(frames, bit);
        while (order && heap_of(first + bit + (1u << order) - 1) != h)
            order--;
        give_back_locked(h, (u32)(first + bit - h->base), order, map512_test(&clean, bit));
        ring = map512_test(&clean, bit) ? ring : h;
    }
    heap_unlock_keep_preempt_off();
    if (ring)
        scrub_ring(ring);
    preempt_enable();
}

/*
 * A frame on a list leaves it now; one that is allocated or aside when it is given back, by
 * heap_give_locked(). One that is being scrubbed where it stands has to wait for that clear.
 */
int heaps_retire(pfn_t pfn)
{
    struct heap *h = heap_of(pfn);
    if (!h)
        return E_INVAL;
    u32 i = (u32)(pfn - h->base), first_dirty;
    heap_lock();
    if (rec(h, i)->bad) {
        heap_unlock();
        return E_EXIST;
    }
    rec(h, i)->bad = 1;
    h->nr_bad++;
    u32 block = heap_block_of(h, i);
    if (block != LINK_NONE && !(load_relaxed(&rec(h, block)->flags) & BK_OUT)) {
        while (!heap_claim_locked(h, block))
            heap_stop_locked(h, block);
        heap_give_locked(h, heap_carve_locked(h, block, 0, i, &first_dirty), 0, first_dirty);
    }
    heap_unlock();
    return 0;
}
