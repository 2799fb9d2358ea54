/*
 * What everything that measures shares: times as histograms and medians, threads that help, dirt
 * made on purpose, and the counts of the whole machine before and after.
 *
 * Context: thread context, one measurement at a time (thread "main", or a test's).
 * Next: kernel/bench/bench.h, kernel/work/work.h, kernel/promise/promise.h, which stand on this.
 */
#ifndef KERNEL_MEASURE_H
#define KERNEL_MEASURE_H

#include "lib/base.h"
#include "mm/mm.h"

#define NS_PER_MS 1000000ULL
#define NS_PER_S  1000000000ULL

/* ---- numbers ---- */

/* Sorts v. n > 0. */
u64 measure_median(u64 *v, unsigned n);

/*
 * Times by size: 16 buckets for each power of two, so a percentile is at most 6% too high. Of any
 * length, and any number of them add up.
 */
#define HIST_BUCKETS 976
struct hist {
    u64 nr, max;
    u32 count[HIST_BUCKETS];
};
void hist_reset(struct hist *h);
void hist_add(struct hist *h, u64 value);
void hist_merge(struct hist *into, const struct hist *h);
/* What `per_mille` thousandths of the values do not exceed; 0 if there are none. */
u64 hist_at(const struct hist *h, unsigned per_mille);

/* ---- threads ---- */

struct helper {
    void (*fn)(void *arg);
    void *arg;
    unsigned done; /* (a) released by the thread as its last touch */
};
/* Runs fn(arg) on that CPU. False: no memory for a thread; one line says so. */
bool helper_start(struct helper *h, unsigned cpu, void (*fn)(void *arg), void *arg);
void helper_join(struct helper *h);

/*
 * Threads that have every CPU of a node (MM_ALL_NODES: of the machine) and do nothing: no idle
 * loop runs there. They halt between two looks, so that the host has its cores for others.
 */
bool spinners_start(unsigned node);
void spinners_stop(void);

/* An online CPU of the node if it has one, else of the nearest; `nth` of them, round and round. */
unsigned measure_cpu(unsigned node, unsigned nth);

/* ---- memory ---- */

/* The node with the most memory, or the most of one largest block. */
unsigned measure_node(void);
/* Frames of the node that could be had if all claims and stores came back. */
u64 measure_free(unsigned node);
/* Frames of the node that are free and not clean. MM_ALL_NODES: of all. */
u64 measure_unclean(unsigned node);

/* A word that is not zero at the front of every frame of the block: dirt, for who looks. */
void measure_soil(pfn_t pfn, unsigned order);

/* Blocks chained through their first words: as many as there are. */
struct pile {
    pfn_t first;
    u64 blocks, frames;
};
#define PILE_EMPTY ((struct pile){.first = PFN_NONE})
/* Up to `blocks` blocks of this order from this node; how many came. */
u64 pile_take(struct pile *p, unsigned order, enum take_flags flags, unsigned node, u64 blocks);
void pile_soil(const struct pile *p, unsigned order);
/* Gives all back; all are of this order. */
void pile_free(struct pile *p, unsigned order);
/* All that the node has, until `leave` frames are left; blocks of every order, the largest first. */
struct ballast {
    struct pile of[ORDER_MAX + 1];
};
void ballast_take(struct ballast *b, unsigned node, u64 leave);
void ballast_free(struct ballast *b);

/* ---- the machine ---- */

/*
 * Until nothing is dirty, or nothing has been scrubbed for `stuck_ns` (a strategy may leave dirt
 * for ever). Guests that are exiting and threads that ended are gone first. Frames left dirty.
 */
u64 measure_settle(unsigned node, u64 stuck_ns);
/* Until at most `frames` are dirty, for at most `ns`: how many are then, and how long it took. */
u64 measure_clean_within(unsigned node, u64 frames, u64 ns, u64 *took_ns);

struct counts {                              /* frames, since boot */
    u64 clears, clears_locked, clears_again; /* the machine's own witness: arch/x86_64/clear.h */
    u64 idle_local, idle_remote, takers_local, takers_remote; /* what mm/ says */
    u64 aged, at_free, at_map;
};
void counts_take(struct counts *out);
void counts_since(const struct counts *before, struct counts *out);
/* Of this CPU alone, by the machine's witness. */
u64 counts_cpu_clears(unsigned cpu);

/* The strategy to hold against `eager`: the one in force unless that is it, else the default. */
const char *measure_lazy_strategy(void);

#endif
