/*
 * Gives frames back by pageblock: collects them in a few masks and calls mm_free_mask() once for
 * each, so that a guest whose memory came in crumbs costs one lock hold for each pageblock and
 * not one for each frame (P7).
 *
 * Owns nothing; struct gather stands in its guest's head frame, guarded by the memory gate.
 */
#include "guest/internal.h"

void gather_init(struct gather *ga, u64 *frees)
{
    for (unsigned i = 0; i < GATHER_MAX; i++)
        ga->first[i] = PFN_NONE;
    ga->last = ga->victim = 0;
    ga->frees = frees;
}

static void gather_flush_one(struct gather *ga, unsigned i)
{
    if (ga->first[i] == PFN_NONE)
        return;
    mm_free_mask(ga->first[i], &ga->frames[i]);
    count_add(ga->frees, 1);
    ga->first[i] = PFN_NONE;
}

/* The place of this pageblock; the one that has waited longest goes back to make room. */
static unsigned gather_place(struct gather *ga, pfn_t first)
{
    if (ga->first[ga->last] == first)
        return ga->last;
    unsigned empty = GATHER_MAX;
    for (unsigned i = 0; i < GATHER_MAX; i++) {
        if (ga->first[i] == first)
            return i;
        if (ga->first[i] == PFN_NONE && empty == GATHER_MAX)
            empty = i;
    }
    if (empty == GATHER_MAX) {
        empty = ga->victim;
        ga->victim = (ga->victim + 1) % GATHER_MAX;
        gather_flush_one(ga, empty);
    }
    ga->first[empty] = first;
    map512_zero(&ga->frames[empty]);
    return empty;
}

void gather_add(struct gather *ga, pfn_t pfn)
{
    unsigned i = gather_place(ga, ALIGN_DOWN(pfn, MAP512_BITS));
    unsigned bit = pfn % MAP512_BITS;
    if (map512_test(&ga->frames[i], bit))
        panic("P2 one owner: a guest's map has the frame at pfn 0x%lx twice", pfn);
    map512_set(&ga->frames[i], bit);
    ga->last = i;
}

void gather_flush(struct gather *ga)
{
    for (unsigned i = 0; i < GATHER_MAX; i++)
        gather_flush_one(ga, i);
}
