/*
 * Counting by CPU, beside the counts by heap: info.c.
 */
#ifndef MM_CLASSIC_INFO_H
#define MM_CLASSIC_INFO_H

#include "mm/classic/heap.h"

/* This CPU has cleared n frames of h: when idle, or because it wanted them. */
void heaps_count_idle(struct heap *h, u64 n);
void heaps_count_taker(struct heap *h, u64 n);

#endif
