/*
 * `bench`: what things cost in this machine, each against a baseline of the same boot. Under TCG
 * there are no caches, so the ratios tell of designs and not of hardware; `make bench-host` is
 * for that. Two sides take turns A B B A, so that a slow spell of the host hits both, and medians
 * are compared, because a deschedule hits one sample.
 *
 * Every row comes out as a line for tools (tools/bench_lines.py reads them) and in a table:
 *   bench: name=destroy value=61230 unit=ns baseline=52101000 ratio=0.001175 against=eager
 *
 * Next: kernel/bench/alloc.c, scrub.c, destroy.c, create.c, wake.c; kernel/measure.h.
 */
#ifndef KERNEL_BENCH_H
#define KERNEL_BENCH_H

#include "lib/base.h"

/* Runs one part by its name, or "all". False: there is no such part. */
bool bench_run(const char *part);
/* The names of the parts, blanks between. */
#define BENCH_PARTS "alloc scrub destroy create wake"

/* ---- for the parts ---- */

#define BENCH_ROUNDS 4 /* of A B B A: eight samples of each */

struct bench_side {
    const char *name;
    u64 (*sample)(const struct bench_side *side); /* what it measured; 0: it could not */
    const char *strategy;                         /* the rest is the part's own */
    unsigned node, order, arg;
    u64 median; /* of bench_race() */
};

/* Both sides in turns; their medians. False: a sample could not be taken, and no row is made. */
bool bench_race(struct bench_side *a, struct bench_side *b);
/* A row, `value` against `baseline`, both in `unit`; said at once, and kept for the table. */
void bench_row(const char *name, u64 value, const char *unit, u64 baseline, const char *against);
/* Why a row is not there. */
void bench_none(const char *name, const char *why);
/* bench_race() and bench_row() of its medians. */
void bench_race_row(const char *name, const char *unit, struct bench_side *a, struct bench_side *b);

void bench_alloc(void);
void bench_scrub(void);
void bench_destroy(void);
void bench_create(void);
void bench_wake(void);

#endif
