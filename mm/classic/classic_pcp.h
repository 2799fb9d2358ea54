/*
 * The textbook's answer to one lock for all: each CPU keeps a stack of single frames at hand and
 * goes to the buddy allocator for several at a time only. In front of mm/classic/classic.c.
 */
#ifndef MM_CLASSIC_PCP_H
#define MM_CLASSIC_PCP_H

#include "mm/classic/classic.h"

/* Forgets what stacks hold: together with classic_init(). */
void classic_pcp_init(void);

/* As classic_take() and classic_free(); order 0 by this CPU's stack. */
pfn_t classic_pcp_take(unsigned order);
void classic_pcp_free(pfn_t pfn, unsigned order);

/* Gives this CPU's stack back: frames on it are on no list and merge with nothing. */
void classic_pcp_flush(void);

#endif
