/* lib/map512 against an oracle that looks at one bit at a time. */
#include "lib/map512.h"
#include "tests/host/check.h"

static bool run_is_set(const struct map512 *m, unsigned first, unsigned order)
{
    for (unsigned i = 0; i < 1u << order; i++) {
        if (!map512_test(m, first + i))
            return false;
    }
    return true;
}

static int naive_max_order(const struct map512 *m)
{
    for (int k = 9; k >= 0; k--) {
        for (unsigned at = 0; at < 512; at += 1u << k) {
            if (run_is_set(m, at, (unsigned)k))
                return k;
        }
    }
    return -1;
}

/* The order of the largest aligned run that contains the bit. */
static unsigned maximal_order(const struct map512 *m, unsigned bit)
{
    unsigned k = 0;
    while (k < 9 && run_is_set(m, bit & ~((2u << k) - 1), k + 1))
        k++;
    return k;
}

/* The order of the largest run in a word, 6 if it is full; -1: it is empty. */
static int naive_word_order(const struct map512 *m, unsigned word)
{
    int order = -1;
    for (unsigned bit = word * 64; bit < word * 64 + 64; bit++)
        if (map512_test(m, bit))
            order = MAX(order, MIN((int)maximal_order(m, bit), 6));
    return order;
}

/* In [from, to): the first run of this order in one of the smallest maximal runs. */
static unsigned naive_find_in(const struct map512 *m, unsigned from, unsigned to, unsigned order)
{
    unsigned best = MAP512_NONE, best_order = 10;
    for (unsigned at = from; at < to; at += 1u << order) {
        if (run_is_set(m, at, order) && maximal_order(m, at) < best_order) {
            best = at;
            best_order = maximal_order(m, at);
        }
    }
    return best;
}

static unsigned naive_find(const struct map512 *m, unsigned order)
{
    int of_word[8];
    for (unsigned word = 0; word < 8; word++)
        of_word[word] = naive_word_order(m, word);
    for (int largest = (int)order; largest < 6; largest++)
        for (unsigned word = 0; word < 8; word++)
            if (of_word[word] == largest)
                return naive_find_in(m, word * 64, word * 64 + 64, order);
    /* Whole words only: no other can serve. */
    return naive_find_in(m, 0, 512, MAX(order, 6u));
}

/* Maps of every kind: sparse, dense, aligned runs, holes in a full one. */
static struct map512 random_map(void)
{
    struct map512 m;
    map512_zero(&m);
    switch (check_random() % 5) {
    case 0:
        for (unsigned i = 0; i < 8; i++)
            m.w[i] = check_random();
        break;
    case 1:
        for (unsigned n = check_random() % 40; n; n--)
            map512_set(&m, check_random() % 512);
        break;
    case 2:
        map512_fill(&m);
        for (unsigned n = check_random() % 12; n; n--)
            map512_clear(&m, check_random() % 512);
        break;
    case 3:
        for (unsigned n = check_random() % 12; n; n--) {
            unsigned k = check_random() % 10, at = (check_random() % 512) >> k << k;
            struct map512 run = map512_range(at, 1u << k);
            map512_or(&m, &run);
        }
        break;
    default:
        map512_fill(&m);
        for (unsigned n = check_random() % 6; n; n--) {
            unsigned k = check_random() % 9, at = (check_random() % 512) >> k << k;
            struct map512 run = map512_range(at, 1u << k);
            map512_andnot(&m, &run);
        }
        break;
    }
    return m;
}

static void runs512_find_best_fit(void)
{
    for (unsigned round = 0; round < 5000; round++) {
        struct map512 m = random_map();
        struct runs512 r = runs512_of(&m);
        CHECK_EQ(runs512_max_order(r), naive_max_order(&m));
        unsigned order = check_random() % 10;
        CHECK_EQ(runs512_find(&m, r, order), naive_find(&m, order));
    }
}

/* The words of m by their largest runs; the first that serves, by the bits of it that match. */
static unsigned naive_find_among(const struct map512 *m, const struct map512 *match, unsigned order)
{
    for (int largest = (int)order; largest <= 6; largest++)
        for (unsigned word = 0; word < 8; word++) {
            unsigned found = MAP512_NONE;
            if (naive_word_order(m, word) == largest)
                found = naive_find_in(match, word * 64, word * 64 + 64, order);
            if (found != MAP512_NONE)
                return found;
        }
    return order > 6 ? naive_find_in(match, 0, 512, order) : MAP512_NONE;
}

static void runs512_find_among_some(void)
{
    unsigned found = 0;
    for (unsigned round = 0; round < 5000; round++) {
        struct map512 m = random_map(), some = random_map(), match = m;
        unsigned order = check_random() % 10;
        bool in = check_random() % 2;
        in ? map512_and(&match, &some) : map512_andnot(&match, &some);
        unsigned bit = runs512_find_among(&m, runs512_of(&m), &some, in, order);
        CHECK_EQ(bit, naive_find_among(&m, &match, order));
        found += bit != MAP512_NONE;
    }
    CHECK(found > 1000 && found < 4000);
}

/* Word by word as the map changes; every word stands in one byte, that of its largest run. */
static void runs512_follow_their_map(void)
{
    struct map512 m;
    struct runs512 r = RUNS512_NONE;
    map512_zero(&m);
    CHECK_EQ(runs512_of(&m).words, r.words);
    for (unsigned round = 0; round < 1000; round++) {
        struct map512 next = random_map();
        unsigned i = check_random() % 8;
        m.w[i] = round % 5 ? next.w[i] : round % 2 ? 0 : ~0ULL;
        runs512_note(&r, i, m.w[i]);
        u64 words = 0;
        for (unsigned word = 0; word < 8; word++)
            words |= 1ULL << (8 * (naive_word_order(&m, word) + 1) + (int)word);
        CHECK_EQ(r.words, words);
    }
    map512_fill(&m);
    CHECK_EQ(runs512_of(&m).words, RUNS512_FULL.words);
}

static void map512_counts_and_walks(void)
{
    for (unsigned round = 0; round < 3000; round++) {
        struct map512 m = random_map(), copy;
        unsigned n = 0, last = 0;
        map512_zero(&copy);
        map512_for_each(bit, &m)
        {
            CHECK(map512_test(&m, bit));
            CHECK(n == 0 || bit > last);
            last = bit;
            n++;
            map512_set(&copy, bit);
        }
        CHECK_EQ(map512_count(&m), n);
        word512_popcnt =
            __builtin_cpu_supports("popcnt") && !word512_popcnt; /* and the other way */
        CHECK_EQ(map512_count(&m), n);
        CHECK(map512_equal(&copy, &m));
        CHECK_EQ(map512_empty(&m), n == 0);
        CHECK_EQ(map512_full(&m), n == 512);
        CHECK_EQ(map512_next(&m, 512), MAP512_NONE);
    }
}

static void map512_ranges(void)
{
    for (unsigned first = 0; first <= 512; first += 1 + first % 7) {
        for (unsigned count = 0; first + count <= 512; count += 1 + count % 5) {
            struct map512 m = map512_range(first, count);
            CHECK_EQ(map512_count(&m), count);
            CHECK_EQ(map512_next(&m, 0), count ? first : MAP512_NONE);
            CHECK_EQ(map512_next(&m, first + count), MAP512_NONE);
        }
    }
}

static void map512_set_algebra(void)
{
    for (unsigned round = 0; round < 500; round++) {
        struct map512 a = random_map(), b = random_map(), u = a, i = a, d = a;
        map512_or(&u, &b);
        map512_and(&i, &b);
        map512_andnot(&d, &b);
        for (unsigned bit = 0; bit < 512; bit++) {
            bool in_a = map512_test(&a, bit), in_b = map512_test(&b, bit);
            CHECK_EQ(map512_test(&u, bit), in_a || in_b);
            CHECK_EQ(map512_test(&i, bit), in_a && in_b);
            CHECK_EQ(map512_test(&d, bit), in_a && !in_b);
        }
        CHECK_EQ(map512_meets(&a, &b), !map512_empty(&i));
        CHECK(map512_within(&i, &a) && map512_within(&a, &u));
        CHECK_EQ(map512_within(&a, &b), map512_empty(&d));
    }
}

static void part512_is_a_map_with_fewer_words(void)
{
    for (unsigned round = 0; round < 3000; round++) {
        struct map512 m = random_map(), all = m, none = m, set;
        struct part512 p;
        unsigned order = check_random() % 10, first = (check_random() % 512) >> order << order;
        if (round & 1) {
            part512_run(&p, first, order);
            set = map512_range(first, 1u << order);
        } else {
            p.from = p.to = 0;
            map512_zero(&set);
            for (unsigned n = check_random() % 9; n; n--) {
                unsigned bit = check_random() % 512;
                part512_or_word(&p, bit / 64, 1ULL << bit % 64);
                map512_set(&set, bit);
            }
        }
        for (unsigned bit = 0; bit < 512; bit++)
            CHECK_EQ(part512_test(&p, bit), map512_test(&set, bit));
        CHECK_EQ(part512_count(&p), map512_count(&set));
        CHECK_EQ(part512_meets(&p, &m), map512_meets(&set, &m));
        CHECK_EQ(part512_within(&p, &m), map512_within(&set, &m));
        map512_or_part(&all, &p);
        map512_andnot_part(&none, &p);
        struct map512 all_set = m, none_set = m;
        map512_or(&all_set, &set);
        map512_andnot(&none_set, &set);
        CHECK(map512_equal(&all, &all_set) && map512_equal(&none, &none_set));
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(runs512_find_best_fit);
    RUN(runs512_find_among_some);
    RUN(runs512_follow_their_map);
    RUN(map512_counts_and_walks);
    RUN(map512_ranges);
    RUN(map512_set_algebra);
    RUN(part512_is_a_map_with_fewer_words);
    return check_done();
}
