/*
 * The backend `classic`: a buddy system as books have it and as Xen had it in 2014. A record for
 * each frame, for each node a heap of lists of free blocks by order, one lock for all heaps. The
 * ground on which the designs of the mailing-list thread stand (mm/classic/strategy/).
 *
 * What a record says:
 *
 *     of a frame                             of a block, in the record of its first frame
 *     FR_DIRTY   free and not zero: what     order, next, prev: it is free and on that list
 *                Xen calls need_scrub        first_dirty: no dirt stands before this frame
 *     FR_MINE    the taker that has it       BK_DIRT      it may hold dirt, and is listed
 *                is about to clear it        BK_SCRUBBING somebody clears in it where it stands
 *     bad        never to be handed out      BK_ABORT     and is asked to stop
 *                                            BK_OUT       it stands on no list: detained
 *
 * A list has its clean blocks before those with dirt, so both are found at an end of it. Where a
 * block is split behind its first dirty frame, the rest counts as dirty from its start: nobody
 * knows better without looking at every record. That is how one dirty frame spoils its block.
 *
 * Who counts what: total = nr_free + nr_out + allocated + retired. nr_dirty counts the dirty ones
 * of nr_free and nr_out, busy_dirt those of them that a scrubber has taken on.
 *
 * Fields: (L) the heap lock, (c) constant after init, (a) atomic. Links are read without the lock
 * by the strategies `walk` and `mark`, which is the mistake that these two show.
 *
 * Next: buddy.c (lists, split, merge), take.c, free.c, scrub.c.
 */
#ifndef MM_CLASSIC_HEAP_H
#define MM_CLASSIC_HEAP_H

#include "arch.h"
#include "lib/map512.h"
#include "mm/mm.h"

#define LINK_NONE   (~0u)       /* the end of a list */
#define LINK_POISON 0xdead1157u /* of a block that has left its list: nobody should come by */
#define NOT_A_HEAD  0xff        /* no free block begins here */
#define NO_DIRT     (~0u)       /* first_dirty of a block that is clean */

enum record_flags {
    FR_DIRTY = 1,
    FR_MINE = 2,
    BK_DIRT = 16,
    BK_SCRUBBING = 32,
    BK_ABORT = 64,
    BK_OUT = 128,
};

struct record {
    u32 next, prev;  /* (L) neighbours, by number in the heap; LINK_POISON: on no list */
    u32 first_dirty; /* (L), or of who has set BK_SCRUBBING; may be the block's size: no dirt left,
                        but it stands among the dirty ones yet */
    u8 order;        /* (L) of the free block that begins here, or NOT_A_HEAD */
    u8 flags;        /* (a) enum record_flags. Of an allocated frame: its owner's. Of a free one
                        changed by flags_change(), for scrubbers do so without the lock */
    u8 bad;          /* (L) */
};

/* Only for the tables: how old the dirt of 2 MiB is. */
struct dirt_note {
    u32 nr_dirty; /* (a) frames */
    u32 since;    /* (L) ms: when the first of them was freed */
};

struct heap {
    unsigned node, index;    /* (c) */
    u64 base;                /* (c) pfn of number 0, aligned to the largest block */
    u32 first, end;          /* (c) numbers of the span; may have holes */
    struct record *record;   /* (c) of number `first` and on */
    struct dirt_note *note;  /* (c) of the pageblock of `first` and on */
    u64 total;               /* (c) frames managed */
    u64 metadata_bytes;      /* (c) */
    u32 head[ORDER_MAX + 1]; /* (L) */
    u32 tail[ORDER_MAX + 1]; /* (L) */
    u64 nr_free;             /* (L) frames on the lists */
    u64 nr_dirty;            /* (a) */
    u64 busy_dirt;           /* (L) written with store_relaxed(), looked at without the lock */
    u64 nr_out;              /* (L) frames of blocks that are detained */
    u32 out[ORDER_MAX + 1];  /* (L) these blocks by order */
    u64 allocated, retired;  /* (L) frames */
    u64 whole_clean;         /* (L) frames of blocks that count as clean */
    u64 nr_bad;              /* (L) frames marked bad */
    bool scrubbing;          /* (L)(a) its one scrubber is at work (inplace) */
    bool unmerged;           /* (L) a merge was left undone: a buddy could not be touched */
    u32 need_scrub;          /* (a) something dirty was listed since a walk began (walk, mark) */

    /* Statistics. */
    u64 scrubbed_idle_local, scrubbed_idle_remote;     /* (a) frames */
    u64 scrubbed_takers_local, scrubbed_takers_remote; /* (a) */
    u64 scrubbed_at_free;                              /* (a) */
    u64 cleared_twice;                                 /* (a) */
    u64 waits, clears_waited, max_clears_waited;       /* (L) */
    u64 failed, failed_detained;                       /* (L) */
    u32 oldest_scrubbed_ms;                            /* (a) */
};

extern struct heap classic_heaps[MAX_NODES]; /* (c) in order of node; only nodes with memory */
extern unsigned classic_nr_heaps;            /* (c) */

/* The heap of a frame, or NULL. Any context. */
struct heap *heap_of(pfn_t pfn);
/* The heap of a node, or NULL. */
struct heap *heap_of_node(unsigned node);

static inline struct record *rec(const struct heap *h, u32 i)
{
    return &h->record[i - h->first];
}

static inline pfn_t heap_pfn(const struct heap *h, u32 i)
{
    return h->base + i;
}

static inline struct dirt_note *note_of(const struct heap *h, u32 i)
{
    return &h->note[(i >> ORDER_PAGEBLOCK) - (h->first >> ORDER_PAGEBLOCK)];
}

static inline u32 heap_now_ms(void)
{
    return (u32)(time_ns() / 1000000);
}

/* Clears and sets flags of a record of what is free, all at once; what they were. */
static inline u8 flags_change(struct record *r, unsigned clear, unsigned set)
{
    u8 old, new;
    do {
        old = load_relaxed(&r->flags);
        new = (u8)((old & ~clear) | set);
    } while (old != new && !cas(&r->flags, old, new));
    return old;
}

/* ---- the lock, and what is done under it: heap.c ---- */

void heap_lock(void);
/* The same for who wants memory; how many clears it waited for, that others did under the lock. */
u64 heap_lock_counting(void);
void heap_unlock(void);
void heap_unlock_keep_preempt_off(void);
bool heap_locked(void);
/* So many records or list nodes were touched: the measure of how long the lock is held. */
void heap_steps_locked(u64 n);
/* A frame is cleared, or a clear waited for, under the lock: worth a record for each of its words. */
void heap_clear_locked(void);
u64 heap_max_hold(void);
void heap_costs_reset(void);

/* ---- dirt ---- */

/* All frames of a block that comes free are dirty, FR_DIRTY is set already. Lock. */
void heap_dirt_add_locked(struct heap *h, u32 i, unsigned order);

/* Frames of a heap that are dirty no more, one after the other; the counters follow in groups. */
struct dirt_drop {
    struct heap *h;
    struct dirt_note *note;
    u32 n;
};
/* Takes FR_DIRTY from a frame and sets `set` if it was there. False: it was not. */
bool dirt_drop_one(struct dirt_drop *d, u32 i, unsigned set);
void dirt_drop_end(struct dirt_drop *d);

/* ---- lists: buddy.c, lock ---- */

void heap_push_locked(struct heap *h, u32 i, unsigned order, u32 first_dirty);
void heap_remove_locked(struct heap *h, u32 i);
/*
 * May the listed block at i leave its list? One that is being scrubbed where it stands only under
 * strategies whose scrubbers can be stopped: then this waits for the clear. Afterwards it has no
 * BK_DIRT, so nobody can begin to scrub it.
 */
bool heap_claim_locked(struct heap *h, u32 i);
/* The same whatever the strategy: for who cannot go elsewhere. */
void heap_stop_locked(struct heap *h, u32 i);
/*
 * Takes the block of `order` that holds number `at` out of the claimed block at i and lists the
 * rest; its first frame, and where its dirt begins.
 */
u32 heap_carve_locked(struct heap *h, u32 i, unsigned order, u32 at, u32 *first_dirty);
/* Merges the block with its buddies and lists it. Bad frames stay out. */
void heap_give_locked(struct heap *h, u32 i, unsigned order, u32 first_dirty);
/* The listed or detained block that holds frame i, or LINK_NONE: then it is not free. */
u32 heap_block_of(const struct heap *h, u32 i);
/* After scrubbing: the block at i, if it is listed and has no dirt left, joins the clean ones. */
void heap_settle_locked(struct heap *h, u32 i);
/*
 * A listed block that may hold dirt and that is not marked, large ones first; or LINK_NONE. The
 * first `skip` of them are passed over.
 */
u32 heap_find_dirty_locked(const struct heap *h, unsigned skip);
/* The first frame of the block at i, from `from` on, that is dirty; the block's size if none. */
u32 heap_next_dirty(const struct heap *h, u32 i, unsigned order, u32 from);
/* Does the merges that were left undone. */
void heap_merge_all_locked(struct heap *h);
/* All lists in their order again, first_dirty exact: after a strategy that cared for neither. */
void heap_resort_locked(struct heap *h);

static inline u32 block_dirt(const struct heap *h, u32 i)
{
    const struct record *r = rec(h, i);
    u32 at = load_relaxed(&r->first_dirty);
    return at >= 1u << r->order ? NO_DIRT : at;
}

#endif
