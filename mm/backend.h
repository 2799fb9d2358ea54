/*
 * The door: two allocators behind the calls of mm/mm.h, of which the boot chooses one
 * (`alloc=NAME`). A call costs one indirect jump that is always the same one, so it is predicted.
 *
 *   limpid    maps of bits, claims: mm/zone.h                     the default
 *   classic   records and lists, as in books: mm/classic/heap.h
 *
 * Neither backend knows of the other. A strategy belongs to one backend; the door knows the
 * strategies by what their backend says. Common to both, and not in here: the nodes' order, the
 * CPUs' states, the policy, the switch of idle scrubbing.
 *
 * Next: mm/limpid.c, mm/mm.c.
 */
#ifndef MM_BACKEND_H
#define MM_BACKEND_H

#include "mm/mm.h"

/* What each does is said at the call of the same name in mm/mm.h. All are there but two. */
struct backend {
    const char *name;

    int (*init)(const struct mm_config *cfg);
    pfn_t (*take)(unsigned order, enum take_flags flags, unsigned node, u64 *cleared);
    void (*free)(pfn_t pfn, unsigned order);
    void (*free_mask)(pfn_t first, const struct map512 *frames);
    int (*retire)(pfn_t pfn);
    bool (*owns)(pfn_t pfn);

    bool (*scrub_step)(void);
    bool (*scrub_may)(void);
    u64 (*scrub_may_at)(void); /* not asked while idle scrubbing is off, nor are those above */
    void (*stores_flush)(void);
    void (*bell_pass_on)(void);
    u64 (*aged_step)(unsigned node);
    bool no_age_bound;           /* (c) aged_step() does nothing */
    bool no_help;                /* (c) idle CPUs do not scrub for a node whose own are all busy */
    bool waits_add_up;           /* (c) takers wait for clears with a lock held that others want */
    bool (*scrub_at_work)(void); /* NULL: what is at work is in flight, and shows there */

    /* Its strategies by number, NULL past the last; the one in force; E_NOENT if not its own. */
    const char *(*strategy_nth)(unsigned i);
    const char *(*strategy_name)(void);
    int (*strategy_set)(const char *name);
    const struct strategy *(*strategy_now)(void);

    /* NULL: no strategy of this backend lets dirt be carried. */
    pfn_t (*take_dirty)(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt);
    void (*scrub_carried)(pfn_t pfn, unsigned frames);

    unsigned (*nr_zones)(void);
    void (*zone_info)(unsigned zone, struct mm_zone_info *out);
    void (*cpu_info)(unsigned cpu, struct mm_cpu_info *out);
    void (*costs)(struct mm_costs *out, bool reset); /* reset: the maxima begin anew */
    unsigned (*check)(bool contents, void (*say)(const char *line));
};

extern const struct backend backend_limpid;  /* mm/limpid.c */
extern const struct backend backend_classic; /* mm/classic/backend.c */

extern const struct backend *mm_backend; /* (c) after mm_init(); mm/mm.c */

/* ---- the calls that are made millions of times: nothing but the jump ---- */

static inline pfn_t mm_take_counted(unsigned order, enum take_flags flags, unsigned node,
                                    u64 *cleared)
{
    return mm_backend->take(order, flags, node, cleared);
}

static inline pfn_t mm_take(unsigned order, enum take_flags flags, unsigned node)
{
    u64 cleared = 0;
    return mm_backend->take(order, flags, node, &cleared);
}

static inline void mm_free(pfn_t pfn, unsigned order)
{
    mm_backend->free(pfn, order);
}

#endif
