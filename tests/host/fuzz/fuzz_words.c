/*
 * words: a command line against a second reading of the grammar in lib/words.h, which builds each
 * word apart instead of in place. Numbers, sizes and times against sums in 128 bits.
 */
#include "lib/words.h"
#include "tests/host/fuzz/fuzz.h"

/* ---- the second reading ---- */

struct reading {
    char key[WORDS_MAX][512], value[WORDS_MAX][512];
    bool has_value[WORDS_MAX];
    unsigned nr;
    int error;
};

static bool blank(char c)
{
    return c && strchr(" \t\r\n", c);
}

static void put(char *text, char c)
{
    size_t len = strlen(text);
    FUZZ_CHECK(len < 511, "the oracle's words are too short");
    text[len] = c;
    text[len + 1] = 0;
}

static void read_again(struct reading *r, const char *p)
{
    memset(r, 0, sizeof(*r));
    while (blank(*p))
        p++;
    for (; *p; r->nr++) {
        if (r->nr == WORDS_MAX) {
            r->error = E_NOSPC;
            return;
        }
        char quote = 0, *to = r->key[r->nr];
        for (; *p && (quote || !blank(*p)); p++) {
            if (quote ? *p == quote : *p == '\'' || *p == '"')
                quote = quote ? 0 : *p;
            else if (*p == '=' && to == r->key[r->nr])
                to = r->value[r->nr];
            else
                put(to, *p);
        }
        r->has_value[r->nr] = to == r->value[r->nr];
        if (quote || (r->has_value[r->nr] && !*r->key[r->nr])) {
            r->error = E_FORMAT;
            return;
        }
        while (blank(*p))
            p++;
    }
}

static void words_check(const char *text)
{
    static struct reading want;
    static struct words w;
    void *allocation;
    char *cut = (char *)fuzz_copy(text, strlen(text) + 1, 0, &allocation);

    read_again(&want, text);
    memset(&w, 0xaa, sizeof(w));
    int error = words_parse(&w, cut);
    FUZZ_CHECK(error == want.error, "returned %d, not %d", error, want.error);
    FUZZ_CHECK(memchr(w.error, 0, sizeof(w.error)), "an error without an end");
    FUZZ_CHECK((error != 0) == (*w.error != 0), "an error and no text, or none and one");
    for (const char *p = w.error; *p; p++)
        FUZZ_CHECK((u8)*p >= ' ' && *p != 0x7f, "the error is not one line: %#x", (u8)*p);
    FUZZ_CHECK(w.nr == want.nr, "%u words, not %u", w.nr, want.nr);
    for (unsigned i = 0; i < w.nr; i++) {
        const struct word *word = &w.word[i];
        FUZZ_CHECK(strcmp(word->key, want.key[i]) == 0, "key %u is %s", i, word->key);
        FUZZ_CHECK((word->value != NULL) == want.has_value[i], "value %u", i);
        if (word->value)
            FUZZ_CHECK(strcmp(word->value, want.value[i]) == 0, "value %u is %s", i, word->value);
    }
    for (unsigned i = 0; i < w.nr; i++) {
        unsigned last = i;
        for (unsigned j = i; j < w.nr; j++)
            if (strcmp(want.key[j], want.key[i]) == 0)
                last = j;
        FUZZ_CHECK(words_find(&w, want.key[i]) == &w.word[last], "%s is not the last", want.key[i]);
    }
    free(allocation);
}

/* ---- commands ---- */

static void commands_check(const char *text)
{
    void *allocation, *copy;
    char *cut = (char *)fuzz_copy(text, strlen(text) + 1, 0, &allocation), *rest = cut, *command;
    char *joined = (char *)fuzz_copy(text, strlen(text) + 1, 0, &copy);
    size_t at = 0;
    bool first = true;

    while ((command = words_next_command(&rest))) {
        char quote = 0;
        if (!first)
            joined[at++] = ';';
        first = false;
        for (const char *p = command; *p; p++) {
            FUZZ_CHECK(quote || *p != ';', "two commands in one");
            quote = quote ? (*p == quote ? 0 : quote) : (*p == '\'' || *p == '"') ? *p : 0;
            joined[at++] = *p;
        }
    }
    /* A ';' at the very end begins no command. */
    size_t len = strlen(text);
    FUZZ_CHECK(at == len || (at + 1 == len && text[at] == ';'), "%zu of %zu letters", at, len);
    FUZZ_CHECK(memcmp(joined, text, at) == 0, "other letters");
    free(allocation);
    free(copy);
}

/* ---- numbers ---- */

static bool digits(const char **p, unsigned radix, unsigned __int128 *out)
{
    const char *begin = *p;
    *out = 0;
    for (;; ++*p) {
        const char *all = "0123456789abcdef";
        const char *d = **p ? strchr(all, **p | 0x20) : NULL;
        if (**p >= '0' && **p <= '9')
            d = all + (**p - '0');
        else if (d && *d < 'a')
            d = NULL;
        if (!d || d - all >= (int)radix)
            return *p != begin;
        *out = *out > ~0ULL ? *out : *out * radix + (unsigned)(d - all);
    }
}

static void number_check(const char *name, const char *text, int (*parse)(const char *, u64 *),
                         bool ok, unsigned __int128 want)
{
    u64 out = 0x5555;
    int error = parse(text, &out);
    ok = ok && want <= ~0ULL;
    FUZZ_CHECK(error == (ok ? 0 : E_INVAL), "%s(%s) returned %d", name, text, error);
    FUZZ_CHECK(out == (ok ? (u64)want : 0x5555), "%s(%s) is %#llx", name, text,
               (unsigned long long)out);
}

static void numbers_check(const char *text)
{
    static const struct {
        const char *unit;
        u64 times;
    } sizes[] = {{"", 1},    {"k", KIB}, {"m", MIB}, {"g", GIB},      {"t", GIB * KIB},
                 {"K", KIB}, {"M", MIB}, {"G", GIB}, {"T", GIB * KIB}},
      times[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}};
    unsigned __int128 v;
    const char *p = text;

    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    p += hex ? 2 : 0;
    bool any = digits(&p, hex ? 16 : 10, &v);
    number_check("parse_number", text, parse_number, any && !*p, v);

    p = text;
    any = digits(&p, 10, &v);
    u64 unit = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        unit = strcmp(p, sizes[i].unit) == 0 ? sizes[i].times : unit;
    number_check("parse_bytes", text, parse_bytes, any && unit && v <= ~0ULL, v * unit);
    unit = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
        unit = strcmp(p, times[i].unit) == 0 ? times[i].times : unit;
    bool bare = !*p && v == 0;
    number_check("parse_duration", text, parse_duration, any && (unit || bare) && v <= ~0ULL,
                 v * unit);
}

FUZZ_TARGET(words)
{
    char text[512];
    size_t len = MIN(size, sizeof(text) - 1);
    if (len)
        memcpy(text, data, len);
    text[len] = 0;
    words_check(text);
    commands_check(text);
    numbers_check(text);
    return 0;
}
