/* See lib/words.h. Words are compacted in place: a word without its quotes is never longer. */
#include "lib/words.h"
#include "lib/printf.h"
#include "lib/string.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Makes the error one line whatever was quoted in it: what a terminal would obey becomes '?'. */
static int words_refuse(struct words *w, int error)
{
    for (char *p = w->error; *p; p++) {
        if ((u8)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    return error;
}

int words_parse(struct words *w, char *text)
{
    char *in = text;
    w->nr = 0;
    w->error[0] = 0;
    for (;;) {
        while (is_blank(*in))
            in++;
        if (!*in)
            return 0;
        if (w->nr == WORDS_MAX) {
            snprintf(w->error, sizeof(w->error), "more than %d words", WORDS_MAX);
            return E_NOSPC;
        }
        char *out = in, *key = in, *value = NULL;
        while (*in && !is_blank(*in)) {
            if (*in == '\'' || *in == '"') {
                char quote = *in++;
                const char *open = out;
                while (*in && *in != quote) {
                    /* The first '=' splits the word, in quotes or not: 'run=a b'. */
                    bool splits = *in == '=' && !value;
                    *out = splits ? 0 : *in;
                    out++;
                    in++;
                    if (splits)
                        value = out;
                }
                if (!*in) {
                    *out = 0;
                    snprintf(w->error, sizeof(w->error), "no closing %c after: %.40s", quote, open);
                    return words_refuse(w, E_FORMAT);
                }
                in++;
            } else if (*in == '=' && !value) {
                *out++ = 0;
                value = out;
                in++;
            } else {
                *out++ = *in++;
            }
        }
        /* out <= in: ending the word here cuts off nothing that is still to be read. */
        bool more = *in != 0;
        *out = 0;
        if (more)
            in++;
        if (value && !*key) {
            snprintf(w->error, sizeof(w->error), "a word that begins with '=': %.40s", value);
            return words_refuse(w, E_FORMAT);
        }
        w->word[w->nr++] = (struct word){key, value};
        if (!more)
            return 0;
    }
}

char *words_next_command(char **rest)
{
    char *start = *rest;
    if (!*start)
        return NULL;
    char quote = 0;
    for (char *p = start; *p; p++) {
        if (quote) {
            if (*p == quote)
                quote = 0;
        } else if (*p == '\'' || *p == '"') {
            quote = *p;
        } else if (*p == ';') {
            *p = 0;
            *rest = p + 1;
            return start;
        }
    }
    *rest = start + strlen(start);
    return start;
}

const struct word *words_find(const struct words *w, const char *key)
{
    for (unsigned i = w->nr; i-- > 0;) {
        if (strcmp(w->word[i].key, key) == 0)
            return &w->word[i];
    }
    return NULL;
}

const char *words_value(const struct words *w, const char *key)
{
    const struct word *word = words_find(w, key);
    return !word ? NULL : word->value ? word->value : "";
}

bool words_has(const struct words *w, const char *key)
{
    const struct word *word = words_find(w, key);
    return word && !word->value;
}

/* True if `name` is one of the names in `list`. */
static bool list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    while (*list) {
        size_t n = 0;
        while (list[n] && !is_blank(list[n]))
            n++;
        if (n == len && strncmp(list, name, n) == 0)
            return n != 0;
        list += n;
        while (is_blank(*list))
            list++;
    }
    return false;
}

const struct word *words_unknown(const struct words *w, unsigned from, const char *known)
{
    for (unsigned i = from; i < w->nr; i++) {
        if (!list_has(known, w->word[i].key))
            return &w->word[i];
    }
    return NULL;
}

/* ---- numbers ---- */

/* Digits at *text, which moves behind them. False: none, or more than 64 bits. */
static bool read_digits(const char **text, unsigned base, u64 *out)
{
    const char *p = *text;
    u64 v = 0;
    for (;; p++) {
        char letter = *p | 0x20;
        unsigned digit = *p >= '0' && *p <= '9'           ? (unsigned)(*p - '0')
                         : letter >= 'a' && letter <= 'f' ? (unsigned)(letter - 'a' + 10)
                                                          : 99;
        if (digit >= base)
            break;
        if (v > (~0ULL - digit) / base)
            return false;
        v = v * base + digit;
    }
    bool any = p != *text;
    *text = p;
    *out = v;
    return any;
}

int parse_number(const char *text, u64 *out)
{
    u64 v;
    bool hex = text[0] == '0' && (text[1] | 0x20) == 'x';
    if (hex)
        text += 2;
    if (!read_digits(&text, hex ? 16 : 10, &v) || *text)
        return E_INVAL;
    *out = v;
    return 0;
}

int parse_bytes(const char *text, u64 *out)
{
    static const char units[] = "kmgt";
    u64 v;
    unsigned shift = 0;
    if (!read_digits(&text, 10, &v))
        return E_INVAL;
    if (*text) {
        const char *unit = strchr(units, *text | 0x20);
        if (!unit || text[1])
            return E_INVAL;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (v > ~0ULL >> shift)
        return E_INVAL;
    *out = v << shift;
    return 0;
}

int parse_duration(const char *text, u64 *out)
{
    static const struct {
        const char *unit;
        u64 ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}};
    u64 v;
    if (!read_digits(&text, 10, &v))
        return E_INVAL;
    if (v == 0 && !*text) {
        *out = 0;
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(units); i++) {
        if (strcmp(text, units[i].unit) == 0) {
            if (v > ~0ULL / units[i].ns)
                return E_INVAL;
            *out = v * units[i].ns;
            return 0;
        }
    }
    return E_INVAL;
}

static int words_get(struct words *w, const char *key, int (*parse)(const char *, u64 *),
                     const char *expected, u64 *out)
{
    const char *value = words_value(w, key);
    if (!value || parse(value, out) == 0)
        return 0;
    snprintf(w->error, sizeof(w->error), "%.20s=%.40s: expected %s", key, value, expected);
    return words_refuse(w, E_INVAL);
}

int words_number(struct words *w, const char *key, u64 *out)
{
    return words_get(w, key, parse_number, EXPECTED_NUMBER, out);
}

int words_bytes(struct words *w, const char *key, u64 *out)
{
    return words_get(w, key, parse_bytes, EXPECTED_BYTES, out);
}

int words_duration(struct words *w, const char *key, u64 *out)
{
    return words_get(w, key, parse_duration, EXPECTED_DURATION, out);
}
