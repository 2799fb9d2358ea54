/*
 * A machine that has nothing to do: every CPU asleep, and no dirt that one of them should have
 * been rung for (P9).
 */
#ifndef KERNEL_REST_H
#define KERNEL_REST_H

#include "lib/base.h"

struct rest {
    u64 ns;    /* until every other CPU was asleep */
    u64 dirty; /* frames in the maps that were dirty then: forgotten, unless scrubbing is limited */
};

/*
 * Waits until every CPU but this one sleeps, at most `ns`. False: one still did not; then *out
 * is not set. This CPU stays busy, where there is another, so that it cannot be the one that
 * finds what a lost bell left behind. From a thread that nobody runs beside.
 */
bool rest_wait(u64 ns, struct rest *out);

/* Idle scrubbing is off or has a rate: dirt that nobody may scrub now is not forgotten. */
bool rest_is_limited(void);

/*
 * rest_wait(), and then until nothing at all is dirty, stores included. NULL: so it was. Otherwise
 * what was wrong, in one line.
 */
const char *rest_check(u64 ns);

#endif
