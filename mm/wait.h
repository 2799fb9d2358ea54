/*
 * What a claim's return has to do with those who wait for it. Next: mm/wait.c.
 */
#ifndef MM_WAIT_H
#define MM_WAIT_H

#include "mm/claim.h"

/* What a CPU whose taker waits for one frame has been handed: PFN_NONE until then. */
struct wait_hand {
    pfn_t pfn; /* (a) */
} __attribute__((aligned(64)));
extern struct wait_hand wait_hands[MAX_CPUS];

/*
 * This CPU's claim on memory of z comes back, with those in `cleared` clean: a taker that waits for
 * one frame gets it right out of the claim, and its share of the gate goes down. The bit of that
 * frame, which the caller counts out and keeps out of the maps; or MAP512_NONE. Zone lock.
 */
unsigned wait_hand_over_locked(struct zone *z, const struct claim *c, const struct map512 *cleared);

#endif
