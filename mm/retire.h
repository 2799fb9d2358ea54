/*
 * Bad frames: the zone's table of frames that must never come back (protocol rule 9).
 */
#ifndef MM_RETIRE_H
#define MM_RETIRE_H

#include "mm/zone.h"

/* Drops the bad ones from frames of pageblock i; how many there were. Zone lock. */
unsigned retire_filter_locked(const struct zone *z, u32 i, struct part512 *frames);

#endif
