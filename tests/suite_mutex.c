/*
 * The mutex of sched/mutex.c: one owner at a time, nobody left waiting, nobody passed over.
 */
#include "sched/sched.h"
#include "tests/ktest.h"

#define THREADS 12
#define ROUNDS  100

static struct {
    struct mutex lock;
    u64 count;                    /* by the owner of the lock alone, so it needs no atomic */
    unsigned inside;              /* (a) */
    unsigned most_inside;         /* by the owner */
    unsigned stop;                /* (a) */
    struct thread *self[THREADS]; /* (a) NULL once the thread is about to end */
} shared;

static void begin(void)
{
    mutex_init(&shared.lock, "shared");
    shared.count = shared.inside = shared.most_inside = shared.stop = 0;
}

static void add_one(void)
{
    mutex_lock(&shared.lock);
    unsigned others = fetch_add(&shared.inside, 1);
    shared.most_inside = MAX(shared.most_inside, others + 1);
    u64 was = *(volatile u64 *)&shared.count; /* volatile: really read here, written below */
    if (was % 3 == 0)
        sched_yield(); /* an owner may sleep */
    *(volatile u64 *)&shared.count = was + 1;
    fetch_add(&shared.inside, -1u);
    mutex_unlock(&shared.lock);
}

static void add_many(void *arg)
{
    struct thread **self = arg;
    store_release(self, thread_self());
    for (unsigned i = 0; i < ROUNDS; i++)
        add_one();
    store_release(self, (struct thread *)NULL);
    /* Who has read the name just before the NULL interrupts a thread that is still there. */
    while (!load_acquire(&shared.stop))
        thread_sleep(KTEST_MS);
}

static void run_all(bool interrupt)
{
    static struct ktest_thread t[THREADS];
    begin();
    for (unsigned i = 0; i < THREADS; i++)
        ktest_spawn(&t[i], i % nr_cpus, add_many, &shared.self[i]);
    u64 last = 0;
    for (u64 moved = time_ns(); last < THREADS * ROUNDS; sched_yield()) {
        u64 now = load_relaxed(&shared.count); /* relaxed: to see that it goes on */
        if (now != last)
            moved = time_ns();
        last = now;
        if (!CHECK_MSG(time_ns() - moved < KTEST_LOST, "stuck at %lu of %u", now, THREADS * ROUNDS))
            panic("a mutex is lost: its waiters cannot be helped");
        struct thread *victim = load_acquire(&shared.self[ktest_random() % THREADS]);
        if (interrupt && victim)
            thread_interrupt(victim);
    }
    store_release(&shared.stop, 1);
    for (unsigned i = 0; i < THREADS; i++)
        ktest_join(&t[i]);
    CHECK(shared.most_inside == 1);
    CHECK_MSG(shared.count == THREADS * ROUNDS, "%lu of %u", shared.count, THREADS * ROUNDS);
    CHECK(!shared.lock.owner);
}

static void one_owner_at_a_time(void)
{
    run_all(false);
}

/* A kill interrupts whoever waits: it waits on, and neither loses nor doubles the mutex. */
static void interrupts_change_nothing(void)
{
    run_all(true);
}

/* ---- first come, first served ---- */

static unsigned order[8], nr_in, waiting; /* nr_in and order: by the owner; waiting: (a) */

static void note_turn(void *arg)
{
    fetch_add(&waiting, 1);
    mutex_lock(&shared.lock);
    order[nr_in++] = (unsigned)(u64)arg;
    mutex_unlock(&shared.lock);
}

static void first_come_first_served(void)
{
    static struct ktest_thread t[ARRAY_SIZE(order)];
    begin();
    nr_in = waiting = 0;
    mutex_lock(&shared.lock);
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        ktest_spawn(&t[i], i % nr_cpus, note_turn, (void *)(u64)i);
        /* Until it is queued: the list's length under its lock. */
        for (unsigned queued = 0; queued <= i; sched_yield()) {
            bool irqs = spin_lock_irqsave(&shared.lock.waiters.lock);
            queued = 0;
            list_for_each(it, &shared.lock.waiters.waiters) queued++;
            spin_unlock_irqrestore(&shared.lock.waiters.lock, irqs);
        }
    }
    mutex_unlock(&shared.lock);
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        ktest_join(&t[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++)
        CHECK_MSG(order[i] == i, "turn %u was that of %u", i, order[i]);
}

static const struct ktest cases[] = {
    {"one_owner_at_a_time", one_owner_at_a_time, 0, 0},
    {"interrupts_change_nothing", interrupts_change_nothing, 0, 0},
    {"first_come_first_served", first_come_first_served, 0, 0},
};
KTEST_SUITE(mutex, cases);
