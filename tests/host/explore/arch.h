/*
 * The machine as mm/ and sched/idle.c see it under the explorer: the same names as
 * arch/x86_64/arch.h, found first on the include path, so that both compile unchanged. Whatever
 * CPUs share calls into the explorer with the place it stands at: each is a switch point.
 * Next: explore.h, then memory.c (what a load, a store, a lock and a clear are here).
 */
#ifndef ARCH_H
#define ARCH_H

#include "lib/base.h"
#include "lib/lock_ranks.h"

#define MAX_CPUS  4 /* few, so that little has to be put back between two executions */
#define MAX_NODES 4

extern unsigned nr_cpus, nr_nodes;
unsigned cpu_node(unsigned cpu);
u64 time_ns(void);

extern char *explore_memory; /* what frame 0 would be */

static inline void *frame_va(pfn_t pfn)
{
    return explore_memory + (pfn << FRAME_SHIFT);
}

/* ---- where in the source a step is ---- */

struct site {
    const char *text; /* what stands there: the operand, or the name of the call */
    const char *file, *function;
    unsigned line;
};

#define SITE(what)                                                               \
    ({                                                                           \
        static const struct site site_ = {(what), __FILE__, __func__, __LINE__}; \
        &site_;                                                                  \
    })

/* ---- atomics and fences ---- */

u64 explore_load(const void *p, unsigned size, const struct site *at);
void explore_store(void *p, unsigned size, u64 v, const struct site *at);
u64 explore_xchg(void *p, unsigned size, u64 v, const struct site *at);
u64 explore_fetch_add(void *p, unsigned size, u64 v, const struct site *at);
bool explore_cas(void *p, unsigned size, u64 old, u64 v, const struct site *at);
void explore_fence(const struct site *at);
void explore_serialize(const struct site *at);
void explore_relax(const struct site *at);

#define load_relaxed(p)     ((__typeof__(*(p)))explore_load((p), sizeof(*(p)), SITE(#p)))
#define load_acquire(p)     load_relaxed(p)
#define store_relaxed(p, v) explore_store((p), sizeof(*(p)), (u64)(v), SITE(#p))
#define store_release(p, v) store_relaxed(p, v)
/* In statement expressions, so that the value may be left unused. */
#define xchg(p, v) ({ (__typeof__(*(p)))explore_xchg((p), sizeof(*(p)), (u64)(v), SITE(#p)); })
#define fetch_add(p, v) \
    ({ (__typeof__(*(p)))explore_fetch_add((p), sizeof(*(p)), (u64)(v), SITE(#p)); })
#define cas(p, old, new)   explore_cas((p), sizeof(*(p)), (u64)(old), (u64)(new), SITE(#p))
#define full_fence()       explore_fence(SITE("full_fence"))
#define cpus_serialize()   explore_serialize(SITE("cpus_serialize"))
#define compiler_barrier() __asm__ volatile("" ::: "memory")
#define cpu_relax()        explore_relax(SITE("cpu_relax"))

/* ---- clears ---- */

void explore_clear(void *frame, size_t bytes, bool stream, const struct site *at);
void explore_clear_fence(const struct site *at);
bool frame_is_zero(const void *frame);

#define clear_frame_stream(frame) explore_clear((frame), FRAME_SIZE, true, SITE("stream"))
#define clear_ordinary(p, bytes)  explore_clear((p), (bytes), false, SITE("ordinary"))
#define clear_fence()             explore_clear_fence(SITE("clear_fence"))

/* ---- CPUs and interrupts ---- */

unsigned cpu_id(void);
void preempt_disable(void);
void preempt_enable(void);
void preempt_enable_no_resched(void);
unsigned preempt_count(void);

bool explore_need_resched(const struct site *at);
void explore_kick(unsigned cpu, const struct site *at);
void explore_irqs(bool on, const struct site *at);
void explore_halt(const struct site *at);

#define need_resched()     explore_need_resched(SITE("need_resched"))
#define cpu_kick(cpu)      explore_kick((cpu), SITE("cpu_kick"))
#define irqs_off()         explore_irqs(false, SITE("cli"))
#define irqs_on()          explore_irqs(true, SITE("sti"))
#define irqs_on_and_halt() explore_halt(SITE("sti; hlt"))

struct arch_thread {
    int unused; /* sched/thread.h names it; nobody switches here */
};

/* ---- locks: FIFO and ranked; an unlock is a plain store, no fence ---- */

struct spinlock {
    u8 holder; /* CPU + 1 as that CPU sees it, 0: none */
    u8 busy;   /* as the others see it: until the unlock has left the holder's store buffer */
    u8 queue[MAX_CPUS], nr_queue;
    u8 turns; /* unlocks that the others have seen */
    u8 rank, sub;
    const char *name;
};

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub);
void explore_lock(struct spinlock *l, const struct site *at);
void explore_unlock(struct spinlock *l, const struct site *at);
void explore_wait_for_holder(const struct spinlock *l, const struct site *at);
bool spin_held(const struct spinlock *l);

#define spin_lock(l)                    explore_lock((l), SITE(#l))
#define spin_wait_for_holder(l)         explore_wait_for_holder((l), SITE(#l))
#define spin_unlock_keep_preempt_off(l) explore_unlock((l), SITE(#l))
#define spin_unlock(l)                 \
    do {                               \
        explore_unlock((l), SITE(#l)); \
        preempt_enable();              \
    } while (0)

#endif
