/*
 * Maps of 512 bits. One library serves both storeys of the allocator, the stores and the claims:
 * 512 frames make a pageblock, 512 pageblocks a gigablock (design: "a buddy system kept as bits").
 *
 * A naturally aligned run of 2^k set bits *is* a free block of order k. Setting bits is the
 * merge: there is nothing else to do when a buddy comes home.
 *
 * Pure: no locks, no allocation, bounded steps (8 words, at most 9 levels). The caller guards
 * the map. Next: mm/pageblock.h.
 */
#ifndef LIB_MAP512_H
#define LIB_MAP512_H

#include "lib/base.h"

#define MAP512_BITS  512u
#define MAP512_WORDS 8u
#define MAP512_NONE  (~0u) /* "no such run" */
#define MAP512_ORDER 9u    /* the order of a full map */

struct map512 {
    u64 w[MAP512_WORDS];
};

static inline void map512_zero(struct map512 *m)
{
    *m = (struct map512){{0}};
}

static inline void map512_fill(struct map512 *m)
{
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        m->w[i] = ~0ULL;
}

static inline bool map512_test(const struct map512 *m, unsigned bit)
{
    return m->w[bit / 64] >> (bit % 64) & 1;
}

static inline void map512_set(struct map512 *m, unsigned bit)
{
    m->w[bit / 64] |= 1ULL << (bit % 64);
}

static inline void map512_clear(struct map512 *m, unsigned bit)
{
    m->w[bit / 64] &= ~(1ULL << (bit % 64));
}

static inline bool map512_empty(const struct map512 *m)
{
    u64 any = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        any |= m->w[i];
    return any == 0;
}

static inline bool map512_full(const struct map512 *m)
{
    u64 all = ~0ULL;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        all &= m->w[i];
    return all == ~0ULL;
}

/* a |= b */
static inline void map512_or(struct map512 *a, const struct map512 *b)
{
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        a->w[i] |= b->w[i];
}

/* a &= b */
static inline void map512_and(struct map512 *a, const struct map512 *b)
{
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        a->w[i] &= b->w[i];
}

/* a &= ~b */
static inline void map512_andnot(struct map512 *a, const struct map512 *b)
{
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        a->w[i] &= ~b->w[i];
}

/* true if a and b have a bit in common */
static inline bool map512_meets(const struct map512 *a, const struct map512 *b)
{
    u64 any = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        any |= a->w[i] & b->w[i];
    return any != 0;
}

/* true if every bit of `part` is set in `whole` */
static inline bool map512_within(const struct map512 *part, const struct map512 *whole)
{
    u64 out = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        out |= part->w[i] & ~whole->w[i];
    return out == 0;
}

static inline bool map512_equal(const struct map512 *a, const struct map512 *b)
{
    return map512_within(a, b) && map512_within(b, a);
}

/* How many bits are set, 0 to 512. */
unsigned map512_count(const struct map512 *m);

/* The lowest set bit at or after `from`, or MAP512_NONE. from may be 512. */
unsigned map512_next(const struct map512 *m, unsigned from);

/* The bits [first, first + count). first + count <= 512. */
struct map512 map512_range(unsigned first, unsigned count);

/*
 * The order of the largest naturally aligned run of set bits: 0 to 9, or -1 if the map is empty.
 */
int map512_max_order(const struct map512 *m);

/*
 * The order of the largest naturally aligned run of set bits that holds `bit`, itself set: 0 to 9.
 */
unsigned map512_run_order(const struct map512 *m, unsigned bit);

/*
 * A naturally aligned run of 2^order set bits (order 0 to 9): its first bit, or MAP512_NONE.
 * Best fit: the first in the smallest maximal run that serves, so that whole ones stay whole.
 */
unsigned map512_find(const struct map512 *m, unsigned order);

#define map512_for_each(bit, map)                                  \
    for (unsigned bit = map512_next((map), 0); bit != MAP512_NONE; \
         bit = map512_next((map), bit + 1))

#endif
