/*
 * Inside of scrubbing: what mm/scrub.c and mm/aged.c share.
 */
#ifndef MM_SCRUB_H
#define MM_SCRUB_H

#include "mm/zone.h"

/*
 * Clears what this CPU has claimed of z, frame after frame until the gate shuts or a thread
 * wants to run, and returns the claim. Preemption has been off since the claim; no lock held.
 */
void scrub_claimed(struct zone *z);

#endif
