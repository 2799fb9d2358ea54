/*
 * `work`: the same work for every strategy. A scenario does something that a hypervisor does all
 * day, and says what it cost; `make compare` runs all of them under each strategy. Sizes follow
 * the memory that the machine has: S is 1 GiB, or five eighths of the largest node.
 *
 *   work: scenario=create_now strategy=claim metric=create value=412345 unit=us
 *
 * Beside each scenario (unless it uses a node up) runs a sampler, a thread that takes and frees:
 * its times are the percentiles, what it was refused the failed allocations.
 *
 * Next: kernel/work/guests.c, busy.c, blocks.c (the scenarios), sampler.c; kernel/measure.h.
 */
#ifndef KERNEL_WORK_H
#define KERNEL_WORK_H

#include "kernel/measure.h"

/* Runs one scenario by its name, or "all". False: there is no such scenario. */
bool work_run(const char *name);
#define WORK_SCENARIOS "destroy create_now create_idle churn one_busy all_busy huge speck balloon"

/* ---- for the scenarios ---- */

/* What one scenario works with, and what it has to say beyond what is counted for all. */
struct work {
    const char *scenario;
    unsigned node; /* the one with the most memory */
    u64 frames;    /* S */
    bool alone;    /* the sampler only looks: the node is used up */
    bool held;     /* `rest` is taken, and given back when the scenario's counts are */
    struct ballast rest;
    u64 failed; /* allocations refused, the sampler's included */
    struct hist take;
};

/* A line and a cell of the table. */
void work_value(const char *metric, u64 value, const char *unit);
void work_us(const char *metric, u64 ns);

static inline u64 kib(u64 frames)
{
    return frames * (FRAME_SIZE / KIB);
}

void work_destroy(struct work *w);
void work_create_now(struct work *w);
void work_create_idle(struct work *w);
void work_churn(struct work *w);
void work_balloon(struct work *w);
void work_one_busy(struct work *w);
void work_all_busy(struct work *w);
void work_huge(struct work *w);
void work_speck(struct work *w);

/* ---- kernel/work/sampler.c ---- */

/* Takes and frees on the node until it is stopped. */
void sampler_start(unsigned node, bool looks_only);
/* Adds its times and refusals; the oldest dirt that it saw, ms. */
u64 sampler_stop(struct hist *take, struct hist *take9, u64 *failed);

#endif
