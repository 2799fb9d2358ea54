/*
 * The data of the allocator: zones, and the two storeys of maps in each.
 *
 * A zone is the memory of one node inside a GiB-aligned range, under one lock. Its frames are
 * described by two storeys of 512-bit maps:
 *
 *     gigablock   512 pageblocks   free | dirty | all | part     orders 9 to 18
 *     pageblock   512 frames       free | dirty                  orders 0 to 8
 *
 * The state of a pageblock, and where it is written down:
 *
 *     state                 gig.free  gig.part  gig.all  pageblock maps      lists
 *     whole, all clean         1         0         0     unused (nr_free 0)   none
 *     whole, all dirty         1         0         1     unused (nr_free 0)   none
 *     whole, mixed             1         1         0     in use, nr_free 512  any, clean
 *     partly free              0         1         0     in use               any, (clean)
 *     nothing free             0         0         0     unused (nr_free 0)   none
 *
 * gig.part is also set while claims or stores are out on a pageblock (out > 0). gig.dirty is set
 * for every pageblock that holds a free dirty frame: it is the dirty free list of the zone.
 * Only pageblock_settle() and gigablock_put()/_get() move a pageblock between these rows.
 *
 * Who counts what: total = nr_free + in_flight + retired + outside, and outside = allocated +
 * stored. A pop from a store changes stored into allocated without the zone lock, which is why
 * only their sum is a counter of the zone.
 *
 * If an invariant breaks, mm_check() (mm/check.c) names it; the first symptom without it is a
 * double free panic here or a non-zero frame in guest/check.c.
 *
 * Fields: (Z) the zone's lock, (c) constant after mm_init(), (a) atomic.
 * Next: mm/pageblock.h, mm/gigablock.h, then mm/take.c and mm/free.c.
 */
#ifndef MM_ZONE_H
#define MM_ZONE_H

#include "arch.h"
#include "lib/map512.h"
#include "mm/mm.h"

#define MAX_ZONES    128
#define ZONE_GIB_MAX MM_ZONE_GIB_MAX /* 64, so that dirty_gigs is one word */
#define MAX_GIB      4096            /* memory above 4 TiB is not used */
#define ZONE_BAD_MAX 256             /* bad frames that a zone can remember */

#define PB_NONE (~0u) /* no pageblock */

/* Lists of partly free pageblocks, by how much is free in them and by what they can serve. */
enum pb_list {
    LIST_ANY,   /* by free frames, clean or dirty */
    LIST_CLEAN, /* by clean free frames */
    NR_LISTS,
};
#define NR_FILLS   7 /* fill 0: 8-15 frames, 1: 16-31, ... 5: 256-511; 6: fewer than 8 */
#define NR_CLASSES 9 /* the largest run has order 0 .. 8 */
/*
 * One list for each class and fill, in this order, and the last for whole ones: as many as a word has
 * bits, so that one tells which are not empty.
 */
#define LIST_PLACE(class, fill) ((class) * NR_FILLS + (fill))
#define PLACE_WHOLE             LIST_PLACE(NR_CLASSES, 0)
#define NR_PLACES               64
#define NOT_LISTED              0xff

struct pageblock {
    struct map512 free;  /* (Z) free frames, while the lower storey describes this pageblock */
    struct map512 dirty; /* (Z) of the free ones; other bits mean nothing. While a mixed block is
                            being cleared by the taker that owns it: that taker's */
    struct runs512 runs[NR_LISTS];      /* (Z) of `free`, and of the clean ones of it */
    u32 next[NR_LISTS], prev[NR_LISTS]; /* (Z) indices of pageblocks, LIST_END() at the ends */
    u8 listed[NR_LISTS];                /* (Z) LIST_PLACE(), or NOT_LISTED */
    u16 nr_free, nr_dirty;              /* (Z) bits in free, and in free & dirty */
    u16 out : 15;                       /* (Z) claims and stores that hold frames of it */
    u16 has_bad : 1;                    /* (Z) the zone's bad table has frames of it */
};

struct gigablock {
    struct map512 free;  /* (Z) wholly free pageblocks */
    struct map512 dirty; /* (Z) pageblocks with at least one free dirty frame */
    struct map512 all;   /* (Z) wholly free ones in which every frame is dirty */
    struct map512 part;  /* (Z) pageblocks whose own record must be looked at */
    struct runs512 runs; /* (Z) of `free`. Read without the lock as a hint */
    /*
     * (Z) an upper bound: no run of an order above 9 + limit is free and clean. Raised by every
     * put of a clean one, lowered by a search that failed. -1: none at all.
     */
    signed char limit_clean;
    u32 since[512]; /* (Z) milliseconds: when the oldest dirt of each dirty pageblock was freed */
};

struct list_heads {
    u64 nonempty;        /* (Z) a bit for each list */
    u32 head[NR_PLACES]; /* (Z) */
};

/*
 * Laid out by who writes what: a line that one CPU writes is gone from the caches of all others.
 * What every free reads (whose frame is it?) never changes; the lock and what only its holder
 * touches come next; then what others look at without the lock, each kind on a line of its own.
 */
struct zone {
    unsigned index, node;  /* (c) */
    pfn_t start, end;      /* (c) the span; holes inside are allocated for ever to nobody */
    u64 first_gib;         /* (c) */
    unsigned nr_gigs;      /* (c) 1 .. ZONE_GIB_MAX */
    u32 nr_pbs;            /* (c) */
    u64 first_pb;          /* (c) pfn / 512 of pb[0] */
    struct gigablock *gig; /* (c) array of nr_gigs */
    struct pageblock *pb;  /* (c) array of nr_pbs, and one more: LIST_END() */
    u64 total;             /* (c) frames managed */
    u64 metadata_bytes;    /* (c) */

    struct spinlock lock __attribute__((aligned(64)));

    u64 outside __attribute__((aligned(64))); /* (Z) frames handed out by the maps to takers and
                                                 stores */
    u64 in_flight;                            /* (Z) frames in claims */
    u64 retired;                              /* (Z) bad frames that came back and stay */
    u64 dirty_gigs;                           /* (Z) bit g: gig[g].dirty is not empty */
    u32 nr_claims;                            /* (Z) */
    unsigned nr_bad;                          /* (Z) entries of bad[] */
    /* (Z); read without the lock as hints, so written with store_relaxed() */
    u64 nr_free;                      /* free frames in the maps */
    u64 nr_dirty;                     /* of these, dirty */
    struct list_heads list[NR_LISTS]; /* (Z) */

    /*
     * The gate (protocol rules 4 to 6): takers that wait for claims of this zone. Raised and
     * dropped under the lock; a scrubber reads it without, after every frame. (Z)(a)
     */
    u32 waiters __attribute__((aligned(64)));
    u32 marked_pb;   /* (a) a pageblock that is claimed while they wait: a hint what to fetch */
    u32 asker;       /* (Z) one of them that waits for a frame: its CPU, and one more; 0: none */
    bool asks_clean; /* (Z) and it is to be clean */
    /* (Z)(a) counts claim returns; a waiter spins on it outside the lock */
    u64 returns __attribute__((aligned(64)));

    /* Statistics. */
    u64 scrubbed_idle_local __attribute__((aligned(64))); /* (Z) frames */
    u64 scrubbed_idle_remote, scrubbed_aged;              /* (Z) frames */
    u64 waits;                                            /* (Z) */
    u64 max_clears_waited;                                /* (Z) */
    u32 oldest_scrubbed_ms;                               /* (Z) */
    u64 scrubbed_takers_local, scrubbed_takers_remote;    /* (a) frames; plain counters */
    u64 scrubbed_at_free, scrubbed_at_map;                /* (a) */

    /* (Z) sorted: frames never to come back. Retired already, or noted until they come */
    struct {
        pfn_t pfn : 63, retired : 1;
    } bad[ZONE_BAD_MAX];
} __attribute__((aligned(64)));

/* (c) in order of address; index is the lock order. Behind the last there is one that is empty. */
extern struct zone mm_zones[MAX_ZONES + 1];
extern unsigned mm_zone_count; /* (c) */

/* What the ends of lists name: a record that is written as any other's, and means nothing. */
#define LIST_END(z) ((z)->nr_pbs)

/* Milliseconds since boot. To read it costs as much as all the rest of freeing a block. */
static inline u32 now_ms(void)
{
    return (u32)(time_ns() / 1000000);
}

/*
 * As dirt is stamped when it is freed: with the moment that an aged step last noted, if there is an
 * age bound and so somebody who notes one (mm/aged.c); else with now. So dirt never counts as younger
 * than it is (P9), and as older at most by what aged threads sleep, mm_aged_sleep_ms().
 */
extern u32
    mm_stamp; /* (a) relaxed: whatever it has been is a moment that has been. 0: ask now_ms() */
static inline u32 stamp_ms(void)
{
    u32 noted = load_relaxed(&mm_stamp);
    return likely(noted) ? noted : now_ms();
}

/* True if the frame lies in the zone's span. */
static inline bool zone_has(const struct zone *z, pfn_t pfn)
{
    return pfn - z->start < z->end - z->start;
}

/* True if all 64 frames of its word of a map do. */
static inline bool zone_has_word(const struct zone *z, pfn_t pfn)
{
    pfn_t first = ALIGN_DOWN(pfn, 64);
    return first >= z->start && first + 64 <= z->end;
}

extern u8 mm_zone_of_gib[MAX_GIB]; /* (c) the first zone that ends above this GiB's start */
struct zone *zone_of_slowly(pfn_t pfn);

/* The zone of a frame, or NULL. Any context. */
static inline struct zone *zone_of(pfn_t pfn)
{
    u64 gib = pfn >> ORDER_GIGABLOCK;
    if (likely(gib < MAX_GIB)) {
        struct zone *z = &mm_zones[mm_zone_of_gib[gib]];
        if (likely(zone_has(z, pfn)))
            return z;
    }
    return zone_of_slowly(pfn);
}

static inline u32 zone_pb(const struct zone *z, pfn_t pfn)
{
    return (u32)((pfn >> ORDER_PAGEBLOCK) - z->first_pb);
}

static inline pfn_t zone_pb_pfn(const struct zone *z, u32 i)
{
    return (z->first_pb + i) << ORDER_PAGEBLOCK;
}

/* Where pageblock i stands in its gigablock. */
static inline struct gigablock *zone_pb_gig(const struct zone *z, u32 i, unsigned *bit)
{
    u64 n = z->first_pb + i;
    *bit = (unsigned)(n % 512);
    return &z->gig[n / 512 - z->first_gib];
}

/*
 * Fetches what whoever moves frames of pageblock i under the lock will write, all at once: after
 * another CPU has had the lock each line is away, and one after the other they would be as many
 * trips. Where a taker waits for a scrubber, both do this.
 */
static inline void zone_fetch(const struct zone *z, u32 i)
{
    unsigned bit;
    const struct pageblock *pb = &z->pb[i];
    const struct gigablock *g = zone_pb_gig(z, i, &bit);
    prefetch_write(&z->lock);
    prefetch_write(&z->outside);
    for (unsigned l = 0; l < NR_LISTS; l++) {
        prefetch_write(&z->list[l].nonempty);
        prefetch_write(&z->list[l].head[PLACE_WHOLE]);
    }
    for (unsigned n = 0; n < sizeof(*pb); n += 64)
        prefetch_write((const char *)pb + n);
    prefetch_write(&g->free.w[bit / 64]);
    prefetch_write(&g->dirty.w[bit / 64]);
    prefetch_write(&g->all.w[bit / 64]);
    prefetch_write(&g->part.w[bit / 64]);
    prefetch_write(&g->runs);
}

/* When the oldest dirt of pageblock i was freed, ms. Says nothing if nothing is dirty. Zone lock. */
static inline u32 zone_pb_since(const struct zone *z, u32 i)
{
    unsigned bit;
    const struct gigablock *g = zone_pb_gig(z, i, &bit);
    return g->since[bit];
}

/* nr_free and nr_dirty are peeked at without the lock; nobody acts on them without taking it. */
static inline void zone_count(struct zone *z, s64 free, s64 dirty)
{
    store_relaxed(&z->nr_free, z->nr_free + (u64)free);
    store_relaxed(&z->nr_dirty, z->nr_dirty + (u64)dirty);
}

/* Keeps dirty_gigs true after bits of g's dirty map were cleared. */
static inline void zone_note_dirt(struct zone *z, const struct gigablock *g)
{
    if (map512_empty(&g->dirty))
        z->dirty_gigs &= ~(1ULL << (g - z->gig));
}

/* Word w of g's map of whole pageblocks is `free` from now on. */
static inline void zone_set_whole(struct gigablock *g, unsigned w, u64 free)
{
    struct runs512 runs = g->runs;
    g->free.w[w] = free;
    runs512_note(&runs, w, free);
    store_relaxed(&g->runs.words, runs.words); /* gigablock_may_have() peeks at it */
}

/* Whether the pageblock at `bit` of g holds a free dirty frame. */
static inline void zone_mark_dirty(struct zone *z, struct gigablock *g, unsigned bit, bool dirty)
{
    if (dirty) {
        map512_set(&g->dirty, bit);
        z->dirty_gigs |= 1ULL << (g - z->gig);
    } else if (map512_test(&g->dirty, bit)) {
        map512_clear(&g->dirty, bit);
        zone_note_dirt(z, g);
    }
}

#endif
