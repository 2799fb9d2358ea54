/*
 * The longest hold of a zone lock, in steps (P5): basic blocks of mm/ and its maps that a CPU ran
 * while it held one. Counted, never timed. Only the image build/steps/limpid.elf counts: its mm/
 * is compiled with a call at every basic block (`make compare` boots it for this number alone).
 */
#ifndef KERNEL_STEPS_H
#define KERNEL_STEPS_H

#include "lib/base.h"

/* This image counts. */
bool steps_counted(void);
/* Forgets the maxima. Racy with holds that are going on: for a quiet moment. */
void steps_reset(void);
/* The most of any CPU since then. */
u64 steps_max(void);

#endif
