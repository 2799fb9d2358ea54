/*
 * The lower storey: see mm/pageblock.h. Owns the maps and list links of pageblocks; zone lock.
 * Next: mm/gigablock.c, then mm/take.c.
 */
#include "mm/pageblock.h"
#include "mm/claim.h"
#include "mm/retire.h"
#include "mm/store.h"

/* ---- lists ---- */

/* The places of fill 0, and those of class 0. */
#define EACH_CLASS 0x0102040810204081ULL
#define EACH_FILL  ((1ULL << NR_FILLS) - 1)
#define WHOLE      (1ULL << PLACE_WHOLE)

/*
 * Where so many frames, the largest run of which is of this order, belong. Without a branch, for what
 * pageblocks hold is nothing that a CPU could learn to predict.
 */
static inline unsigned place_of(unsigned frames, unsigned order)
{
    unsigned fill = 28 - (unsigned)__builtin_clz(frames); /* of fewer than 8: past all others */
    return MIN(LIST_PLACE(order, MIN(fill, NR_FILLS - 1u)), (unsigned)PLACE_WHOLE);
}

/*
 * From the list that it is on, if any, to another, or none. What the neighbours are is past telling,
 * so as few branches as can be: at the end of a list stands LIST_END(), which may be written.
 */
static void list_move(struct zone *z, u32 i, enum pb_list l, unsigned to)
{
    struct pageblock *pb = &z->pb[i];
    u32 *head = z->list[l].head, prev = pb->prev[l], next = pb->next[l], end = LIST_END(z);
    unsigned from = pb->listed[l];
    u64 nonempty = z->list[l].nonempty;
    if (from != NOT_LISTED) {
        *(prev == end ? &head[from] : &z->pb[prev].next[l]) = next;
        z->pb[next].prev[l] = prev;
        nonempty ^= (u64)(head[from] == end) << from;
    }
    pb->listed[l] = (u8)to;
    if (to != NOT_LISTED) {
        pb->prev[l] = end;
        pb->next[l] = head[to];
        z->pb[head[to]].prev[l] = i;
        head[to] = i;
        nonempty |= 1ULL << to;
    }
    z->list[l].nonempty = nonempty;
}

/* To where so many frames, the largest run of which is one of `runs`, belong. */
static inline void list_settle(struct zone *z, u32 i, enum pb_list l, unsigned frames)
{
    const struct pageblock *pb = &z->pb[i];
    unsigned to = NOT_LISTED;
    if (frames)
        to = place_of(frames, (unsigned)runs512_max_order(pb->runs[l]));
    if (to != pb->listed[l])
        list_move(z, i, l, to);
}

u32 pageblock_find_locked(const struct zone *z, enum pb_list list, unsigned order)
{
    /*
     * Strict fullest-first would hand out pageblocks with one frame; those come last. Of all classes
     * that serve the first fill that is there, and of that the lowest class.
     */
    const struct list_heads *h = &z->list[list];
    u64 can = (h->nonempty & ~WHOLE) >> LIST_PLACE(order, 0), fills = can | can >> LIST_PLACE(4, 0);
    fills |= fills >> LIST_PLACE(2, 0);
    fills |= fills >> LIST_PLACE(1, 0) | can >> LIST_PLACE(8, 0);
    fills &= EACH_FILL;
    if (!fills)
        return h->nonempty & WHOLE ? h->head[PLACE_WHOLE] : PB_NONE;
    unsigned fill = (unsigned)__builtin_ctzll(fills);
    return h->head[LIST_PLACE(order, fill) + __builtin_ctzll(can >> fill & EACH_CLASS)];
}

bool pageblock_may_complete_locked(const struct zone *z, u64 frames)
{
    u64 parts = z->list[LIST_ANY].nonempty & ~WHOLE;
    for (unsigned n = 0, most = 511; n < NR_FILLS && 512 - most <= frames; n++, most /= 2) {
        unsigned fill = n < NR_FILLS - 1 ? NR_FILLS - 2 - n : NR_FILLS - 1;
        u64 classes = parts >> fill & EACH_CLASS;
        if (classes && 256u >> (63 - __builtin_clzll(classes)) / NR_FILLS <= frames)
            return true;
    }
    return false;
}

/* ---- the maps ---- */

/* True if the pageblock is whole and described upstairs only. */
static bool is_plain_whole(const struct zone *z, u32 i)
{
    unsigned bit;
    const struct gigablock *g = zone_pb_gig(z, i, &bit);
    return map512_test(&g->free, bit) && z->pb[i].nr_free == 0;
}

struct map512 pageblock_view_locked(const struct zone *z, u32 i, enum pb_view view)
{
    const struct pageblock *pb = &z->pb[i];
    unsigned bit;
    const struct gigablock *g = zone_pb_gig(z, i, &bit);
    struct map512 m = pb->free;
    if (is_plain_whole(z, i)) {
        if (view == VIEW_ANY || map512_test(&g->all, bit) == (view == VIEW_DIRTY))
            map512_fill(&m);
    } else if (view == VIEW_CLEAN) {
        map512_andnot(&m, &pb->dirty);
    } else if (view == VIEW_DIRTY) {
        map512_and(&m, &pb->dirty);
    }
    return m;
}

/* Brings a whole pageblock down: from now on its own maps say what is free. */
static void open_whole(struct zone *z, u32 i)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    map512_fill(&pb->free);
    pb->runs[LIST_ANY] = RUNS512_FULL;
    pb->nr_free = 512;
    if (map512_test(&g->all, bit)) {
        map512_fill(&pb->dirty);
        pb->runs[LIST_CLEAN] = RUNS512_NONE;
        pb->nr_dirty = 512;
    } else {
        map512_zero(&pb->dirty);
        pb->runs[LIST_CLEAN] = RUNS512_FULL;
        pb->nr_dirty = 0;
    }
}

/* From now on nothing is free in its own maps. */
static void close_maps(struct pageblock *pb)
{
    map512_zero(&pb->free);
    pb->nr_free = pb->nr_dirty = 0;
    for (unsigned l = 0; l < NR_LISTS; l++)
        pb->runs[l] = RUNS512_NONE;
}

/* ---- after a change ---- */

/* The one place that writes the row of the table in mm/zone.h that a pageblock is in now. */
static __attribute__((noinline)) void settle_row(struct zone *z, u32 i)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    bool whole = pb->nr_free == 512;
    bool plain = whole && (pb->nr_dirty == 0 || pb->nr_dirty == 512);

    if (map512_test(&g->free, bit) != whole)
        zone_set_whole(g, bit / 64, g->free.w[bit / 64] ^ 1ULL << (bit % 64));
    if (whole && pb->nr_dirty == 0)
        g->limit_clean = MAP512_ORDER;
    zone_mark_dirty(z, g, bit, pb->nr_dirty != 0);
    if (plain && pb->nr_dirty)
        map512_set(&g->all, bit);
    else
        map512_clear(&g->all, bit);

    if (plain)
        close_maps(pb);
    if (pb->nr_free || pb->out)
        map512_set(&g->part, bit);
    else
        map512_clear(&g->part, bit);
}

struct counts {
    unsigned free, dirty;
};

/*
 * After the maps of an opened pageblock have changed, and if `clean`, which of it is clean. Most
 * changes leave it partly free, dirty or not as it was: then its row upstairs is written already.
 */
static inline __attribute__((always_inline)) void pageblock_settle(struct zone *z, u32 i,
                                                                   struct counts was, bool clean)
{
    const struct pageblock *pb = &z->pb[i];
    bool was_part = was.free - 1 < 511, is_part = pb->nr_free - 1u < 511;
    if (!(was_part && is_part && (was.dirty != 0) == (pb->nr_dirty != 0)))
        settle_row(z, i);
    list_settle(z, i, LIST_ANY, pb->nr_free);
    if (clean) /* else its clean frames are what they were */
        list_settle(z, i, LIST_CLEAN, pb->nr_free - pb->nr_dirty);
}

/* Word w of the maps has changed, and with it, if `clean`, which frames are clean. */
static inline void note_runs(struct pageblock *pb, unsigned w, bool clean)
{
    runs512_note(&pb->runs[LIST_ANY], w, pb->free.w[w]);
    if (clean)
        runs512_note(&pb->runs[LIST_CLEAN], w, pb->free.w[w] & ~pb->dirty.w[w]);
}

/* What a change of the maps was: so many frames, and of these clean. */
struct change {
    u32 n, nr_clean;
    u64 wrong; /* frames that were free already, or not free; of some word */
};

static inline __attribute__((always_inline)) struct change
put_words(struct pageblock *pb, const struct part512 *frames, const struct map512 *dirty)
{
    struct change c = {0};
    for (unsigned w = frames->from; w < frames->to; w++) {
        u64 in = frames->map.w[w], clean = in & ~dirty->w[w];
        if (!in)
            continue;
        c.wrong |= pb->free.w[w] & in;
        pb->free.w[w] |= in;
        pb->dirty.w[w] = (pb->dirty.w[w] | in) & ~clean;
        note_runs(pb, w, clean != 0);
        c.n += word512_count(in);
        c.nr_clean += clean ? word512_count(clean) : 0;
    }
    return c;
}

static inline __attribute__((always_inline)) struct change
get_words(struct pageblock *pb, const struct part512 *frames, struct part512 *dirt)
{
    struct change c = {0};
    if (dirt) {
        dirt->from = frames->from;
        dirt->to = frames->to;
    }
    /* All that is free, as stores and claims mostly take it: nothing has to be noted word by word. */
    if (!dirt && frames->to - frames->from == MAP512_WORDS &&
        map512_equal(&frames->map, &pb->free)) {
        map512_zero(&pb->free);
        pb->runs[LIST_ANY] = pb->runs[LIST_CLEAN] = RUNS512_NONE;
        return (struct change){pb->nr_free, pb->nr_free - pb->nr_dirty, 0};
    }
    for (unsigned w = frames->from; w < frames->to; w++) {
        u64 out = frames->map.w[w], clean = out & ~pb->dirty.w[w];
        if (dirt)
            dirt->map.w[w] = out ^ clean;
        if (!out)
            continue;
        c.wrong |= out & ~pb->free.w[w];
        pb->free.w[w] &= ~out;
        note_runs(pb, w, clean != 0);
        c.n += word512_count(out);
        c.nr_clean += clean ? word512_count(clean) : 0;
    }
    return c;
}

void pageblock_put_locked(struct zone *z, u32 i, const struct part512 *frames,
                          const struct map512 *dirty, u32 since)
{
    struct pageblock *pb = &z->pb[i];
    struct part512 good;
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    if (unlikely(pb->has_bad)) {
        good = *frames;
        z->retired += retire_at_door_locked(z, i, &good);
        frames = &good;
    }
    struct change c = put_words(pb, frames, dirty);
    if (unlikely(c.wrong || map512_test(&g->free, bit)))
        panic("P2 one owner: double free in the pageblock at pfn 0x%llx (node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
    if (c.n == 0)
        return;
    unsigned nr_dirt = c.n - c.nr_clean;
    if (nr_dirt && (pb->nr_dirty == 0 || (s32)(since - g->since[bit]) < 0))
        g->since[bit] = since;
    struct counts was = {pb->nr_free, pb->nr_dirty};
    pb->nr_free = (u16)(pb->nr_free + c.n);
    pb->nr_dirty = (u16)(pb->nr_dirty + nr_dirt);
    zone_count(z, c.n, nr_dirt);
    pageblock_settle(z, i, was, c.nr_clean != 0);
}

unsigned pageblock_get_locked(struct zone *z, u32 i, const struct part512 *frames,
                              struct part512 *dirt)
{
    struct pageblock *pb = &z->pb[i];
    ASSERT(spin_held(&z->lock));
    if (unlikely(pb->nr_free == 0) && is_plain_whole(z, i))
        open_whole(z, i);
    struct change c = get_words(pb, frames, dirt);
    ASSERT(!c.wrong);
    unsigned nr_dirt = c.n - c.nr_clean;
    struct counts was = {pb->nr_free, pb->nr_dirty};
    pb->nr_free = (u16)(pb->nr_free - c.n);
    pb->nr_dirty = (u16)(pb->nr_dirty - nr_dirt);
    zone_count(z, -(s64)c.n, -(s64)nr_dirt);
    pageblock_settle(z, i, was, c.nr_clean != 0);
    return c.n;
}

void pageblock_empty_locked(struct zone *z, u32 i)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    close_maps(pb);
    if (!pb->out)
        map512_clear(&g->part, bit);
    list_move(z, i, LIST_ANY, NOT_LISTED);
    list_move(z, i, LIST_CLEAN, NOT_LISTED);
}

void pageblock_out_locked(struct zone *z, u32 i, int change)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    pb->out = (u16)(pb->out + change) & 0x7fff;
    if (pb->out || pb->nr_free)
        map512_set(&g->part, bit);
    else
        map512_clear(&g->part, bit);
}

void pageblock_check_not_out_locked(struct zone *z, u32 i, const struct part512 *frames)
{
    unsigned out = z->pb[i].out;
    if (store_holds_locked(z, i, frames, &out) || claim_holds_locked(z, i, frames, &out))
        panic("P2 one owner: free of a claimed or stored frame in the pageblock at pfn 0x%llx "
              "(node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
}
