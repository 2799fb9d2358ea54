/*
 * Inside of stores, for who is in: what mm/store.c (pops and pushes, no lock) and mm/store_move.c
 * (between stores and the maps, zone lock) share.
 */
#ifndef MM_STORE_OWN_H
#define MM_STORE_OWN_H

#include "mm/store.h"

extern struct spinlock
    store_sweep_lock;       /* RANK_STORE: one sweeper at a time, and owners kept out */
extern u64 store_no_frames; /* a word at hand that is empty: who pops goes the slow way */

/* This CPU's stores, entered one way or the other: by who may take a lock if need be. */
static inline struct cpu_stores *store_enter_own(bool *slow)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    *slow = store_enter(cs) == SERVES_NOBODY;
    if (*slow) {
        store_leave(cs);
        spin_lock(&store_sweep_lock);
    }
    return cs;
}

static inline void store_leave_own(struct cpu_stores *cs, bool slow)
{
    if (slow)
        spin_unlock(&store_sweep_lock);
    else
        store_leave(cs);
}

/* The word that pops come from: the lowest; any, if there is none. */
static inline unsigned store_pop_word(const struct store *s)
{
    return (unsigned)__builtin_ctz(s->words | 1u << (MAP512_WORDS - 1));
}

/* Pops by the short way come from there now. In. */
static inline void store_pop_from(struct cpu_stores *cs, enum store_kind kind, unsigned word)
{
    struct store *s = &cs->store[kind];
    cs->pop_first[kind] = zone_pb_pfn(s->zone, s->pb) + 64 * word;
    /* What a taker of clean frames has to clear first is not for the short way. */
    cs->pop_at[kind] = kind == STORE_CLEAN && !s->clean ? &store_no_frames : &s->frames.w[word];
}

/* No word is at hand for pushes: from now on the buffer's count is exact. In. */
static inline void store_push_nowhere(struct cpu_stores *cs)
{
    struct push_hand *hand = &cs->push;
    if (hand->word == ~0ULL)
        return;
    hand->word = ~0ULL;
    if (cs->behind_at_hand) {
        unsigned unused = word512_count(hand->may & ~*hand->at);
        store_release(&cs->behind.nr, cs->behind.nr - unused);
    }
}

#endif
