/*
 * A sorted list of disjoint physical ranges that are free, each on one node: what is left of the
 * firmware's memory map when everything that lives somewhere has been taken out. The boot
 * allocator takes from it; what remains goes to mm_init(). Pure; one CPU, before mm/ is up.
 */
#ifndef LIB_MEMMAP_H
#define LIB_MEMMAP_H

#include "lib/base.h"

#define MEMMAP_MAX 512

struct memrange {
    u64 start, end; /* bytes, multiples of FRAME_SIZE, start < end */
    unsigned node;
};

struct memmap {
    struct memrange range[MEMMAP_MAX]; /* sorted by start, disjoint */
    unsigned nr;
};

/* Adds [start, end), rounded inwards to frames. Overlap with what is there is not added twice. 0 or E_NOSPC. */
int memmap_add(struct memmap *m, u64 start, u64 end, unsigned node);
/* Takes [start, end), rounded outwards, out of it. 0 or E_NOSPC (a range had to be split). */
int memmap_remove(struct memmap *m, u64 start, u64 end);
/* The parts of [start, end) belong to `node` from now on. 0 or E_NOSPC. */
int memmap_set_node(struct memmap *m, u64 start, u64 end, unsigned node);
/*
 * Takes `bytes` (rounded up to frames), aligned to `align` (a power of two, at least a frame),
 * below `limit`, from the highest place that fits. Its physical address, or 0 if there is none.
 */
u64 memmap_take(struct memmap *m, u64 bytes, u64 align, u64 limit);
/* The sum of all ranges, bytes. */
u64 memmap_bytes(const struct memmap *m);

#endif
