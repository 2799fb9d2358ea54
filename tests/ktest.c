/*
 * Runs the suites of tests/suites.c on the thread that calls ktest_main() and says what came of
 * it in KTAP 1 (docs/testing.md): one plan for the suites, one inside each for its cases.
 *
 * Owns the state of the running case: (o) that thread only, (a) any thread that the case made.
 *
 * After a case the machine has to be as it was: ktest_check_leftovers(). So one case cannot hide
 * in the mess of another, and the order of the cases, which seed= decides, does not matter.
 */
#include "tests/ktest.h"
#include "arch.h"
#include "guest/guest.h"
#include "kernel/accounting.h"
#include "kernel/rest.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define CASES_MAX   64 /* of a suite: one bit each in a u64 */
#define SUITES_MAX  32
#define TEXT_MAX    200
#define REST_NS     (3 * KTEST_LOST)
#define PRINTED_MAX 20 /* failed checks of one case that are printed */

static struct {
    u64 seed;                       /* (o) */
    u64 state;                      /* (a) of ktest_random() */
    unsigned failures;              /* (a) failed checks of the running case */
    unsigned live;                  /* (a) threads of ktest_spawn() that are not reaped yet */
    bool skipped;                   /* (o) */
    char reason[TEXT_MAX];          /* (o) why */
    unsigned passed, failed, skips; /* (o) cases of the whole run */
    u64 chosen[SUITES_MAX];         /* (o) a bit for each case that is to run */
} run;

/* ---- what cases call ---- */

bool ktest_check(bool ok, const char *file, int line, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    if (ok)
        return true;
    unsigned before = fetch_add(&run.failures, 1);
    if (before < PRINTED_MAX) {
        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        log_line("  # %s:%d: failed: %s", file, line, text);
    } else if (before == PRINTED_MAX) {
        log_line("  # more checks failed, not printed");
    }
    return false;
}

void ktest_note(const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_line("  # %s", text);
}

void ktest_skip(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(run.reason, sizeof(run.reason), fmt, ap);
    va_end(ap);
    run.skipped = true;
}

bool ktest_has_mib(unsigned mib)
{
    struct mm_zone_info i;

    for (unsigned node = 0; node < nr_nodes; node++) {
        mm_node_info(node, &i);
        if (i.frames && i.frames < mib * (MIB / FRAME_SIZE)) {
            ktest_skip("wants %u MiB on a node, node %u has %lu", mib, node,
                       (unsigned long)(i.frames * FRAME_SIZE / MIB));
            return false;
        }
    }
    return true;
}

bool ktest_alloc_is(const char *alloc, const char *what)
{
    bool is = strcmp(mm_backend_name(), alloc) == 0;
    if (!is)
        ktest_skip("%s: alloc=%s, and this boot has alloc=%s", what, alloc, mm_backend_name());
    return is;
}

/* splitmix64: its state only counts, so that threads can share it with one fetch_add. */
static u64 mix(u64 z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

u64 ktest_random(void)
{
    return mix(fetch_add(&run.state, 0x9e3779b97f4a7c15ULL));
}

/* Starts the random numbers anew from the seed and a name. */
static void random_start(const char *a, const char *b)
{
    u64 h = mix(run.seed + 1);
    for (; *a; a++)
        h = mix(h ^ (u8)*a);
    for (; *b; b++)
        h = mix(h + (u8)*b);
    run.state = h;
}

/* ---- threads of a case ---- */

static void ktest_thread_main(void *arg)
{
    struct ktest_thread *t = arg;
    t->fn(t->arg);
    store_release(&t->done, 1); /* pairs with the acquires below; *t is not touched after it */
}

/* Joined is not gone: *t may be a frame of a function that has returned. */
static void ktest_thread_gone(void *unused)
{
    (void)unused;
    fetch_add(&run.live, -1u);
}

bool ktest_spawn(struct ktest_thread *t, unsigned cpu, void (*fn)(void *), void *arg)
{
    *t = (struct ktest_thread){fn, arg, 0};
    struct thread *thread = thread_create("ktest", ktest_thread_main, t, cpu, ANY_NODE);
    if (!CHECK_MSG(thread != NULL, "no memory for a thread")) {
        t->done = 1;
        return false;
    }
    fetch_add(&run.live, 1);
    thread_on_reaped(thread, ktest_thread_gone, NULL);
    thread_start(thread);
    return true;
}

bool ktest_wait_for(const unsigned *flag, u64 ns)
{
    /* Short sleeps, not a wait queue: what is waited for may be a broken wait queue. */
    for (u64 end = time_ns() + ns; !load_acquire(flag);) {
        if (time_ns() > end)
            return load_acquire(flag);
        thread_sleep(KTEST_MS / 5);
    }
    return true;
}

bool ktest_join_for(struct ktest_thread *t, u64 ns)
{
    return ktest_wait_for(&t->done, ns);
}

void ktest_join(struct ktest_thread *t)
{
    while (!ktest_join_for(t, KTEST_LOST))
        ktest_note("still waiting for a thread of this case");
}

void ktest_run_on(unsigned cpu, void (*fn)(void *), void *arg)
{
    struct ktest_thread t;
    if (ktest_spawn(&t, cpu, fn, arg))
        ktest_join(&t);
}

/* ---- what a case may not leave behind ---- */

struct snapshot {
    struct accounting sums;
    unsigned wrong; /* things that do not add up */
    bool scrub;
    const char *strategy;
};

static void say_line(const char *line)
{
    log_line("  # %s", line);
}

static struct snapshot snapshot_take(void (*say)(const char *line))
{
    struct snapshot s = {.scrub = mm_scrub_enabled(), .strategy = mm_strategy_name()};
    /* What ended before may still be on its way out; on a busy host that takes its time. */
    guests_wait_exiting();
    for (u64 end = time_ns() + KTEST_LOST; load_acquire(&run.live) && time_ns() < end;)
        thread_sleep(KTEST_MS / 5);
    thread_reap_wait();
    s.wrong = accounting_check(say, &s.sums);
    return s;
}

/* False: the thread is in a state in which no further case can run. */
static bool ktest_check_leftovers(const struct snapshot *before)
{
    unsigned locks = this_cpu()->nr_locks_held;
    if (!CHECK_MSG(locks == 0, "left behind: %u locks held", locks))
        return false;
    unsigned depth = preempt_count();
    CHECK_MSG(depth == 0, "left behind: preemption off, %u deep", depth);
    while (preempt_count())
        preempt_enable_no_resched();
    CHECK_MSG(irqs_enabled(), "left behind: interrupts off");
    irqs_on();

    if (!CHECK_MSG(mm_scrub_enabled() == before->scrub, "left behind: scrub %s",
                   before->scrub ? "off" : "on"))
        mm_scrub_enable(before->scrub);
    if (!CHECK_MSG(mm_strategy_name() == before->strategy, "left behind: strategy %s",
                   mm_strategy_name()))
        mm_strategy_set(before->strategy);

    struct snapshot after = snapshot_take(say_line);
    u64 was = before->sums.all.allocated, is = after.sums.all.allocated;
    CHECK_MSG(is == was, "left behind: %ld frames more allocated", (long)(is - was));
    CHECK_MSG(after.sums.unaccounted == before->sums.unaccounted,
              "left behind: %ld frames more of nobody",
              (long)(after.sums.unaccounted - before->sums.unaccounted));
    CHECK_MSG(after.wrong == 0, "accounting: %u things do not add up", after.wrong);
    unsigned wrong = mm_check(false, say_line);
    CHECK_MSG(wrong == 0, "mm_check: %u things wrong", wrong);
    return true;
}

/* ---- one case, one suite ---- */

/* False: stop. */
static bool run_case(const struct ktest_suite *s, const struct ktest *t, unsigned number)
{
    run.failures = 0;
    run.skipped = false;
    if (nr_cpus < t->min_cpus)
        ktest_skip("wants %u CPUs, this machine has %u", t->min_cpus, nr_cpus);
    else if (nr_nodes < t->min_nodes)
        ktest_skip("wants %u nodes, this machine has %u", t->min_nodes, nr_nodes);
    if (run.skipped) {
        log_line("  ok %u %s # SKIP %s", number, t->name, run.reason);
        run.skips++;
        return true;
    }

    struct snapshot before = snapshot_take(NULL);
    random_start(s->name, t->name);
    log_line("  # %s.%s", s->name, t->name); /* so that a panic or a hang has a name */
    u64 start = time_ns();
    t->run();
    u64 ms = (time_ns() - start) / 1000000;
    bool go_on = ktest_check_leftovers(&before);

    /* Release order is not needed: who still checks has been reaped, or has leaked its stack. */
    unsigned failures = load_relaxed(&run.failures);
    if (failures) {
        log_line("  # %u checks failed after %lu ms; again:", failures, ms);
        log_line("  # make test T=%s.%s SEED=%lu CPUS=%u NODES=%u", s->name, t->name, run.seed,
                 nr_cpus, nr_nodes);
        log_line("  not ok %u %s", number, t->name);
        run.failed++;
    } else if (run.skipped) {
        log_line("  ok %u %s # SKIP %s", number, t->name, run.reason);
        run.skips++;
    } else {
        if (ms > 2000)
            log_line("  # took %lu ms", ms);
        log_line("  ok %u %s", number, t->name);
        run.passed++;
    }
    return go_on;
}

/* 0 .. n - 1 in an order that the seed and the name decide; seed 0: as they stand. */
static void shuffle(unsigned *order, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        order[i] = i;
    if (run.seed == 0)
        return;
    random_start("order of ", name);
    for (unsigned i = n; i > 1; i--) {
        unsigned j = (unsigned)(ktest_random() % i), was = order[i - 1];
        order[i - 1] = order[j];
        order[j] = was;
    }
}

static bool run_suite(const struct ktest_suite *s, u64 chosen, unsigned number)
{
    unsigned order[CASES_MAX], plan = 0, done = 0, failed = run.failed;
    bool go_on = true;

    for (unsigned i = 0; i < s->nr_cases; i++)
        plan += chosen >> i & 1;

    log_line("  KTAP version 1");
    log_line("  # Subtest: %s", s->name);
    log_line("  1..%u", plan);
    shuffle(order, s->nr_cases, s->name);
    for (unsigned i = 0; i < s->nr_cases && go_on; i++) {
        if (chosen & 1ULL << order[i])
            go_on = run_case(s, &s->cases[order[i]], ++done);
    }
    log_line("%s %u %s", run.failed == failed ? "ok" : "not ok", number, s->name);
    return go_on;
}

/* ---- which of them ---- */

/* True if the first n bytes of `text` are the name. */
static bool is_name(const char *text, size_t n, const char *name)
{
    return strlen(name) == n && strncmp(text, name, n) == 0;
}

/* One selector without commas. False: nothing has that name. */
static bool choose_one(const char *text, size_t n)
{
    size_t dot = 0;
    bool found = false;
    while (dot < n && text[dot] != '.')
        dot++;
    for (unsigned i = 0; i < ktest_nr_suites; i++) {
        const struct ktest_suite *s = ktest_suites[i];
        bool all = is_name(text, n, "all") && !s->by_name;
        if (!all && !is_name(text, dot, s->name))
            continue;
        for (unsigned c = 0; c < s->nr_cases; c++) {
            if (all || dot == n || is_name(text + dot + 1, n - dot - 1, s->cases[c].name)) {
                run.chosen[i] |= 1ULL << c;
                found = true;
            }
        }
    }
    return found;
}

static void list_all(void)
{
    for (unsigned i = 0; i < ktest_nr_suites; i++) {
        const struct ktest_suite *s = ktest_suites[i];
        for (unsigned c = 0; c < s->nr_cases; c++)
            log_line("#   %s.%s", s->name, s->cases[c].name);
    }
}

static bool choose(const char *selector)
{
    for (;;) {
        const char *comma = strchr(selector, ',');
        size_t n = comma ? (size_t)(comma - selector) : strlen(selector);
        if (!choose_one(selector, n)) {
            list_all();
            log_line("# test=%.*s: no such suite or case; all, a suite and the above are", (int)n,
                     selector);
            return false;
        }
        if (!comma)
            return true;
        selector = comma + 1;
    }
}

/* No boot may end with dirt and everybody asleep (P9). */
static void run_rest(unsigned number)
{
    if (rest_is_limited()) {
        log_line("ok %u rest.no_dirt # SKIP idle CPUs may not scrub all they see", number);
        return;
    }
    log_line("# rest.no_dirt");
    const char *wrong = rest_check(REST_NS);
    if (wrong) {
        log_line("# %s", wrong);
        run.failed++;
    }
    log_line("%s %u rest.no_dirt", wrong ? "not ok" : "ok", number);
}

int ktest_main(const char *selector, u64 seed)
{
    unsigned order[SUITES_MAX], suites = 0, done = 0;
    bool go_on = true;

    ASSERT(ktest_nr_suites <= SUITES_MAX);
    for (unsigned i = 0; i < ktest_nr_suites; i++)
        ASSERT(ktest_suites[i]->nr_cases <= CASES_MAX);
    run.seed = seed;
    log_line("KTAP version 1");
    if (!choose(selector))
        return EXIT_NOTHING_RAN;
    for (unsigned i = 0; i < ktest_nr_suites; i++)
        suites += run.chosen[i] != 0;
    log_line("# test=%s seed=%lu on %u CPUs, %u nodes", selector, seed, nr_cpus, nr_nodes);
    log_line("1..%u", suites + 1);

    shuffle(order, ktest_nr_suites, "suites");
    for (unsigned i = 0; i < ktest_nr_suites && go_on; i++) {
        if (run.chosen[order[i]])
            go_on = run_suite(ktest_suites[order[i]], run.chosen[order[i]], ++done);
    }
    if (!go_on) {
        log_line("Bail out! A case left this thread unable to run another");
        return EXIT_HARNESS;
    }
    run_rest(suites + 1);
    log_line("# %u passed, %u failed, %u skipped", run.passed, run.failed, run.skips);
    if (run.failed)
        return EXIT_FAIL;
    return run.passed ? EXIT_PASS : EXIT_NOTHING_RAN;
}
