/*
 * Breaking the kernel on purpose.
 */
#ifndef KERNEL_CRASH_H
#define KERNEL_CRASH_H

#include "lib/base.h"

/* Breaks it in that way, and does not come back; if it does, there is no such kind here. */
void crash(const char *kind);

/* One line for each kind. */
void crash_list(void);

#endif
