/*
 * Inside of scrubbing: what mm/scrub.c shares with mm/aged.c and with the other backend.
 */
#ifndef MM_SCRUB_H
#define MM_SCRUB_H

#include "mm/mm.h"

struct zone;

/*
 * Clears what this CPU has claimed of z, frame after frame until the gate shuts or a thread
 * wants to run, and returns the claim. Preemption has been off since the claim; no lock held.
 */
void scrub_claimed(struct zone *z);

/* For both backends: a step has cleared so many frames in so long (mm_clear_ns()). */
void scrub_note_time(u64 ns, u32 frames);
/* For both backends: this CPU clears a frame as a scrubber (mm_cpu_scrubbed()). Preemption off. */
void scrub_count_clear(void);

#endif
