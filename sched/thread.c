/*
 * The life of a thread: made, started, ended, reaped.
 *
 * Owns the list of all threads and the slabs that their records come from, both guarded by
 * threads_lock (RANK_THREADS), which is never held across a take: clearing under a lock is
 * what this kernel is about not doing. A slab is one frame; the last record that leaves it
 * gives it back, so that a machine without threads owes mm/ nothing.
 *
 * Next: runq.c, who runs.
 */
#include "sched/thread.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"

/* The head of a frame of records. */
struct slab {
    struct list link; /* (T) in slabs_with_room, or alone if it is full */
    u32 free;         /* (T) bit i: record i is free */
};

#define SLAB_RECORDS   MIN(32u, (FRAME_SIZE - sizeof(struct slab)) / sizeof(struct thread))
#define REAPER_BACKLOG 32 /* dead threads that may wait for the reaper */
#define SLAB_ALL       ((u32)((1ULL << SLAB_RECORDS) - 1))

static struct spinlock threads_lock = SPINLOCK("threads", RANK_THREADS);
static struct list slabs_with_room = {&slabs_with_room, &slabs_with_room}; /* (T) */
static struct list threads_all = {&threads_all, &threads_all};             /* (T) */
static unsigned threads_made;                                              /* (T) */
static u64 slab_frames;                                                    /* (T) */

static struct list reaper_list = {&reaper_list, &reaper_list}; /* (T) the dead, by their `ready` */
static u64 threads_ended, threads_reaped;                      /* (T) */
static struct thread *reaper;                                  /* (c) */
static struct waitq reaper_wait;                               /* the reaper, for somebody to die */
static struct waitq reaped_wait; /* thread_reap_wait(), for the reaper */

static struct thread boot_thread;            /* (c) whoever called sched_init() */
static struct thread idle_threads[MAX_CPUS]; /* (c) one each, never on a ready list */

static struct slab *slab_of(struct thread *t)
{
    return (struct slab *)ALIGN_DOWN((u64)t, FRAME_SIZE);
}

static struct thread *slab_record(struct slab *s, unsigned i)
{
    return (struct thread *)(s + 1) + i;
}

static struct thread *slab_pop_locked(void)
{
    ASSERT(spin_held(&threads_lock));
    if (list_empty(&slabs_with_room))
        return NULL;
    struct slab *s = container_of(slabs_with_room.next, struct slab, link);
    unsigned i = (unsigned)__builtin_ctz(s->free);
    s->free &= ~(1u << i);
    if (!s->free)
        list_remove(&s->link);
    return slab_record(s, i);
}

/* A record, all zero. NULL: out of memory. */
static struct thread *thread_record_take(unsigned node)
{
    spin_lock(&threads_lock);
    struct thread *t = slab_pop_locked();
    spin_unlock(&threads_lock);
    if (t)
        return t;

    pfn_t pfn = mm_take(0, TAKE_CLEAN, node);
    if (pfn == PFN_NONE)
        return NULL;
    struct slab *s = frame_va(pfn);
    s->free = SLAB_ALL;
    list_init(&s->link);
    spin_lock(&threads_lock);
    list_push_front(&slabs_with_room, &s->link);
    slab_frames++;
    t = slab_pop_locked();
    spin_unlock(&threads_lock);
    return t;
}

static void thread_record_free(struct thread *t)
{
    struct slab *s = slab_of(t);
    memset(t, 0, sizeof(*t));

    spin_lock(&threads_lock);
    unsigned i = (unsigned)(t - slab_record(s, 0));
    ASSERT(i < SLAB_RECORDS && !(s->free & 1u << i));
    s->free |= 1u << i;
    list_remove(&s->link);
    bool empty = s->free == SLAB_ALL;
    if (!empty)
        list_push_front(&slabs_with_room, &s->link);
    slab_frames -= empty;
    spin_unlock(&threads_lock);
    if (empty)
        mm_free(va_phys(s) >> FRAME_SHIFT, 0);
}

u64 sched_frames_held(void)
{
    spin_lock(&threads_lock);
    u64 frames = slab_frames;
    spin_unlock(&threads_lock);
    return frames;
}

static void thread_init(struct thread *t, const char *name, unsigned cpu)
{
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->cpu = cpu;
    t->state = THREAD_NEW;
    list_init(&t->ready);
    list_init(&t->sleep);
    list_init(&t->wait);
    list_init(&t->all);
}

static void thread_publish(struct thread *t)
{
    fetch_add(&runqs[t->cpu].nr_threads, 1);
    spin_lock(&threads_lock);
    t->id = threads_made++;
    list_push_back(&threads_all, &t->all);
    spin_unlock(&threads_lock);
}

/* Where a thread begins, with the baton of the switch in its hand. */
static void thread_first(void *arg)
{
    struct thread *t = arg;
    runq_switched_first();
    t->fn(t->arg);
    thread_exit();
}

/*
 * The online CPU with the fewest threads, of `node` if it has one. A node without CPUs gets any:
 * its memory is as far from each.
 */
static unsigned thread_choose_cpu(unsigned node)
{
    unsigned best = ANY_CPU;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (!load_acquire(&cpu_by_id(cpu)->online))
            continue;
        if (node != ANY_NODE && cpu_node(cpu) != node)
            continue;
        /* Relaxed: a guess is good enough, the queue is where it gets exact. */
        if (best == ANY_CPU ||
            load_relaxed(&runqs[cpu].nr_threads) < load_relaxed(&runqs[best].nr_threads))
            best = cpu;
    }
    if (best == ANY_CPU)
        return node == ANY_NODE ? 0 : thread_choose_cpu(ANY_NODE);
    return best;
}

static bool reaper_backlog_small(void)
{
    spin_lock(&threads_lock);
    bool small = threads_ended - threads_reaped <= REAPER_BACKLOG;
    spin_unlock(&threads_lock);
    return small;
}

struct thread *thread_create(const char *name, void (*fn)(void *), void *arg, unsigned cpu,
                             unsigned node)
{
    if (cpu == ANY_CPU)
        cpu = thread_choose_cpu(node);
    ASSERT(cpu < nr_cpus);
    /*
     * Burying takes longer than being born (every CPU has to forget the stack), so who makes
     * threads in a loop waits here, rather than hold the memory of all the dead. Not the reaper
     * itself, which may make one when it calls who wanted to know.
     */
    if (reaper && thread_self() != reaper)
        waitq_wait(&reaped_wait, reaper_backlog_small());

    struct thread *t = thread_record_take(cpu_node(cpu));
    if (!t)
        return NULL;
    void *stack = kstack_create();
    if (!stack) {
        thread_record_free(t);
        return NULL;
    }
    thread_init(t, name, cpu);
    t->fn = fn;
    t->arg = arg;
    arch_thread_init(&t->arch, stack, thread_first, t);
    t->arch.kstack = stack;
    thread_publish(t);
    return t;
}

void thread_start(struct thread *t)
{
    struct runq *rq = &runqs[t->cpu];
    bool irqs = spin_lock_irqsave(&rq->lock);
    ASSERT(t->state == THREAD_NEW);
    runq_make_ready_locked(rq, t);
    spin_unlock_irqrestore(&rq->lock, irqs);
}

void thread_on_reaped(struct thread *t, void (*fn)(void *), void *arg)
{
    t->reaped_fn = fn;
    t->reaped_arg = arg;
}

void thread_exit(void)
{
    struct thread *t = thread_self();

    ASSERT(preempt_count() == 0 && !t->waitq);
    ASSERT(t != this_cpu()->idle && t != &boot_thread);
    /*
     * From here to the switch nothing may take the CPU from us: the reaper would wait for a
     * thread that waits for the reaper's CPU.
     */
    preempt_disable();
    spin_lock(&threads_lock);
    list_push_back(&reaper_list, &t->ready);
    threads_ended++;
    spin_unlock(&threads_lock);
    waitq_wake_all(&reaper_wait);

    struct runq *rq = runq_this();
    spin_lock_irqsave(&rq->lock);
    t->state = THREAD_DEAD;
    runq_switch_locked(rq);
    panic("thread %s runs after its end", t->name);
}

/* Waits until t is off its stack: the run queue lock is passed on by whoever runs after it. */
static void reaper_wait_dead(struct thread *t)
{
    struct runq *rq = &runqs[t->cpu];
    for (;;) {
        bool irqs = spin_lock_irqsave(&rq->lock);
        bool dead = t->state == THREAD_DEAD;
        spin_unlock_irqrestore(&rq->lock, irqs);
        if (dead)
            return;
        cpu_relax(); /* a few instructions of its thread_exit() are left */
    }
}

static void reaper_bury(struct thread *t)
{
    void (*fn)(void *) = t->reaped_fn;
    void *arg = t->reaped_arg;

    reaper_wait_dead(t);
    fetch_add(&runqs[t->cpu].nr_threads, -1u);
    kstack_destroy(t->arch.kstack);
    thread_record_free(t);
    if (fn)
        fn(arg);
}

static bool reaper_has_work(void)
{
    spin_lock(&threads_lock);
    bool any = !list_empty(&reaper_list);
    spin_unlock(&threads_lock);
    return any;
}

static void reaper_main(void *unused)
{
    (void)unused;
    for (;;) {
        waitq_wait(&reaper_wait, reaper_has_work());
        spin_lock(&threads_lock);
        struct list *first = list_pop_front(&reaper_list);
        struct thread *t = container_of(first, struct thread, ready);
        list_remove(&t->all);
        spin_unlock(&threads_lock);
        reaper_bury(t);
        spin_lock(&threads_lock);
        threads_reaped++;
        spin_unlock(&threads_lock);
        waitq_wake_all(&reaped_wait);
    }
}

static bool reaper_reached(u64 goal)
{
    spin_lock(&threads_lock);
    bool reached = threads_reaped >= goal;
    spin_unlock(&threads_lock);
    return reached;
}

void thread_reap_wait(void)
{
    spin_lock(&threads_lock);
    u64 goal = threads_ended;
    spin_unlock(&threads_lock);
    waitq_wait(&reaped_wait, reaper_reached(goal));
}

void thread_adopt(struct thread *t, const char *name)
{
    struct cpu *c = this_cpu();

    thread_init(t, name, c->id);
    t->state = THREAD_RUNNING;
    t->arch.kstack = (void *)c->kernel_rsp; /* arch_switch() puts it back when t runs again */
    c->current = t;
    runqs[c->id].since = time_ns(); /* nobody else has run here, and no timer is on yet */
}

void sched_init(void)
{
    waitq_init(&reaper_wait, "reaper");
    waitq_init(&reaped_wait, "reaped");
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        runq_init(cpu);

    /* The boot CPU's stack goes on as the thread "main"; its idle thread gets one of its own. */
    struct thread *idle = &idle_threads[0];
    void *stack = kstack_create();
    if (!stack)
        panic("no memory for the first idle stack");
    thread_init(idle, "idle/0", 0);
    idle->fn = idle_loop;
    arch_thread_init(&idle->arch, stack, thread_first, idle);
    idle->arch.kstack = stack;
    idle->state = THREAD_RUNNING;
    this_cpu()->idle = idle;
    mm_cpu_state_set(CPU_BUSY);
    thread_adopt(&boot_thread, "main");
    thread_publish(&boot_thread);

    reaper = thread_create("reaper", reaper_main, NULL, 0, ANY_NODE);
    if (!reaper)
        panic("no memory for the reaper thread");
    thread_start(reaper);
    irqs_on();
    sched_yield(); /* what was readied without interrupts has had no switch point yet */
}

void sched_ap_entry(void)
{
    struct cpu *c = this_cpu();
    struct thread *idle = &idle_threads[c->id];
    char name[THREAD_NAME_MAX];

    snprintf(name, sizeof(name), "idle/%u", c->id);
    c->idle = idle; /* before it is current: an interrupt must not take it for a thread */
    thread_adopt(idle, name);
    irqs_on();
    idle_loop(NULL);
}

struct thread *thread_self(void)
{
    return this_cpu()->current;
}

const char *thread_name(const struct thread *t)
{
    return t->name;
}

const char *thread_state_name(const struct thread *t)
{
    static const char *const name[] = {"new", "ready", "running", "blocked", "dead"};
    unsigned state = load_relaxed(&t->state); /* for people */
    return state < ARRAY_SIZE(name) ? name[state] : "in no known state";
}

unsigned thread_cpu(const struct thread *t)
{
    return t->cpu;
}

struct arch_thread *thread_arch(struct thread *t)
{
    return &t->arch;
}

void thread_set_guest(struct thread *t, void *guest)
{
    t->guest = guest;
}

void *thread_guest(const struct thread *t)
{
    return t->guest;
}

void sched_dump(void (*say)(const char *line))
{
    char line[96];

    /* The names are copied out in small steps: `say` may be slow, and may take other locks. */
    for (unsigned skip = 0;; skip++) {
        unsigned n = 0;
        bool found = false;
        spin_lock(&threads_lock);
        list_for_each(it, &threads_all)
        {
            struct thread *t = container_of(it, struct thread, all);
            if (n++ != skip)
                continue;
            snprintf(line, sizeof(line), "thread %u %s: cpu %u, %s%s", t->id, t->name, t->cpu,
                     thread_state_name(t), t->guest ? ", of a guest" : "");
            found = true;
            break;
        }
        spin_unlock(&threads_lock);
        if (!found)
            return;
        say(line);
    }
}
