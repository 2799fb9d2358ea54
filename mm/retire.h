/*
 * Bad frames: the zone's table of frames that must never come back (protocol rule 9).
 */
#ifndef MM_RETIRE_H
#define MM_RETIRE_H

#include "mm/zone.h"

/* Without the bad ones: frames of pageblock i. Zone lock. */
void retire_filter_locked(const struct zone *z, u32 i, struct part512 *frames);
/*
 * The same of frames that come back into the maps: the bad ones are retired from now on. How many
 * there were. Panics if one is retired already, and so nobody's to give back. Zone lock.
 */
unsigned retire_at_door_locked(struct zone *z, u32 i, struct part512 *frames);

#endif
