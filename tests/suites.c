/* The suites, in the order in which `test=all seed=0` runs them: what others stand on first. */
#include "tests/ktest.h"

extern const struct ktest_suite suite_lib;
extern const struct ktest_suite suite_boot;
extern const struct ktest_suite suite_sched;
extern const struct ktest_suite suite_wakeup;
extern const struct ktest_suite suite_mutex;
extern const struct ktest_suite suite_mm;
extern const struct ktest_suite suite_policy;
extern const struct ktest_suite suite_guest;
extern const struct ktest_suite suite_touch;
extern const struct ktest_suite suite_readonly;
extern const struct ktest_suite suite_accounting;
extern const struct ktest_suite suite_pressure;
extern const struct ktest_suite suite_strategies;
extern const struct ktest_suite suite_promises;
extern const struct ktest_suite suite_thread;
extern const struct ktest_suite suite_selftest;

const struct ktest_suite *const ktest_suites[] = {
    &suite_lib,        &suite_boot,     &suite_sched,      &suite_wakeup,
    &suite_mutex,      &suite_mm,       &suite_policy,     &suite_guest,
    &suite_touch,      &suite_readonly, &suite_accounting, &suite_pressure,
    &suite_strategies, &suite_promises, &suite_thread,     &suite_selftest,
};
const unsigned ktest_nr_suites = ARRAY_SIZE(ktest_suites);
