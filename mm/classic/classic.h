/*
 * The textbook buddy allocator: a record for each frame, a list of free blocks for each order,
 * one lock around all of it. It is what books describe, the baseline of the benchmarks, and the
 * other way of doing what mm/pageblock.c and mm/gigablock.c do with bits.
 *
 * It is not in the kernel. The backend that alloc=classic boots is mm/classic/heap.h: this, with
 * nodes, dirt, bad frames and scrubbers.
 *
 * Next: mm/classic/classic.c, then mm/classic/classic_pcp.h, or mm/classic/heap.h.
 */
#ifndef MM_CLASSIC_H
#define MM_CLASSIC_H

#include "mm/mm.h"

/*
 * Makes one zone of the range; the records are taken from its end, the rest is free. Only the
 * range that was given last is managed. 0; E_INVAL (empty range); E_NOMEM (the records do not
 * fit, or there are more frames than a record can number). One CPU, before all other calls.
 */
int classic_init(const struct mm_range *range);

/* A block of 2^order frames, order 0 to ORDER_MAX: its first pfn; PFN_NONE: there is none. */
pfn_t classic_take(unsigned order);

/* Gives a block back. Panics on a double free of a block, or on what is no block of this zone. */
void classic_free(pfn_t pfn, unsigned order);

/* `n` single frames under one lock hold, for who keeps some at hand: how many there were. */
unsigned classic_take_frames(pfn_t *frame, unsigned n);
void classic_free_frames(const pfn_t *frame, unsigned n);

/*
 * The walker: recounts the records against the lists and the counter. Says what is wrong (`say`
 * may be NULL) and returns how many things were. Holds the lock all the time.
 */
unsigned classic_check(void (*say)(const char *line));

/* Frames managed, frames free, and what the records take. */
struct classic_info {
    u64 frames, nr_free, metadata_bytes;
};
void classic_info(struct classic_info *out);

#endif
