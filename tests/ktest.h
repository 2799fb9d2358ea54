/*
 * Tests inside the kernel: one file a suite in tests/, an array of cases, registered in
 * tests/suites.c. Output is KTAP 1 on the serial line (docs/testing.md).
 *
 * After each case the framework checks that no frame leaked, that no lock is held, that
 * preemption is on and that mm_check() finds nothing; a case that leaves a mess fails.
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
};

#define KTEST_SUITE(suite_name, case_array) \
    const struct ktest_suite suite_##suite_name = {#suite_name, case_array, ARRAY_SIZE(case_array)}

/* A failed check is reported with file and line; the case goes on, and fails. */
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
/* Pseudo-random numbers from the boot's seed= word: the same seed, the same run. */
u64 ktest_random(void);

/*
 * Runs what test=SELECTOR asks for ("all", "suite", "suite.case", comma-separated), shuffled by
 * seed, and gives the exit code: EXIT_PASS, EXIT_FAIL, EXIT_NOTHING_RAN.
 */
int ktest_main(const char *selector, u64 seed);

#endif
