/*
 * Making memory short without using it: blocks that a case holds and never touches, so that what
 * is left of a node is as little as it likes.
 */
#ifndef TESTS_KTEST_BALLAST_H
#define TESTS_KTEST_BALLAST_H

#include "lib/base.h"

/*
 * The node with the least memory, if it has any. False, and the case is skipped: that is more
 * than a case may soil, for what was ballast is scrubbed afterwards.
 */
bool ktest_ballast_node(unsigned *node);
/* Takes blocks of the node until no more than `leave` frames of it are free. Once a case. */
void ktest_ballast_take(unsigned node, u64 leave);
void ktest_ballast_free(void);
/* Frames of a node that could be had now, if claims and stores came back. */
u64 ktest_ballast_left(unsigned node);

#endif
