/*
 * The words that limit scrubbing: one grammar for the command line and for the prompt's `scrub`.
 */
#ifndef KERNEL_POLICY_H
#define KERNEL_POLICY_H

#include "lib/words.h"
#include "mm/mm.h"

#define POLICY_KEYS "age rate scrubbers batch"

/*
 * Puts the word (age=10s, rate=200M, scrubbers=2, each also =off) into `policy`. 0; E_NOENT: not
 * such a key; E_INVAL: not such a value, *wants says what was expected; policy is unchanged then.
 */
int policy_word(struct mm_policy *policy, const struct word *w, const char **wants);

/* Puts it in force, at once. 0 or E_INVAL, see mm_policy_set(). */
int policy_apply(const struct mm_policy *policy);

#define POLICY_STRATEGIES_MAX 160
/* The names of this backend's strategies, with commas between them. */
void policy_strategies(char *buf, size_t size);

/* What is in force, a line each. */
void policy_say(void);
/* The banner of a strategy that has a warning, each time it is chosen; else nothing. */
void policy_warn(void);

/*
 * How old dirt of a node may get, in ms, with every CPU busy: the age bound, the aged thread's
 * longest sleep, and the node's backlog over what that thread gets of its CPU. 0: no bound is set,
 * or the strategy in force knows none.
 */
u64 policy_bound_ms(unsigned node);

#endif
