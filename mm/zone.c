/*
 * Zones: how the machine's memory becomes zones with maps, once, at boot. Owns mm_zones.
 * Metadata is taken from the end of each zone's largest range, so it lies on the zone's node.
 * Touches metadata only, a pageblock or a gigablock at a time: nothing walks every frame.
 * Next: mm/gigablock.c.
 */
#include "mm/zone.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/gigablock.h"
#include "mm/limpid.h"
#include "mm/store.h"
#include "mm/take.h"

#define MANAGED_MAX (MM_RANGES_MAX + MAX_ZONES) /* a range is cut where zones meet */

struct zone mm_zones[MAX_ZONES + 1];
unsigned mm_zone_count;
u32 mm_stamp;

static struct mm_range managed[MANAGED_MAX]; /* (c) what zones were given, sorted: no holes */
static unsigned nr_managed;                  /* (c) */
u8 mm_home_nodes[MAX_NODES];
u8 mm_zone_of_gib[MAX_GIB];

struct zone *zone_of_slowly(pfn_t pfn)
{
    u64 gib = pfn >> ORDER_GIGABLOCK;
    if (gib >= MAX_GIB)
        return NULL;
    /* Zones are sorted and two may share a GiB where nodes meet inside it: a step or two. */
    for (unsigned n = mm_zone_of_gib[gib]; n < mm_zone_count && mm_zones[n].start <= pfn; n++)
        if (pfn < mm_zones[n].end)
            return &mm_zones[n];
    return NULL;
}

bool limpid_owns(pfn_t pfn)
{
    unsigned low = 0, high = nr_managed;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (pfn < managed[mid].start)
            high = mid;
        else if (pfn >= managed[mid].end)
            low = mid + 1;
        else
            return true;
    }
    return false;
}

static void find_homes(void)
{
    bool node_has_memory[MAX_NODES] = {false};
    for (unsigned n = 0; n < mm_zone_count; n++)
        node_has_memory[mm_zones[n].node] = true;
    for (unsigned node = 0; node < nr_nodes; node++) {
        unsigned i = 0;
        while (!node_has_memory[mm_node_near(node, i)])
            i++; /* some node has: there is a zone */
        mm_home_nodes[node] = (u8)mm_node_near(node, i);
    }
}

/* ---- from ranges to zones ---- */

static u64 gib_of(pfn_t pfn)
{
    return pfn >> ORDER_GIGABLOCK;
}

/* The part of a range that still fits into a zone beginning at first_gib. */
static pfn_t zone_limit(u64 first_gib, unsigned zone_gib)
{
    return (first_gib + zone_gib) << ORDER_GIGABLOCK;
}

/* A range continues zone z: same node, no empty GiB between, size limit not reached. */
static bool continues(const struct zone *z, const struct mm_range *r, unsigned zone_gib)
{
    return z->node == r->node && gib_of(r->start) <= gib_of(z->end - 1) + 1 &&
           r->start < zone_limit(z->first_gib, zone_gib);
}

static int zone_add(const struct mm_range *r)
{
    if (mm_zone_count == MAX_ZONES)
        return E_NOSPC;
    mm_zones[mm_zone_count] = (struct zone){.index = mm_zone_count,
                                            .node = r->node,
                                            .start = r->start,
                                            .end = r->end,
                                            .first_gib = gib_of(r->start)};
    mm_zone_count++;
    return 0;
}

static int make_zones(const struct mm_config *cfg, unsigned zone_gib)
{
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        struct mm_range r = cfg->range[n];
        if (r.start >= r.end || r.node >= nr_nodes || (n && r.start < cfg->range[n - 1].end))
            return E_INVAL;
        if (r.end > (pfn_t)MAX_GIB << ORDER_GIGABLOCK) {
            log_line("mm: memory above %u GiB is not used", MAX_GIB);
            r.end = MAX(r.start, (pfn_t)MAX_GIB << ORDER_GIGABLOCK);
        }
        while (r.start < r.end) {
            struct zone *z = mm_zone_count ? &mm_zones[mm_zone_count - 1] : NULL;
            bool more = z && continues(z, &r, zone_gib);
            u64 first_gib = more ? z->first_gib : gib_of(r.start);
            struct mm_range piece = r;
            piece.end = MIN(r.end, zone_limit(first_gib, zone_gib));
            if (more)
                z->end = piece.end;
            else if (zone_add(&piece) != 0) {
                log_line("mm: more than %u zones, the memory above is not used", MAX_ZONES);
                return 0;
            }
            r.start = piece.end;
        }
    }
    return 0;
}

/* ---- metadata ---- */

/* The part of range n that lies in zone z. */
static bool clip(const struct mm_config *cfg, unsigned n, const struct zone *z,
                 struct mm_range *out)
{
    *out = cfg->range[n];
    out->start = MAX(out->start, z->start);
    out->end = MIN(out->end, z->end);
    return out->start < out->end && out->node == z->node;
}

/* Lays the records of z into the end of its largest piece; the piece's new end, 0: no room. */
static pfn_t place_metadata(const struct mm_config *cfg, struct zone *z, unsigned *piece)
{
    struct mm_range best = {0}, r;
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        if (clip(cfg, n, z, &r) && r.end - r.start > best.end - best.start) {
            best = r;
            *piece = n;
        }
    }
    z->nr_gigs = (unsigned)(gib_of(z->end - 1) - z->first_gib + 1);
    z->first_pb = z->start >> ORDER_PAGEBLOCK;
    z->nr_pbs = (u32)(((z->end - 1) >> ORDER_PAGEBLOCK) - z->first_pb + 1);
    u64 gigs = z->nr_gigs * sizeof(struct gigablock);
    u64 pbs = (z->nr_pbs + 1) * sizeof(struct pageblock); /* and LIST_END() */
    u64 frames = (gigs + pbs + FRAME_SIZE - 1) / FRAME_SIZE;
    if (frames >= best.end - best.start)
        return 0;
    z->metadata_bytes = frames * FRAME_SIZE;
    z->gig = frame_va(best.end - frames);
    z->pb = (struct pageblock *)((char *)z->gig + gigs);
    memset(z->gig, 0, z->metadata_bytes);
    for (u32 i = 0; i < z->nr_pbs; i++) {
        for (unsigned l = 0; l < NR_LISTS; l++) {
            z->pb[i].runs[l] = RUNS512_NONE;
            z->pb[i].listed[l] = NOT_LISTED;
        }
    }
    for (unsigned l = 0; l < NR_LISTS; l++)
        for (unsigned place = 0; place < NR_PLACES; place++)
            z->list[l].head[place] = LIST_END(z);
    for (unsigned g = 0; g < z->nr_gigs; g++) {
        z->gig[g].runs = RUNS512_NONE;
        z->gig[g].limit_clean = -1;
    }
    return best.end - frames;
}

/* Makes [start, end) free and dirty, in the largest steps that fit. Zone lock. */
static void give_range_locked(struct zone *z, pfn_t start, pfn_t end)
{
    z->total += end - start;
    while (start < end) {
        u32 i = zone_pb(z, start);
        if (IS_ALIGNED(start, 512) && end - start >= 512) {
            unsigned order = ORDER_PAGEBLOCK;
            while (order < ORDER_MAX && IS_ALIGNED(start, 2ULL << order) &&
                   end - start >= 2ULL << order)
                order++;
            gigablock_put_locked(z, i, order, true, 0); /* nobody has anything out yet */
            start += 1ULL << order;
        } else {
            unsigned first = (unsigned)(start % 512);
            unsigned count = (unsigned)MIN(512u - first, end - start);
            struct map512 range = map512_range(first, count);
            struct part512 frames = part512_of(&range);
            pageblock_put_locked(z, i, &frames, &range, 0);
            start += count;
        }
    }
}

static void zone_fill(const struct mm_config *cfg, struct zone *z, unsigned piece, pfn_t piece_end)
{
    struct mm_range r;
    spin_lock(&z->lock);
    for (unsigned n = 0; n < cfg->nr_ranges; n++) {
        if (!clip(cfg, n, z, &r))
            continue;
        if (n == piece)
            r.end = piece_end;
        give_range_locked(z, r.start, r.end);
        managed[nr_managed++] = r;
    }
    spin_unlock(&z->lock);
}

/* A zone too small for its own records is left out. */
static void drop_zone(unsigned n)
{
    log_line("mm: %llu KiB at 0x%llx are too little for a zone, not used",
             (unsigned long long)(mm_zones[n].end - mm_zones[n].start) * 4,
             (unsigned long long)mm_zones[n].start << FRAME_SHIFT);
    mm_zone_count--;
    for (; n < mm_zone_count; n++) {
        mm_zones[n] = mm_zones[n + 1];
        mm_zones[n].index = n;
    }
}

static void index_zones(void)
{
    unsigned n = 0;
    memset(&mm_zones[mm_zone_count], 0, sizeof(mm_zones[0]));
    for (u64 gib = 0; gib < MAX_GIB; gib++) {
        while (n < mm_zone_count && mm_zones[n].end <= gib << ORDER_GIGABLOCK)
            n++;
        mm_zone_of_gib[gib] = (u8)n;
    }
}

int limpid_init(const struct mm_config *cfg)
{
    unsigned zone_gib = cfg->zone_gib ? cfg->zone_gib : ZONE_GIB_MAX;
    pfn_t piece_end[MAX_ZONES];
    unsigned piece[MAX_ZONES];
    if (zone_gib > ZONE_GIB_MAX)
        return E_INVAL;
    mm_zone_count = nr_managed = 0;
    store_relaxed(&mm_stamp, 0); /* no aged step has been made yet */
    int error = make_zones(cfg, zone_gib);
    if (error)
        return error;
    for (unsigned n = 0; n < mm_zone_count;) {
        piece_end[n] = place_metadata(cfg, &mm_zones[n], &piece[n]);
        if (piece_end[n] == 0)
            drop_zone(n);
        else
            n++;
    }
    if (mm_zone_count == 0)
        return E_NOMEM;

    index_zones();
    find_homes();
    store_init();
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct zone *z = &mm_zones[n];
        spin_init(&z->lock, "zone", RANK_ZONE, n);
        zone_fill(cfg, z, piece[n], piece_end[n]);
    }
    return 0;
}
