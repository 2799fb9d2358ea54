/*
 * The kernel's command line: words as lib/words.h cuts them, looked up in one table.
 *
 * Owns nothing; boot CPU, before anything else runs.
 *
 * Next: main.c, which acts on it.
 */
#include "kernel/cmdline.h"
#include "kernel/policy.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/words.h"

static bool cmdline_test(struct options *o, const char *value)
{
    o->test = value;
    return true;
}

static bool cmdline_seed(struct options *o, const char *value)
{
    return parse_number(value, &o->seed) == 0;
}

static bool cmdline_run(struct options *o, const char *value)
{
    o->run = value;
    return true;
}

static bool cmdline_console(struct options *o, const char *value)
{
    o->plain = strcmp(value, "plain") == 0;
    return o->plain;
}

static bool cmdline_alloc(struct options *o, const char *value)
{
    const char *name;
    for (unsigned i = 0; (name = mm_backend_nth(i)) != NULL; i++)
        if (strcmp(name, value) == 0)
            o->alloc = name;
    return o->alloc != NULL;
}

/* One of the comma-separated values of scrub=: a switch, or a strategy of whichever backend. */
static bool cmdline_scrub_one(struct options *o, const char *value, size_t n)
{
    char name[sizeof(o->strategy)];
    if (n >= sizeof(name))
        return false;
    memcpy(name, value, n);
    name[n] = 0;
    bool on = strcmp(name, "on") == 0;
    if (on || strcmp(name, "off") == 0 || strcmp(name, "hold") == 0)
        o->scrub_off = !on;
    else if (mm_strategy_backend(name))
        memcpy(o->strategy, name, sizeof(name));
    else
        return false;
    return true;
}

static bool cmdline_scrub(struct options *o, const char *value)
{
    for (;;) {
        const char *comma = strchr(value, ',');
        size_t n = comma ? (size_t)(comma - value) : strlen(value);
        if (!cmdline_scrub_one(o, value, n))
            return false;
        if (!comma)
            return true;
        value = comma + 1;
    }
}

static bool cmdline_zone(struct options *o, const char *value)
{
    u64 bytes;
    if (parse_bytes(value, &bytes) != 0 || bytes % GIB || bytes < GIB ||
        bytes > MM_ZONE_GIB_MAX * GIB)
        return false;
    o->zone_gib = bytes / GIB;
    return true;
}

static bool cmdline_rsdp(struct options *o, const char *value)
{
    return parse_number(value, &o->rsdp) == 0 && o->rsdp;
}

static bool cmdline_exit(struct options *o, const char *value)
{
    (void)value;
    return o->exit = true;
}

static bool cmdline_demo(struct options *o, const char *value)
{
    (void)value;
    return o->demo = true;
}

static const struct {
    const char *key;
    bool bare;                                         /* a word without a value */
    bool (*set)(struct options *o, const char *value); /* false: not such a value */
    const char *wants;
} cmdline_words[] = {
    {"test", false, cmdline_test, "a selector such as all, suite or suite.case"},
    {"seed", false, cmdline_seed, EXPECTED_NUMBER},
    {"run", false, cmdline_run, "commands such as 'zones; off'"},
    {"alloc", false, cmdline_alloc, "limpid or classic"},
    {"scrub", false, cmdline_scrub, "a strategy such as claim or eager, and on, off or hold"},
    {"zone", false, cmdline_zone, "whole GiB from 1G to 64G"},
    {"rsdp", false, cmdline_rsdp, "the physical address of an RSDP, such as 0x3000000"},
    {"console", false, cmdline_console, "plain"},
    {"exit", true, cmdline_exit, "no value"},
    {"demo", true, cmdline_demo, "no value"},
};

static void cmdline_take(struct options *o, const struct word *w)
{
    for (unsigned i = 0; i < ARRAY_SIZE(cmdline_words); i++) {
        if (strcmp(cmdline_words[i].key, w->key) != 0)
            continue;
        bool bare = w->value == NULL;
        if (bare != cmdline_words[i].bare || !cmdline_words[i].set(o, bare ? "" : w->value))
            log_line("command line: '%s%s%s' ignored; %s takes %s", w->key, bare ? "" : "=",
                     bare ? "" : w->value, w->key, cmdline_words[i].wants);
        return;
    }
    const char *wants;
    int error = policy_word(&o->policy, w, &wants);
    if (error == E_INVAL)
        log_line("command line: '%s%s%s' ignored; %s takes %s", w->key, w->value ? "=" : "",
                 w->value ? w->value : "", w->key, wants);
    else if (error)
        log_line("command line: unknown word '%s' ignored", w->key);
}

void cmdline_parse(char *text, struct options *out)
{
    static struct words words; /* too big for the boot stack, and used once */

    *out = (struct options){.seed = 1};
    mm_policy_get(&out->policy);
    if (words_parse(&words, text) != 0)
        log_line("command line: %s", words.error);
    for (unsigned i = 0; i < words.nr; i++)
        cmdline_take(out, &words.word[i]);
}
