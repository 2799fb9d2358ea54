/*
 * The commands: one table, one function each. What is wrong is refused by its name, in one
 * line, and nothing is done; the next command is read.
 *
 * Owns nothing but the words of the command that runs (one at a time, thread "main").
 *
 * Next: tables.c (what they print), bench/bench.c, guest/guest.h (what they start).
 */
#include "kernel/commands.h"
#include "kernel/policy.h"
#include "kernel/bench/bench.h"
#include "kernel/console.h"
#include "kernel/crash.h"
#include "kernel/promise/promise.h"
#include "kernel/rest.h"
#include "kernel/tables.h"
#include "kernel/work/work.h"
#include "guest/guest.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "lib/words.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define POLL_NS   (2 * 1000 * 1000ULL)
#define ASLEEP_NS (60 * 1000 * 1000 * 1000ULL)

struct command {
    const char *name;
    const char *usage; /* what follows the name */
    const char *help;
    const char *known; /* the keys it takes, blanks between; NULL: it looks itself */
    unsigned operands; /* bare words that must follow before the keys */
    void (*run)(struct words *w);
};

static void command_usage(const struct words *w);

/* ---- guests ---- */

static void say_image(void *ctx, const char *name)
{
    (void)ctx;
    log_line("  image %s", name);
}

/*
 * Waits for a guest that runs in the foreground; Ctrl-C kills it. Looks every 2 ms rather than
 * sleep until the end, so that it sees the Ctrl-C; the guest's times are measured by itself.
 */
static void start_wait(unsigned id)
{
    struct guest_stat g;

    while (guest_stat_get(id, &g) == 0 && g.state != GUEST_DEAD) {
        if (console_interrupted() && g.state == GUEST_RUNNING)
            guest_kill(id);
        thread_sleep(POLL_NS);
    }
    guest_wait(id);
}

/* A number that names one of `limit` things. */
static bool start_index(struct words *w, const char *key, unsigned limit, unsigned *out)
{
    u64 n = 0;

    if (!words_find(w, key))
        return true;
    if (words_number(w, key, &n) != 0) {
        log_line("start: %s", w->error);
        return false;
    }
    if (n >= limit) {
        log_line("start: %s=%lu: there are %u, counted from 0", key, n, limit);
        return false;
    }
    *out = (unsigned)n;
    return true;
}

/* cpu=3 is a CPU, cpu=10s a time, cpu=3 cpu=10s both; the last of each wins. */
static bool start_cpu(const struct words *w, struct guest_config *cfg)
{
    u64 n;

    for (unsigned i = 2; i < w->nr; i++) {
        const struct word *word = &w->word[i];
        if (strcmp(word->key, "cpu") != 0)
            continue;
        if (parse_number(word->value, &n) == 0) {
            if (n >= nr_cpus) {
                log_line("start: cpu=%lu: there are %u, counted from 0", n, nr_cpus);
                return false;
            }
            cfg->cpu = (unsigned)n;
        } else if (parse_duration(word->value, &n) == 0 && n > 0) {
            cfg->cpu_ns = n;
        } else {
            log_line("start: cpu=%s: expected a CPU such as 3, or the CPU time that it may have, "
                     "such as 10s or 500ms",
                     word->value);
            return false;
        }
    }
    return true;
}

static void command_start(struct words *w)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(w->word[1].key);
    unsigned id;

    for (unsigned i = 2; i < w->nr; i++) {
        const struct word *word = &w->word[i];
        bool bare = strcmp(word->key, "linger") == 0 || strcmp(word->key, "&") == 0;
        if (bare && word->value) {
            log_line("start: '%s' takes no value", word->key);
            return;
        }
        if (!bare && (!word->value || !*word->value)) {
            log_line("start: '%s' wants a value: %s=...", word->key, word->key);
            return;
        }
    }
    if (words_bytes(w, "mem", &cfg.mem) != 0) {
        log_line("start: %s", w->error);
        return;
    }
    if (!start_index(w, "node", nr_nodes, &cfg.node) || !start_cpu(w, &cfg))
        return;
    if (cfg.cpu != ANY_CPU && !load_acquire(&cpu_by_id(cfg.cpu)->online)) {
        log_line("start: cpu=%u did not come up", cfg.cpu);
        return;
    }
    cfg.kind = words_value(w, "kind");
    cfg.secret = words_value(w, "secret");
    cfg.linger = words_has(w, "linger");
    /* What a dying guest still holds is as good as free: do not fail for want of it. */
    guests_wait_exiting();
    if (guest_start(&cfg, &id) != 0)
        return; /* it has said why */
    log_line("guest %u %s started", id, cfg.name);
    if (!words_has(w, "&"))
        start_wait(id);
}

static void command_kill(struct words *w)
{
    u64 id;

    if (w->nr != 2 || w->word[1].value) {
        command_usage(w);
        return;
    }
    if (parse_number(w->word[1].key, &id) != 0 || id > ~0u) {
        log_line("kill: '%s' is not the id of a guest", w->word[1].key);
        return;
    }
    int error = guest_kill((unsigned)id);
    if (error)
        log_line("kill: guest %lu: %s", id, error_text(error));
}

static void command_guests(struct words *w)
{
    (void)w;
    table_guests();
}

/* ---- memory ---- */

static void command_topology(struct words *w)
{
    (void)w;
    table_topology();
}

static void command_zones(struct words *w)
{
    (void)w;
    table_zones();
}

static void command_stats(struct words *w)
{
    (void)w;
    table_stats();
}

static void command_cpus(struct words *w)
{
    (void)w;
    table_cpus();
}

static u64 frames_not_clean(void)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    return i.dirty + i.stored_dirty + i.in_flight;
}

static void wait_asleep(void)
{
    struct rest rest;

    guests_wait_exiting();
    thread_reap_wait();
    if (rest_wait(ASLEEP_NS, &rest))
        log_line("every other CPU sleeps after %lu ms and dirt on %u nodes; %lu free frames are "
                 "dirty",
                 MS_OF(rest.ns), rest.freed, rest.dirty);
    else
        log_line("wait asleep: after %lu ms some CPU is not asleep yet", MS_OF(ASLEEP_NS));
}

static void command_wait(struct words *w)
{
    if (w->nr == 2 && !w->word[1].value && strcmp(w->word[1].key, "asleep") == 0) {
        wait_asleep();
        return;
    }
    if (w->nr != 2 || w->word[1].value || strcmp(w->word[1].key, "clean") != 0) {
        command_usage(w);
        return;
    }
    u64 began = time_ns();
    guests_wait_exiting();
    thread_reap_wait();
    for (;;) {
        u64 left = frames_not_clean();
        if (left == 0)
            break;
        if (!mm_scrub_enabled()) {
            log_line("wait clean: %lu frames are dirty and idle scrubbing is off; `scrub on` first",
                     left);
            return;
        }
        if (!mm_strategy_scrubs_free()) {
            log_line("wait clean: %lu frames are dirty, and under %s nobody scrubs free memory",
                     left, mm_strategy_name());
            return;
        }
        if (console_interrupted()) {
            log_line("wait clean: interrupted; %lu frames are not clean yet", left);
            return;
        }
        thread_sleep(POLL_NS);
    }
    log_line("all free memory is clean after %lu ms", MS_OF(time_ns() - began));
}

/* One word of scrub: a limit, on, off, or a strategy. False: it was refused, and said so. */
static bool scrub_word(struct mm_policy *policy, const struct word *w)
{
    const char *wants;
    int error = policy_word(policy, w, &wants);
    if (error == 0)
        return true;
    if (error == E_INVAL) {
        log_line("scrub: '%s%s%s': %s takes %s", w->key, w->value ? "=" : "",
                 w->value ? w->value : "", w->key, wants);
        return false;
    }
    if (!w->value && (strcmp(w->key, "on") == 0 || strcmp(w->key, "off") == 0)) {
        mm_scrub_enable(w->key[1] == 'n');
        return true;
    }
    error = w->value ? E_NOENT : mm_strategy_set(w->key);
    if (error == E_INVAL)
        log_line("scrub: %s is a strategy of alloc=%s: that takes a boot, with scrub=%s", w->key,
                 mm_strategy_backend(w->key), w->key);
    else if (!error)
        policy_warn();
    else {
        char names[POLICY_STRATEGIES_MAX];
        policy_strategies(names, sizeof(names));
        log_line("scrub: unknown '%s'; on, off, %s, or one of %s", w->key, names, POLICY_KEYS);
    }
    return error == 0;
}

/* scrub [on|off] [STRATEGY] [age=10s] [rate=200M] [scrubbers=2]; scrub=eager too */
static void command_scrub(struct words *w)
{
    struct mm_policy policy;
    mm_policy_get(&policy);
    struct word first = {.key = w->word[0].value};
    if (first.key && !scrub_word(&policy, &first))
        return;
    for (unsigned i = 1; i < w->nr; i++)
        if (!scrub_word(&policy, &w->word[i]))
            return; /* of the limits, none is changed */
    policy_apply(&policy);
    policy_say();
}

static void command_bench(struct words *w)
{
    if (w->nr != 2 || w->word[1].value || !bench_run(w->word[1].key))
        command_usage(w);
}

static void command_promise(struct words *w)
{
    if (w->nr != 2 || w->word[1].value || !promise_run(w->word[1].key))
        command_usage(w);
}

static void command_work(struct words *w)
{
    if (w->nr != 2 || w->word[1].value || !work_run(w->word[1].key))
        command_usage(w);
}

static void say_line(const char *line)
{
    log_line("%s", line);
}

static void command_check(struct words *w)
{
    (void)w;
    unsigned wrong = mm_check(true, say_line);
    log_line("check: %u thing%s wrong", wrong, wrong == 1 ? "" : "s");
}

static void command_threads(struct words *w)
{
    (void)w;
    sched_dump(say_line);
}

static void command_crash(struct words *w)
{
    if (w->nr == 2 && !w->word[1].value)
        crash(w->word[1].key);
    command_usage(w); /* still here: no such kind */
    crash_list();
}

static void command_off(struct words *w)
{
    (void)w;
    machine_exit(EXIT_PASS);
}

static void command_help(struct words *w);

static const struct command commands[] = {
    {"start", "NAME [mem=256M] [node=N] [kind=K] [secret=TEXT] [cpu=N] [cpu=10s] [linger] [&]",
     "start a guest; without & the prompt returns at its end; cpu=10s: killed after that CPU time",
     "mem node kind secret cpu linger &", 1, command_start},
    {"kill", "ID", "end a guest; its memory comes back dirty", NULL, 0, command_kill},
    {"wait", "clean|asleep",
     "until guests that are exiting are gone and no frame is dirty; until all other CPUs sleep",
     NULL, 0, command_wait},
    {"topology", "", "nodes: their CPUs, memory and distances", "", 0, command_topology},
    {"zones", "", "where memory is, in KiB", "", 0, command_zones},
    {"guests", "", "who lives, and who has died lately; what they hold, in KiB", "", 0,
     command_guests},
    {"stats", "", "who scrubbed what, and who holds what is allocated", "", 0, command_stats},
    {"cpus", "", "what each CPU did and scrubbed", "", 0, command_cpus},
    {"threads", "", "every thread: its CPU and state", "", 0, command_threads},
    {"scrub", "[on|off] [STRATEGY] [age=10s] [rate=200M] [scrubbers=N]",
     "idle CPUs scrub or not, how, and within which limits (=off: none); alone: what is in force, "
     "and which strategies there are",
     NULL, 0, command_scrub},
    {"bench", "alloc|scrub|destroy|create|wake|all",
     "what things cost here, each against a baseline of this boot", NULL, 0, command_bench},
    {"promise", "P1|...|P9|all", "puts the promises to the test under this strategy", NULL, 0,
     command_promise},
    {"work", "SCENARIO|all", "the same work for every strategy: " WORK_SCENARIOS, NULL, 0,
     command_work},
    {"check", "", "recount every map and read every clean frame", "", 0, command_check},
    {"crash", "KIND", "break the kernel on purpose; without KIND: the ways there are", NULL, 0,
     command_crash},
    {"help", "", "this", "", 0, command_help},
    {"off", "", "leave QEMU, status 0x10", "", 0, command_off},
};

static void command_help(struct words *w)
{
    (void)w;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        const struct command *c = &commands[i];
        log_line("%s%s%s", c->name, *c->usage ? " " : "", c->usage);
        log_line("        %s", c->help);
    }
    guests_each_image(say_image, NULL);
}

static const struct command *command_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void command_usage(const struct words *w)
{
    const struct command *c = command_find(w->word[0].key);
    log_line("usage: %s%s%s", c->name, *c->usage ? " " : "", c->usage);
}

static void command_execute(char *text)
{
    static struct words words; /* one command at a time; too big for a stack */

    if (words_parse(&words, text) != 0) {
        log_line("%s", words.error);
        return;
    }
    if (words.nr == 0)
        return;
    const struct word *first = &words.word[0];
    const struct command *c = command_find(first->key);
    if (!c || (first->value && c->run != command_scrub)) {
        log_line("unknown command '%s%s%s'; try help", first->key, first->value ? "=" : "",
                 first->value ? first->value : "");
        return;
    }
    if (words.nr < 1 + c->operands || (c->operands && words.word[1].value)) {
        command_usage(&words);
        return;
    }
    const struct word *bad = c->known ? words_unknown(&words, 1 + c->operands, c->known) : NULL;
    if (bad) {
        log_line("%s: unknown key '%s'; usage: %s%s%s", c->name, bad->key, c->name,
                 *c->usage ? " " : "", c->usage);
        return;
    }
    console_command_begin();
    c->run(&words);
    console_command_end();
}

static void commands_execute_all(char *text)
{
    char *command;
    while ((command = words_next_command(&text)))
        command_execute(command);
}

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        s[--n] = 0;
    return s;
}

void commands_run(char *script)
{
    char *command;
    while ((command = words_next_command(&script))) {
        command = trim(command);
        if (!*command)
            continue;
        log_line("%s%s", PROMPT, command);
        command_execute(command);
    }
}

void commands_prompt(void)
{
    static char line[CONSOLE_LINE_MAX];

    for (;;) {
        console_write(PROMPT, sizeof(PROMPT) - 1);
        if (console_read_line(line, sizeof(line)) > 0)
            commands_execute_all(line);
    }
}
