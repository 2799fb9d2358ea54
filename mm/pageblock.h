/*
 * The lower storey: 512 frames of one pageblock. Every change of a pageblock's maps goes through
 * the three calls here, which keep the gigablock's bits, the lists and the counters true.
 * All of them: zone lock held. Next: mm/gigablock.h.
 */
#ifndef MM_PAGEBLOCK_H
#define MM_PAGEBLOCK_H

#include "mm/zone.h"

/* What a pageblock offers: which of its free frames a taker looks at. */
enum pb_view {
    VIEW_ANY,   /* free */
    VIEW_CLEAN, /* free & ~dirty */
    VIEW_DIRTY, /* free & dirty */
};

/* The frames of pageblock i that are free and match the view, whichever storey says so. */
struct map512 pageblock_view_locked(const struct zone *z, u32 i, enum pb_view view);

/* True if these frames, free in the maps of pageblock i itself, match the view. */
static inline bool pageblock_run_in_view_locked(const struct zone *z, u32 i,
                                                const struct part512 *run, enum pb_view view)
{
    const struct pageblock *pb = &z->pb[i];
    if (view == VIEW_ANY || pb->nr_dirty == (view == VIEW_DIRTY ? pb->nr_free : 0))
        return true; /* all that is free in it does */
    return view == VIEW_DIRTY ? part512_within(run, &pb->dirty) : !part512_meets(run, &pb->dirty);
}

/*
 * Makes `frames` free; those in `dirty` are dirty, the others clean. The one door back into the
 * maps (free, claim return, store sweep): drops bad frames, which count as retired from now on
 * (protocol rule 9). `since`: when the dirt was freed, ms; only the oldest is kept (rule 17).
 * Panics if one of them is free or retired already. The caller has counted them out of outside or
 * in_flight.
 */
void pageblock_put_locked(struct zone *z, u32 i, const struct part512 *frames,
                          const struct map512 *dirty, u32 since);

/*
 * Takes `frames`, all of them free, out of the maps; dirt (may be NULL): those that are dirty.
 * How many they were, which the caller counts into outside or in_flight.
 */
unsigned pageblock_get_locked(struct zone *z, u32 i, const struct part512 *frames,
                              struct part512 *dirt);

/*
 * Forgets the maps of pageblock i, whose whole block a taker has just got upstairs: it leaves the
 * lists, nothing of it is free. Its dirty map stays, for that taker to clear by.
 */
void pageblock_empty_locked(struct zone *z, u32 i);

/* Counts a claim or store that holds frames of pageblock i (+1, -1). */
void pageblock_out_locked(struct zone *z, u32 i, int change);

/*
 * A partly free pageblock with a run of `order` in the list's view: the fullest that serves,
 * nearly full ones (fewer than 8 frames) after the others, whole mixed ones last. PB_NONE.
 */
u32 pageblock_find_locked(const struct zone *z, enum pb_list list, unsigned order);

/*
 * False: no partly free pageblock can become whole by so many frames more. What is
 * missing in one of a fill is 512 less the most that it may have; and where the largest run has 2^c
 * frames, one at least is missing in each run of 2^(c+1).
 */
bool pageblock_may_complete_locked(const struct zone *z, u64 frames);

/* Of a pageblock that claims or stores hold frames of. */
void pageblock_check_not_out_locked(struct zone *z, u32 i, const struct part512 *frames);
/*
 * Panics if one of `frames` is claimed or stored: somebody frees what he does not own. Free ones
 * are caught by pageblock_put_locked().
 */
static inline void pageblock_check_owned_locked(struct zone *z, u32 i, const struct part512 *frames)
{
    if (unlikely(z->pb[i].out))
        pageblock_check_not_out_locked(z, i, frames);
}

#endif
