/*
 * Scrubbing on classic, for who frees and for who looks: scrub.c.
 */
#ifndef MM_CLASSIC_SCRUB_H
#define MM_CLASSIC_SCRUB_H

#include "mm/classic/heap.h"

/* There may be new dirt in h: wakes a CPU that may scrub it. Preemption off since the unlock. */
void scrub_ring(const struct heap *h);

#endif
