/*
 * Who called whom, on any CPU that stands still.
 */
#ifndef KERNEL_BACKTRACE_H
#define KERNEL_BACKTRACE_H

#include "arch.h"

/*
 * Prints the chain of calls of a CPU that stands at `place`: one raw line each, with the names.
 * `behind_call`: place->rip is a return address, not an instruction that was interrupted. Takes no
 * lock, allocates nothing, and reads only what it knows to be a stack of that CPU.
 */
void backtrace_print(unsigned cpu, const struct cpu_place *place, bool behind_call);

#endif
