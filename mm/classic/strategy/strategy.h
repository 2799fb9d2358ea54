/*
 * A strategy on the backend `classic`: who zeroes what, and when. One file each in this directory;
 * each says whose idea it is, what it is meant to do, and how it fails, in two columns: A takes or
 * frees memory, B is an idle CPU that scrubs.
 *
 *   eager     before 2014     who frees                     inplace   Xen since 2017, in place
 *   ondemand  Linux           who takes                     overlap   Jan: in place, takers wait
 *   locked    ruled out       idle CPUs, under the lock     batch     Bob, v2: taken aside
 *   walk      naive           idle CPUs, no lock            mark      Konrad: two flags
 *
 * Changing the strategy is safe at any moment between all of them but `walk` and `mark`, which
 * are not safe by themselves: strategy.c of mm/classic/.
 */
#ifndef MM_CLASSIC_STRATEGY_H
#define MM_CLASSIC_STRATEGY_H

#include "mm/classic/heap.h"
#include "mm/strategy/strategy.h"

/* One step of an idle CPU in a heap: what it has cleared, and what is counted of that. */
struct scrub {
    struct heap *h;
    struct dirt_drop drop;
    u64 began;   /* time_ns() */
    u32 limit;   /* frames: not more in one step */
    u32 cleared; /* frames */
    u32 twice;   /* of them: another had cleared it as well */
};

struct classic_strategy {
    struct strategy common; /* what the door asks for: its hooks are limpid's and not used here */
    /* Before a block is given back, by its owner, no lock held: true if it is zero from now on. */
    bool (*before_free)(struct heap *h, u32 i, u32 frames);
    /*
     * The listed block that a request gets, claimed, or LINK_NONE. NULL: heap_pick_locked(). The
     * lock is held.
     */
    u32 (*pick_locked)(struct heap *h, unsigned order, bool clean);
    /* The taker has the block and has cleared what it had to; no lock held. */
    void (*taken)(struct heap *h, u32 i, unsigned order);
    /*
     * One step of an idle CPU, preemption off, no lock held: true if it did anything. NULL: idle
     * CPUs do nothing. And whether there is anything to do: NULL: dirt that nobody has taken on.
     */
    bool (*step)(struct scrub *s);
    bool (*may)(const struct heap *h);
    bool stops; /* a taker may stop who scrubs in the block that it wants */
    bool alone; /* one scrubber a heap */
};

extern const struct classic_strategy strategy_classic_eager, strategy_ondemand, strategy_locked,
    strategy_walk, strategy_mark, strategy_batch, strategy_overlap, strategy_inplace;

extern const struct classic_strategy *classic_strategy; /* (L); read without it as a hint */

void strategies_init(void); /* strategy.c */
/*
 * No step is at work from the return on, and none begins, until strategies_go(). Thread context,
 * no lock held; waits for one clear.
 */
void strategies_stop(void);
void strategies_go(void);
/* A step begins: false if it may not. Preemption off from begin to end. */
bool strategy_step_begin(void);
void strategy_step_end(void);
bool strategies_stopped(void);

/* The smallest block that serves; clean ones first, or dirty ones first: take.c. */
u32 heap_pick_locked(struct heap *h, unsigned order, bool clean);

/* Clears frame i, counted; it is visible to others when this returns. */
void scrub_clear(struct scrub *s, u32 i);
/* Asked after each clear: a thread wants this CPU, or nobody is to scrub any more, or not so much. */
bool scrub_must_stop(const struct scrub *s);

/* inplace.c, for strategies that have a better idea but no way to get rid of older dirt. */
bool inplace_step(struct scrub *s);
bool inplace_may(const struct heap *h);

/*
 * walk.c: along all lists without the lock, as `walk` and `mark` do; `visit` says whether it did
 * anything. A block that leaves its list meanwhile is the end: a panic that names it.
 */
bool walk_lists(struct scrub *s, const char *who,
                bool (*visit)(struct scrub *s, u32 i, unsigned k));
bool walk_may(const struct heap *h);

/* batch.c: the order of what is taken aside at a time, from the policy. */
unsigned batch_order(void);

/* overlap.c: forgets what the machine before left in the slots. */
void overlap_init(void);

/*
 * Turn gates: a test may hold a CPU at a named point of a strategy, where it is about frame i,
 * until another has done its step, so that a schedule of two columns can be acted. Off: a load
 * and a branch.
 */
extern void (*classic_gate)(const char *point, pfn_t pfn); /* (a) NULL: off */

static inline void gate(const char *point, const struct heap *h, u32 i)
{
    void (*hold)(const char *, pfn_t) = load_acquire(&classic_gate);
    if (unlikely(hold != NULL))
        hold(point, heap_pfn(h, i));
}

#endif
