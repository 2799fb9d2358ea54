/*
 * Inside of a take: what mm/take.c and mm/wait.c share.
 */
#ifndef MM_TAKE_H
#define MM_TAKE_H

#include "mm/bell.h"
#include "mm/gigablock.h"

struct take_request {
    unsigned order;
    bool clean;     /* the caller wants zeroes */
    bool this_node; /* and fails rather than go elsewhere */
    unsigned node;
};

struct taken {
    struct zone *zone;
    pfn_t pfn;
    unsigned order;
    struct dirt dirt; /* if the request asks for clean: what is to be cleared yet */
};

/* Takes a block out of the maps of one zone: of clean, of dirty, or of any frames. Zone lock. */
bool take_from_zone_locked(struct zone *z, const struct take_request *r, enum pb_view view,
                           struct taken *out);

/*
 * The last word: takes the block, waiting for claims if they can help, or finds that no allowed
 * zone can serve it. Thread context, no lock held.
 */
bool take_decide(const struct take_request *r, struct taken *out);

extern u8 mm_home_nodes[MAX_NODES]; /* (c) */

/* The nearest node that has memory: where "at home" is for a node without any. */
static inline unsigned mm_home_node(unsigned node)
{
    return mm_home_nodes[node];
}

#endif
