/*
 * See lib/map512.h. Runs are found by folding: level k has a bit set at p (p a multiple of 2^k)
 * iff bits p .. p + 2^k - 1 are all set. Inside a word a level is one shift, and and mask;
 * above order 6 a run is 2, 4 or 8 whole words.
 */
#include "lib/map512.h"

bool word512_popcnt;

/*
 * By halves: in each 2 bits, 4 bits, byte, then all bytes summed by the product. Not the compiler's
 * popcount: that would be a call into libgcc, which uses the red zone, and an interrupt in the kernel
 * overwrites that.
 */
unsigned word512_count_slowly(u64 w)
{
    w -= w >> 1 & 0x5555555555555555ULL;
    w = (w & 0x3333333333333333ULL) + (w >> 2 & 0x3333333333333333ULL);
    w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
    return (unsigned)(w * 0x0101010101010101ULL >> 56);
}

unsigned map512_count(const struct map512 *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        n += word512_count(m->w[i]);
    return n;
}

unsigned map512_next(const struct map512 *m, unsigned from)
{
    if (from >= MAP512_BITS)
        return MAP512_NONE;
    unsigned i = from / 64;
    u64 w = m->w[i] & (~0ULL << (from % 64));
    while (w == 0) {
        if (++i == MAP512_WORDS)
            return MAP512_NONE;
        w = m->w[i];
    }
    return i * 64 + (unsigned)__builtin_ctzll(w);
}

struct map512 map512_range(unsigned first, unsigned count)
{
    struct map512 m = {{0}};
    for (unsigned i = 0; i < MAP512_WORDS; i++) {
        unsigned lo = MAX(first, i * 64), hi = MIN(first + count, i * 64 + 64);
        if (lo < hi)
            m.w[i] = (hi - lo == 64 ? ~0ULL : (1ULL << (hi - lo)) - 1) << (lo % 64);
    }
    return m;
}

unsigned map512_run_order(const struct map512 *m, unsigned bit)
{
    unsigned i = bit / 64, order = 0;
    /* The run of order k that holds the bit, inside its word; then whole words. */
    for (; order < 6; order++) {
        unsigned width = 2u << order;
        u64 run = (width == 64 ? ~0ULL : (1ULL << width) - 1) << (bit % 64 & ~(width - 1));
        if ((m->w[i] & run) != run)
            return order;
    }
    for (; order < MAP512_ORDER; order++) {
        unsigned words = 2u << (order - 6), first = i & ~(words - 1);
        for (unsigned n = first; n < first + words; n++)
            if (m->w[n] != ~0ULL)
                return order;
    }
    return order;
}

/* ---- runs ---- */

struct runs512 runs512_of(const struct map512 *m)
{
    struct runs512 r = RUNS512_NONE;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        runs512_note(&r, i, m->w[i]);
    return r;
}

/* The first of the smallest maximal runs in a level k that is not empty. */
static inline unsigned first_maximal(u64 level, unsigned k)
{
    for (;; k++) {
        u64 larger = word512_fold(level, k), alone = level & ~(larger | larger << (1u << k));
        if (alone)
            return (unsigned)__builtin_ctzll(alone);
        level = larger;
    }
}

/*
 * The first run of 2^order set bits in a word, which has one, order 0 to 5: the first field of that
 * width that is zero in ~w. Taking 1 from each field borrows through those that are zero; from the
 * first such on the bits may lie, below it none does.
 */
static inline unsigned word512_first_full(u64 w, unsigned order)
{
    u64 ones = word512_aligned[order];
    unsigned top = (1u << order) - 1;
    return (unsigned)__builtin_ctzll((~w - ones) & w & ones << top) - top;
}

unsigned runs512_find(const struct map512 *m, struct runs512 r, unsigned order)
{
    /* The words that can serve by themselves, those with the smallest largest run lowest. */
    u64 can = order <= 6 ? r.words >> (8 * (order + 1)) : 0, level;
    unsigned lowest = can ? (unsigned)__builtin_ctzll(can) : 0, k = 0;
    if (r.words == RUNS512_FULL.words)
        return 0;
    if (can && order < 6 && lowest < 8)
        return lowest * 64 + word512_first_full(m->w[lowest], order);
    if (can && order + lowest / 8 < 6) {
        level = m->w[lowest % 8];
        for (; k < order; k++)
            level = word512_fold(level, k);
        return lowest % 8 * 64 + first_maximal(level, order);
    }
    level = r.words >> 56;
    for (; k + 6 < order; k++)
        level = word512_fold(level, k);
    return level ? 64 * first_maximal(level, k) : MAP512_NONE;
}

unsigned runs512_find_among(const struct map512 *m, struct runs512 r, const struct map512 *some,
                            bool in, unsigned order)
{
    if (order > 6) {
        struct map512 match = *m;
        in ? map512_and(&match, some) : map512_andnot(&match, some);
        return runs512_find(&match, runs512_of(&match), order);
    }
    for (u64 can = r.words >> (8 * (order + 1)); can; can &= can - 1) {
        unsigned i = (unsigned)__builtin_ctzll(can) % 8;
        u64 level = m->w[i] & (in ? some->w[i] : ~some->w[i]);
        if (level == ~0ULL)
            return i * 64;
        for (unsigned k = 0; k < order; k++)
            level = word512_fold(level, k);
        if (level && order < 6)
            return i * 64 + first_maximal(level, order);
    }
    return MAP512_NONE;
}
