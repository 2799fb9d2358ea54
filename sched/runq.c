/*
 * Who runs: one run queue for each CPU, round robin, slices only while there is somebody to
 * share with.
 *
 * Owns runqs[]. Each is guarded by its lock (RANK_RUNQ), always with interrupts off, because
 * interrupt handlers wake threads. Threads never migrate, so the only strangers at a queue are
 * wakers: they put a thread on it, set need_resched and kick; the CPU itself does the rest.
 *
 * Next: idle.c, where need_resched is answered when no thread runs.
 */
#include "sched/thread.h"
#include "mm/mm.h"

#define SLICE_NS (SCHED_SLICE_MS * 1000 * 1000ULL)

struct runq runqs[MAX_CPUS];

void runq_init(unsigned cpu)
{
    struct runq *rq = &runqs[cpu];
    spin_init(&rq->lock, "run queue", RANK_RUNQ, cpu);
    list_init(&rq->ready);
    list_init(&rq->sleepers);
}

/*
 * A waker may come from any CPU. Why a wake of an idle CPU is never lost:
 *
 *   waker                                  idle CPU
 *   lock run queue                         cli
 *   t on the ready list                    state = ASLEEP (full fence)
 *   need_resched = 1                       need_resched? -> no
 *   unlock                                 sti; hlt
 *   mfence; ICR write (cpu_kick)             the kick is pending: hlt ends at once
 *
 * The kick is sent even if need_resched was set before: whoever set it may have been the target
 * itself, in a section without interrupts.
 */
void runq_make_ready_locked(struct runq *rq, struct thread *t)
{
    ASSERT(spin_held(&rq->lock));
    ASSERT(t->state == THREAD_NEW || t->state == THREAD_BLOCKED);
    struct cpu *c = cpu_by_id(t->cpu);

    t->state = THREAD_READY;
    list_push_back(&rq->ready, &t->ready);
    rq->nr_ready++;
    bool first = c->current == c->idle && !rq->wake_pending;
    if (first) {
        rq->wake_pending = true;
        rq->wake_ns = time_ns();
        rq->idle_wakes++;
    }
    xchg(&c->need_resched, 1); /* pairs with the idle loop's look after its own full fence */
    if (first)                 /* counted from here on: before, nobody could have known */
        rq->wake_scrubbed = mm_cpu_scrubbed(t->cpu);
    if (t->cpu != cpu_id())
        cpu_kick(t->cpu);
}

/* The tick runs only while somebody waits for a slice. */
static void runq_set_tick_locked(struct runq *rq, bool on)
{
    if (rq->tick_on == on)
        return;
    rq->tick_on = on;
    tick_set(on ? SLICE_NS : 0);
}

/* The idle thread is about to give way: how many clears did the woken thread wait for? */
static void runq_note_wake_locked(struct runq *rq, unsigned cpu)
{
    if (!rq->wake_pending)
        return;
    rq->wake_pending = false;
    rq->clears_before_run = mm_cpu_scrubbed(cpu) - rq->wake_scrubbed;
    rq->clears_before_run_max = MAX(rq->clears_before_run_max, rq->clears_before_run);
    rq->wake_to_run_ns_max = MAX(rq->wake_to_run_ns_max, time_ns() - rq->wake_ns);
}

/* What `prev` has run is written down, and when the limit of `next` will be reached. */
static void runq_account_locked(struct runq *rq, struct thread *prev, struct thread *next)
{
    u64 now = time_ns(), limit_was = rq->limit_at;
    prev->ran_ns += now - rq->since;
    if (prev != this_cpu()->idle)
        rq->busy_ns += now - rq->since;
    rq->since = now;
    rq->limit_at = 0;
    if (next->limit_ns && !load_relaxed(&next->over_limit))
        rq->limit_at = now + (next->limit_ns - MIN(next->limit_ns, next->ran_ns));
    if (limit_was != rq->limit_at)
        sleep_arm_locked(rq);
}

void runq_switch_locked(struct runq *rq)
{
    struct cpu *c = this_cpu();
    struct thread *prev = c->current;

    ASSERT(spin_held(&rq->lock) && !irqs_enabled());
    /* A switch with another lock held would leave that lock to a thread that is not there. */
    if (c->nr_locks_held != 1)
        panic("thread %s switches with lock '%s' held", prev->name, c->locks_held[0]->name);

    ASSERT(preempt_count() == 2); /* the lock's, and the one around it: equal for every thread */

    /* Under the lock: a waker that comes later sets it again. */
    store_relaxed(&c->need_resched, 0);
    if (prev->state == THREAD_RUNNING && prev != c->idle) {
        prev->state = THREAD_READY;
        list_push_back(&rq->ready, &prev->ready);
        rq->nr_ready++;
    }

    struct list *first = list_pop_front(&rq->ready);
    struct thread *next = c->idle;
    if (first) {
        next = container_of(first, struct thread, ready);
        ASSERT(next->state == THREAD_READY && next->cpu == c->id);
        rq->nr_ready--;
        rq->slice_end = time_ns() + SLICE_NS / 2; /* a tick in the first half is not ours */
    }
    next->state = THREAD_RUNNING;
    runq_set_tick_locked(rq, rq->nr_ready > 0);
    if (next == prev)
        return;
    if (prev == c->idle)
        runq_note_wake_locked(rq, c->id);
    c->current = next;
    rq->switches++;
    runq_account_locked(rq, prev, next);
    arch_switch(&prev->arch, &next->arch);
}

void runq_schedule(void)
{
    /*
     * Preemption stays off around the lock, so that dropping it is no switch point of its own:
     * every switch happens at the same depth, and the loop answers what came meanwhile.
     */
    preempt_disable();
    do {
        struct runq *rq = runq_this();
        bool irqs = spin_lock_irqsave(&rq->lock);
        runq_switch_locked(rq);
        spin_unlock_irqrestore(&rq->lock, irqs);
    } while (need_resched());
    preempt_enable_no_resched();
}

void runq_switched_first(void)
{
    spin_unlock_irqrestore(&runq_this()->lock, false);
    irqs_on();
    preempt_enable(); /* the other half of the preempt_disable() of who switched to us */
}

void sched_yield(void)
{
    ASSERT(preempt_count() == 0);
    runq_schedule();
}

/* arch/: the slice is over, or a sleeper's time has come. Interrupts off. */
void on_tick(void)
{
    struct cpu *c = this_cpu();
    struct runq *rq = runq_this();

    if (!c->current) /* an interrupt before sched_init() */
        return;
    bool irqs = spin_lock_irqsave(&rq->lock);
    if (rq->limit_at && time_ns() >= rq->limit_at) {
        store_relaxed(&c->current->over_limit, true); /* it is the one that we interrupt */
        rq->limit_at = 0;
    }
    sleep_expire_locked(rq);
    if (rq->nr_ready > 0 && c->current != c->idle && time_ns() >= rq->slice_end)
        store_relaxed(&c->need_resched, 1); /* read by this CPU only, when the interrupt ends */
    spin_unlock_irqrestore(&rq->lock, irqs);
}

/* arch/: need_resched is set and nothing forbids a switch. Interrupts off. */
void on_preempt(void)
{
    struct cpu *c = this_cpu();

    /*
     * The idle thread is not switched away from behind its back: it has to say BUSY and pass
     * the bell on first (protocol rule 14), and it looks at need_resched after every clear.
     */
    if (!c->current || c->current == c->idle)
        return;
    runq_schedule();
}

u64 thread_cpu_ns(const struct thread *t)
{
    struct runq *rq = &runqs[t->cpu];
    bool irqs = spin_lock_irqsave(&rq->lock);
    bool runs = cpu_by_id(t->cpu)->current == t;
    u64 ns = t->ran_ns + (runs ? time_ns() - rq->since : 0);
    spin_unlock_irqrestore(&rq->lock, irqs);
    return ns;
}

void thread_limit_cpu(struct thread *t, u64 ns)
{
    ASSERT(t->state == THREAD_NEW);
    t->limit_ns = ns;
}

void thread_limit_again(u64 ns)
{
    struct runq *rq = runq_this();
    struct thread *t = thread_self();
    bool irqs = spin_lock_irqsave(&rq->lock);
    u64 now = time_ns();
    store_relaxed(&t->over_limit, false);
    t->limit_ns = t->ran_ns + (now - rq->since) + ns;
    rq->limit_at = now + ns;
    sleep_arm_locked(rq);
    spin_unlock_irqrestore(&rq->lock, irqs);
}

bool thread_over_limit(void)
{
    return load_relaxed(&thread_self()->over_limit);
}

void sched_cpu_stats(unsigned cpu, struct sched_stats *out)
{
    struct runq *rq = &runqs[cpu];
    bool irqs = spin_lock_irqsave(&rq->lock);
    const struct thread *idle = cpu_by_id(cpu)->idle, *current = cpu_by_id(cpu)->current;
    *out = (struct sched_stats){
        .threads = load_relaxed(&rq->nr_threads),
        .ready = rq->nr_ready,
        .tick_on = rq->tick_on,
        .switches = rq->switches,
        .busy_ns = rq->busy_ns + (current && current != idle ? time_ns() - rq->since : 0),
        .idle_wakes = rq->idle_wakes,
        .clears_before_run = rq->clears_before_run,
        .clears_before_run_max = rq->clears_before_run_max,
        .wake_to_run_ns_max = rq->wake_to_run_ns_max,
    };
    spin_unlock_irqrestore(&rq->lock, irqs);
}

void sched_stats_reset(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct runq *rq = &runqs[cpu];
        bool irqs = spin_lock_irqsave(&rq->lock);
        rq->clears_before_run_max = 0;
        rq->wake_to_run_ns_max = 0;
        spin_unlock_irqrestore(&rq->lock, irqs);
    }
}
