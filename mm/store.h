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
 * The write-behind buffer: as many frames as a take store, of so many pageblocks at most. The
 * second bounds what giving it back costs under the zone lock.
 */
#define BEHIND_MAX    512
#define BEHIND_GROUPS 32
#define BACK_MAX      512 /* frames may come back to a take store until it is counted again */

enum store_kind {
    STORE_ANY,
    STORE_CLEAN, /* serves TAKE_CLEAN; may hold dirty frames if its node had no clean ones */
    NR_STORES,
};

/*
 * Two lines and more: whose frames they are, which other CPUs look at when somebody frees into
 * that pageblock, and what its owner writes at every pop.
 */
struct store {
    struct zone *zone; /* NULL: given up. Changes under that zone's lock only */
    u32 pb;
    u32 since;
    bool clean;
    u16 filled;                           /* (Z) frames that it was given */
    u64 *at __attribute__((aligned(64))); /* the word of `frames` that pops come from; those below
                                             are empty */
    pfn_t first;                          /* the frame of its lowest bit */
    u64 block;                            /* pfn / 512 of what may come back here, else ~0 */
    u32 back;                             /* frames that came back since `filled` was counted */
    struct map512 frames;                 /* what is left */
};

/* Frames of one pageblock that were freed one after the other. */
struct behind_group {
    struct zone *zone;
    u32 pb;
    struct part512 frames;
};

struct behind {
    unsigned nr; /* frames */
    u32 since;   /* ms: the oldest push */
    u64 word;    /* pfn / 64 of the last frame, if that word is in one zone; else ~0 */
    u64 *at;     /* that word in the last group */
    unsigned nr_groups;
    struct behind_group group[BEHIND_GROUPS];
};

/* Of whoever is in, its owner or a sweeper: mm/store.c tells how they keep apart. */
struct cpu_stores {
    u32 inside;    /* (a) by the owner */
    u32 wanted;    /* (a) by a sweeper, under sweep_lock */
    unsigned home; /* (c) the node whose memory the take stores hold */
    unsigned own; /* (c) home, if it is this CPU's own node, else none: who asks for it is served */
    struct store store[NR_STORES];
    struct behind behind;
} __attribute__((aligned(64)));
extern struct cpu_stores mm_stores[MAX_CPUS];

/* ---- the short ways: inline, for a call costs as much as what they do ---- */

/*
 * True: this CPU is in its stores, until store_leave(). False: a sweeper wants them, and it gets
 * in only by the sweeper's lock. Preemption off; no lock is taken while in.
 */
static inline bool store_enter(struct cpu_stores *cs)
{
    store_relaxed(&cs->inside, 1);
    compiler_barrier(); /* the CPU's half of the order is the sweeper's business */
    if (likely(!load_acquire(&cs->wanted))) /* acquire: what a sweeper left is seen */
        return true;
    store_release(&cs->inside, 0);
    return false;
}

static inline void store_leave(struct cpu_stores *cs)
{
    store_release(&cs->inside, 0); /* pairs with the sweeper's acquire */
}

/* The lowest frame of the word at hand, which is not empty. In. */
static inline pfn_t store_pop_bit(struct store *s, bool *dirty)
{
    u64 w = *s->at;
    store_relaxed(s->at, w & (w - 1)); /* read by store_holds_locked() */
    *dirty = !s->clean;
    return s->first + (unsigned)__builtin_ctzll(w);
}

/*
 * A frame of `node`, if that is this CPU's own, from its store. PFN_NONE: ask store_pop_slowly(), for
 * its word at hand is empty or a sweeper is there. *dirty tells what the frame holds. Preemption off.
 */
static inline pfn_t store_pop(enum store_kind kind, unsigned node, bool *dirty)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    if (unlikely(cs->own != node))
        return PFN_NONE;
    if (likely(store_enter(cs))) {
        if (likely(*s->at))
            pfn = store_pop_bit(s, dirty);
        store_leave(cs);
    }
    return pfn;
}
/* A frame of `node` from all words, and whoever is there; PFN_NONE: this CPU has none. */
pfn_t store_pop_slowly(enum store_kind kind, unsigned node, bool *dirty);

/* Back into the take store of its pageblock. False: it is there already, or count first. In. */
static inline bool store_put_back(struct store *s, pfn_t pfn)
{
    u64 *word = &s->frames.w[pfn / 64 % MAP512_WORDS], bit = 1ULL << (pfn % 64);
    if (unlikely(*word & bit || s->back == BACK_MAX))
        return false;
    if (word < s->at) {
        s->at = word;
        s->first = ALIGN_DOWN(pfn, 64);
    }
    store_relaxed(word, *word | bit);     /* read by store_holds_locked() */
    store_release(&s->back, s->back + 1); /* read by store_frames_freed() */
    return true;
}

/* To where the last frame went, in the write-behind buffer. False: that is another word. In. */
static inline bool store_put_behind(struct behind *b, pfn_t pfn)
{
    u64 bit = 1ULL << (pfn % 64);
    if (unlikely(pfn / 64 != b->word || b->nr == BEHIND_MAX || *b->at & bit))
        return false;
    *b->at |= bit;
    store_release(&b->nr, b->nr + 1);
    return true;
}

/*
 * Puts a freed, dirty frame into this CPU's stores. False: this is for store_push_slowly().
 * Preemption off.
 */
static inline bool store_push(pfn_t pfn)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    struct store *s = &cs->store[STORE_ANY];
    bool done = false;
    if (likely(store_enter(cs))) {
        done = pfn / 512 == s->block ? store_put_back(s, pfn) : store_put_behind(&cs->behind, pfn);
        store_leave(cs);
    }
    return done;
}
/* The same for any frame of z, if need be after giving the buffer back. */
void store_push_slowly(struct zone *z, pfn_t pfn);

/* ---- the others ---- */

/*
 * Fills this CPU's (empty) store with `frames` of pageblock i, which the caller took out of the
 * maps just now: all of one kind, clean or dirty. Zone lock, preemption off.
 */
void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       bool clean, u32 since);

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
