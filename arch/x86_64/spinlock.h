/*
 * Spin locks: FIFO (ticket), ranked (lib/lock_ranks.h), preemption off while one is held.
 * FIFO is a rule of the protocol (rule 12): a spinning taker cannot starve a claim's return.
 * Interrupt handlers may take only locks that are always taken with spin_lock_irqsave().
 */
#ifndef ARCH_SPINLOCK_H
#define ARCH_SPINLOCK_H

#include "lib/base.h"
#include "lib/lock_ranks.h"

struct spinlock {
    u32 next;         /* (a) the next ticket to draw; fetch_add */
    u32 serving;      /* (a) exchanged by the holder, pairs with the acquire of who waits */
    u32 holder;       /* (a) CPU id + 1 of the holder, 0: free; for assertions and panics */
    u32 halted;       /* (a) CPUs that wait for it in HLT: spinlock.c */
    u8 rank;          /* (c) enum lock_rank */
    u8 seen;          /* (a) how it has been taken so far: spinlock.c */
    u16 sub;          /* (c) order among locks of equal rank */
    const char *name; /* (c) */
};

#define SPINLOCK(lock_name, lock_rank)           \
    {                                            \
        .rank = (lock_rank), .name = (lock_name) \
    }

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub);
/* Panics on an inversion of the lock order and on taking a lock twice. */
void spin_lock(struct spinlock *l);
/* A switch point for preemption, if it was the last lock. */
void spin_unlock(struct spinlock *l);
/* As spin_unlock(), but preemption stays off: the caller owes a preempt_enable(). */
void spin_unlock_keep_preempt_off(struct spinlock *l);
/* With interrupts off; gives what spin_unlock_irqrestore() wants back. */
bool spin_lock_irqsave(struct spinlock *l);
void spin_unlock_irqrestore(struct spinlock *l, bool irqs_were_on);
/*
 * Waits until whoever holds it now has let it go; if nobody does, not at all. What the holder wrote
 * is seen then; and who takes the lock later sees what this CPU had made visible before the call.
 * Interrupts on (a holder may wait for this CPU to answer one); this CPU does not hold it.
 */
void spin_wait_for_holder(const struct spinlock *l);
/* True if this CPU holds it. */
bool spin_held(const struct spinlock *l);

#endif
