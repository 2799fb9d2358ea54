/*
 * The machine as mm/ sees it, on a host: the first half of arch/x86_64/arch.h, found first on
 * the include path of the hosted build, so that mm/ compiles unchanged. CPUs are threads (or one
 * thread that calls port_be_cpu() to play several); memory is a sparse mapping.
 */
#ifndef ARCH_H
#define ARCH_H

#include "lib/base.h"
#include "lib/lock_ranks.h"

#include "arch/x86_64/atomic.h"
#include "arch/x86_64/clear.h"

/* In every spin. A test that plays all CPUs with one thread lets the others go on in there. */
extern void (*port_relax)(void);
void port_yield(void);
static inline void port_cpu_relax(void)
{
    if (port_relax)
        port_relax();
    else
        port_yield(); /* there may be fewer cores than threads */
}
#define cpu_relax port_cpu_relax

#define MAX_CPUS  256
#define MAX_NODES 64

extern unsigned nr_cpus, nr_nodes;
unsigned cpu_node(unsigned cpu);

extern char *port_memory; /* what frame 0 would be */

static inline void *frame_va(pfn_t pfn)
{
    return port_memory + (pfn << FRAME_SHIFT);
}

u64 time_ns(void);
void cpu_kick(unsigned cpu);
void cpus_serialize(void);

/* ---- CPUs and preemption ---- */

struct port_cpu {
    unsigned id, preempt_count, nr_locks;
    const struct spinlock *lock[160];
};
extern __thread struct port_cpu port_self;

static inline unsigned cpu_id(void)
{
    return port_self.id;
}
static inline void preempt_disable(void)
{
    port_self.preempt_count++;
}
static inline void preempt_enable(void)
{
    port_self.preempt_count--;
}
static inline void preempt_enable_no_resched(void)
{
    port_self.preempt_count--;
}
static inline unsigned preempt_count(void)
{
    return port_self.preempt_count;
}
bool need_resched(void);

/* ---- locks: FIFO and ranked, as in the kernel ---- */

struct spinlock {
    u32 next, serving;
    unsigned holder; /* (a) CPU id + 1, 0: free */
    u16 rank, sub;
    const char *name;
};

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub);
void spin_lock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
void spin_unlock_keep_preempt_off(struct spinlock *l);
void spin_wait_for_holder(const struct spinlock *l);
bool spin_held(const struct spinlock *l);

#endif
