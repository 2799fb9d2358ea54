/* lib/words: the grammar of the command line and the prompt. */
#include "lib/words.h"
#include "tests/host/lib/parse.h"

static struct words w;
static char text[512];

static int parse(const char *line)
{
    snprintf(text, sizeof(text), "%s", line);
    return words_parse(&w, text);
}

/* key, value pairs; a value of NULL for a bare word. */
static void parses(const char *line, unsigned nr, ...)
{
    va_list ap;
    CHECK_EQ(parse(line), 0);
    CHECK_STR(w.error, "");
    CHECK_EQ(w.nr, nr);
    va_start(ap, nr);
    for (unsigned i = 0; i < nr && i < w.nr; i++) {
        CHECK_STR(w.word[i].key, va_arg(ap, const char *));
        const char *value = va_arg(ap, const char *);
        if (value)
            CHECK_STR(w.word[i].value, value);
        else
            CHECK(w.word[i].value == NULL);
    }
    va_end(ap);
}

static void words_good(void)
{
    parses("", 0);
    parses("  \t\r\n ", 0);
    parses("zones", 1, "zones", NULL);
    parses(" start  secretive mem=64M\tnode=1 & ", 5, "start", NULL, "secretive", NULL, "mem",
           "64M", "node", "1", "&", NULL);
    parses("a= b=c=d", 2, "a", "", "b", "c=d");
    parses("secret='two words' x=\"it's\"", 2, "secret", "two words", "x", "it's");
    parses("'run=a b; c=d' e", 2, "run", "a b; c=d", "e", NULL);
    parses("run='start a secret=\"x y\"; wait clean'", 1, "run",
           "start a secret=\"x y\"; wait clean");
    parses("a'b c'd=e' 'f", 1, "ab cd", "e f");
    parses("''", 1, "", NULL);
    parses("a=''", 1, "a", "");
    parses("a=b\r\n", 1, "a", "b");
}

static void words_bad(void)
{
    CHECK_EQ(parse("ok secret='open word"), E_FORMAT);
    CHECK_STR(w.error, "no closing ' after: open word");
    CHECK_EQ(w.nr, 1);
    CHECK_EQ(parse("a \""), E_FORMAT);
    CHECK_EQ(parse("=5"), E_FORMAT);
    CHECK_STR(w.error, "a word that begins with '=': 5");
    CHECK_EQ(parse("''=5"), E_FORMAT);
    char many[200] = "";
    for (unsigned i = 0; i < WORDS_MAX; i++)
        strcat(many, " w");
    CHECK_EQ(parse(many), 0);
    CHECK_EQ(w.nr, WORDS_MAX);
    strcat(many, " x");
    CHECK_EQ(parse(many), E_NOSPC);
    CHECK_STR(w.error, "more than 32 words");
    CHECK_EQ(w.nr, WORDS_MAX);
    CHECK_EQ(parse("secret='two\nlines\033[2J"), E_FORMAT); /* the error is one line all the same */
    CHECK_STR(w.error, "no closing ' after: two?lines?[2J");
}

static void words_lookup(void)
{
    CHECK_EQ(parse("test=all linger seed=1 seed=2 debug="), 0);
    CHECK_STR(words_value(&w, "test"), "all");
    CHECK_STR(words_value(&w, "seed"), "2"); /* what is appended wins */
    CHECK_STR(words_value(&w, "linger"), "");
    CHECK(words_value(&w, "see") == NULL);
    CHECK(words_has(&w, "linger") && !words_has(&w, "test") && !words_has(&w, "none"));
    CHECK(!words_has(&w, "debug"));
    CHECK(words_find(&w, "none") == NULL);
    CHECK(words_unknown(&w, 0, "test linger seed debug") == NULL);
    CHECK_STR(words_unknown(&w, 0, "test seed debug lingerer")->key, "linger");
    CHECK_STR(words_unknown(&w, 2, "test  debug")->key, "seed");
    CHECK(words_unknown(&w, 5, "") == NULL);
    CHECK_STR(words_unknown(&w, 0, "")->key, "test");
}

static void words_commands(void)
{
    char line[] = "start a secret='x;y' ; wait clean;; off";
    char *rest = line;
    CHECK_STR(words_next_command(&rest), "start a secret='x;y' ");
    CHECK_STR(words_next_command(&rest), " wait clean");
    CHECK_STR(words_next_command(&rest), "");
    CHECK_STR(words_next_command(&rest), " off");
    CHECK(words_next_command(&rest) == NULL);
    CHECK(words_next_command(&rest) == NULL);
    char end[] = "a;";
    rest = end;
    CHECK_STR(words_next_command(&rest), "a");
    CHECK(words_next_command(&rest) == NULL);
}

static void words_numbers(void)
{
    u64 v = 7;
    static const struct {
        int (*parse)(const char *, u64 *);
        const char *text;
        u64 want;
    } good[] = {
        {parse_number, "0", 0},
        {parse_number, "42", 42},
        {parse_number, "0x2A", 42},
        {parse_number, "18446744073709551615", ~0ULL},
        {parse_number, "0xffffffffffffffff", ~0ULL},
        {parse_bytes, "4096", 4096},
        {parse_bytes, "64K", 65536},
        {parse_bytes, "512M", 512 * MIB},
        {parse_bytes, "2g", 2 * GIB},
        {parse_bytes, "1T", 1024 * GIB},
        {parse_bytes, "0", 0},
        {parse_duration, "10s", 10000000000},
        {parse_duration, "5ms", 5000000},
        {parse_duration, "20us", 20000},
        {parse_duration, "7ns", 7},
        {parse_duration, "2m", 120000000000},
        {parse_duration, "0", 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        CHECK_EQ(good[i].parse(good[i].text, &v), 0);
        CHECK_EQ(v, good[i].want);
    }
    static const struct {
        int (*parse)(const char *, u64 *);
        const char *text;
    } bad[] = {
        {parse_number, ""},
        {parse_number, "x"},
        {parse_number, "12x"},
        {parse_number, "0x"},
        {parse_number, "-1"},
        {parse_number, " 1"},
        {parse_number, "1 "},
        {parse_number, "18446744073709551616"},
        {parse_number, "0x10000000000000000"},
        {parse_bytes, ""},
        {parse_bytes, "M"},
        {parse_bytes, "12Q"},
        {parse_bytes, "12MB"},
        {parse_bytes, "1.5G"},
        {parse_bytes, "99999999999T"},
        {parse_duration, "10"},
        {parse_duration, "s"},
        {parse_duration, "10 s"},
        {parse_duration, "999999999999m"},
        {parse_duration, "1h"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        v = 99;
        CHECK_MSG(bad[i].parse(bad[i].text, &v) == E_INVAL, "accepted: \"%s\"", bad[i].text);
        CHECK_EQ(v, 99);
    }
}

static void words_numbers_by_key(void)
{
    u64 v = 5;
    CHECK_EQ(parse("mem=64M seed=x age=3 cpu"), 0);
    CHECK_EQ(words_bytes(&w, "mem", &v), 0);
    CHECK_EQ(v, 64 * MIB);
    CHECK_EQ(words_bytes(&w, "none", &v), 0);
    CHECK_EQ(v, 64 * MIB);
    CHECK_EQ(words_number(&w, "seed", &v), E_INVAL);
    CHECK_STR(w.error, "seed=x: expected a number such as 42 or 0x2a");
    CHECK_EQ(words_duration(&w, "age", &v), E_INVAL);
    CHECK_STR(w.error, "age=3: expected a time such as 10s, 5ms or 20us");
    CHECK_EQ(words_number(&w, "cpu", &v), E_INVAL); /* a key that wants a value stands bare */
    CHECK_EQ(v, 64 * MIB);
}

/* Any line: no crash, and nothing appears that was not there. */
static void words_noise(void)
{
    static const char letters[] = "ab='\"; \t\n&=' \"";
    for (unsigned round = 0; round < 50000; round++) {
        unsigned len = check_random() % 60;
        char *line = malloc(len + 1);
        for (unsigned i = 0; i < len; i++)
            line[i] = letters[check_random() % (sizeof(letters) - 1)];
        line[len] = 0;
        if (round % 2) {
            words_parse(&w, line);
            size_t sum = 0;
            for (unsigned i = 0; i < w.nr; i++) {
                CHECK(w.word[i].key >= line && w.word[i].key <= line + len);
                sum += strlen(w.word[i].key) + (w.word[i].value ? strlen(w.word[i].value) : 0);
            }
            CHECK(sum <= len);
        } else {
            char *rest = line;
            unsigned n = 0;
            while (words_next_command(&rest))
                n++;
            CHECK(n <= len + 1);
        }
        free(line);
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(words_good);
    RUN(words_bad);
    RUN(words_lookup);
    RUN(words_commands);
    RUN(words_numbers);
    RUN(words_numbers_by_key);
    RUN(words_noise);
    return check_done();
}
