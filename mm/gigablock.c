/*
 * The upper storey: see mm/gigablock.h. Next: mm/take.c.
 */
#include "mm/gigablock.h"

/*
 * A run of 2^k pageblocks that match the view, or MAP512_NONE; a search for a clean one that fails
 * lowers the limit as far as it proves. What fits best among all whole ones, and there is such,
 * mostly matches as it is.
 */
static unsigned find_in(struct gigablock *g, enum pb_view view, unsigned k)
{
    unsigned bit = runs512_find(&g->free, g->runs, k);
    if (view == VIEW_ANY)
        return bit;
    struct run512 run = run512_of(bit, k);
    if (view == VIEW_DIRTY ? run512_within(&run, &g->dirty) : !run512_meets(&run, &g->dirty))
        return bit;
    bit = runs512_find_among(&g->free, g->runs, &g->dirty, view == VIEW_DIRTY, k);
    if (bit == MAP512_NONE && view == VIEW_CLEAN)
        g->limit_clean = (signed char)(k - 1);
    return bit;
}

u32 gigablock_find_locked(struct zone *z, enum pb_view view, unsigned order)
{
    int k = (int)order - ORDER_PAGEBLOCK;
    for (unsigned n = 0; n < z->nr_gigs; n++) {
        struct gigablock *g = &z->gig[n];
        if (!runs512_have(g->runs, (unsigned)k) || (view == VIEW_CLEAN && g->limit_clean < k))
            continue;
        unsigned bit = find_in(g, view, (unsigned)k);
        if (bit != MAP512_NONE)
            return (u32)((z->first_gib + n) * 512 + bit - z->first_pb);
    }
    return PB_NONE;
}

/* What a taker of one pageblock has to clear: frames. */
static void dirt_of_pageblock(const struct zone *z, u32 i, bool any, bool all, struct part512 *dirt)
{
    dirt->from = 0;
    dirt->to = any ? MAP512_WORDS : 0;
    if (all)
        map512_fill(&dirt->map);
    else if (any)
        dirt->map = z->pb[i].dirty;
}

/*
 * Mixed pageblocks in a run that goes, and plain ones that an emptied store still names: how many
 * dirty frames they have. The dirty map stays as it is: it is the taker's until he gives the block
 * back.
 */
static __attribute__((noinline)) unsigned get_parts(struct zone *z, struct gigablock *g, unsigned w,
                                                    u64 parts)
{
    unsigned nr_dirty = 0;
    for (; parts; parts &= parts - 1) {
        u64 n = z->first_gib + (u64)(g - z->gig);
        u32 i = (u32)(n * 512 + w * 64 + (unsigned)__builtin_ctzll(parts) - z->first_pb);
        nr_dirty += z->pb[i].nr_dirty;
        if (z->pb[i].nr_free)
            pageblock_empty_locked(z, i);
    }
    return nr_dirty;
}

void gigablock_get_locked(struct zone *z, u32 i, unsigned order, struct dirt *dirt)
{
    unsigned first, nr_dirty = 0;
    struct gigablock *g = zone_pb_gig(z, i, &first);
    struct run512 run = run512_of(first, order - ORDER_PAGEBLOCK);
    u64 any = 0, all = 0;
    bool none_left = false;
    ASSERT(spin_held(&z->lock));
    ASSERT(run512_within(&run, &g->free));

    if (dirt) {
        dirt->map.from = dirt->all.from = run.from;
        dirt->map.to = dirt->all.to = run.to;
    }
    for (unsigned w = run.from; w < run.to; w++) {
        u64 out = run.mask;
        any = out & g->dirty.w[w];
        all = out & g->all.w[w];
        if (dirt) {
            dirt->map.map.w[w] = any;
            dirt->all.map.w[w] = all;
        }
        nr_dirty += 512 * word512_count(all);
        if (unlikely(out & g->part.w[w]))
            nr_dirty += get_parts(z, g, w, out & g->part.w[w]);
        zone_set_whole(g, w, g->free.w[w] & ~out);
        g->dirty.w[w] &= ~out;
        g->all.w[w] &= ~out;
        none_left |= any && !g->dirty.w[w];
    }
    if (none_left)
        zone_note_dirt(z, g);
    zone_count(z, -(s64)(1ULL << order), -(s64)nr_dirty);
    if (dirt && order == ORDER_PAGEBLOCK)
        dirt_of_pageblock(z, i, any != 0, all != 0, &dirt->map);
}

/* Claims, stores or bad frames have to do with it. Panics on a double free. */
static inline bool run_watched(const struct zone *z, const struct gigablock *g, u32 i,
                               const struct run512 *run)
{
    ASSERT(spin_held(&z->lock));
    if (unlikely(run512_meets(run, &g->free)))
        panic("P2 one owner: double free of the block at pfn 0x%llx (node %u)",
              (unsigned long long)zone_pb_pfn(z, i), z->node);
    return unlikely(z->nr_bad || run512_meets(run, &g->part));
}

static void put_watched(struct zone *z, u32 i, bool dirty, u32 since)
{
    static const struct map512 none;
    struct part512 all;
    part512_run(&all, 0, ORDER_PAGEBLOCK);
    pageblock_check_owned_locked(z, i, &all);
    pageblock_put_locked(z, i, &all, dirty ? &all.map : &none, since);
}

bool gigablock_put_locked(struct zone *z, u32 i, unsigned order, bool dirty, u32 since)
{
    unsigned first, count = 1u << (order - ORDER_PAGEBLOCK);
    struct gigablock *g = zone_pb_gig(z, i, &first);
    struct run512 run = run512_of(first, order - ORDER_PAGEBLOCK);
    if (run_watched(z, g, i, &run)) {
        if (order > ORDER_PAGEBLOCK)
            return false;
        put_watched(z, i, dirty, since);
        return true;
    }
    for (unsigned w = run.from; w < run.to; w++) {
        u64 in = run.mask, dirt = dirty ? in : 0;
        zone_set_whole(g, w, g->free.w[w] | in);
        g->dirty.w[w] |= dirt;
        g->all.w[w] |= dirt;
    }
    if (dirty) {
        z->dirty_gigs |= 1ULL << (g - z->gig);
        for (unsigned n = 0; n < count; n++)
            g->since[first + n] = since;
    } else {
        g->limit_clean = MAP512_ORDER;
    }
    zone_count(z, 1LL << order, dirty ? 1LL << order : 0);
    return true;
}

u32 gigablock_next_dirty_locked(const struct zone *z, u32 from)
{
    if (z->dirty_gigs == 0)
        return PB_NONE;
    unsigned bit, start = (unsigned)(zone_pb_gig(z, from, &bit) - z->gig);
    /* The gigablock we start in is looked at twice: from `bit` on, and at last from its start. */
    for (unsigned n = 0; n <= z->nr_gigs; n++) {
        unsigned gi = (start + n) % z->nr_gigs;
        if (!(z->dirty_gigs >> gi & 1))
            continue;
        unsigned found = map512_next(&z->gig[gi].dirty, n == 0 ? bit : 0);
        if (found != MAP512_NONE)
            return (u32)((z->first_gib + gi) * 512 + found - z->first_pb);
    }
    return PB_NONE;
}
