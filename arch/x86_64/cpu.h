/*
 * Per-CPU data, reached through GS, and preemption. (o): only the CPU itself writes it.
 */
#ifndef ARCH_CPU_H
#define ARCH_CPU_H

#include "lib/base.h"
#include "clear.h"

#define LOCKS_HELD_MAX 80 /* all zone locks of a big machine, and a few */

struct thread; /* sched/thread.h */
struct spinlock;

struct cpu {
    struct cpu *self;       /* gs:0 (c) */
    u64 user_rsp;           /* gs:8 (o) scratch of the hypercall entry */
    u64 kernel_rsp;         /* gs:16 (o) top of the current thread's kernel stack; = TSS.rsp0 */
    unsigned preempt_count; /* gs:24 (o) > 0: no switch; interrupts do not change it */
    unsigned need_resched;  /* gs:28 (a) set by anyone with a kick, cleared by schedule() */
    unsigned id;            /* (c) 0 .. nr_cpus - 1 */
    unsigned apic_id;       /* (c) */
    unsigned node;          /* (c) */
    bool online;            /* (a) */
    unsigned irq_depth;     /* (o) > 0 in an interrupt handler */
    struct thread *current; /* (o) */
    struct thread *idle;    /* (c) */
    u64 cr3;                /* (o) physical root loaded now */
    unsigned nr_locks_held; /* (o) */
    const struct spinlock *locks_held[LOCKS_HELD_MAX]; /* (o) in the order they were taken */
    const struct spinlock *waits_for; /* (o) which lock it waits for; NULL: none. For panics */
    struct cpu_arch *arch;            /* (c) GDT, TSS, IST stacks: arch/x86_64/ only */
    struct clear_counts clears;       /* (o) what it has cleared; others read it relaxed */
};

/* Valid from cpu_early_init() on (the boot CPU's), on every CPU from its first C line. */
static inline struct cpu *this_cpu(void)
{
    struct cpu *c;
    __asm__("movq %%gs:0, %0" : "=r"(c));
    return c;
}

/*
 * The id of the CPU we are on. With preemption on, it may be another one by the time it is used.
 */
static inline unsigned cpu_id(void)
{
    unsigned id;
    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(id) : "i"(offsetof(struct cpu, id)));
    return id;
}

/* One instruction each, so that an interrupt, or a switch before it, cannot split them. */
static inline void preempt_disable(void)
{
    __asm__ volatile("incl %%gs:%c0" ::"i"(offsetof(struct cpu, preempt_count)) : "memory", "cc");
}

/* Not a place to switch: for who is about to look at need_resched by itself. */
static inline void preempt_enable_no_resched(void)
{
    __asm__ volatile("decl %%gs:%c0" ::"i"(offsetof(struct cpu, preempt_count)) : "memory", "cc");
}

void preempt_enable_slow(void); /* on_preempt() if interrupts are on; arch/x86_64/cpu.c */

static inline bool need_resched(void)
{
    unsigned v;
    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(v) : "i"(offsetof(struct cpu, need_resched)));
    return v != 0;
}

static inline unsigned preempt_count(void)
{
    unsigned v;
    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(v) : "i"(offsetof(struct cpu, preempt_count)));
    return v;
}

/* Leaves a section without preemption; switches here if a thread is waiting. */
static inline void preempt_enable(void)
{
    preempt_enable_no_resched();
    if (unlikely(need_resched()) && preempt_count() == 0)
        preempt_enable_slow();
}

/* Any CPU's data. (c) NULL for an id that does not exist. */
struct cpu *cpu_by_id(unsigned id);

#endif
