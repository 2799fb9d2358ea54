/*
 * What a thread is, inside sched/. Nobody else includes this; sched.h is the door.
 *
 * Letters: (R) the run queue lock of the thread's CPU; (W) the lock of the wait queue it is in;
 * (T) threads_lock in thread.c; (c) constant once started; (o) the thread itself; (a) atomic.
 *
 * The run queue lock is the baton of a switch: it is taken by the thread that leaves, held
 * across arch_switch() and dropped by the thread that goes on. So who sees a state other than
 * RUNNING under that lock knows that the thread is off its stack.
 *
 * Next: runq.c (who runs), waitq.c and sleep.c (who waits), idle.c (when nobody can run).
 */
#ifndef SCHED_THREAD_H
#define SCHED_THREAD_H

#include "sched/sched.h"

#define THREAD_NAME_MAX 24

enum thread_state {
    THREAD_NEW,     /* made, never started */
    THREAD_READY,   /* on its CPU's ready list */
    THREAD_RUNNING, /* on its CPU, or about to leave it */
    THREAD_BLOCKED, /* in a wait queue, asleep, or both gone and about to be woken */
    THREAD_DEAD,    /* has made its last switch */
};

struct thread {
    struct arch_thread arch;    /* (o), and arch_switch() */
    char name[THREAD_NAME_MAX]; /* (c) */
    unsigned cpu;               /* (c) threads never migrate */
    unsigned id;                /* (c) for people */
    enum thread_state state;    /* (R) */
    bool woken;                 /* (R) what it waits for may have come; blocking would lose it */
    bool interrupted;           /* (R) thread_interrupt() came and no wait has ended by it yet */
    struct list ready;          /* (R) in runq.ready; of the dead: (T) in the reaper's list */
    struct list sleep;          /* (R) in runq.sleepers */
    u64 deadline;               /* (R) of the sleep, time_ns() */
    u64 ran_ns;                 /* (R) on its CPU, up to when it last left it */
    u64 limit_ns;               /* (R) of ran_ns; 0: none */
    bool over_limit;            /* (a) set by its CPU's timer, read by the thread itself */
    struct list wait;           /* (W) in waitq.waiters */
    struct waitq *waitq;        /* (o) the queue that `wait` belongs to, NULL: none */
    struct list all;            /* (T) in the list of all threads */
    void (*fn)(void *);         /* (c) */
    void *arg;                  /* (c) */
    void *guest;                /* (c) */
    void (*reaped_fn)(void *);  /* (o) */
    void *reaped_arg;           /* (o) */
};

/* One for each CPU. */
struct runq {
    struct spinlock lock; /* RANK_RUNQ, interrupts off */
    struct list ready;    /* (R) threads that could run, the next one first */
    struct list sleepers; /* (R) by deadline, the earliest first */
    unsigned nr_ready;    /* (R) */
    unsigned nr_threads;  /* (a) threads that live here; the balance of thread_create() */
    bool tick_on;         /* (R) */
    u64 slice_end;        /* (R) when the running thread has had its share */
    u64 since;            /* (R) when the running thread, the idle one included, got the CPU */
    u64 limit_at;         /* (R) when it will have run for its limit_ns; 0: it has none */
    u64 switches;         /* (R) */
    u64 busy_ns;          /* (R) that threads had, but the idle one, up to `since` */

    /* How soon an idle CPU gives way (P8). All (R). */
    bool wake_pending; /* a thread was readied while the idle thread ran */
    u64 wake_scrubbed; /* what this CPU had cleared by then */
    u64 wake_ns;       /* and when it was */
    u64 idle_wakes;
    u64 clears_before_run, clears_before_run_max;
    u64 wake_to_run_ns_max;
} __attribute__((aligned(64)));

extern struct runq runqs[MAX_CPUS];

/* The run queue of this CPU. The caller cannot be moved: threads never migrate. */
static inline struct runq *runq_this(void)
{
    return &runqs[cpu_id()];
}

/* ---- runq.c ---- */
void runq_init(unsigned cpu);
/*
 * Gives the CPU to the next ready thread. The state of the running one says what becomes of it:
 * RUNNING goes to the end of the queue, anything else stays away. Own queue's lock held.
 */
void runq_switch_locked(struct runq *rq);
/* A new thread drops the baton that the thread before it took. */
void runq_switched_first(void);
/* Makes a NEW or BLOCKED thread READY and sees to it that its CPU notices. Its queue's lock held. */
void runq_make_ready_locked(struct runq *rq, struct thread *t);
/* Lets go of the CPU for whoever is next, until need_resched is clear. Any lock but none held. */
void runq_schedule(void);

/* ---- sleep.c ---- */
/* Wakes whose time has come and arms the timer for the next. Own queue's lock held. */
void sleep_expire_locked(struct runq *rq);
/* Arms the timer for the first sleeper or for rq->limit_at. Own queue's lock held. */
void sleep_arm_locked(struct runq *rq);

/*
 * The idle thread is about to halt and wants to look again at `when`: arms the timer for it, or
 * for the first sleeper if that is earlier. Interrupts off.
 */
void sleep_arm_idle(u64 when);

/* ---- waitq.c ---- */
/* What t waits for has come, or may have. Any context. */
void thread_wake(struct thread *t);

/* ---- idle.c ---- */
void idle_loop(void *unused) __attribute__((noreturn));

/* ---- thread.c ---- */
/* The thread `t`, which is the one that runs now, on this CPU: the boot and the idle threads. */
void thread_adopt(struct thread *t, const char *name);

#endif
