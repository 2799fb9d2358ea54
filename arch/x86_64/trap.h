/*
 * What a trap leaves on the kernel stack. Pushed by arch/x86_64/entry.asm, which knows the
 * offsets; the last five fields are pushed by the CPU (APM2 8.9.3), or made up by the hypercall
 * entry in the same shape. A frame from ring 3 lies at the top of the thread's kernel stack.
 */
#ifndef ARCH_TRAP_H
#define ARCH_TRAP_H

#include "lib/base.h"

struct trapframe {
    u64 cr2; /* of a page fault: taken at once, before interrupts come on */
    u64 r15, r14, r13, r12, r11, r10, r9, r8;
    u64 rbp, rdi, rsi, rdx, rcx, rbx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

/* Exceptions (APM2 8.2) */
#define TRAP_DE        0
#define TRAP_DB        1
#define TRAP_NMI       2
#define TRAP_BP        3
#define TRAP_UD        6
#define TRAP_NM        7
#define TRAP_DF        8
#define TRAP_GP        13
#define TRAP_PF        14
#define TRAP_MC        18
#define TRAP_HYPERCALL 256 /* not a vector: came by the syscall instruction */

/* Error code of a page fault (APM2 8.4.2) */
#define PF_PRESENT 1u
#define PF_WRITE   2u
#define PF_USER    4u
#define PF_FETCH   16u

static inline bool trap_from_user(const struct trapframe *tf)
{
    return (tf->cs & 3) == 3;
}

/* "page fault", "invalid opcode", ... */
const char *trap_name(u64 vector);

#endif
