/*
 * The textbook buddy: see mm/classic/classic.h. Owns the records and the lists; `lock` guards
 * them.
 *
 * A free block of order k is aligned to 2^k frames and stands on list k. To take a block when its
 * list is empty, a larger one is split: the upper half goes on the list below, and so on down. To
 * free one, its buddy (the block whose address differs in bit k alone) is looked up by its
 * record: if it is free and as large, the two merge and the search goes on one order up.
 *
 *     take(0), only an order-2 block is free:      free(0) of frame 0, 1 and 2-3 are free:
 *
 *     [ 0 1 2 3 ]                                  0 | 1 | 2 3
 *     [ 0 1 ] [ 2 3 ]    2-3 to list 1             [ 0 1 ] [ 2 3 ]    1 leaves list 0
 *     0 [ 1 ]            1 to list 0               [ 0 1 2 3 ]        2-3 leaves list 1
 *
 * What it costs, and why mm/ does it otherwise: 12 bytes a frame; a free touches the record of
 * the buddy at every order, each a cache miss; and last in, first out, it hands out what was
 * freed last, wherever that is: after a while no large block is left.
 *
 * Next: mm/classic/classic_pcp.c.
 */
#include "mm/classic/classic.h"
#include "arch.h"

#define NONE       (~0u) /* no frame: the end of a list */
#define NOT_A_HEAD 0xff

struct record {
    u32 next, prev; /* (L) neighbours on the list, by number in the range */
    u8 order;       /* (L) of the free block that begins here, or NOT_A_HEAD */
};

static struct {
    struct spinlock lock;
    pfn_t start, end;        /* (c) */
    struct record *record;   /* (c) one for each frame of the range */
    u32 head[ORDER_MAX + 1]; /* (L) free blocks by order */
    u64 nr_free;             /* (L) frames */
    u64 metadata_bytes;      /* (c) */
} zone;                      /* (L): lock; (c): constant after classic_init() */

static struct record *record_of(pfn_t pfn)
{
    return &zone.record[pfn - zone.start];
}

/* ---- lists: lock held ---- */

static void list_push_locked(pfn_t pfn, unsigned order)
{
    u32 self = (u32)(pfn - zone.start), next = zone.head[order];
    zone.record[self] = (struct record){.next = next, .prev = NONE, .order = (u8)order};
    if (next != NONE)
        zone.record[next].prev = self;
    zone.head[order] = self;
}

static void list_remove_locked(pfn_t pfn)
{
    struct record *r = record_of(pfn);
    if (r->prev != NONE)
        zone.record[r->prev].next = r->next;
    else
        zone.head[r->order] = r->next;
    if (r->next != NONE)
        zone.record[r->next].prev = r->prev;
    r->order = NOT_A_HEAD;
}

/* ---- split and merge: lock held ---- */

static pfn_t take_locked(unsigned order)
{
    unsigned k = order;
    ASSERT(spin_held(&zone.lock));
    while (k <= ORDER_MAX && zone.head[k] == NONE)
        k++;
    if (k > ORDER_MAX)
        return PFN_NONE;
    pfn_t pfn = zone.start + zone.head[k];
    list_remove_locked(pfn);
    while (k > order) {
        k--;
        list_push_locked(pfn + (1ULL << k), k);
    }
    zone.nr_free -= 1ULL << order;
    return pfn;
}

/* True if the block of this order at pfn lies in the zone and is free as a whole. */
static bool is_free_locked(pfn_t pfn, unsigned order)
{
    return pfn >= zone.start && pfn + (1ULL << order) <= zone.end && record_of(pfn)->order == order;
}

static void free_locked(pfn_t pfn, unsigned order)
{
    ASSERT(spin_held(&zone.lock));
    if (record_of(pfn)->order != NOT_A_HEAD)
        panic("P2 one owner: double free at pfn 0x%llx", (unsigned long long)pfn);
    zone.nr_free += 1ULL << order;
    while (order < ORDER_MAX) {
        pfn_t buddy = pfn ^ (1ULL << order);
        if (!is_free_locked(buddy, order))
            break;
        list_remove_locked(buddy);
        pfn = MIN(pfn, buddy);
        order++;
    }
    list_push_locked(pfn, order);
}

/* ---- the calls ---- */

int classic_init(const struct mm_range *range)
{
    if (range->start >= range->end)
        return E_INVAL;
    u64 frames = range->end - range->start;
    u64 own = (frames * sizeof(struct record) + FRAME_SIZE - 1) / FRAME_SIZE;
    if (own >= frames || frames >= NONE)
        return E_NOMEM;
    spin_init(&zone.lock, "classic", RANK_ZONE, 0);
    zone.start = range->start;
    zone.end = range->end - own;
    zone.record = frame_va(zone.end);
    zone.metadata_bytes = own * FRAME_SIZE;
    zone.nr_free = 0;
    for (unsigned k = 0; k <= ORDER_MAX; k++)
        zone.head[k] = NONE;
    for (pfn_t pfn = zone.start; pfn < zone.end; pfn++)
        record_of(pfn)->order = NOT_A_HEAD;

    spin_lock(&zone.lock);
    for (pfn_t pfn = zone.start; pfn < zone.end;) {
        unsigned order = 0;
        while (order < ORDER_MAX && IS_ALIGNED(pfn, 2ULL << order) &&
               zone.end - pfn >= 2ULL << order)
            order++;
        list_push_locked(pfn, order);
        zone.nr_free += 1ULL << order;
        pfn += 1ULL << order;
    }
    spin_unlock(&zone.lock);
    return 0;
}

pfn_t classic_take(unsigned order)
{
    if (order > ORDER_MAX)
        return PFN_NONE;
    spin_lock(&zone.lock);
    pfn_t pfn = take_locked(order);
    spin_unlock(&zone.lock);
    return pfn;
}

void classic_free(pfn_t pfn, unsigned order)
{
    if (order > ORDER_MAX || !IS_ALIGNED(pfn, 1ULL << order) || pfn < zone.start ||
        pfn >= zone.end || zone.end - pfn < 1ULL << order)
        panic("P2 one owner: free of what is no block: pfn 0x%llx, order %u",
              (unsigned long long)pfn, order);
    spin_lock(&zone.lock);
    free_locked(pfn, order);
    spin_unlock(&zone.lock);
}

unsigned classic_take_frames(pfn_t *frame, unsigned n)
{
    unsigned got = 0;
    spin_lock(&zone.lock);
    while (got < n && (frame[got] = take_locked(0)) != PFN_NONE)
        got++;
    spin_unlock(&zone.lock);
    return got;
}

void classic_free_frames(const pfn_t *frame, unsigned n)
{
    spin_lock(&zone.lock);
    for (unsigned i = 0; i < n; i++)
        free_locked(frame[i], 0);
    spin_unlock(&zone.lock);
}

void classic_info(struct classic_info *out)
{
    spin_lock(&zone.lock);
    *out = (struct classic_info){.frames = zone.end - zone.start,
                                 .nr_free = zone.nr_free,
                                 .metadata_bytes = zone.metadata_bytes};
    spin_unlock(&zone.lock);
}

/* ---- the walker ---- */

static unsigned wrong(void (*say)(const char *line), const char *line)
{
    if (say)
        say(line);
    return 1;
}

/* Every block that a list names must be one that the records know; how many frames that is. */
static unsigned check_lists_locked(void (*say)(const char *line), u64 *listed)
{
    unsigned bad = 0;
    for (unsigned k = 0; k <= ORDER_MAX; k++) {
        u32 before = NONE;
        for (u32 i = zone.head[k]; i != NONE; before = i, i = zone.record[i].next) {
            pfn_t pfn = zone.start + i;
            if (i >= zone.end - zone.start)
                return bad + wrong(say, "classic: a list leaves the zone");
            if (zone.record[i].order != k)
                return bad + wrong(say, "classic: a block stands on the list of another order");
            if (!IS_ALIGNED(pfn, 1ULL << k) || zone.end - pfn < 1ULL << k)
                bad += wrong(say, "classic: a free block is not aligned or ends outside");
            if (zone.record[i].prev != before)
                bad += wrong(say, "classic: a list does not lead back");
            if (k < ORDER_MAX && is_free_locked(pfn ^ (1ULL << k), k))
                bad += wrong(say, "classic: two free buddies were not merged");
            *listed += 1ULL << k;
        }
    }
    return bad;
}

/* Blocks one after the other by address: none may begin inside of another. */
static unsigned check_records_locked(void (*say)(const char *line), u64 *found)
{
    unsigned bad = 0;
    pfn_t free_until = zone.start;
    for (pfn_t pfn = zone.start; pfn < zone.end; pfn++) {
        unsigned order = record_of(pfn)->order;
        if (order == NOT_A_HEAD)
            continue;
        if (order > ORDER_MAX)
            return bad + wrong(say, "classic: a record of no order");
        if (pfn < free_until)
            bad += wrong(say, "classic: a free block begins inside of another");
        free_until = MAX(free_until, pfn + (1ULL << order));
        *found += 1ULL << order;
    }
    return bad;
}

unsigned classic_check(void (*say)(const char *line))
{
    u64 listed = 0, found = 0;
    spin_lock(&zone.lock);
    unsigned bad = check_lists_locked(say, &listed) + check_records_locked(say, &found);
    if (listed != found)
        bad += wrong(say, "classic: records are free that no list names");
    if (listed != zone.nr_free)
        bad += wrong(say, "classic: the counter of free frames is not what the lists hold");
    spin_unlock(&zone.lock);
    return bad;
}
