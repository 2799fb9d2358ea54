/*
 * The lower storey: see mm/pageblock.h. Owns the maps and list links of pageblocks; zone lock.
 * Next: mm/gigablock.c, then mm/take.c.
 */
#include "mm/pageblock.h"
#include "mm/claim.h"
#include "mm/retire.h"
#include "mm/store.h"

/* ---- lists ---- */

static unsigned fill_of(unsigned frames)
{
    if (frames < 8)
        return 0;
    return MIN(31u - (unsigned)__builtin_clz(frames) - 2, (unsigned)NR_FILLS - 1);
}

static void list_leave(struct zone *z, u32 i, enum pb_list l)
{
    struct pageblock *pb = &z->pb[i];
    unsigned fill = pb->listed[l] / NR_CLASSES, class = pb->listed[l] % NR_CLASSES;
    if (pb->listed[l] == NOT_LISTED)
        return;
    if (pb->prev[l] != PB_NONE)
        z->pb[pb->prev[l]].next[l] = pb->next[l];
    else
        z->list[l].head[fill][class] = pb->next[l];
    if (pb->next[l] != PB_NONE)
        z->pb[pb->next[l]].prev[l] = pb->prev[l];
    if (z->list[l].head[fill][class] == PB_NONE)
        z->list[l].nonempty[fill] &= (u16) ~(1u << class);
    pb->listed[l] = NOT_LISTED;
}

static void list_enter(struct zone *z, u32 i, enum pb_list l, unsigned where)
{
    struct pageblock *pb = &z->pb[i];
    unsigned fill = where / NR_CLASSES, class = where % NR_CLASSES;
    u32 *head = &z->list[l].head[fill][class];
    pb->prev[l] = PB_NONE;
    pb->next[l] = *head;
    if (*head != PB_NONE)
        z->pb[*head].prev[l] = i;
    *head = i;
    z->list[l].nonempty[fill] |= (u16)(1u << class);
    pb->listed[l] = (u8)where;
}

/* Where a view with so many frames and a largest run of order `class` belongs. */
static void list_move(struct zone *z, u32 i, enum pb_list l, unsigned frames, unsigned class)
{
    unsigned where =
        frames ? fill_of(frames) * NR_CLASSES + MIN(class, NR_CLASSES - 1u) : NOT_LISTED;
    if (where == z->pb[i].listed[l])
        return;
    list_leave(z, i, l);
    if (where != NOT_LISTED)
        list_enter(z, i, l, where);
}

u32 pageblock_find_locked(const struct zone *z, enum pb_list list, unsigned order)
{
    /* Strict fullest-first would hand out pageblocks with one frame; those wait till the end. */
    static const u8 fills[NR_FILLS] = {1, 2, 3, 4, 5, 6, 0, 7};
    const struct list_heads *h = &z->list[list];
    for (unsigned f = 0; f < NR_FILLS; f++) {
        unsigned classes = h->nonempty[fills[f]] & (~0u << order);
        if (classes)
            return h->head[fills[f]][__builtin_ctz(classes)];
    }
    return PB_NONE;
}

bool pageblock_may_complete_locked(const struct zone *z, u64 frames)
{
    for (unsigned f = NR_FILLS - 2; f < NR_FILLS && 513 - (8u << f) <= frames; f--) {
        unsigned classes = z->list[LIST_ANY].nonempty[f];
        if (classes && 256u >> (31 - __builtin_clz(classes)) <= frames)
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
    pb->nr_free = 512;
    if (map512_test(&g->all, bit)) {
        map512_fill(&pb->dirty);
        pb->nr_dirty = 512;
    } else {
        map512_zero(&pb->dirty);
        pb->nr_dirty = 0;
    }
}

/* ---- after a change ---- */

/* What stands in the place of an order of a largest run. */
enum {
    SAME = -2, /* the frames of this view are the same as before */
    LOOK = -3, /* the largest run may be gone: find the one that is the largest now */
};

/* The frames that a list goes by; the clean ones are made up in *m. */
static const struct map512 *frames_of(const struct pageblock *pb, enum pb_list l, struct map512 *m)
{
    if (l == LIST_ANY)
        return &pb->free;
    *m = pb->free;
    map512_andnot(m, &pb->dirty);
    return m;
}

static int listed_order(const struct pageblock *pb, enum pb_list l)
{
    return pb->listed[l] == NOT_LISTED ? -1 : pb->listed[l] % NR_CLASSES;
}

/* Frames have come in these words: the largest run is what it was, or one that reaches in there. */
static int order_after_put(const struct pageblock *pb, enum pb_list l, const struct part512 *in)
{
    struct map512 clean;
    return MAX(listed_order(pb, l), map512_order_in(frames_of(pb, l, &clean), in->from, in->to));
}

/* Frames are about to go from these words: the largest run stays, unless it reaches in there. */
static int order_before_get(const struct pageblock *pb, enum pb_list l, const struct part512 *in)
{
    struct map512 clean;
    int order = listed_order(pb, l);
    return map512_order_in(frames_of(pb, l, &clean), in->from, in->to) < order ? order : LOOK;
}

/* `order` of the largest run, or what stands in its place. */
static void place_on_list(struct zone *z, u32 i, enum pb_list l, int order)
{
    struct pageblock *pb = &z->pb[i];
    struct map512 clean;
    if (order == SAME)
        return;
    unsigned frames = pb->nr_free - (l == LIST_CLEAN ? pb->nr_dirty : 0u);
    if (frames && order == LOOK)
        order = map512_max_order(frames_of(pb, l, &clean));
    list_move(z, i, l, frames, (unsigned)order);
}

/* The one place that writes the row of the table in mm/zone.h that a pageblock is in now. */
static void settle_row(struct zone *z, u32 i)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    bool whole = pb->nr_free == 512;
    bool plain = whole && (pb->nr_dirty == 0 || pb->nr_dirty == 512);

    if (whole) {
        map512_set(&g->free, bit);
        store_relaxed(&g->limit_any, (signed char)MAP512_ORDER);
        if (pb->nr_dirty == 0)
            g->limit_clean = MAP512_ORDER;
    } else {
        map512_clear(&g->free, bit);
    }
    zone_mark_dirty(z, g, bit, pb->nr_dirty != 0);
    if (plain && pb->nr_dirty)
        map512_set(&g->all, bit);
    else
        map512_clear(&g->all, bit);

    if (plain) {
        map512_zero(&pb->free);
        pb->nr_free = pb->nr_dirty = 0;
        list_leave(z, i, LIST_CLEAN);
    }
    if (pb->nr_free || pb->out)
        map512_set(&g->part, bit);
    else
        map512_clear(&g->part, bit);
}

struct counts {
    unsigned free, dirty;
};

/*
 * After the maps of an opened pageblock have changed. Most changes leave it partly free, dirty or
 * not as it was: then its row upstairs is written already.
 */
static void pageblock_settle(struct zone *z, u32 i, struct counts was, int any, int clean)
{
    const struct pageblock *pb = &z->pb[i];
    bool was_part = was.free - 1 < 511, is_part = pb->nr_free - 1u < 511;
    if (!(was_part && is_part && (was.dirty != 0) == (pb->nr_dirty != 0)))
        settle_row(z, i);
    place_on_list(z, i, LIST_ANY, any);
    place_on_list(z, i, LIST_CLEAN, clean);
}

void pageblock_put_locked(struct zone *z, u32 i, const struct part512 *frames,
                          const struct map512 *dirty, u32 since)
{
    struct pageblock *pb = &z->pb[i];
    struct part512 good;
    unsigned bit, n = 0, nr_dirt = 0;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    if (unlikely(pb->has_bad)) {
        good = *frames;
        z->retired += retire_filter_locked(z, i, &good);
        frames = &good;
    }
    if (unlikely(map512_test(&g->free, bit) || part512_meets(frames, &pb->free)))
        panic("P2 one owner: double free in the pageblock at pfn 0x%llx (node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
    for (unsigned w = frames->from; w < frames->to; w++) {
        u64 in = frames->map.w[w], dirt = dirty->w[w] & in;
        pb->free.w[w] |= in;
        pb->dirty.w[w] = (pb->dirty.w[w] & ~in) | dirt;
        n += word512_count(in);
        nr_dirt += dirt ? word512_count(dirt) : 0;
    }
    if (n == 0)
        return;
    if (nr_dirt && (pb->nr_dirty == 0 || (s32)(since - g->since[bit]) < 0))
        g->since[bit] = since;
    struct counts was = {pb->nr_free, pb->nr_dirty};
    pb->nr_free = (u16)(pb->nr_free + n);
    pb->nr_dirty = (u16)(pb->nr_dirty + nr_dirt);
    zone_count(z, n, nr_dirt);
    pageblock_settle(z, i, was, order_after_put(pb, LIST_ANY, frames),
                     nr_dirt == n ? SAME : order_after_put(pb, LIST_CLEAN, frames));
}

void pageblock_get_locked(struct zone *z, u32 i, const struct part512 *frames, struct part512 *dirt)
{
    struct pageblock *pb = &z->pb[i];
    unsigned n = 0, nr_dirt = 0;
    ASSERT(spin_held(&z->lock));
    if (is_plain_whole(z, i))
        open_whole(z, i);
    ASSERT(part512_within(frames, &pb->free));
    if (dirt) {
        dirt->from = frames->from;
        dirt->to = frames->to;
    }
    for (unsigned w = frames->from; w < frames->to; w++) {
        u64 out = frames->map.w[w], d = out & pb->dirty.w[w];
        if (dirt)
            dirt->map.w[w] = d;
        n += word512_count(out);
        nr_dirt += d ? word512_count(d) : 0;
    }
    struct counts was = {pb->nr_free, pb->nr_dirty};
    int any = LOOK, clean = nr_dirt == n ? SAME : LOOK;
    if (n < pb->nr_free) {
        any = order_before_get(pb, LIST_ANY, frames);
        if (clean == LOOK)
            clean = order_before_get(pb, LIST_CLEAN, frames);
    }
    map512_andnot_part(&pb->free, frames);
    pb->nr_free = (u16)(pb->nr_free - n);
    pb->nr_dirty = (u16)(pb->nr_dirty - nr_dirt);
    zone_count(z, -(s64)n, -(s64)nr_dirt);
    pageblock_settle(z, i, was, any, clean);
}

void pageblock_empty_locked(struct zone *z, u32 i)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    map512_zero(&pb->free);
    pb->nr_free = pb->nr_dirty = 0;
    if (!pb->out)
        map512_clear(&g->part, bit);
    list_leave(z, i, LIST_ANY);
    list_leave(z, i, LIST_CLEAN);
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

void pageblock_check_owned_locked(struct zone *z, u32 i, const struct part512 *frames)
{
    struct pageblock *pb = &z->pb[i];
    unsigned out = pb->out;
    if (likely(out == 0))
        return; /* free ones are caught by pageblock_put_locked() */
    if (store_holds_locked(z, i, frames, &out) || claim_holds_locked(z, i, frames, &out))
        panic("P2 one owner: free of a claimed or stored frame in the pageblock at pfn 0x%llx "
              "(node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
}
