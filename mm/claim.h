/*
 * Claims: what a scrubbing CPU has taken out of a zone for the time of one scrub step. One slot a
 * CPU. What is claimed is in no map and on no list: nobody can be standing on it.
 * Next: mm/scrub.c.
 */
#ifndef MM_CLAIM_H
#define MM_CLAIM_H

#include "mm/zone.h"

struct claim {
    struct zone *zone;  /* (Z) of that zone; NULL: nothing claimed. Read unlocked to find out
                           whether it can be ours: it becomes ours only under our lock */
    u32 pb;             /* (Z) */
    u32 since;          /* (Z) the age of the dirt, kept for what comes back dirty (rule 17) */
    struct map512 mask; /* (Z) */
    u32 mark;           /* (Z) `begun` when the gate was shut */
    bool marked;        /* (Z) */
    bool aged;          /* (Z) the aged step's: neither limited nor counted as idle work */
    /* Written at every clear, so on a line of its own: who looks for claims does not wait for it. */
    u32 begun
        __attribute__((aligned(64))); /* (a) clears begun so far: relaxed, for counting only */
} __attribute__((aligned(64)));

/*
 * Claims the dirty free frames of one pageblock for this CPU, the next one in its own order.
 * False if the gate is shut, the policy says no, or nothing is dirty. Zone lock; preemption off
 * till the return.
 */
bool claim_take_locked(struct zone *z);
/* The same for pageblock i, which holds dirt past the age bound: only the gate can refuse it. */
bool claim_take_aged_locked(struct zone *z, u32 i);
/*
 * Gives this CPU's claim back; of its frames those in `cleared` are clean now. True: a taker has got
 * one of them and waits no longer, so after the unlock the caller rings (rule 13). Zone lock.
 */
bool claim_return_locked(struct zone *z, const struct map512 *cleared);
/* This CPU's slot. */
struct claim *claim_own(void);

/*
 * True if a claim holds one of these frames of pageblock i. *out is how many claims and stores may
 * be on it, and is lowered by each that is found: nobody looks further for none. Zone lock.
 */
bool claim_holds_locked(const struct zone *z, u32 i, const struct part512 *frames, unsigned *out);
/* How many frames of pageblock i claims hold. Zone lock. */
unsigned claim_frames_locked(const struct zone *z, u32 i);
/*
 * How many frames are missing, with every claim back, until one more claimed pageblock is whole.
 * Zone lock.
 */
unsigned claim_least_missing_locked(const struct zone *z);
/* True if a run of `order` would be free once every claim of the zone was back. Zone lock. */
bool claim_would_serve_locked(const struct zone *z, unsigned order);
/*
 * Counting what takers wait for: the gate has just been shut, so notes how far each claim has
 * come; it is open again, so those that did not return meanwhile may go on. Zone lock.
 */
void claim_mark_locked(struct zone *z);
void claim_unmark_locked(struct zone *z);

/* For the walker: the slot of a CPU. */
const struct claim *claim_of_cpu(unsigned cpu);

#endif
