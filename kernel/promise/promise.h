/*
 * `promise`: the nine promises (docs/tour.md), each put to the test under the strategy in force.
 * What comes out is what was observed: holds, BROKEN, or n/a where the promise is about something
 * that the strategy does not do. The evidence is a count. `make compare` runs all of them under
 * every strategy and holds them against what is expected (tools/compare_expected.txt).
 *
 *   promise: strategy=claim promise=P4 observed=holds evidence="0 of 48 refused, ..."
 *
 * A bounded wait stands where the promise is that something happens at all; a time never decides.
 *
 * Next: kernel/promise/memory.c (P1 to P3), takers.c (P4, P5), clean.c (P6, P7), idle.c (P8, P9).
 */
#ifndef KERNEL_PROMISE_H
#define KERNEL_PROMISE_H

#include "lib/base.h"

enum promise_outcome { PROMISE_HOLDS, PROMISE_BROKEN, PROMISE_NONE };

struct promise_result {
    enum promise_outcome outcome;
    char evidence[160];
};

struct promise {
    const char *name, *words;
    void (*test)(struct promise_result *r);
};

#define NR_PROMISES 9
extern const struct promise promises[NR_PROMISES];

/* Runs one by its name ("P4"), or "all"; a line for each. False: there is no such promise. */
bool promise_run(const char *name);

/* ---- for the tests ---- */

/* The result: the evidence, and whether it speaks for the promise. */
void promise_say(struct promise_result *r, bool holds, const char *fmt, ...) __printf_like(3, 4);
void promise_none(struct promise_result *r, const char *fmt, ...) __printf_like(2, 3);

void promise_no_leak(struct promise_result *r);
void promise_one_owner(struct promise_result *r);
void promise_clean_is_zero(struct promise_result *r);
void promise_hides_nothing(struct promise_result *r);
void promise_no_clear_locked(struct promise_result *r);
void promise_cleanliness(struct promise_result *r);
void promise_free_is_free(struct promise_result *r);
void promise_idle_yields(struct promise_result *r);
void promise_no_dirt_forgotten(struct promise_result *r);

#endif
