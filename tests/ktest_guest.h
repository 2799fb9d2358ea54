/*
 * What the suites that run guests share.
 */
#ifndef TESTS_KTEST_GUEST_H
#define TESTS_KTEST_GUEST_H

#include "guest/guest.h"
#include "tests/ktest.h"

/* False, and the case is skipped: there is no such image in the module. */
bool ktest_guest_have(const char *image);
/* Starts it: its id; a failed check and 0 if it does not. */
unsigned ktest_guest_start(const struct guest_config *cfg);
/* Waits for its end; what came of it. False, and a failed check: it has none, or holds memory. */
bool ktest_guest_ended(unsigned id, struct guest_stat *out);
/* The same, and it has to have left with code 0. */
void ktest_guest_ends_well(unsigned id);

/*
 * The attack on giving back (guest/images/holder.c), with memory short, so that what it gives back
 * is somebody else's at once. The kind of guest decides whether it comes to anything (NULL: the
 * real one); checks fail if it does.
 */
void ktest_attack(const char *kind, unsigned pages);

#endif
