/*
 * Threads: preemptible kernel threads, one run queue for each CPU, round robin. A thread stays
 * on the CPU it was created on. The tick runs only while a CPU has more than one runnable
 * thread; an idle CPU scrubs (sched/idle.c) or halts without a tick.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include "arch.h"
#include "lib/list.h"

struct thread;

/*
 * Run queues and the boot thread: the caller becomes the thread "main" on CPU 0, with interrupts
 * on. Boot CPU, once.
 */
void sched_init(void);
/* What an application CPU runs: becomes its idle thread. */
void sched_ap_entry(void) __attribute__((noreturn));

/* Starts the aged scrubbers (sched/aged.c). After the other CPUs are up, once. */
void aged_start(void);
/* The age bound has changed: they look at it now, not when their sleep is over. */
void aged_look_again(void);
/* Where the aged scrubber of a node runs. */
unsigned aged_cpu(unsigned node);

/* How long a thread runs before the next one of its CPU has its turn. */
#define SCHED_SLICE_MS 10

#define ANY_CPU (~0u)
/*
 * A thread that will run fn(arg) on `cpu` (ANY_CPU: the least loaded online one, of node `node`
 * if that is not ANY_NODE). It does not run before thread_start(). NULL: out of memory.
 */
#define ANY_NODE (~0u)
struct thread *thread_create(const char *name, void (*fn)(void *arg), void *arg, unsigned cpu,
                             unsigned node);
void thread_start(struct thread *t);
/* Ends the running thread; its stack is freed by a reaper thread. */
void thread_exit(void) __attribute__((noreturn));
/*
 * fn(arg) is called once t has ended, has left its CPU and its address space for good, and its
 * stack is freed: by the reaper thread, in thread context, t itself already gone. Before
 * thread_start(), or by t itself. This is where guest/ may destroy an address space.
 */
void thread_on_reaped(struct thread *t, void (*fn)(void *arg), void *arg);
/* Waits until every thread that has called thread_exit() by now is reaped. For tests. */
void thread_reap_wait(void);
struct thread *thread_self(void);
const char *thread_name(const struct thread *t);
/* "running", "blocked", ... : what it is at this moment, or just was. Any context. */
const char *thread_state_name(const struct thread *t);
unsigned thread_cpu(const struct thread *t);
/* The machine half of a thread: guest/ sets cr3 and fpu there before thread_start(). */
struct arch_thread *thread_arch(struct thread *t);
/* A pointer for guest/: which guest this thread belongs to; NULL for kernel threads. */
void thread_set_guest(struct thread *t, void *guest);
void *thread_guest(const struct thread *t);
/*
 * How long t has run, in nanoseconds; interrupts that came meanwhile are in it. Any context that
 * may take a run queue lock.
 */
u64 thread_cpu_ns(const struct thread *t);
/*
 * t may run for that long. Nothing ends it by itself: thread_over_limit() becomes true, on its
 * CPU and by an interrupt, so that on_user_return() looks at it. Before thread_start().
 */
void thread_limit_cpu(struct thread *t, u64 ns);
/* The running thread has used up its limit. */
bool thread_over_limit(void);
/* The running thread may run for that long from now on. */
void thread_limit_again(u64 ns);
/* Makes t run soon even if it sleeps in thread_sleep() or waits interruptibly: kill uses it. */
void thread_interrupt(struct thread *t);

/* Lets others run. Thread context, no lock held, preemption on. */
void sched_yield(void);
/* Sleeps for at least ns; thread_interrupt() ends it early. */
#define SLEEP_FOREVER (~0ULL) /* only thread_interrupt() ends it, and no timer is armed for it */
void thread_sleep(u64 ns);

/* Threads that wait for one thing. */
struct waitq {
    struct spinlock lock; /* RANK_WAITQ */
    struct list waiters;
};
void waitq_init(struct waitq *q, const char *name);
/*
 * Waits until `cond` is true. thread_interrupt() makes the condition be looked at again, so a
 * wait that a kill should end names the kill in its condition. The queue must outlive whoever
 * wakes it: a waiter that sees its condition true at once has not waited for the waker. The
 * condition is looked at after the thread is queued, so that a wake between look and sleep is not
 * lost. cond may be evaluated more than once.
 */
#define waitq_wait(q, cond)      \
    do {                         \
        while (!(cond)) {        \
            waitq_enqueue(q);    \
            if (cond) {          \
                waitq_cancel(q); \
                break;           \
            }                    \
            waitq_block(q);      \
        }                        \
    } while (0)
void waitq_enqueue(struct waitq *q);
void waitq_cancel(struct waitq *q);
void waitq_block(struct waitq *q);
/* Wakes all. May be called with interrupts off, and from interrupt handlers. */
void waitq_wake_all(struct waitq *q);

/*
 * A lock to sleep for: first come, first served, whoever is interrupted meanwhile (it queues again).
 * Threads only, no spin lock held. Unlocked by who locked it.
 */
struct mutex {
    struct waitq waiters;
    struct thread *owner; /* (a) NULL: free. From one thread to the next under the queue's lock */
};
void mutex_init(struct mutex *m, const char *name);
void mutex_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

/* What a CPU's scheduler has counted; a racy copy. */
struct sched_stats {
    unsigned threads;      /* that live on this CPU, the idle thread not counted */
    unsigned ready;        /* waiting for the CPU now */
    bool tick_on;          /* more than one is runnable, so slices are cut */
    u64 switches;          /* since boot */
    u64 busy_ns;           /* that threads have had; the rest it scrubbed or was halted */
    u64 idle_wakes;        /* times that a thread became runnable while the CPU was idle */
    u64 clears_before_run; /* frames cleared between the last such wake and its switch */
    /*
     * The most that ever were. P8 says one: the frame in hand. A second one may be counted, not
     * made, when the other CPU's count of the frame before still stood in its store buffer.
     */
    u64 clears_before_run_max;
    u64 wake_to_run_ns_max; /* the longest that such a wake took; times prove nothing here */
};
void sched_cpu_stats(unsigned cpu, struct sched_stats *out);
/* Frames that the records of threads take. Their stacks are counted by kstack_frames_held(). */
u64 sched_frames_held(void);
/* Forgets the two maxima of all CPUs, so that a test sees only its own. */
void sched_stats_reset(void);

/* One line per thread, for the prompt: name, CPU, state. Thread context. */
void sched_dump(void (*say)(const char *line));

#endif
