/*
 * The benchmarks of the hosted build: what the rows share. docs/bench.md says how they measure.
 *
 * A sample is a short piece of work (some hundred microseconds) on one CPU or on two at once. It
 * begins right after a sleep, so that the host's scheduler lets it run at once, and it is thrown
 * away if a thread lost its core meanwhile.
 */
#ifndef TESTS_HOST_BENCH_H
#define TESTS_HOST_BENCH_H

#include "arch.h"
#include "mm/mm.h"

extern bool bench_quick; /* QUICK=1: a few samples of everything */

/* ---- the machine ---- */

/* Maps `gib` GiB of address space (touched nowhere) and finds the rate of the clock. */
void bench_machine_init(unsigned gib);
/* mm/ over these frames, all dirty, nothing stored. */
void bench_boot(pfn_t start, pfn_t end);
/* The calling thread plays this CPU from now on, on this core. */
void bench_be_cpu(unsigned cpu);

void bench_rest(unsigned ms);

/* ---- samples ---- */

typedef void (*bench_work)(void *arg);

/* Does work(arg) on this CPU; its nanoseconds, or -1 if the thread was descheduled meanwhile. */
double bench_sample(bench_work work, void *arg);
/*
 * work(a) on CPU 0 and work(b) on CPU 1, begun at the same moment; the nanoseconds of the longer
 * one, or -1 if either was descheduled.
 */
double bench_sample_both(bench_work work, void *a, void *b);
/*
 * work(arg) on CPU 0 while CPU 1 runs beside(NULL), which is to end when bench_stop() turns true;
 * the nanoseconds of the first, or -1 if either was descheduled.
 */
double bench_sample_beside(bench_work work, void *arg, bench_work beside);
bool bench_stop(void);

struct bench_values {
    double *v;
    unsigned nr, max;
};
void values_add(struct bench_values *s, double v);
/* p from 0 to 1; NAN if there are none. Sorts. */
double values_quantile(struct bench_values *s, double p);
void values_free(struct bench_values *s);

/*
 * A B B A, again and again, until `want` samples of each were kept or `seconds` are over. A side
 * gives its value (smaller is better or not: the caller knows), or a negative one if the sample is
 * to be thrown away. The medians.
 */
typedef double (*bench_side)(void *arg);
struct bench_pair {
    double a, b;
};
struct bench_pair bench_abba(bench_side a, bench_side b, void *arg, unsigned want, double seconds);

/* ---- results ---- */

enum bar { BAR_NONE, BAR_AT_MOST, BAR_AT_LEAST };
struct row {
    const char *name;
    double value;
    const char *unit;
    double baseline; /* NAN: there is none */
    const char *of;  /* what the baseline is */
    /* The bar is on the ratio value / baseline, or on the value if there is no baseline. */
    enum bar kind;
    double bar;
};
void row_add(struct row r);
/* Table on stdout; build/bench-host.json and .dat. Number of bars missed. */
unsigned rows_print(const char *directory);

/* ---- the rows ---- */
void rows_blocks(void); /* takes and frees */
void rows_aged(void);   /* what is left of large blocks */
void rows_free(void);   /* freeing a dirty GiB, metadata */
void rows_scrub(void);  /* scrubbing, and takers beside it */
void rows_steps(void);  /* counted by tests/host/bench/steps.c, another program */

/* The machine in which steps are counted. */
enum { STEPS_CPUS = 4, STEPS_GIB = 1 };

/* ---- memsets: 2 MiB a piece ---- */

/* Finds the best cache-bypassing one and the best of all over [start, end), which it touches. */
void memset_choose(pfn_t start, pfn_t end);
double memset_best_ns(void); /* for one MiB, as memset_choose() found it */
const char *memset_best_name(void);
const char *memset_bypass_name(void);
/* One sample of the best cache-bypassing one: nanoseconds for one MiB, or -1. */
double memset_bypass_sample(pfn_t start, pfn_t end);
/* The same on both CPUs at once: nanoseconds for one MiB of the two together, or -1. */
double memset_bypass_sample_both(pfn_t start, pfn_t end);

static inline u64 bench_random(u64 *state)
{
    u64 x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

#endif
