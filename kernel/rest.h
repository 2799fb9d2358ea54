/*
 * A machine that has nothing to do: every CPU asleep, and no dirt that one of them should have
 * been rung for (P9).
 */
#ifndef KERNEL_REST_H
#define KERNEL_REST_H

#include "lib/base.h"

struct rest {
    u64 ns;         /* how long it took */
    u64 dirty;      /* frames in the maps that are dirty and stay so: forgotten. 0 with scrub=off */
    unsigned freed; /* nodes on which this CPU freed a block to wake somebody */
};

/*
 * Waits until every CPU but this one sleeps and nothing is dirty; frees a block on every node; and
 * waits once more. At most `ns` in all. False: it did not come to that. From a thread that nobody
 * runs beside.
 */
bool rest_wait(u64 ns, struct rest *out);

/* Idle scrubbing is off or has a rate: dirt that nobody may scrub now is not forgotten. */
bool rest_is_limited(void);

/* rest_wait(): NULL, or what was wrong, in one line. */
const char *rest_check(u64 ns);

#endif
