/*
 * The machine as mm/ sees it, for measuring: the half of arch/x86_64/arch.h that mm/ may use,
 * found first on the include path. What tests/host/port/arch.h checks is not checked here; what
 * costs time in the kernel costs it here too: the clears, the clock and the fences are the
 * kernel's own, a lock is a FIFO ticket, preemption a counter of the thread.
 */
#ifndef ARCH_H
#define ARCH_H

#include "lib/base.h"
#include "lib/lock_ranks.h"

#include "arch/x86_64/atomic.h"
#include "arch/x86_64/clear.h"

#ifdef BENCH_STEPS
/* A turn of a spin is no step: how many there are is up to another CPU. */
void steps_relax(void);
#define cpu_relax steps_relax
#endif

#define MAX_CPUS  256
#define MAX_NODES 64

extern unsigned nr_cpus, nr_nodes;

static inline unsigned cpu_node(unsigned cpu)
{
    (void)cpu;
    return 0; /* the benchmarks run on one node */
}

extern char *bench_memory; /* what frame 0 would be */

static inline void *frame_va(pfn_t pfn)
{
    return bench_memory + (pfn << FRAME_SHIFT);
}

/* ---- time: the TSC, scaled as in arch/x86_64/time.c ---- */

extern u64 bench_ns_per_tick_32;

static inline u64 rdtsc(void)
{
    u32 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}

u64 time_ns(void); /* a call, as in the kernel */
void cpu_kick(unsigned cpu);
void cpus_serialize(void);

/* ---- CPUs and preemption ---- */

struct bench_cpu {
    unsigned id, preempt_count;
};
extern __thread struct bench_cpu bench_self;

static inline unsigned cpu_id(void)
{
    return bench_self.id;
}
static inline void preempt_disable(void)
{
    bench_self.preempt_count++;
    compiler_barrier();
}
static inline void preempt_enable(void)
{
    compiler_barrier();
    bench_self.preempt_count--;
}
static inline void preempt_enable_no_resched(void)
{
    preempt_enable();
}
static inline unsigned preempt_count(void)
{
    return bench_self.preempt_count;
}

extern u32 bench_resched; /* (a) the scrubber is to stop */
static inline bool need_resched(void)
{
    return load_relaxed(&bench_resched);
}

/* ---- locks: the ticket alone ---- */

struct spinlock {
    u32 next, serving;
};

static inline void spin_init(struct spinlock *l, const char *name, enum lock_rank rank,
                             unsigned sub)
{
    (void)name;
    (void)rank;
    (void)sub;
    l->next = l->serving = 0;
}

void spin_wait(struct spinlock *l, u32 ticket);

/* tests/host/bench/steps.c counts what is done between the two; elsewhere they are nothing. */
#ifdef BENCH_STEPS
void steps_locked(void);
void steps_unlocked(void);
#else
static inline void steps_locked(void) {}
static inline void steps_unlocked(void) {}
#endif

static inline void spin_lock(struct spinlock *l)
{
    preempt_disable();
    u32 ticket = fetch_add(&l->next, 1);
    if (unlikely(load_acquire(&l->serving) != ticket))
        spin_wait(l, ticket);
    steps_locked();
}

static inline void spin_unlock_keep_preempt_off(struct spinlock *l)
{
    steps_unlocked();
    store_release(&l->serving, l->serving + 1);
}

static inline void spin_unlock(struct spinlock *l)
{
    spin_unlock_keep_preempt_off(l);
    preempt_enable();
}

static inline void spin_wait_for_holder(const struct spinlock *l)
{
    u32 ticket = load_acquire(&l->serving);
    while (load_acquire(&l->next) != ticket && load_acquire(&l->serving) == ticket)
        cpu_relax();
}

/* Somebody holds it: good enough for the ASSERTs, whose cost is the kernel's. */
static inline bool spin_held(const struct spinlock *l)
{
    return load_relaxed(&l->next) != load_relaxed(&l->serving);
}

#endif
