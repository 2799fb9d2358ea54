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

/* What a change did to the largest runs: spares the search for them where it is plain. */
struct change {
    bool clean_same; /* the clean frames are the same as before */
    int any_order;   /* the largest run of free frames now; -1: look */
};

static void place_on_lists(struct zone *z, u32 i, const struct change *ch)
{
    struct pageblock *pb = &z->pb[i];
    int order = ch->any_order;
    if (pb->nr_free && order < 0)
        order = map512_max_order(&pb->free);
    list_move(z, i, LIST_ANY, pb->nr_free, (unsigned)order);
    if (ch->clean_same)
        return;
    unsigned clean = pb->nr_free - pb->nr_dirty;
    order = 0;
    if (clean) {
        struct map512 m = pb->free;
        map512_andnot(&m, &pb->dirty);
        order = map512_max_order(&m);
    }
    list_move(z, i, LIST_CLEAN, clean, (unsigned)order);
}

/*
 * After the maps of an opened pageblock have changed: the one place that decides which row of
 * the table in mm/zone.h it is in, and writes that row everywhere.
 */
static void pageblock_settle(struct zone *z, u32 i, struct change ch)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    bool whole = pb->nr_free == 512;
    bool plain = whole && (pb->nr_dirty == 0 || pb->nr_dirty == 512);

    if (whole) {
        map512_set(&g->free, bit);
        g->limit_any = MAP512_ORDER;
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
        ch.clean_same = false;
    }
    if (pb->nr_free || pb->out)
        map512_set(&g->part, bit);
    else
        map512_clear(&g->part, bit);
    place_on_lists(z, i, &ch);
}

/* The largest run of free frames after `n` frames came: what it was, or one that holds them. */
static int order_after_put(const struct pageblock *pb, const struct map512 *frames, unsigned n)
{
    enum { FEW = 4 };
    int order = -1;
    if (n > FEW)
        return -1;
    if (pb->listed[LIST_ANY] != NOT_LISTED)
        order = pb->listed[LIST_ANY] % NR_CLASSES;
    map512_for_each(bit, frames) order = MAX(order, (int)map512_run_order(&pb->free, bit));
    return order;
}

void pageblock_put_locked(struct zone *z, u32 i, struct map512 frames, const struct map512 *dirty,
                          u32 since)
{
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    ASSERT(spin_held(&z->lock));
    if (unlikely(pb->has_bad))
        z->retired += retire_filter_locked(z, i, &frames);
    unsigned n = map512_count(&frames);
    if (n == 0)
        return;
    if (map512_test(&g->free, bit) || map512_meets(&frames, &pb->free))
        panic("P2 one owner: double free in the pageblock at pfn 0x%llx (node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);

    struct map512 dirt = *dirty;
    map512_and(&dirt, &frames);
    unsigned nr_dirt = map512_count(&dirt);
    if (nr_dirt && (!map512_test(&g->dirty, bit) || (s32)(since - g->since[bit]) < 0))
        g->since[bit] = since;

    map512_or(&pb->free, &frames);
    map512_andnot(&pb->dirty, &frames);
    map512_or(&pb->dirty, &dirt);
    pb->nr_free = (u16)(pb->nr_free + n);
    pb->nr_dirty = (u16)(pb->nr_dirty + nr_dirt);
    zone_count(z, n, nr_dirt);
    pageblock_settle(
        z, i,
        (struct change){.clean_same = nr_dirt == n, .any_order = order_after_put(pb, &frames, n)});
}

struct map512 pageblock_get_locked(struct zone *z, u32 i, const struct map512 *frames)
{
    struct pageblock *pb = &z->pb[i];
    ASSERT(spin_held(&z->lock));
    bool opened = is_plain_whole(z, i);
    if (opened)
        open_whole(z, i);
    ASSERT(map512_within(frames, &pb->free));

    struct map512 dirt = *frames;
    map512_and(&dirt, &pb->dirty);
    unsigned n = map512_count(frames), nr_dirt = map512_count(&dirt);
    map512_andnot(&pb->free, frames);
    pb->nr_free = (u16)(pb->nr_free - n);
    pb->nr_dirty = (u16)(pb->nr_dirty - nr_dirt);
    zone_count(z, -(s64)n, -(s64)nr_dirt);
    pageblock_settle(z, i,
                     (struct change){.clean_same = opened ? false : nr_dirt == n, .any_order = -1});
    return dirt;
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

void pageblock_check_owned_locked(struct zone *z, u32 i, const struct map512 *frames)
{
    struct pageblock *pb = &z->pb[i];
    if (likely(pb->out == 0))
        return; /* free ones are caught by pageblock_put_locked() */
    if (claim_holds_locked(z, i, frames) || store_holds_locked(z, i, frames))
        panic("P2 one owner: free of a claimed or stored frame in the pageblock at pfn 0x%llx "
              "(node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
}
