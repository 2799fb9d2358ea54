/*
 * The threads of a guest. The first one begins with the guest; thread_start makes more, up to
 * GUEST_THREADS_MAX at a time, each on a CPU that no other thread of the guest runs on as long as
 * there is one. They share everything but registers, FPU state and the console line.
 *
 * Owns struct guest_thread, under the guest's lock (g): a place is taken before its thread is
 * made, and free again when the thread leaves the guest. A thread that is made while the guest is
 * being killed is not told by the killer; it finds out by itself before it runs.
 *
 * Next: guest/guest.c, guest_thread_end().
 */
#include "guest/internal.h"
#include "lib/string.h"

#define QUANTUM_MIN_NS 1000000ULL

struct guest_thread *guest_thread_self(struct guest *g)
{
    const struct thread *self = thread_self();
    for (unsigned i = 0; i < GUEST_THREADS_MAX; i++)
        /* Relaxed: ours does not change while we run, and the others are not ours. */
        if (load_relaxed(&g->threads[i].thread) == self)
            return &g->threads[i];
    panic("thread %s is none of guest %u", thread_name(self), g->id);
}

/* The first thing that any thread of a guest does, and the only thing if it was ended before. */
static void guest_thread_main(void *arg)
{
    struct guest_thread *t = arg;
    if (guest_must_end(t->guest))
        guest_thread_end(t->guest);
    t->guest->ops->run(t->guest, t->entry, t->stack, t->arg);
}

/* ---- CPU time ---- */

/*
 * Each thread has a limit of its own, a share of what the guest has left; when it is used up, all
 * that they have run is added up and shared again. With no more than GUEST_THREADS_MAX threads the
 * shares that are out never come to more than what is left, but for the smallest share.
 */
static u64 quantum(u64 left)
{
    return MAX(left / GUEST_THREADS_MAX, QUANTUM_MIN_NS);
}

u64 guest_cpu_ns_locked(struct guest *g)
{
    ASSERT(spin_held(&g->lock));
    u64 ns = g->cpu_ns;
    for (unsigned i = 0; i < GUEST_THREADS_MAX; i++)
        if (g->threads[i].thread)
            ns += thread_cpu_ns(g->threads[i].thread);
    return ns;
}

/* What the guest may still run; 0: nothing. */
static u64 cpu_left(struct guest *g)
{
    spin_lock(&g->lock);
    u64 ran = guest_cpu_ns_locked(g);
    spin_unlock(&g->lock);
    return ran < g->cpu_limit_ns ? g->cpu_limit_ns - ran : 0;
}

bool guest_over_limit(struct guest *g)
{
    u64 left = cpu_left(g);
    if (left)
        thread_limit_again(quantum(left));
    return left == 0;
}

/* ---- making them ---- */

/* A place and a thread for it, which may not be started before it has a `local`. */
static struct thread *thread_make(struct guest *g, struct guest_thread *place, unsigned cpu,
                                  unsigned node)
{
    struct thread *t = thread_create(g->name, guest_thread_main, place, cpu, node);
    if (!t)
        return NULL;
    thread_set_guest(t, g);
    if (g->cpu_limit_ns)
        thread_limit_cpu(t, quantum(cpu_left(g)));
    return t;
}

static void thread_install(struct guest *g, struct guest_thread *place, struct thread *t)
{
    spin_lock(&g->lock);
    store_relaxed(&place->thread, t);
    g->nr_threads++;
    g->nr_stacks++;
    g->threads_started++;
    spin_unlock(&g->lock);
}

int guest_thread_first(struct guest *g, const struct guest_config *cfg)
{
    struct guest_thread *place = &g->threads[0];
    place->guest = g;
    place->taken = true;
    struct thread *t = thread_make(g, place, cfg->cpu, cfg->node);
    if (!t)
        return E_NOMEM;
    thread_install(g, place, t);
    g->cpu = thread_cpu(t);
    return 0;
}

void guest_thread_prepare(struct guest *g, u64 entry)
{
    struct guest_thread *place = &g->threads[0];
    place->local = &g->head->local;
    place->entry = entry;
    place->stack = GUEST_STACK_TOP;
    place->arg = GUEST_INFO;
    arch_fpu_init(place->local->fpu);
    g->ops->attach(g, place->thread, place->local->fpu);
}

/* How bad a CPU is for one more thread: one of our own there, then another node, then its load. */
static u64 cpu_badness(struct guest *g, unsigned cpu)
{
    struct sched_stats s;
    unsigned own = 0;
    sched_cpu_stats(cpu, &s);
    spin_lock(&g->lock);
    for (unsigned i = 0; i < GUEST_THREADS_MAX; i++)
        own += g->threads[i].thread && thread_cpu(g->threads[i].thread) == cpu;
    spin_unlock(&g->lock);
    return (u64)own << 33 | (u64)(cpu_node(cpu) != g->node) << 32 | s.threads;
}

static unsigned choose_cpu(struct guest *g)
{
    unsigned best = cpu_id();
    u64 least = cpu_badness(g, best);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (!load_acquire(&cpu_by_id(cpu)->online))
            continue;
        u64 badness = cpu_badness(g, cpu);
        if (badness < least) {
            best = cpu;
            least = badness;
        }
    }
    return best;
}

static struct guest_thread *place_take(struct guest *g)
{
    struct guest_thread *place = NULL;
    spin_lock(&g->lock);
    for (unsigned i = 0; i < GUEST_THREADS_MAX && !place; i++)
        if (!g->threads[i].taken)
            place = &g->threads[i];
    if (place)
        *place = (struct guest_thread){.guest = g, .taken = true};
    spin_unlock(&g->lock);
    return place;
}

static void place_give(struct guest *g, struct guest_thread *place)
{
    spin_lock(&g->lock);
    place->taken = false;
    spin_unlock(&g->lock);
}

s64 guest_thread_start(struct guest *g, u64 entry, u64 stack, u64 arg)
{
    struct guest_thread *place = place_take(g);
    if (!place)
        return E_NOSPC;
    guest_memory_enter(g);
    place->local = guest_own_take(g);
    guest_memory_leave(g);
    struct thread *t = place->local ? thread_make(g, place, choose_cpu(g), ANY_NODE) : NULL;
    if (!t) {
        guest_memory_enter(g);
        if (place->local)
            guest_own_free(g, place->local);
        guest_memory_leave(g);
        place_give(g, place);
        return E_NOMEM;
    }
    place->entry = entry;
    place->stack = stack;
    place->arg = arg;
    arch_fpu_init(place->local->fpu);
    g->ops->attach(g, t, place->local->fpu);
    thread_install(g, place, t);
    s64 number = place - g->threads;
    thread_start(t);
    return number;
}
