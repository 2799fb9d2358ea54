/*
 * For the end: every other CPU stopped where it stands, and what can then be known of its stack.
 * arch/x86_64/freeze.c. Who reads it all: kernel/panic.c, kernel/backtrace.c.
 */
#ifndef ARCH_FREEZE_H
#define ARCH_FREEZE_H

#include "lib/base.h"

/* Where a CPU stood. */
struct cpu_place {
    u64 rip, rsp, rbp;
    bool user; /* in ring 3: the addresses are a guest's */
};

/*
 * Stops every other CPU for good, by NMI. Waits for their answers, but not for ever: a CPU that
 * is dead must not keep the others from telling.
 */
void machine_freeze_others(void);

/* Where that CPU was stopped. False: it has not answered, and may even still be running. */
bool machine_frozen_at(unsigned cpu, struct cpu_place *place);

/* From now on that CPU answers no NMI, and does nothing else either. For trying a panic out. */
void machine_deafen(unsigned cpu);

/*
 * The kernel stack that va lies in: its [low, high). It is mapped, so reading all of it is safe.
 * False: va is on no stack that this CPU may stand on.
 */
bool cpu_stack_find(unsigned cpu, u64 va, u64 *low, u64 *high);

/* True for the return address of a trap handler: into entry.asm. */
bool trap_is_entry(u64 return_address);
/*
 * Behind such a one, `frame` is what entry.asm has made up: TRAP_FRAME_BYTES, readable. Gives
 * where the trap came, which may be on another stack.
 */
#define TRAP_FRAME_BYTES (16 + 184) /* rbp and rip, as of a call; struct trapframe */
void trap_interrupted(u64 frame, struct cpu_place *place);

#endif
