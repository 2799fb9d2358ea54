/*
 * The lock order, in one place. A CPU may take a lock only if its rank is greater than the rank
 * of every lock it holds; locks of equal rank are ordered by `sub`, ascending (zone locks: by
 * zone index). spin_lock() panics on an inversion with both names (docs/locking.md).
 */
#ifndef LIB_LOCK_RANKS_H
#define LIB_LOCK_RANKS_H

enum lock_rank {
    RANK_GUEST_TABLE = 1, /* guest/guest.c: the table of guests */
    RANK_GUEST,           /* one guest's extents and state */
    RANK_WAITQ,           /* sched/: threads waiting for one event */
    RANK_THREADS,         /* sched/: the list of all threads and their records */
    RANK_RUNQ,            /* sched/: one CPU's run queue; interrupts off */
    RANK_ZONE,            /* mm/: one zone's maps, lists, claims and counters; sub = zone index */
    RANK_STORE,           /* mm/store.c: sweeps of the CPUs' stores, one at a time */
    RANK_CONSOLE_IN,      /* kernel/: received bytes; interrupts off */
    RANK_LOG,             /* kernel/log.c: one line at a time; interrupts off */
};

#endif
