/*
 * Tests inside the kernel: one file a suite in tests/, an array of cases, registered in
 * tests/suites.c. Output is KTAP 1 on the serial line (docs/testing.md).
 *
 * After each case the framework checks that no frame leaked, that no lock is held, that
 * preemption is on, that mm_check() finds nothing and that everything adds up
 * (kernel/accounting.h); a case that leaves a mess fails. After the last one every CPU has to
 * fall asleep with nothing dirty (kernel/rest.h): the result "rest.no_dirt".
 */
#ifndef TESTS_KTEST_H
#define TESTS_KTEST_H

#include "lib/base.h"

struct ktest {
    const char *name; /* test=suite.name */
    void (*run)(void);
    unsigned min_cpus, min_nodes; /* fewer than this: reported as SKIP with the reason */
};

struct ktest_suite {
    const char *name;
    const struct ktest *cases;
    unsigned nr_cases;
    bool by_name; /* not part of test=all */
};

/* Every suite there is: tests/suites.c. */
extern const struct ktest_suite *const ktest_suites[];
extern const unsigned ktest_nr_suites;

#define KTEST_SUITE(suite_name, case_array)                                 \
    const struct ktest_suite suite_##suite_name = {#suite_name, case_array, \
                                                   ARRAY_SIZE(case_array), false}
#define KTEST_SUITE_BY_NAME(suite_name, case_array)                         \
    const struct ktest_suite suite_##suite_name = {#suite_name, case_array, \
                                                   ARRAY_SIZE(case_array), true}

/*
 * A failed check is reported with file and line; the case goes on, and fails. True if it held.
 * From any thread that the case started and waits for.
 */
bool ktest_check(bool ok, const char *file, int line, const char *fmt, ...) __printf_like(4, 5);
#define CHECK(cond)          ktest_check((cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_MSG(cond, ...) ktest_check((cond), __FILE__, __LINE__, __VA_ARGS__)
/* As CHECK, but leaves the case at once (from the case function itself). */
#define REQUIRE(cond)     \
    do {                  \
        if (!CHECK(cond)) \
            return;       \
    } while (0)
/* A diagnostic line ("# ...") in the KTAP output. */
void ktest_note(const char *fmt, ...) __printf_like(1, 2);
/* Marks the running case as skipped, with the reason. */
void ktest_skip(const char *fmt, ...) __printf_like(1, 2);
/*
 * True if every node that has memory has at least that much; otherwise the case is marked as
 * skipped, and should return. For who takes large blocks.
 */
bool ktest_has_mib(unsigned mib);
/*
 * True if this boot has that allocator (alloc=); otherwise the case is marked as skipped, and
 * should return: it is about what only that one promises, `what`.
 */
bool ktest_alloc_is(const char *alloc, const char *what);
/*
 * Pseudo-random numbers from the boot's seed= word: the same seed, the same numbers for a case,
 * whichever cases run before it.
 */
u64 ktest_random(void);

/* ---- threads of a case: each started one has to be joined before the case returns ---- */

struct ktest_thread {
    void (*fn)(void *arg);
    void *arg;
    unsigned done; /* (a) released by the thread as its last touch; pairs with the join */
};
/* Starts fn(arg) on a CPU (ANY_CPU allowed). False: out of memory, and a failed check. */
bool ktest_spawn(struct ktest_thread *t, unsigned cpu, void (*fn)(void *arg), void *arg);
void ktest_join(struct ktest_thread *t);
/* As join, but gives up after ns. False: it still runs, and still has to be joined. */
bool ktest_join_for(struct ktest_thread *t, u64 ns);
/* Runs fn(arg) on that CPU and waits for it. */
void ktest_run_on(unsigned cpu, void (*fn)(void *arg), void *arg);
/* Waits until *flag is true, at most ns: for what ought to happen soon. False: it did not. */
bool ktest_wait_for(const unsigned *flag, u64 ns);

#define KTEST_MS 1000000ULL
#define KTEST_S  1000000000ULL
/*
 * How long a case waits for what must happen before it calls it lost. Long, because the host
 * may be busy with other things; a test that passes never waits this long.
 */
#define KTEST_LOST (20 * KTEST_S)

/*
 * Runs what test=SELECTOR asks for ("all", "suite", "suite.case", comma-separated), shuffled by
 * seed, and gives the exit code: EXIT_PASS, EXIT_FAIL, EXIT_NOTHING_RAN, or EXIT_HARNESS: a case
 * left the thread that runs them unfit for the next.
 */
int ktest_main(const char *selector, u64 seed);

#endif
