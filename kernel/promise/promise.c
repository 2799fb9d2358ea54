/*
 * See promise.h. Owns nothing.
 */
#include "kernel/promise/promise.h"
#include "kernel/measure.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

const struct promise promises[NR_PROMISES] = {
    {"P1", "no leak", promise_no_leak},
    {"P2", "one owner", promise_one_owner},
    {"P3", "clean means zero", promise_clean_is_zero},
    {"P4", "scrubbing hides nothing", promise_hides_nothing},
    {"P5", "no clearing under a lock", promise_no_clear_locked},
    {"P6", "cleanliness survives", promise_cleanliness},
    {"P7", "free costs no clears", promise_free_is_free},
    {"P8", "idle work yields", promise_idle_yields},
    {"P9", "no dirt is forgotten", promise_no_dirt_forgotten},
};

static void say(struct promise_result *r, enum promise_outcome outcome, const char *fmt, va_list ap)
{
    r->outcome = outcome;
    vsnprintf(r->evidence, sizeof(r->evidence), fmt, ap);
}

void promise_say(struct promise_result *r, bool holds, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(r, holds ? PROMISE_HOLDS : PROMISE_BROKEN, fmt, ap);
    va_end(ap);
}

void promise_none(struct promise_result *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(r, PROMISE_NONE, fmt, ap);
    va_end(ap);
}

bool promise_run(const char *name)
{
    static const char *const outcomes[] = {"holds", "BROKEN", "n/a"};
    static struct promise_result results[NR_PROMISES];
    bool all = strcmp(name, "all") == 0, found = false;

    for (unsigned i = 0; i < NR_PROMISES; i++) {
        if (!all && strcmp(promises[i].name, name) != 0)
            continue;
        found = true;
        /* First, so that a panic has a name. */
        log_line("promise %s, %s:", promises[i].name, promises[i].words);
        results[i] = (struct promise_result){.outcome = PROMISE_NONE};
        promises[i].test(&results[i]);
        log_line("promise: strategy=%s promise=%s observed=%s evidence=\"%s\"", mm_strategy_name(),
                 promises[i].name, outcomes[results[i].outcome], results[i].evidence);
    }
    for (unsigned i = 0; all && i < NR_PROMISES; i++)
        log_line("%s %-26s %-6s  %s", promises[i].name, promises[i].words,
                 outcomes[results[i].outcome], results[i].evidence);
    return found;
}
