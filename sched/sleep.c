/*
 * Sleeping for a time, without a tick: each CPU has a list of its sleepers by deadline and one
 * timer, armed for the earliest. The same timer tells when the running thread has used up its
 * CPU time: a thread alone on its CPU has no tick that would.
 *
 * Owns runq.sleepers, guarded by the run queue lock. A sleeper is always on the list of its own
 * CPU, and only that CPU arms its timer; a stranger may take a sleeper off the list
 * (thread_interrupt()), which leaves the timer armed for nobody: one early look, no harm.
 *
 * Next: waitq.c, waiting for an event.
 */
#include "sched/thread.h"

void sleep_arm_locked(struct runq *rq)
{
    u64 deadline = rq->limit_at;
    if (!list_empty(&rq->sleepers)) {
        u64 first = container_of(rq->sleepers.next, struct thread, sleep)->deadline;
        deadline = deadline ? MIN(deadline, first) : first;
    }
    timer_arm(deadline);
}

void sleep_arm_idle(u64 when)
{
    struct runq *rq = runq_this();
    bool irqs = spin_lock_irqsave(&rq->lock);
    if (!list_empty(&rq->sleepers))
        when = MIN(when, container_of(rq->sleepers.next, struct thread, sleep)->deadline);
    timer_arm(when);
    spin_unlock_irqrestore(&rq->lock, irqs);
}

void sleep_expire_locked(struct runq *rq)
{
    if (list_empty(&rq->sleepers) && !rq->limit_at)
        return;
    u64 now = time_ns();
    list_for_each_safe(it, tmp, &rq->sleepers)
    {
        struct thread *t = container_of(it, struct thread, sleep);
        if (t->deadline > now)
            break;
        list_remove(&t->sleep);
        if (t->state == THREAD_BLOCKED)
            runq_make_ready_locked(rq, t);
    }
    /* Also if nobody was due: the timer may have come early, and it comes only once. */
    sleep_arm_locked(rq);
}

static void sleep_insert_locked(struct runq *rq, struct thread *t, u64 deadline)
{
    struct list *pos = rq->sleepers.next;
    while (pos != &rq->sleepers && container_of(pos, struct thread, sleep)->deadline <= deadline)
        pos = pos->next;
    t->deadline = deadline;
    list_insert_before(pos, &t->sleep);
    if (rq->sleepers.next == &t->sleep)
        sleep_arm_locked(rq);
}

void thread_sleep(u64 ns)
{
    struct thread *t = thread_self();

    ASSERT(preempt_count() == 0);
    preempt_disable(); /* as in runq_schedule(): every switch at the same depth */
    struct runq *rq = runq_this();
    bool irqs = spin_lock_irqsave(&rq->lock);
    if (!t->interrupted) {
        if (ns != SLEEP_FOREVER)
            sleep_insert_locked(rq, t, time_ns() + ns);
        t->state = THREAD_BLOCKED;
        runq_switch_locked(rq);
        list_remove(&t->sleep); /* still there if it was thread_interrupt() that woke us */
    }
    t->interrupted = false;
    spin_unlock_irqrestore(&rq->lock, irqs);
    preempt_enable();
}
