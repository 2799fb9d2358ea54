/*
 * Does it all add up? Who holds the frames that are allocated, and do the counts of the zones,
 * the CPUs and the guests agree. The tables show it, the tests check it after every case.
 */
#ifndef KERNEL_ACCOUNTING_H
#define KERNEL_ACCOUNTING_H

#include "lib/base.h"
#include "mm/mm.h"

struct accounting {
    struct mm_zone_info all; /* the sums over all zones */

    /* Who holds all.allocated, in frames. */
    u64 guests;      /* memory of guests */
    u64 guest_own;   /* what the kernel keeps about them: page tables, the map, the head */
    u64 guests_kept; /* not zero and not to be retired: nobody's for good */
    u64 stacks;      /* of threads */
    u64 records;     /* of threads */
    s64 unaccounted; /* the rest: of nobody */

    u64 cpu_scrubbed; /* frames, by idle CPUs and the aged scrubbers: the sum over all CPUs */
    struct mm_cpu_info cpus; /* the same by kind, and what takers cleared; and what is stored */
    bool steady;             /* nothing moved while this was taken, so all of it is of one moment */
};

/* As it is now, `steady` if a few tries gave a moment at which nothing moved. Thread context. */
void accounting_take(struct accounting *out);

/*
 * The same, with idle scrubbing stopped for a moment, and everything added up: says what is
 * wrong, one line each, and returns how many things were. For a quiet machine: no guest is
 * starting or exiting, nobody takes or frees; what the caller has taken is in `unaccounted`.
 */
unsigned accounting_check(void (*say)(const char *line), struct accounting *out);

#endif
