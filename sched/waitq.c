/*
 * Waiting for an event.
 *
 * Owns struct waitq. The queue's lock (RANK_WAITQ, interrupts off) guards the list; the run
 * queue lock of the waiter's CPU guards its `woken`. Why no wake is lost:
 *
 *   waiter                                 waker
 *   queued, woken = false (both locks)
 *                                          makes the condition true
 *   looks at the condition                 takes the waiter off the queue
 *     true: cancels, goes on               woken = true, and READY if it is BLOCKED
 *     false: blocks, but under the run
 *       queue lock, and only if woken is
 *       still false
 *
 * Either the look sees the condition, or the waker sees the waiter: the queue's lock, which both
 * take between their store and their look, is the fence.
 *
 * Being preempted between queueing and blocking is harmless: the state stays RUNNING until
 * waitq_block() changes it under the run queue lock.
 */
#include "sched/thread.h"

void waitq_init(struct waitq *q, const char *name)
{
    spin_init(&q->lock, name, RANK_WAITQ, 0);
    list_init(&q->waiters);
}

void waitq_enqueue(struct waitq *q)
{
    struct thread *t = thread_self();

    ASSERT(preempt_count() == 0 && !t->waitq);
    bool irqs = spin_lock_irqsave(&q->lock);
    struct runq *rq = runq_this();
    spin_lock(&rq->lock); /* interrupts are off already */
    t->woken = false;
    spin_unlock(&rq->lock);
    t->waitq = q;
    list_push_back(&q->waiters, &t->wait);
    spin_unlock_irqrestore(&q->lock, irqs);
}

/*
 * Always under the lock, even if a waker has taken us off the queue: it may not be done with us,
 * and who leaves here may end, or free the queue.
 */
void waitq_cancel(struct waitq *q)
{
    struct thread *t = thread_self();

    ASSERT(t->waitq == q);
    bool irqs = spin_lock_irqsave(&q->lock);
    list_remove(&t->wait);
    t->waitq = NULL;
    spin_unlock_irqrestore(&q->lock, irqs);
}

void waitq_block(struct waitq *q)
{
    struct thread *t = thread_self();

    ASSERT(preempt_count() == 0);
    preempt_disable(); /* as in runq_schedule(): every switch at the same depth */
    struct runq *rq = runq_this();
    bool irqs = spin_lock_irqsave(&rq->lock);
    if (!t->woken && !t->interrupted) {
        t->state = THREAD_BLOCKED;
        runq_switch_locked(rq);
    }
    t->interrupted = false;
    spin_unlock_irqrestore(&rq->lock, irqs);
    preempt_enable();
    waitq_cancel(q);
}

static void thread_wake_as(struct thread *t, bool interrupt)
{
    struct runq *rq = &runqs[t->cpu];
    bool irqs = spin_lock_irqsave(&rq->lock);
    if (interrupt)
        t->interrupted = true;
    else
        t->woken = true;
    if (t->state == THREAD_BLOCKED)
        runq_make_ready_locked(rq, t);
    spin_unlock_irqrestore(&rq->lock, irqs);
}

void thread_wake(struct thread *t)
{
    thread_wake_as(t, false);
}

/*
 * A thread that runs in ring 3 is kicked too, so that on_user_return() looks at it soon.
 */
void thread_interrupt(struct thread *t)
{
    thread_wake_as(t, true);
    if (t->cpu != cpu_id())
        cpu_kick(t->cpu);
}

void waitq_wake_all(struct waitq *q)
{
    bool irqs = spin_lock_irqsave(&q->lock);
    struct list *it;
    while ((it = list_pop_front(&q->waiters)))
        thread_wake(container_of(it, struct thread, wait));
    spin_unlock_irqrestore(&q->lock, irqs);
}
