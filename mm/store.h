/*
 * Stores: what one CPU keeps at hand, so that an order-0 take or free needs no zone lock.
 *  - two take stores (clean, any): the free mask of one pageblock, as a claim for allocation;
 *  - the write-behind buffer: frames just freed, dirty, on their way back into the maps.
 * A dirty frame of the pageblock that takers of any frame are served from comes back right there.
 * That is no reuse that costs contiguity: the pageblock is the one that is being used up.
 * Every move between a store and the maps happens under the zone lock; a pop or push needs none
 * and no fence (protocol rules 1 to 3). Takers in need sweep all stores.
 */
#ifndef MM_STORE_H
#define MM_STORE_H

#include "mm/pageblock.h"

/*
 * The write-behind buffer: as many frames as a take store, in so many words of maps at most. The
 * second bounds what giving it back costs under the zone lock.
 */
#define BEHIND_MAX   512
#define BEHIND_WORDS 32

enum store_kind {
    STORE_ANY,
    STORE_CLEAN, /* serves TAKE_CLEAN; may hold dirty frames if its node had no clean ones */
    NR_STORES,
};

/* What others look at when somebody frees into its pageblock, or wants a whole one; then the frames. */
struct store {
    struct zone *zone; /* NULL: given up. Changes under that zone's lock only */
    u32 pb;
    u32 since;
    u64 block;  /* pfn / 512 of what may come back here, else ~0 */
    u32 back;   /* frames that came back and are not of `filled` */
    u16 filled; /* (Z) frames that it was given */
    bool clean;
    u8 words; /* those with frames in them, and maybe the one that pops come from, the lowest */
    struct map512 frames __attribute__((aligned(64))); /* what is left */
    struct map512 counted; /* `filled` and `back` have counted these: they may come back again */
};

/* Frames of one word that were freed one after the other. */
struct behind_word {
    u32 zone; /* its index */
    u32 word; /* of the zone's maps: eight to a pageblock */
    u64 frames;
};

struct behind {
    unsigned nr; /* frames, with those that may come into the word at hand */
    u32 since;   /* ms: the oldest push */
    unsigned nr_words;
    struct behind_word word[BEHIND_WORDS];
};

/*
 * The word that pushes go to by the short way: where the last one went, in the store or the buffer.
 * Which of its bits may be set is decided beforehand, and they are counted as if they were: so the
 * short way counts nothing.
 */
struct push_hand {
    u64 word; /* pfn / 64; ~0: none */
    u64 *at;
    u64 may;
};

/*
 * Of whoever is in, its owner or a sweeper: mm/store.c tells how they keep apart. What the short
 * ways need comes first; the size is a power of two, for they look it up by the CPU's number.
 */
struct cpu_stores {
    u32 inside; /* (a) by the owner */
    u32 serves; /* (a) by a sweeper: SERVES_NOBODY while it wants the stores; else `own` */
    /* The word that pops come from by the short way: in the store, or one that is empty. */
    u64 *pop_at[NR_STORES];
    pfn_t pop_first[NR_STORES]; /* the frame of its lowest bit */
    struct push_hand push;
    bool behind_at_hand; /* push.at is in the buffer */
    unsigned home;       /* (c) the node whose memory the take stores hold */
    unsigned own; /* (c) home, if it is this CPU's own node, else SERVES_NO_NODE: the slow way */
    struct store store[NR_STORES];
    struct behind behind;
} __attribute__((aligned(4096)));
#define SERVES_NO_NODE (~0u - 1)
#define SERVES_NOBODY  (~0u)
extern struct cpu_stores mm_stores[MAX_CPUS];

/* ---- the short ways: inline, for a call costs as much as what they do ---- */

/*
 * Says that this CPU is in its stores, and tells whom they serve. SERVES_NOBODY: a sweeper wants
 * them, and this CPU has to leave, and gets in only by the sweeper's lock. Preemption off; no lock is
 * taken while in.
 */
static inline u32 store_enter(struct cpu_stores *cs)
{
    store_relaxed(&cs->inside, 1);
    compiler_barrier();               /* the CPU's half of the order is the sweeper's business */
    return load_acquire(&cs->serves); /* acquire: what a sweeper left is seen */
}

static inline void store_leave(struct cpu_stores *cs)
{
    store_release(&cs->inside, 0); /* pairs with the sweeper's acquire */
}

/* A sweeper wants these, or is in. Under its lock it stays so. */
static inline bool store_is_stopped(const struct cpu_stores *cs)
{
    return load_relaxed(&cs->serves) == SERVES_NOBODY;
}

/*
 * A frame of `node`, if that is this CPU's own, from its store; out of STORE_CLEAN only a clean one.
 * False: ask store_pop_slowly(), for its word at hand is empty or a sweeper is there. Preemption off.
 */
static inline bool store_pop(enum store_kind kind, unsigned node, pfn_t *pfn)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    if (likely(store_enter(cs) == node)) {
        u64 *at = cs->pop_at[kind], w = *at;
        if (likely(w)) {
            store_relaxed(at, w & (w - 1)); /* read by store_holds_locked() */
            *pfn = cs->pop_first[kind] + (u64)__builtin_ctzll(w);
            store_leave(cs);
            return true;
        }
    }
    store_leave(cs);
    return false;
}
/* A frame of `node` from all words, and whoever is there; PFN_NONE: this CPU has none. *dirty tells
   what it holds. */
pfn_t store_pop_slowly(enum store_kind kind, unsigned node, bool *dirty);

/*
 * Puts a freed, dirty frame to where the last one went. False: this is for store_push_slowly().
 * Preemption off.
 */
static inline bool store_push(pfn_t pfn)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    if (likely(store_enter(cs) != SERVES_NOBODY && pfn / 64 == cs->push.word)) {
        u64 *at = cs->push.at, w = *at;
        if (likely((cs->push.may & ~w) >> (pfn % 64) & 1)) {
            store_relaxed(at, w | 1ULL << (pfn % 64)); /* read by store_holds_locked() */
            store_leave(cs);
            return true;
        }
    }
    store_leave(cs);
    return false;
}
/* The same for any frame of z, if need be after giving the buffer back. */
void store_push_slowly(struct zone *z, pfn_t pfn);

/* ---- the others ---- */

/*
 * Fills this CPU's (empty) store with `frames`, n of them, of pageblock i, which the caller took out
 * of the maps just now: all of one kind, clean or dirty. Zone lock, preemption off.
 */
void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       unsigned n, bool clean, u32 since);

/* The zone this CPU's store belongs to, NULL if it is given up. Preemption off. */
struct zone *store_zone(enum store_kind kind);
/* This CPU's store is empty; if it still counts as out on a pageblock of z, no longer. Zone lock. */
void store_give_up_locked(struct zone *z, enum store_kind kind);

/* Gives back what all CPUs store of zone z (protocol rule 1). Zone lock; interrupts on. */
void store_sweep_locked(struct zone *z);
/*
 * The same for several zones, whose locks are all held: the owners are kept out of their stores
 * once, from begin to end, for it takes an IPI to each that stores anything.
 */
void store_sweep_begin(void);
void store_sweep_zone_locked(struct zone *z);
void store_sweep_end(void);

/*
 * How many frames are missing, with every claim and all that was given to take stores back, until
 * a pageblock of z is whole that a take store names. And how many frames were freed into stores
 * and may not be counted in that. mm/wait.c says what may be concluded if they are asked in this
 * order. Zone lock.
 */
unsigned store_least_missing_locked(const struct zone *z);
u64 store_frames_freed(void);

/* True if a store holds dirt of z that was freed at least `age_ms` ago. Zone lock. */
bool store_holds_older_locked(const struct zone *z, u32 age_ms);

/* Empties this CPU's write-behind buffer and rings for the dirt. Preemption off. */
void store_flush_behind(void);

/* As claim_holds_locked(): the take stores. Zone lock. */
bool store_holds_locked(const struct zone *z, u32 i, const struct part512 *frames, unsigned *out);

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
