/*
 * The upper storey: 512 pageblocks of one GiB; blocks of orders 9 to 18 are aligned runs of its
 * bits. Freeing a GiB is a few words here and touches no pageblock. All calls: zone lock held.
 */
#ifndef MM_GIGABLOCK_H
#define MM_GIGABLOCK_H

#include "mm/pageblock.h"

/* What a taker has to clear of the block it took, as it was when it was taken. */
struct dirt {
    /* Blocks up to order 9: dirty frames of its pageblock. Above: its dirty pageblocks. */
    struct part512 map;
    /* Above order 9: of those, the wholly dirty ones; for the others pageblock.dirty tells. */
    struct part512 all;
};

/*
 * A run of order 9 to 18 whose pageblocks are wholly free, and with VIEW_CLEAN clean: the index
 * of its first pageblock, or PB_NONE. Whole pageblocks for smaller orders too (order 9).
 */
u32 gigablock_find_locked(struct zone *z, enum pb_view view, unsigned order);

/* True if the maps of z have a run of order 9 to 18, clean or dirty. */
static inline bool gigablock_has_locked(const struct zone *z, unsigned order)
{
    for (unsigned n = 0; n < z->nr_gigs; n++)
        if (runs512_have(z->gig[n].runs, order - ORDER_PAGEBLOCK))
            return true;
    return false;
}

/* False: the maps of z had no such run (order 9 to 18) a moment ago. Only a hint, without the lock. */
static inline bool gigablock_may_have(const struct zone *z, unsigned order)
{
    for (unsigned n = 0; n < z->nr_gigs; n++) {
        struct runs512 r = {load_relaxed(&z->gig[n].runs.words)};
        if (runs512_have(r, order - ORDER_PAGEBLOCK))
            return true;
    }
    return false;
}

/*
 * Takes the run of 2^(order-9) pageblocks at i, all wholly free, out of the maps; dirt (may be
 * NULL): what of it is dirty.
 */
void gigablock_get_locked(struct zone *z, u32 i, unsigned order, struct dirt *dirt);

/*
 * Makes a run of whole pageblocks free: all clean or all dirty. False, and nothing is done: claims,
 * stores or bad frames have to do with one of several; they have to be given back one by one, each in
 * a lock hold of its own (P5). Panics on a double free.
 */
bool gigablock_put_locked(struct zone *z, u32 i, unsigned order, bool dirty, u32 since);

/* A pageblock with free dirty frames, the next one at or after `from`, cyclically. PB_NONE. */
u32 gigablock_next_dirty_locked(const struct zone *z, u32 from);

#endif
