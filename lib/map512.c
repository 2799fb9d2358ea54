/*
 * See lib/map512.h. Runs are found by folding: level k has a bit set at p (p a multiple of 2^k)
 * iff bits p .. p + 2^k - 1 are all set. Inside a word a level is one shift, and and mask;
 * above order 6 a run is 2, 4 or 8 whole words.
 */
#include "lib/map512.h"

/* Bits at multiples of 2^k, k = 0 to 6. */
static const u64 aligned_bits[7] = {
    ~0ULL,
    0x5555555555555555ULL,
    0x1111111111111111ULL,
    0x0101010101010101ULL,
    0x0001000100010001ULL,
    0x0000000100000001ULL,
    0x0000000000000001ULL,
};

/* From level k to level k + 1, k = 0 to 5. */
static inline u64 fold(u64 level, unsigned k)
{
    return level & (level >> (1u << k)) & aligned_bits[k + 1];
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

/* Inside of one word that is not full: 0 to 5, -1 if it is empty. */
static int word_order(u64 level)
{
    int k = -1;
    for (; level; level = fold(level, (unsigned)k))
        k++;
    return k;
}

/* Of whole words: the largest run that reaches into the words of `in`, one of which is full. */
static int words_order(const struct map512 *m, unsigned in)
{
    unsigned full = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++)
        full |= (unsigned)(m->w[i] == ~0ULL) << i;
    if (full == 0xff)
        return 9;
    if (((full & 0x0f) == 0x0f && in & 0x0f) || ((full & 0xf0) == 0xf0 && in & 0xf0))
        return 8;
    unsigned pairs = full & (full >> 1) & 0x55;
    return (pairs | pairs << 1) & in ? 7 : 6;
}

int map512_order_in(const struct map512 *m, unsigned from, unsigned to)
{
    int order = -1;
    for (unsigned i = from; i < to; i++) {
        u64 w = m->w[i];
        if (w == ~0ULL)
            return words_order(m, (1u << to) - (1u << from));
        if (w)
            order = MAX(order, word_order(w));
    }
    return order;
}

int map512_max_order(const struct map512 *m)
{
    return map512_order_in(m, 0, MAP512_WORDS);
}

/*
 * Whole words, runs of order 6 to 9: `full` has a bit for each word that is all ones. The same
 * rule as inside a word, from the smallest runs that serve upwards.
 */
static unsigned find_words(unsigned full, unsigned order)
{
    static const u8 aligned_words[5] = {0xff, 0x55, 0x11, 0x01, 0x00};
    unsigned level = full, k = 0;
    for (; k < order - 6; k++)
        level &= (level >> (1u << k)) & aligned_words[k + 1];
    while (level) {
        unsigned larger = level & (level >> (1u << k)) & aligned_words[k + 1];
        unsigned alone = level & ~(larger | larger << (1u << k));
        if (alone)
            return 64 * (unsigned)__builtin_ctz(alone);
        level = larger;
        k++;
    }
    return MAP512_NONE;
}

/*
 * A word that is neither empty nor full holds its runs alone: none of them goes on in the next.
 * So each such word is folded by itself, up to the order of its smallest run that serves; full
 * words are left for the end, when no word had any.
 */
unsigned map512_find(const struct map512 *m, unsigned order)
{
    unsigned best = MAP512_NONE, best_order = 6, full = 0;
    for (unsigned i = 0; i < MAP512_WORDS; i++) {
        u64 level = m->w[i], alone = 0;
        full |= (unsigned)(level == ~0ULL) << i;
        if (level == 0 || level == ~0ULL || order >= best_order)
            continue;
        unsigned k = 0;
        for (; k < order; k++)
            level = fold(level, k);
        for (; level && k < best_order; k++) {
            u64 larger = fold(level, k);
            alone = level & ~(larger | larger << (1u << k));
            if (alone)
                break;
            level = larger;
        }
        if (alone && k < best_order) {
            best_order = k;
            best = i * 64 + (unsigned)__builtin_ctzll(alone);
            if (k == order)
                break;
        }
    }
    return best != MAP512_NONE ? best : find_words(full, MAX(order, 6u));
}
