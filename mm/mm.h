/*
 * Physical memory: the calls that the rest of the kernel uses. What they promise is P1 to P9 of
 * docs/tour.md; how they keep it begins at mm/zone.h.
 *
 * Context of every call unless it says otherwise: a thread (never an interrupt handler), no zone
 * lock held, interrupts on (before the other CPUs are up they may be off). mm/ takes zone locks.
 *
 * Two allocators stand behind these calls: mm/backend.h.
 *
 * Next: mm/zone.h (the data), mm/take.c and mm/free.c (the way of a frame).
 */
#ifndef MM_MM_H
#define MM_MM_H

#include "lib/base.h"
#include "lib/errors.h"
#include "lib/map512.h"

/* ---- bringing it up ---- */

struct mm_range {
    pfn_t start, end; /* frames, end exclusive; all of it free and dirty */
    unsigned node;
};

#define MM_ZONE_GIB_MAX 64
#define MM_RANGES_MAX   512

struct mm_config {
    const struct mm_range *range; /* sorted, disjoint */
    unsigned nr_ranges;
    unsigned nr_nodes;
    const u8 *distance; /* nr_nodes * nr_nodes, row-major, 10 = local; NULL: 20 to all others */
    unsigned zone_gib;  /* largest size of a zone, 1 to MM_ZONE_GIB_MAX; 0: the largest */
    bool scrub_off;     /* idle CPUs leave dirt alone until mm_scrub_enable(true) */
};

/*
 * Which allocator stands behind these calls: "limpid" unless another one is chosen before
 * mm_init(). mm_backend_set() gives 0 or E_NOENT; mm_backend_nth() the names there are, by
 * number, NULL past the last.
 */
int mm_backend_set(const char *name);
const char *mm_backend_name(void);
const char *mm_backend_nth(unsigned i);

/*
 * Makes zones of the ranges and gives them everything but their own metadata, which is taken
 * from their memory. All of it counts as dirty. Touches metadata only, in steps of a pageblock.
 * Boot CPU, once, nr_cpus and cpu_node() final. 0, E_INVAL (ranges), E_NOMEM (no zone at all).
 */
int mm_init(const struct mm_config *cfg);

/* ---- taking and giving back ---- */

enum take_flags {
    TAKE_ANY = 0,       /* the contents do not matter: dirty memory first */
    TAKE_CLEAN = 1,     /* all zero when it is given */
    TAKE_THIS_NODE = 2, /* fail rather than take from another node */
};

/*
 * A block of 2^order frames, order 0 to ORDER_MAX: its first pfn, or PFN_NONE, which means that
 * no allowed zone could serve it even with every store and claim given back (P4). Own node
 * first (clean, then dirty and cleared here), then the others by distance. May clear up to the
 * whole block itself, preemptibly, without a lock; waits for at most one frame's clear of
 * another CPU.
 */
static inline pfn_t mm_take(unsigned order, enum take_flags flags, unsigned node);
/* The same; adds to *cleared how many of the frames it had to clear itself. */
static inline pfn_t mm_take_counted(unsigned order, enum take_flags flags, unsigned node,
                                    u64 *cleared);

/*
 * Memory that nobody has scrubbed yet, for owners who know which of it that is: some strategies
 * leave the zeroing to the moment at which a guest gets to see a frame. Only guest memory is
 * taken so; what the kernel takes for itself is zero when it asks for that.
 */
enum mm_carry {
    CARRY_NONE,        /* dirt does not leave the allocator */
    CARRY_UNTIL_MAP,   /* the owner scrubs a frame before it maps it */
    CARRY_UNTIL_WRITE, /* the owner maps it read-only, and scrubs at the first write. This is
                          what P1 forbids; a strategy that says so has a warning */
};
/* What the strategy in force allows. It may change at any moment. Any context. */
enum mm_carry mm_carry(void);
/*
 * As mm_take_counted() with TAKE_CLEAN, for orders up to 9. If the strategy lets dirt be carried
 * nothing is cleared: *dirt has a bit (pfn % 512) for each frame of the block that is dirty;
 * otherwise it is empty. A frame that goes back without having been scrubbed goes back dirty, as
 * every frame does.
 */
pfn_t mm_take_carrying(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt,
                       u64 *cleared);
/* Scrubs frames that were carried, up to 512 of one pageblock. By their owner; no lock. */
void mm_scrub_carried(pfn_t pfn, unsigned frames);

/* Gives back a block that mm_take() gave, or an aligned part of one. Panics on a double free. */
static inline void mm_free(pfn_t pfn, unsigned order);

/*
 * Gives back the frames of `frames` in the pageblock that starts at `first` (a multiple of 512):
 * one lock hold for all of them.
 */
void mm_free_mask(pfn_t first, const struct map512 *frames);

/*
 * This frame is bad: it will never be handed out again. Free or stored, it is retired now;
 * allocated or in flight, when it is given back (the owner frees it as usual).
 * 0; E_INVAL (not memory of any zone); E_EXIST (retired before); E_NOSPC (the zone's table of
 * bad frames is full: the owner has to keep it).
 */
int mm_retire(pfn_t pfn);

/* True if the frame is one that mm_take() may give. Any context. */
bool mm_owns(pfn_t pfn);

/* The i-th nearest node to `node` (i = 0: itself), by distance, then by number. Any context. */
unsigned mm_node_near(unsigned node, unsigned i);

/* ---- scrubbing: called by the idle loop of sched/, see protocol "The idle loop" ---- */

/*
 * One scrub step of this CPU: claim, clear, return. True if it did any work. Comes back within
 * one frame's clear when need_resched() turns true. Idle thread only.
 */
bool mm_scrub_step(void);

/* The claim's own grant test: is there dirt that this CPU may claim now? Any context. */
bool mm_scrub_may(void);

/* Empties this CPU's stores into the zones and rings for their dirt. Before the CPU sleeps. */
void mm_stores_flush(void);

/* The state of a CPU, as who rings sees it. */
enum cpu_state {
    CPU_BUSY,   /* runs a thread: will not look for dirt */
    CPU_AWAKE,  /* in the idle loop: will look before it sleeps */
    CPU_ASLEEP, /* halted: needs a kick */
};

/*
 * This CPU's, a full fence after the store. If it is ASLEEP, whoever freed and may have read the
 * state before has let go of its zone's lock when this returns: a look from now on finds that dirt.
 * Interrupts on, no zone lock held.
 */
void mm_cpu_state_set(enum cpu_state state);
/* What that CPU has published; a rung one is AWAKE already. Full fence before. Any context. */
enum cpu_state mm_cpu_state(unsigned cpu);

/*
 * The bell: rings every dirty zone that this CPU serves. Called by a CPU that leaves idle, after
 * it has published CPU_BUSY, and by who changes what idle CPUs may do. Interrupts on, no zone lock
 * held.
 */
void mm_bell_pass_on(void);

/* Idle scrubbing on or off; on rings all dirty zones. Takers clear what they take either way. */
void mm_scrub_enable(bool on);
bool mm_scrub_enabled(void);

/*
 * What idle CPUs are allowed, and what happens if they are not enough. Settable at any moment.
 * Memory of a node that is limited is still cleared by takers, and by the aged step.
 */
struct mm_policy {
    u32 age_ms;    /* dirt older than this is scrubbed even if nobody is idle; 0: no bound */
    u32 rate_mib;  /* MiB/s of one node that idle CPUs may scrub; 0: no limit */
    u32 scrubbers; /* CPUs that may scrub one node at a time; 0: no limit */
    u32 batch;     /* the order of what the strategy `batch` takes aside at a time; 0: its own */
};

#define MM_AGE_MS_MAX   (24u * 3600 * 1000)
#define MM_RATE_MIB_MAX (1u << 20)
#define MM_AGE_MS       10000 /* the bound unless one is set */

void mm_policy_get(struct mm_policy *out);
/* 0; E_INVAL: a value beyond its maximum, nothing is changed. Rings all dirty zones. */
int mm_policy_set(const struct mm_policy *policy);

/*
 * When this CPU may scrub again although mm_scrub_may() says no, because the rate limit is all
 * that stands in its way: time_ns(), or 0 for "not before somebody rings". The idle loop sets
 * its timer by it. Any context.
 */
u64 mm_scrub_may_at(void);

/*
 * The aged step of one node (protocol rule 17): sweeps stores that hold old dirt, then scrubs one
 * pageblock whose dirt is past the age bound, whatever the rate limit says. Gives nanoseconds
 * until it should be called again: 0 at once, ~0 when a bound is set. Thread context, in a thread
 * with guaranteed turns.
 */
u64 mm_aged_step(unsigned node);
/*
 * The longest that mm_aged_step() lets its caller sleep under an age bound, ms. Dirt may count as
 * older than it is by so much.
 */
u32 mm_aged_sleep_ms(u32 age_ms);
/* What clearing one frame takes on this machine, nanoseconds: a running mean of scrub steps. */
u64 mm_clear_ns(void);

/*
 * Chooses a strategy of this backend by name, at any moment. 0; E_NOENT: there is none of that
 * name; E_INVAL: it is another backend's, which takes a boot.
 */
int mm_strategy_set(const char *name);
const char *mm_strategy_name(void);
/* What whoever chooses the strategy in force should be told; NULL: nothing. */
const char *mm_strategy_warning(void);
/* Under the strategy in force somebody scrubs free memory: idle CPUs, or the aged step. */
bool mm_strategy_scrubs_free(void);
/* The strategies of this backend by number, its default first; NULL past the last. */
const char *mm_strategy_nth(unsigned i);
/* The backend that has a strategy of that name, this one if it has; NULL: none. */
const char *mm_strategy_backend(const char *name);

/* ---- looking ---- */

struct mm_zone_info {
    unsigned node;
    pfn_t start, end;               /* the span; may have holes */
    u64 frames;                     /* that the zone manages: the sum of the next seven */
    u64 clean, dirty;               /* free in the maps */
    u64 stored_clean, stored_dirty; /* in CPUs' stores */
    u64 in_flight;                  /* claimed by scrubbers */
    u64 allocated, retired;
    u64 metadata_bytes;                            /* not in `frames` */
    u64 scrubbed_idle_local, scrubbed_idle_remote; /* frames, since boot */
    u64 scrubbed_takers_local, scrubbed_takers_remote;
    u64 scrubbed_aged;      /* frames, by the aged step; not in the two above */
    u64 scrubbed_at_free;   /* by strategies that do */
    u64 scrubbed_at_map;    /* by mm_scrub_carried() */
    u64 waits;              /* takes that had to wait for claims */
    u64 max_clears_waited;  /* the most clears that a claim began after a gate was shut: 1 (P4) */
    u64 oldest_dirt_ms;     /* the age of the oldest dirt now */
    u64 oldest_scrubbed_ms; /* the oldest that dirt got before it was scrubbed */
};

unsigned mm_nr_zones(void);
/*
 * A consistent picture of one zone, taken under its lock with the stores' owners kept out; only
 * the age of the oldest dirt is looked for afterwards, a GiB at a time.
 */
void mm_zone_info(unsigned zone, struct mm_zone_info *out);
/* The sums over all zones of a node; MM_ALL_NODES: over all. start and end are 0. */
#define MM_ALL_NODES (~0u)
void mm_node_info(unsigned node, struct mm_zone_info *out);

/*
 * What a strategy costs others, over all zones, since boot; the maxima since mm_costs_reset().
 * Counted, not timed. Steps under a lock are counted by classic alone: records and list nodes
 * touched, a clear is 512 (what limpid does under a lock is counted by `make bench-host`).
 */
struct mm_costs {
    u64 cleared;           /* frames, by whomever: idle CPUs, aged steps, takers, at free */
    u64 cleared_twice;     /* frames that another cleared at the same time */
    u64 waits;             /* times that somebody waited for others' clears */
    u64 clears_waited;     /* such clears, in all */
    u64 max_clears_waited; /* by one request */
    u64 max_hold_steps;    /* the longest that a lock was held */
    u64 failed;            /* takes that failed (classic) */
    u64 failed_detained;   /* of them: a block that would have served was kept off by a scrubber */
    u64 detained;          /* frames now */
    u64 spoilt;            /* free clean frames now that nobody can have as clean without a look at
                              each, for a dirty one was before them in their block */
};
void mm_costs_get(struct mm_costs *out);
void mm_costs_reset(void);

/* False: this backend never scrubs dirt because of its age, whatever the policy says. */
bool mm_has_age_bound(void);
/* False: a node whose CPUs are all busy stays dirty. */
bool mm_helps_busy_nodes(void);
/* False: a taker may wait for several clears (P4), for it queues behind others who wait for theirs. */
bool mm_waits_for_one_clear(void);
/*
 * A scrub step is at work whose frames are not in flight, so that CPUs have counted what zones
 * have not. Always false on limpid. Any context.
 */
bool mm_scrub_at_work(void);

struct mm_cpu_info { /* frames; all but the stored ones since boot */
    u64 scrubbed_idle_local, scrubbed_idle_remote, scrubbed_aged;
    u64 scrubbed_takers_local, scrubbed_takers_remote;
    u64 stored_clean, stored_dirty; /* now */
};
/* What one CPU scrubbed: the sums over all CPUs are those over all zones. */
void mm_cpu_info(unsigned cpu, struct mm_cpu_info *out);
/* Frames scrubbed by this CPU when idle, since boot; counted one by one as they are cleared. */
u64 mm_cpu_scrubbed(unsigned cpu);

/* ---- how long a zone lock is held ---- */

/*
 * P5: the most steps (basic blocks) under a zone lock, turns of a spin not counted, on a machine
 * of so many CPUs and GiB. The longest hold is the decision of a take (mm/wait.c), which has all
 * zones' locks; docs/locking.md adds it up. All others are parts of it, but for mm_check().
 */
#define MM_LOCK_STEPS_MAX(cpus, gibs)                                        \
    (16384 +                    /* a GiB taken whose pageblocks are mixed */ \
     4096ull * (gibs) +         /* looking for a run in each zone */         \
     9000ull * (cpus) +         /* giving back what each CPU stores */       \
     310ull * (cpus) * (cpus) + /* whether others claim or store of that */  \
     12ull * (gibs) * (cpus))   /* the claims, the gate of each zone */

/* ---- checking ---- */

/*
 * The invariant walker: recounts every map, list, counter, store and claim of every zone, and,
 * with contents, reads every frame that counts as clean (P3). Says what is wrong through
 * `say` (one line each) and returns how many things were. For tests: holds each zone lock for
 * as long as it takes.
 */
unsigned mm_check(bool contents, void (*say)(const char *line));

#include "mm/backend.h" /* the calls above that are inline */

#endif
