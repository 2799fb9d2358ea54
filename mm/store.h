/*
 * Stores: what one CPU keeps at hand, so that an order-0 take or free needs no zone lock.
 *  - two take stores (clean, any): the free mask of one pageblock, as a claim for allocation;
 *  - the write-behind buffer: frames just freed, dirty, on their way back into the maps.
 * Every move between a store and the maps happens under the zone lock; a pop or push needs none
 * and no fence (protocol rules 1 to 3). Takers in need sweep all stores.
 */
#ifndef MM_STORE_H
#define MM_STORE_H

#include "mm/pageblock.h"

#define BEHIND_MAX 64 /* frames in the write-behind buffer */

enum store_kind {
    STORE_ANY,
    STORE_CLEAN, /* serves TAKE_CLEAN; may hold dirty frames if its node had no clean ones */
    NR_STORES,
};

/*
 * A frame from this CPU's store, or PFN_NONE. *dirty tells what it holds. Preemption off.
 */
pfn_t store_pop(enum store_kind kind, bool *dirty);

/* Puts a freed, dirty frame into the write-behind buffer. False if it is full. Preemption off. */
bool store_push(pfn_t pfn);

/*
 * Fills this CPU's (empty) store with `frames` of pageblock i, which the caller took out of the
 * maps just now: all of one kind, clean or dirty. Zone lock, preemption off.
 */
void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       bool clean, u32 since);

/* The zone this CPU's store belongs to, NULL if it is given up. Preemption off. */
struct zone *store_zone(enum store_kind kind);

/* Gives back what this CPU stores of zone z. Zone lock. */
void store_sweep_own_locked(struct zone *z);
/* The same for all CPUs (protocol rule 1). Zone lock; interrupts on. */
void store_sweep_locked(struct zone *z);
/*
 * The same for several zones, whose locks are all held: the owners are kept out of their stores
 * once, from begin to end, for it takes an IPI to each that stores anything.
 */
void store_sweep_begin(void);
void store_sweep_zone_locked(struct zone *z);
void store_sweep_end(void);

/* True if a store holds dirt of z that was freed at least `age_ms` ago. Zone lock. */
bool store_holds_older_locked(const struct zone *z, u32 age_ms);

/* Empties this CPU's stores of all zones and rings for their dirt. Preemption off. */
void store_flush(void);

/* True if a store holds one of these frames of pageblock i. Zone lock. */
bool store_holds_locked(const struct zone *z, u32 i, const struct map512 *frames);

/* Counts frames of z in all stores. Zone lock (a pop may still take one away). */
void store_count_locked(const struct zone *z, u64 *clean, u64 *dirty);
/* What one CPU stores, of all zones. No zone lock needed: a copy of the moment. */
void store_count_cpu(unsigned cpu, u64 *clean, u64 *dirty);

/* Calls fn for every store of z: its pageblock, frames, kind. Zone lock; for the walker. */
void store_for_each_locked(const struct zone *z,
                           void (*fn)(const struct zone *z, u32 i, const struct map512 *frames,
                                      bool clean, void *ctx),
                           void *ctx);

void store_init(void);

#endif
