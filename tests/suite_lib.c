/*
 * The kernel's own build of lib/: the hosted tests look deeper, but with another compiler's
 * flags, another memcpy and under other names. Here it is the code that everything stands on.
 */
#include "tests/ktest.h"
#include "lib/cpio.h"
#include "lib/elf64.h"
#include "lib/map512.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "lib/words.h"

enum { AREA = 200 };

static void fill(u8 *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (u8)ktest_random();
}

/* Every length and every alignment up to 40, with bytes around that must not change. */
static void strings_copy(void)
{
    u8 src[AREA], dst[AREA], want[AREA];
    for (unsigned round = 0; round < 3000; round++) {
        unsigned n = round % 41, from = (unsigned)(ktest_random() % 24);
        unsigned to = (unsigned)(ktest_random() % 24);
        fill(src, AREA);
        fill(dst, AREA);
        for (unsigned i = 0; i < AREA; i++)
            want[i] = i >= to && i < to + n ? src[from + i - to] : dst[i];
        REQUIRE(memcpy(dst + to, src + from, n) == dst + to);
        REQUIRE(memcmp(dst, want, AREA) == 0);
    }
}

static void strings_move(void)
{
    u8 area[AREA], want[AREA];
    for (unsigned round = 0; round < 5000; round++) {
        unsigned n = (unsigned)(ktest_random() % 60), from = (unsigned)(ktest_random() % 70);
        unsigned to = (unsigned)(ktest_random() % 70);
        fill(area, AREA);
        for (unsigned i = 0; i < AREA; i++)
            want[i] = i >= to && i < to + n ? area[from + i - to] : area[i];
        REQUIRE(memmove(area + to, area + from, n) == area + to);
        for (unsigned i = 0; i < AREA; i++)
            REQUIRE(area[i] == want[i]);
    }
}

static void strings_set_and_compare(void)
{
    u8 area[AREA], want[AREA];
    for (unsigned round = 0; round < 3000; round++) {
        unsigned n = round % 50, at = (unsigned)(ktest_random() % 24);
        u8 c = (u8)ktest_random();
        fill(area, AREA);
        for (unsigned i = 0; i < AREA; i++)
            want[i] = i >= at && i < at + n ? c : area[i];
        REQUIRE(memset(area + at, c | 0x500, n) == area + at);
        REQUIRE(memcmp(area, want, AREA) == 0);
        if (n) {
            unsigned odd = at + (unsigned)(ktest_random() % n);
            want[odd] = (u8)(c + 1);
            int order = memcmp(area + at, want + at, n);
            REQUIRE(c < want[odd] ? order < 0 : order > 0);
        }
    }
}

static void strings_text(void)
{
    char buf[8];
    CHECK(strlen("") == 0 && strlen("abc") == 3);
    CHECK(strcmp("abc", "abc") == 0 && strcmp("ab", "abc") < 0 && strcmp("\xff", "a") > 0);
    CHECK(strncmp("abcd", "abxx", 2) == 0 && strncmp("abc", "abd", 3) < 0);
    CHECK(strncmp("a", "a", 10) == 0);
    const char *text = "limpid";
    CHECK(strchr(text, 'p') == text + 3 && strchr(text, 'z') == NULL);
    CHECK(strchr(text, 0) == text + 6);
    CHECK(str_copy(buf, "1234567", sizeof(buf)) == 7 && strcmp(buf, "1234567") == 0);
    CHECK(str_copy(buf, "too long a text", sizeof(buf)) == 15 && strcmp(buf, "too lon") == 0);
}

static void prints(const char *want, int len, const char *got)
{
    CHECK_MSG(strcmp(got, want) == 0, "\"%s\" where \"%s\" was due", got, want);
    CHECK(len == (int)strlen(want));
}

static void printf_basics(void)
{
    char b[64];
    int n = snprintf(b, sizeof(b), "%s %5d|%-5u|%05d", "a", -42, 7u, 42);
    prints("a   -42|7    |00042", n, b);
    n = snprintf(b, sizeof(b), "%lx %#x %016lX %p", 0xdeadbeefcafeUL, 255, 0xabcUL, (void *)16);
    prints("deadbeefcafe 0xff 0000000000000ABC 0x10", n, b);
    n = snprintf(b, sizeof(b), "%.2s %c %zu %lld%%", "xyz", 'q', (size_t)9, -1LL);
    prints("xy q 9 -1%", n, b);
    CHECK(snprintf(b, 4, "abcdef") == 6 && strcmp(b, "abc") == 0);
}

/*
 * Against a look at every bit: a run is found if there is one, and of those in its word (if it is
 * made of whole words, of all) none lies in a smaller maximal run.
 */
static void map512_finds(void)
{
    for (unsigned round = 0; round < 300; round++) {
        struct map512 m;
        map512_zero(&m);
        for (u64 n = ktest_random() % 14; n; n--) {
            unsigned k = (unsigned)(ktest_random() % 9);
            unsigned first = (unsigned)(ktest_random() % 512) >> k << k;
            struct map512 part = map512_range(first, 1u << k);
            map512_or(&m, &part);
        }
        unsigned order = (unsigned)(ktest_random() % 10), best = 10;
        unsigned found = runs512_find(&m, runs512_of(&m), order);
        unsigned found_order = found == MAP512_NONE ? 10 : map512_run_order(&m, found);
        bool is_run = found == MAP512_NONE;
        for (unsigned at = 0; at < 512; at += 1u << order) {
            struct map512 part = map512_range(at, 1u << order);
            if (!map512_within(&part, &m))
                continue;
            is_run = is_run || at == found;
            if (found_order >= 6 || at / 64 == found / 64)
                best = MIN(best, map512_run_order(&m, at));
        }
        REQUIRE(is_run && found_order == best);
        unsigned bits = 0;
        map512_for_each(bit, &m) bits += map512_test(&m, bit);
        REQUIRE(bits == map512_count(&m));
    }
}

static void words_grammar(void)
{
    struct words w;
    char text[] = "start a mem=64M secret='two words' & ";
    u64 v = 0;
    CHECK(words_parse(&w, text) == 0 && w.nr == 5);
    CHECK(strcmp(words_value(&w, "secret"), "two words") == 0);
    CHECK(words_bytes(&w, "mem", &v) == 0 && v == 64 * MIB);
    CHECK(words_has(&w, "&"));
    CHECK(words_unknown(&w, 2, "mem secret &") == NULL);
    char open[] = "a 'b";
    CHECK(words_parse(&w, open) == E_FORMAT);
    CHECK(strcmp(w.error, "no closing ' after: b") == 0);
    CHECK(parse_duration("5ms", &v) == 0 && v == 5000000);
}

/* Not an archive, not an ELF image: refused with a reason. */
static void parsers_refuse(void)
{
    static const char noise[200] = "this is neither";
    struct cpio_entry e;
    struct elf64 elf;
    const char *why = NULL;
    CHECK(cpio_find(noise, sizeof(noise), "x", &e, &why) == E_FORMAT && why);
    why = NULL;
    CHECK(elf64_parse(noise, sizeof(noise), GIB, &elf, &why) == E_FORMAT && why);
}

static const struct ktest cases[] = {
    {"strings_copy", strings_copy, 0, 0},
    {"strings_move", strings_move, 0, 0},
    {"strings_set_and_compare", strings_set_and_compare, 0, 0},
    {"strings_text", strings_text, 0, 0},
    {"printf_basics", printf_basics, 0, 0},
    {"map512_finds", map512_finds, 0, 0},
    {"words_grammar", words_grammar, 0, 0},
    {"parsers_refuse", parsers_refuse, 0, 0},
};
KTEST_SUITE(lib, cases);
