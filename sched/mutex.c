/*
 * A lock that threads sleep for, handed on in the order in which they came.
 *
 * Owns struct mutex; its queue's lock (RANK_WAITQ) guards the hand-over. Who unlocks gives the
 * mutex to the first waiter and wakes that one alone. Waking all, and letting them race for it,
 * costs N wakes and N turns at the queue's lock for each one that gets in; and those turns are taken
 * with interrupts off, so on a host with fewer CPUs than the machine each may last as long as the
 * host lets a CPU stand.
 *
 *   A unlocks                              B waits
 *                                          queued
 *   lock of the queue: B is first          looks: the owner is A
 *     owner = B, off the queue, woken        blocks, or does not: it is woken already
 *   unlock                                 looks: the owner is B
 *
 * With nobody queued the owner becomes NULL under the same lock. Who queues after that looks once
 * more behind it, sees NULL and takes the mutex by a compare-and-swap: no wake is needed.
 */
#include "sched/thread.h"

void mutex_init(struct mutex *m, const char *name)
{
    waitq_init(&m->waiters, name);
    m->owner = NULL;
}

/* Ours by now, handed over or free for the taking? */
static bool mutex_try(struct mutex *m, struct thread *self)
{
    /* Acquire: pairs with the releases in mutex_unlock(); what the last owner wrote is seen. */
    return load_acquire(&m->owner) == self || cas(&m->owner, (struct thread *)NULL, self);
}

void mutex_lock(struct mutex *m)
{
    struct thread *self = thread_self();
    ASSERT(load_relaxed(&m->owner) != self); /* only we could have written that */
    waitq_wait(&m->waiters, mutex_try(m, self));
}

void mutex_unlock(struct mutex *m)
{
    ASSERT(load_relaxed(&m->owner) == thread_self());
    bool irqs = spin_lock_irqsave(&m->waiters.lock);
    struct list *first = list_pop_front(&m->waiters.waiters);
    struct thread *next = first ? container_of(first, struct thread, wait) : NULL;
    store_release(&m->owner, next);
    if (next)
        thread_wake(next);
    spin_unlock_irqrestore(&m->waiters.lock, irqs);
}
