/*
 * The invariant walker: recounts everything that mm/zone.h promises and says what is wrong. It
 * computes each fact in the most naive way, from the maps, not with the code it checks.
 */
#include "mm/claim.h"
#include "mm/limpid.h"
#include "mm/pageblock.h"
#include "mm/store.h"
#include "lib/printf.h"

struct check {
    struct zone *z;
    void (*say)(const char *line);
    unsigned wrong;
    bool contents;
    u64 free, dirty, claimed, stored; /* recounted */
    u32 claims;
    u64 listed[NR_LISTS]; /* pageblocks that should be listed */
};

static void __printf_like(2, 3) complain(struct check *c, const char *fmt, ...)
{
    char text[160], line[200];
    __builtin_va_list ap;
    c->wrong++;
    if (!c->say || c->wrong > 20)
        return;
    __builtin_va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    __builtin_va_end(ap);
    snprintf(line, sizeof(line), "mm_check: zone %u (node %u): %s", c->z->index, c->z->node, text);
    c->say(line);
}

#define EXPECT(c, cond, ...)            \
    do {                                \
        if (!(cond))                    \
            complain((c), __VA_ARGS__); \
    } while (0)

/* ---- one pageblock ---- */

static bool naive_run(const struct map512 *m, unsigned order)
{
    for (unsigned bit = 0; bit < 512; bit += 1u << order) {
        struct map512 run = map512_range(bit, 1u << order);
        if (map512_within(&run, m))
            return true;
    }
    return false;
}

static bool naive_word_run(u64 w, unsigned order)
{
    u64 run = order == 6 ? ~0ULL : (1ULL << (1u << order)) - 1;
    for (unsigned bit = 0; bit < 64; bit += 1u << order)
        if ((w & run << bit) == run << bit)
            return true;
    return false;
}

/* What struct runs512 should say of a map. */
static u64 naive_runs(const struct map512 *m)
{
    u64 words = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++) {
        unsigned place = 0; /* the order of the largest run, and one more; 0: empty */
        while (place <= 6 && naive_word_run(m->w[i], place))
            place++;
        words |= 1ULL << (8 * place + i);
    }
    return words;
}

/* The list position that frames of this view ask for, found naively. */
static unsigned naive_place(const struct map512 *view)
{
    unsigned frames = map512_count(view), fill = 0, class = 0;
    if (frames == 0)
        return NOT_LISTED;
    if (frames == 512)
        return PLACE_WHOLE;
    while (frames >= 16u << fill)
        fill++;
    if (frames < 8)
        fill = NR_FILLS - 1;
    while (naive_run(view, class + 1))
        class ++;
    return LIST_PLACE(class, fill);
}

static void check_contents(struct check *c, u32 i, const struct map512 *clean)
{
    map512_for_each(bit, clean)
    {
        pfn_t pfn = zone_pb_pfn(c->z, i) + bit;
        EXPECT(c, frame_is_zero(frame_va(pfn)), "P3: pfn 0x%llx counts as clean and is not zero",
               (unsigned long long)pfn);
    }
}

static void check_pageblock(struct check *c, u32 i)
{
    struct zone *z = c->z;
    struct pageblock *pb = &z->pb[i];
    unsigned bit;
    struct gigablock *g = zone_pb_gig(z, i, &bit);
    bool whole = map512_test(&g->free, bit), part = map512_test(&g->part, bit);
    bool dirty = map512_test(&g->dirty, bit), all = map512_test(&g->all, bit);
    struct map512 free = pb->free, dirt = pb->dirty, clean;
    unsigned nr = map512_count(&free);

    map512_and(&dirt, &free);
    clean = free;
    map512_andnot(&clean, &dirt);
    EXPECT(c, nr == pb->nr_free, "pageblock %u: nr_free %u, counted %u", i, pb->nr_free, nr);
    EXPECT(c, map512_count(&dirt) == pb->nr_dirty, "pageblock %u: nr_dirty %u, counted %u", i,
           pb->nr_dirty, map512_count(&dirt));
    EXPECT(c, part == (nr != 0 || pb->out != 0), "pageblock %u: part %u, free %u, out %u", i, part,
           nr, pb->out);
    EXPECT(c, !(nr == 512) || whole, "pageblock %u: all frames free, not merged upstairs", i);
    EXPECT(c, !whole || nr == 0 || nr == 512, "pageblock %u: whole upstairs, %u free", i, nr);
    EXPECT(c, nr != 512 || (pb->nr_dirty != 0 && pb->nr_dirty != 512),
           "pageblock %u: plain, but not given upstairs", i);
    EXPECT(c, !all || (whole && dirty), "pageblock %u: all dirty but not whole and dirty", i);
    if (whole && nr == 0) {
        EXPECT(c, dirty == all, "pageblock %u: plain, dirty %u, all %u", i, dirty, all);
        c->free += 512;
        c->dirty += all ? 512 : 0;
        if (!all)
            map512_fill(&clean);
    } else {
        EXPECT(c, dirty == (pb->nr_dirty != 0), "pageblock %u: dirty %u, counted %u", i, dirty,
               pb->nr_dirty);
        c->free += nr;
        c->dirty += pb->nr_dirty;
    }
    struct map512 listed = pb->free;
    EXPECT(c, pb->runs[LIST_ANY].words == naive_runs(&listed), "pageblock %u: runs are wrong", i);
    EXPECT(c, pb->listed[LIST_ANY] == naive_place(&listed), "pageblock %u: list any %u, is %u", i,
           naive_place(&listed), pb->listed[LIST_ANY]);
    map512_andnot(&listed, &dirt);
    EXPECT(c, pb->runs[LIST_CLEAN].words == naive_runs(&listed),
           "pageblock %u: runs of clean frames are wrong", i);
    EXPECT(c, pb->listed[LIST_CLEAN] == naive_place(&listed), "pageblock %u: list clean %u, is %u",
           i, naive_place(&listed), pb->listed[LIST_CLEAN]);
    for (unsigned l = 0; l < NR_LISTS; l++)
        c->listed[l] += pb->listed[l] != NOT_LISTED;
    if (c->contents)
        check_contents(c, i, &clean);
}

/* ---- lists ---- */

static void check_lists(struct check *c)
{
    struct zone *z = c->z;
    for (unsigned l = 0; l < NR_LISTS; l++) {
        u64 found = 0;
        for (unsigned place = 0; place < NR_PLACES; place++) {
            u32 i = z->list[l].head[place], prev = LIST_END(z);
            bool bit = z->list[l].nonempty >> place & 1;
            EXPECT(c, bit == (i != LIST_END(z)), "list %u place %u: nonempty is wrong", l, place);
            for (; i != LIST_END(z) && found <= z->nr_pbs;
                 prev = i, i = z->pb[i].next[l], found++) {
                EXPECT(c, z->pb[i].prev[l] == prev, "list %u: back link of pageblock %u", l, i);
                EXPECT(c, z->pb[i].listed[l] == place, "list %u: pageblock %u is misplaced", l, i);
            }
        }
        EXPECT(c, found == c->listed[l], "list %u: %llu pageblocks on it, %llu belong there", l,
               (unsigned long long)found, (unsigned long long)c->listed[l]);
    }
}

/* ---- what is out: claims and stores ---- */

/* P2: what is out is not free at the same time. */
static void check_out(struct check *c, u32 i, const struct map512 *frames, const char *what)
{
    struct map512 free = pageblock_view_locked(c->z, i, VIEW_ANY);
    EXPECT(c, !map512_meets(&free, frames), "P2: pageblock %u: frames are %s and free", i, what);
}

static void check_store(const struct zone *z, u32 i, const struct map512 *frames, bool clean,
                        void *ctx)
{
    struct check *c = ctx;
    (void)z;
    check_out(c, i, frames, "stored");
    c->stored += map512_count(frames);
    if (clean && c->contents)
        check_contents(c, i, frames);
}

static void check_claims(struct check *c)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct claim *cl = claim_of_cpu(cpu);
        if (load_relaxed(&cl->zone) != c->z)
            continue;
        c->claims++;
        c->claimed += map512_count(&cl->mask);
        check_out(c, cl->pb, &cl->mask, "claimed");
        EXPECT(c, c->z->pb[cl->pb].out != 0, "pageblock %u: claimed but out is 0", cl->pb);
        for (unsigned other = 0; other < cpu; other++) {
            const struct claim *o = claim_of_cpu(other);
            EXPECT(c,
                   load_relaxed(&o->zone) != c->z || o->pb != cl->pb ||
                       !map512_meets(&o->mask, &cl->mask),
                   "P2: pageblock %u: two claims on a frame", cl->pb);
        }
    }
}

/* ---- bad frames ---- */

/* P2: what is retired is counted, and in no map. */
static void check_bad(struct check *c)
{
    struct zone *z = c->z;
    u64 retired = 0;
    for (unsigned n = 0; n < z->nr_bad; n++) {
        pfn_t pfn = z->bad[n].pfn;
        struct map512 free = pageblock_view_locked(z, zone_pb(z, pfn), VIEW_ANY);
        EXPECT(c, n == 0 || z->bad[n - 1].pfn < pfn, "the table of bad frames is not sorted");
        EXPECT(c, z->pb[zone_pb(z, pfn)].has_bad, "P2: pfn 0x%llx: its pageblock knows no bad ones",
               (unsigned long long)pfn);
        EXPECT(c, !map512_test(&free, (unsigned)(pfn % 512)), "P2: pfn 0x%llx is bad and free",
               (unsigned long long)pfn);
        retired += z->bad[n].retired;
    }
    EXPECT(c, retired == z->retired, "%llu frames retired, counted %llu",
           (unsigned long long)z->retired, (unsigned long long)retired);
}

/* ---- a zone ---- */

static void check_zone(struct check *c)
{
    struct zone *z = c->z;
    spin_lock(&z->lock);
    for (u32 i = 0; i < z->nr_pbs; i++)
        check_pageblock(c, i);
    check_lists(c);
    check_claims(c);
    check_bad(c);
    store_for_each_locked(z, check_store, c);
    for (unsigned n = 0; n < z->nr_gigs; n++) {
        EXPECT(c, (z->dirty_gigs >> n & 1) == !map512_empty(&z->gig[n].dirty),
               "gigablock %u: dirty_gigs is wrong", n);
        EXPECT(c, z->gig[n].runs.words == naive_runs(&z->gig[n].free),
               "gigablock %u: runs are wrong", n);
    }
    EXPECT(c, c->free == z->nr_free, "%llu frames free, counted %llu",
           (unsigned long long)z->nr_free, (unsigned long long)c->free);
    EXPECT(c, c->dirty == z->nr_dirty, "%llu frames dirty, counted %llu",
           (unsigned long long)z->nr_dirty, (unsigned long long)c->dirty);
    EXPECT(c, c->claimed == z->in_flight && c->claims == z->nr_claims,
           "%llu frames in flight in %u claims, counted %llu in %u",
           (unsigned long long)z->in_flight, z->nr_claims, (unsigned long long)c->claimed,
           c->claims);
    EXPECT(c, c->stored <= z->outside, "%llu frames stored, only %llu outside",
           (unsigned long long)c->stored, (unsigned long long)z->outside);
    EXPECT(c, z->total == z->nr_free + z->in_flight + z->retired + z->outside,
           "P2: %llu frames, but free %llu + in flight %llu + retired %llu + outside %llu",
           (unsigned long long)z->total, (unsigned long long)z->nr_free,
           (unsigned long long)z->in_flight, (unsigned long long)z->retired,
           (unsigned long long)z->outside);
    spin_unlock(&z->lock);
}

unsigned limpid_check(bool contents, void (*say)(const char *line))
{
    unsigned wrong = 0;
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct check c = {.z = &mm_zones[n], .say = say, .contents = contents};
        check_zone(&c);
        wrong += c.wrong;
    }
    return wrong;
}
