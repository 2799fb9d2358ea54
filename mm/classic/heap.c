/*
 * Heaps: see heap.h. How memory becomes heaps at boot, and the one lock with its count of steps.
 * The records of a node are taken from the end of its largest range.
 *
 * Every record is written at boot, and they are 16 bytes a frame: what 1 TB would cost here is
 * one of the reasons for mm/zone.h.
 *
 * Next: buddy.c.
 */
#include "mm/classic/heap.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/classic/classic_backend.h"
#include "mm/classic/strategy/strategy.h"

#define OWNED_MAX MM_RANGES_MAX

struct heap classic_heaps[MAX_NODES];
unsigned classic_nr_heaps;

static struct {
    pfn_t start, end;
    struct heap *heap;
} owned[OWNED_MAX];       /* (c) sorted */
static unsigned nr_owned; /* (c) */

/* ---- the lock ---- */

static struct spinlock lock; /* RANK_ZONE: one for all heaps, as Xen's heap_lock */
static u64 steps, max_hold;  /* (L) */
static u64 clears_locked;    /* (a) clears that ended under the lock */

void heap_lock(void)
{
    spin_lock(&lock);
    steps = 0;
}

u64 heap_lock_counting(void)
{
    u64 before = load_relaxed(&clears_locked);
    heap_lock();
    return load_relaxed(&clears_locked) - before;
}

void heap_unlock_keep_preempt_off(void)
{
    if (steps > max_hold)
        store_relaxed(&max_hold, steps);
    spin_unlock_keep_preempt_off(&lock);
}

void heap_unlock(void)
{
    heap_unlock_keep_preempt_off();
    preempt_enable();
}

bool heap_locked(void)
{
    return spin_held(&lock);
}

void heap_steps_locked(u64 n)
{
    steps += n;
}

void heap_clear_locked(void)
{
    steps += FRAME_SIZE / sizeof(u64);
    store_relaxed(&clears_locked, clears_locked + 1);
}

u64 heap_max_hold(void)
{
    return load_relaxed(&max_hold);
}

void heap_costs_reset(void)
{
    store_relaxed(&max_hold, 0);
}

/* ---- which heap ---- */

struct heap *heap_of(pfn_t pfn)
{
    unsigned low = 0, high = nr_owned;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (pfn < owned[mid].start)
            high = mid;
        else if (pfn >= owned[mid].end)
            low = mid + 1;
        else
            return owned[mid].heap;
    }
    return NULL;
}

struct heap *heap_of_node(unsigned node)
{
    for (unsigned n = 0; n < classic_nr_heaps; n++)
        if (classic_heaps[n].node == node)
            return &classic_heaps[n];
    return NULL;
}

bool heaps_own(pfn_t pfn)
{
    return heap_of(pfn) != NULL;
}

/* ---- dirt ---- */

void heap_dirt_add_locked(struct heap *h, u32 i, unsigned order)
{
    u32 end = i + (1u << order), now = heap_now_ms();
    for (u32 at = i; at < end;) {
        u32 next = MIN(end, ALIGN_DOWN(at, 512u) + 512);
        struct dirt_note *n = note_of(h, at);
        if (fetch_add(&n->nr_dirty, next - at) == 0)
            n->since = now;
        at = next;
    }
    fetch_add(&h->nr_dirty, 1ULL << order);
}

/* The group of frames that is counted in one go: those of one pageblock. */
static void drop_flush(struct dirt_drop *d)
{
    if (d->n == 0)
        return;
    u32 age = heap_now_ms() - d->note->since;
    if (age > load_relaxed(&d->h->oldest_scrubbed_ms))
        store_relaxed(&d->h->oldest_scrubbed_ms, age);
    fetch_add(&d->note->nr_dirty, -d->n);
    fetch_add(&d->h->nr_dirty, -(u64)d->n);
    d->n = 0;
}

bool dirt_drop_one(struct dirt_drop *d, u32 i, unsigned set)
{
    struct record *r = rec(d->h, i);
    struct dirt_note *n = note_of(d->h, i);
    u8 old;
    do {
        old = load_relaxed(&r->flags);
        if (!(old & FR_DIRTY))
            return false;
    } while (!cas(&r->flags, old, (u8)((old & ~FR_DIRTY) | set)));
    if (d->note != n)
        drop_flush(d);
    d->note = n;
    d->n++;
    return true;
}

void dirt_drop_end(struct dirt_drop *d)
{
    drop_flush(d);
}

/* ---- boot ---- */

static struct heap *heap_add(unsigned node)
{
    struct heap *h = heap_of_node(node);
    if (!h) {
        h = &classic_heaps[classic_nr_heaps];
        *h = (struct heap){.node = node, .index = classic_nr_heaps++, .first = LINK_NONE};
        for (unsigned k = 0; k <= ORDER_MAX; k++)
            h->head[k] = h->tail[k] = LINK_NONE;
    }
    return h;
}

/* The span of each node's ranges. */
static int make_heaps(const struct mm_config *cfg)
{
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        const struct mm_range *r = &cfg->range[n];
        if (r->start >= r->end || r->node >= nr_nodes || (n && r->start < r[-1].end))
            return E_INVAL;
        struct heap *h = heap_add(r->node);
        if (h->first == LINK_NONE) {
            h->base = ALIGN_DOWN(r->start, 1ULL << ORDER_MAX);
            h->first = (u32)(r->start - h->base);
        }
        if (r->end - h->base >= LINK_POISON)
            return E_INVAL; /* more than a link can number: 15 TiB on one node */
        h->end = (u32)(r->end - h->base);
    }
    return 0;
}

/* Lays the records of h into the end of its largest range; that range's new end, 0: no room. */
static pfn_t place_records(const struct mm_config *cfg, struct heap *h, unsigned *range)
{
    u64 best = 0;
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        const struct mm_range *r = &cfg->range[n];
        if (r->node == h->node && r->end - r->start > best) {
            best = r->end - r->start;
            *range = n;
        }
    }
    u64 records = (h->end - h->first) * sizeof(struct record);
    u64 notes = ((h->end - 1) / 512 - h->first / 512 + 1) * sizeof(struct dirt_note);
    u64 frames = (records + notes + FRAME_SIZE - 1) / FRAME_SIZE;
    if (frames >= best)
        return 0;
    pfn_t end = cfg->range[*range].end - frames;
    h->metadata_bytes = frames * FRAME_SIZE;
    h->record = frame_va(end);
    h->note = (struct dirt_note *)((char *)h->record + records);
    memset(h->note, 0, notes);
    for (u32 i = h->first; i < h->end; i++)
        *rec(h, i) = (struct record){LINK_POISON, LINK_POISON, NO_DIRT, NOT_A_HEAD, 0, 0};
    return end;
}

static void give_range(struct heap *h, pfn_t start, pfn_t end)
{
    owned[nr_owned].start = start;
    owned[nr_owned].end = end;
    owned[nr_owned++].heap = h;
    h->total += end - start;
    while (start < end) {
        unsigned order = 0;
        u32 i = (u32)(start - h->base);
        while (order < ORDER_MAX && IS_ALIGNED(start, 2ULL << order) &&
               end - start >= 2ULL << order)
            order++;
        for (u32 n = 0; n < 1u << order; n++)
            rec(h, i + n)->flags = FR_DIRTY; /* nobody else is up yet */
        heap_lock();
        heap_dirt_add_locked(h, i, order);
        heap_give_locked(h, i, order, 0);
        heap_unlock();
        start += 1ULL << order;
    }
}

/* A node too small for its own records is left out. */
static void drop_heap(unsigned n)
{
    log_line("mm: the memory of node %u is too little for its own records, not used",
             classic_heaps[n].node);
    classic_nr_heaps--;
    for (; n < classic_nr_heaps; n++) {
        classic_heaps[n] = classic_heaps[n + 1];
        classic_heaps[n].index = n;
    }
}

int heaps_init(const struct mm_config *cfg)
{
    pfn_t end[MAX_NODES];
    unsigned range[MAX_NODES];
    classic_nr_heaps = nr_owned = 0;
    int error = make_heaps(cfg);
    if (error)
        return error;
    for (unsigned n = 0; n < classic_nr_heaps;) {
        end[n] = place_records(cfg, &classic_heaps[n], &range[n]);
        if (end[n] == 0)
            drop_heap(n);
        else
            n++;
    }
    if (classic_nr_heaps == 0)
        return E_NOMEM;
    spin_init(&lock, "heap", RANK_ZONE, 0);
    strategies_init();
    /* By address, so that `owned` is sorted. */
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        const struct mm_range *r = &cfg->range[n];
        struct heap *h = heap_of_node(r->node);
        if (h)
            give_range(h, r->start, range[h->index] == n ? end[h->index] : r->end);
    }
    heap_costs_reset();
    return 0;
}
