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

extern bool word512_popcnt; /* (c) the CPU has POPCNT: whoever looked may say so, before all else */

unsigned word512_count_slowly(u64 w);

/* How many bits of a word are set. */
static inline unsigned word512_count(u64 w)
{
    if (unlikely(!word512_popcnt))
        return word512_count_slowly(w);
    /* volatile: else it may be made before the question, and there are CPUs that do not know it */
    __asm__ volatile("popcnt %0, %0" : "+r"(w) : : "cc");
    return (unsigned)w;
}

/* The bits whose numbers are multiples of 2^k. */
static const u64 word512_aligned[7] = {
    ~0ULL,
    0x5555555555555555ULL,
    0x1111111111111111ULL,
    0x0101010101010101ULL,
    0x0001000100010001ULL,
    0x0000000100000001ULL,
    0x0000000000000001ULL,
};

/*
 * A step of folding a word: from level k to level k + 1, k = 0 to 5. Level k has a bit set at p (p a
 * multiple of 2^k) iff bits p .. p + 2^k - 1 of the word are all set.
 */
static inline u64 word512_fold(u64 level, unsigned k)
{
    return level & (level >> (1u << k)) & word512_aligned[k + 1];
}

/*
 * The order of the largest naturally aligned run in a word: 0 to 6, -1 if it is empty. Full words,
 * empty ones and those with a full half are the most; for the others hardly a branch, for what
 * they hold is nothing that a CPU could learn to predict.
 */
static inline int word512_order(u64 w)
{
    if (w + 1 <= 1)
        return w ? 6 : -1;
    if ((u32)w == ~0u || w >> 32 == ~0u)
        return 5;
    u64 l1 = word512_fold(w, 0), l2 = word512_fold(l1, 1), l3 = word512_fold(l2, 2);
    return (l1 != 0) + (l2 != 0) + (l3 != 0) + (word512_fold(l3, 3) != 0);
}

/* How many bits are set, 0 to 512. */
unsigned map512_count(const struct map512 *m);

/* The lowest set bit at or after `from`, or MAP512_NONE. from may be 512. */
unsigned map512_next(const struct map512 *m, unsigned from);

/* The bits [first, first + count). first + count <= 512. */
struct map512 map512_range(unsigned first, unsigned count);

/*
 * What runs a map has, word by word: byte k + 1 names the words whose largest naturally aligned
 * run of set bits has order k (0 to 6), byte 0 those that are empty. So each of the eight words
 * stands in one byte; which word can serve an order, and best, is one look at one number.
 * Whoever keeps one beside a map notes every word that he changes.
 */
struct runs512 {
    u64 words;
};
#define RUNS512_NONE ((struct runs512){0xffULL})       /* of an empty map */
#define RUNS512_FULL ((struct runs512){0xffULL << 56}) /* of a full one */

/* The runs of a map. */
struct runs512 runs512_of(const struct map512 *m);
/* Word i of the map is w now. */
static inline void runs512_note(struct runs512 *r, unsigned i, u64 w)
{
    u64 others = r->words & ~(0x0101010101010101ULL << i);
    r->words = others | 1ULL << (8 * (word512_order(w) + 1) + (int)i);
}

/* The order of the largest run, 0 to 9; -1 if the map is empty. */
static inline int runs512_max_order(struct runs512 r)
{
    /* Of words that are full, runs go by the same rule as of bits: 2, 4, or all 8 of them. */
    unsigned full = (unsigned)(r.words >> 56);
    unsigned two = full & full >> 1 & 0x55, four = two & two >> 2 & 0x11, all = four & four >> 4;
    return (63 - __builtin_clzll(r.words)) / 8 - 1 + (two != 0) + (four != 0) + (int)all;
}

/* True if there is a run of 2^order set bits, order 0 to 9. */
static inline bool runs512_have(struct runs512 r, unsigned order)
{
    return order <= 6 ? r.words >> (8 * (order + 1)) != 0 : runs512_max_order(r) >= (int)order;
}

/*
 * A naturally aligned run of 2^order set bits (order 0 to 9) of m, whose runs are r: its first
 * bit, or MAP512_NONE. Best fit: of the words that can serve the first whose largest run is the
 * smallest, in it the first of the smallest maximal runs that serve; of runs of whole words
 * likewise. So what is whole stays whole.
 */
unsigned runs512_find(const struct map512 *m, struct runs512 r, unsigned order);

/*
 * The same of runs all of whose bits are in `some`, or (!in) none: the words of m in the same order,
 * for m is what is to stay whole; in the first that serves the smallest maximal run of such bits.
 */
unsigned runs512_find_among(const struct map512 *m, struct runs512 r, const struct map512 *some,
                            bool in, unsigned order);

/*
 * The order of the largest naturally aligned run of set bits that holds `bit`, itself set: 0 to 9.
 */
unsigned map512_run_order(const struct map512 *m, unsigned bit);

/*
 * Some words of a map: [from, to). What stands in the others says nothing. Most changes of a map
 * are in one word, and who knows in which need not look at eight. Empty: from == to.
 */
struct part512 {
    unsigned from, to;
    struct map512 map;
};

/* A whole map as a part. */
static inline struct part512 part512_of(const struct map512 *m)
{
    return (struct part512){0, MAP512_WORDS, *m};
}

/* A part as a whole map. */
static inline struct map512 part512_map(const struct part512 *p)
{
    struct map512 m = {{0}};
    for (unsigned i = p->from; i < p->to; i++)
        m.w[i] = p->map.w[i];
    return m;
}

/* A naturally aligned run: `mask` in each of the words [from, to). */
struct run512 {
    unsigned from, to;
    u64 mask;
};

/* The run of 2^order bits, order 0 to 9, at `first`. */
static inline struct run512 run512_of(unsigned first, unsigned order)
{
    return (struct run512){
        .from = first / 64,
        .to = first / 64 + (order > 6 ? 1u << (order - 6) : 1),
        .mask = order >= 6 ? ~0ULL : ~(~0ULL << (1u << order)) << (first % 64),
    };
}

/* true if every bit of the run is set in `whole` */
static inline bool run512_within(const struct run512 *r, const struct map512 *whole)
{
    u64 all = r->mask;
    for (unsigned i = r->from; i < r->to; i++)
        all &= whole->w[i];
    return all == r->mask;
}

/* true if a bit of it is set in m */
static inline bool run512_meets(const struct run512 *r, const struct map512 *m)
{
    u64 any = 0;
    for (unsigned i = r->from; i < r->to; i++)
        any |= m->w[i];
    return (any & r->mask) != 0;
}

/* It as a part. */
static inline void part512_run(struct part512 *p, unsigned first, unsigned order)
{
    struct run512 r = run512_of(first, order);
    p->from = r.from;
    p->to = r.to;
    for (unsigned i = r.from; i < r.to; i++)
        p->map.w[i] = r.mask;
}

/* Adds bits to word i of a part, which grows to hold it; p may be empty. */
static inline void part512_or_word(struct part512 *p, unsigned i, u64 bits)
{
    if (p->from == p->to)
        p->from = p->to = i;
    while (p->to <= i)
        p->map.w[p->to++] = 0;
    while (p->from > i)
        p->map.w[--p->from] = 0;
    p->map.w[i] |= bits;
}

/* True if the bit is in the part and set. */
static inline bool part512_test(const struct part512 *p, unsigned bit)
{
    return bit / 64 >= p->from && bit / 64 < p->to && map512_test(&p->map, bit);
}

static inline unsigned part512_count(const struct part512 *p)
{
    unsigned n = 0;
    for (unsigned i = p->from; i < p->to; i++)
        n += word512_count(p->map.w[i]);
    return n;
}

/* true if the part and m have a bit in common */
static inline bool part512_meets(const struct part512 *p, const struct map512 *m)
{
    u64 any = 0;
    for (unsigned i = p->from; i < p->to; i++)
        any |= p->map.w[i] & m->w[i];
    return any != 0;
}

/* true if every bit of the part is set in `whole` */
static inline bool part512_within(const struct part512 *p, const struct map512 *whole)
{
    u64 out = 0;
    for (unsigned i = p->from; i < p->to; i++)
        out |= p->map.w[i] & ~whole->w[i];
    return out == 0;
}

/* m |= p */
static inline void map512_or_part(struct map512 *m, const struct part512 *p)
{
    for (unsigned i = p->from; i < p->to; i++)
        m->w[i] |= p->map.w[i];
}

/* m &= ~p */
static inline void map512_andnot_part(struct map512 *m, const struct part512 *p)
{
    for (unsigned i = p->from; i < p->to; i++)
        m->w[i] &= ~p->map.w[i];
}

#define map512_for_each(bit, map)                                  \
    for (unsigned bit = map512_next((map), 0); bit != MAP512_NONE; \
         bit = map512_next((map), bit + 1))

#endif
