/*
 * Atomics and fences by the name of what they order. Everything that CPUs share outside a lock
 * goes through these, so that a reader finds the pairs and the explorer finds its switch points.
 * On x86-64 (TSO, SDM3 9.2) loads acquire and stores release by themselves; the only reordering
 * is a store passing a later load, which xchg() and full_fence() stop.
 */
#ifndef ARCH_ATOMIC_H
#define ARCH_ATOMIC_H

#define load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Full fences: nothing moves across them either way. Both give the old value. */
#define xchg(p, v)      __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
/* True if *p was old and is now new. Full fence. */
#define cas(p, old, new)                                                            \
    ({                                                                              \
        __typeof__(*(p)) cas_old_ = (old);                                          \
        __atomic_compare_exchange_n((p), &cas_old_, (new), false, __ATOMIC_SEQ_CST, \
                                    __ATOMIC_RELAXED);                              \
    })

/*
 * Orders earlier stores before later loads. A locked instruction does that (SDM3 9.2.2) for half
 * the price of mfence, which waits for the loads before it, too.
 */
static inline void full_fence(void)
{
    __asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
}

/* Keeps the compiler from moving loads and stores across it; the CPU may still. */
static inline void compiler_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

/* In every spin: lets the sibling, or under QEMU the other vCPU, run. */
static inline void cpu_relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

#endif
