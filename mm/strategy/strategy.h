/*
 * A strategy: one whole way to decide who zeroes what, when. The allocator knows none by name;
 * it calls these hooks. Next: mm/strategy/claim.c, the default.
 */
#ifndef MM_STRATEGY_H
#define MM_STRATEGY_H

#include "arch.h"
#include "mm/mm.h"

struct strategy {
    const char *name;
    /*
     * Before a run of frames is given back, on the CPU that frees, no lock held: true if the
     * frames hold only zeroes from now on. NULL: never.
     */
    bool (*before_free)(pfn_t first, u64 frames);
    /* One step of an idle CPU, see mm_scrub_step(); and its grant test, see mm_scrub_may(). */
    bool (*idle_step)(void);
    bool (*idle_may)(void);
    /* Nobody scrubs free memory: no idle CPU (the two above are NULL), and no age bound holds. */
    bool leaves_free_dirty;
    /* Guest memory may be taken dirty, and who scrubs it then: mm_take_carrying(). */
    enum mm_carry carry;
    /* What its name does not say and everybody who chooses it should know; NULL: nothing. */
    const char *warning;
};

extern const struct strategy *mm_strategy; /* (a) mm/strategy/strategy.c */

/* The one in force. It may change at any moment: load it once for one piece of work. */
static inline const struct strategy *strategy_now(void)
{
    return load_acquire(&mm_strategy); /* pairs with the release in mm_strategy_set() */
}

extern const struct strategy strategy_claim, strategy_eager, strategy_onmap, strategy_readonly;

/* mm/scrub.c: what idle CPUs do under claim, and with dirt that was there before under others. */
bool scrub_claim_step(void);
bool scrub_claim_may(void);

#endif
