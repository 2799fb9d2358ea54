/*
 * Counting by CPU, beside the counts by zone: mm/info.c.
 */
#ifndef MM_INFO_H
#define MM_INFO_H

#include "mm/zone.h"

/* This CPU has brought a claim on memory of z back, with n frames cleared. Preemption off. */
void info_count_claim(const struct zone *z, bool aged, u64 n);
/* A taker on this CPU has cleared n frames of z. */
void info_count_taker(const struct zone *z, u64 n);

#endif
