/*
 * How threads sleep, wait and wake: not too early, in order, and no wakeup is lost, be it a timer's,
 * a wait queue's, a kick or an interrupt. As in suite_sched.c, no case says that something is quick.
 */
#include "tests/ktest.h"
#include "arch.h"
#include "sched/sched.h"

static unsigned last_cpu(void)
{
    return nr_cpus - 1;
}

static void spin_ns(u64 ns)
{
    for (u64 end = time_ns() + ns; time_ns() < end;)
        cpu_relax();
}

/* ---- sleep ---- */

static void sleep_is_long_enough(void)
{
    for (unsigned i = 0; i < 10; i++) {
        u64 ns = ktest_random() % (8 * KTEST_MS), start = time_ns();
        thread_sleep(ns);
        u64 slept = time_ns() - start;
        CHECK_MSG(slept >= ns, "slept %lu ns of %lu", slept, ns);
    }
    thread_sleep(0);
}

enum { SLEEPERS = 5 };

static struct {
    u64 start;      /* (c) of the round */
    unsigned awake; /* (a) how many have woken */
    bool late;      /* (a) one went to sleep when the first should have woken */
} order;

#define ORDER_STEP (60 * KTEST_MS)

static void sleeper(void *arg)
{
    unsigned *place = arg; /* in: by deadline; out: by wake */
    u64 deadline = order.start + (*place + 1) * ORDER_STEP, now = time_ns();
    if (now >= order.start + ORDER_STEP)
        store_release(&order.late, true);
    else
        thread_sleep(deadline - now);
    *place = fetch_add(&order.awake, 1);
}

/* On one CPU the earlier deadline wakes first, in whatever order they went to sleep. */
static void sleepers_wake_in_order(void)
{
    static const unsigned deadline[SLEEPERS] = {3, 0, 2, 4, 1};
    struct ktest_thread t[SLEEPERS];
    unsigned place[SLEEPERS];
    for (unsigned tries = 0; tries < 10; tries++) {
        order.start = time_ns();
        order.awake = 0;
        order.late = false;
        for (unsigned i = 0; i < SLEEPERS; i++) {
            place[i] = deadline[i];
            ktest_spawn(&t[i], last_cpu(), sleeper, &place[i]);
        }
        for (unsigned i = 0; i < SLEEPERS; i++)
            ktest_join(&t[i]);
        if (!order.late)
            break; /* else the host let us stand still; that proves nothing */
    }
    for (unsigned i = 0; i < SLEEPERS && !order.late; i++)
        CHECK_MSG(place[i] == deadline[i], "the sleeper with deadline %u woke as number %u",
                  deadline[i], place[i]);
    if (order.late)
        ktest_skip("the host is too busy to put %u threads to sleep within 60 ms", SLEEPERS);
}

static void random_sleeps(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 20; i++) {
        u64 ns = ktest_random() % (3 * KTEST_MS), start = time_ns();
        thread_sleep(ns);
        CHECK(time_ns() - start >= ns);
    }
}

static void many_sleepers(void)
{
    static struct ktest_thread t[40];
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        ktest_spawn(&t[i], i % nr_cpus, random_sleeps, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
        ktest_join(&t[i]);
}

/* ---- wake ---- */

/* A ball that two threads play: a lost wake leaves it lying. */
static struct {
    struct waitq wait;
    unsigned turn;   /* (a) whose ball it is: round * 2 + side */
    unsigned rounds; /* (c) */
    bool give_up;    /* (a) set by the referee */
} ball;

static void play(void *arg)
{
    unsigned side = arg != NULL;
    for (unsigned round = 0; round < ball.rounds; round++) {
        unsigned mine = 2 * round + side;
        waitq_wait(&ball.wait, load_acquire(&ball.turn) == mine || load_acquire(&ball.give_up));
        if (load_acquire(&ball.give_up))
            return;
        store_release(&ball.turn, mine + 1);
        waitq_wake_all(&ball.wait);
    }
}

static void ping_pong(unsigned cpu_a, unsigned cpu_b, unsigned rounds)
{
    struct ktest_thread a, b;
    waitq_init(&ball.wait, "ball");
    ball.turn = 0;
    ball.rounds = rounds;
    ball.give_up = false;
    ktest_spawn(&a, cpu_a, play, NULL);
    ktest_spawn(&b, cpu_b, play, &ball);
    for (;;) {
        unsigned before = load_acquire(&ball.turn);
        if (ktest_join_for(&a, KTEST_LOST) && ktest_join_for(&b, KTEST_LOST))
            break;
        if (!CHECK_MSG(load_acquire(&ball.turn) != before, "a wake was lost: turn %u of %u lies",
                       before, 2 * rounds)) {
            store_release(&ball.give_up, true);
            waitq_wake_all(&ball.wait);
        }
    }
    ktest_join(&a);
    ktest_join(&b);
    CHECK_MSG(ball.turn == 2 * rounds, "%u turns of %u", ball.turn, 2 * rounds);
}

static void no_wake_is_lost(void)
{
    ping_pong(0, last_cpu(), 5000); /* 10000 wakes, each of a CPU that sleeps */
}

static void no_wake_is_lost_on_one_cpu(void)
{
    ping_pong(last_cpu(), last_cpu(), 2000);
}

/* One wake for all who wait, from all CPUs. */
static struct waitq crowd_wait;
static unsigned crowd_go, crowd_in, crowd_out; /* (a) */

static void crowd(void *unused)
{
    (void)unused;
    fetch_add(&crowd_in, 1);
    waitq_wait(&crowd_wait, load_acquire(&crowd_go));
    fetch_add(&crowd_out, 1);
}

static void one_wake_for_all(void)
{
    static struct ktest_thread t[24];
    for (unsigned round = 0; round < 10; round++) {
        waitq_init(&crowd_wait, "crowd");
        crowd_go = crowd_in = crowd_out = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
            ktest_spawn(&t[i], i % nr_cpus, crowd, NULL);
        for (u64 end = time_ns() + ktest_random() % (3 * KTEST_MS); time_ns() < end;)
            sched_yield(); /* so that now all, now some are in the queue */
        CHECK(load_acquire(&crowd_out) == 0);
        store_release(&crowd_go, 1);
        waitq_wake_all(&crowd_wait);
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
            if (!CHECK_MSG(ktest_join_for(&t[i], KTEST_LOST), "thread %u sleeps on", i))
                waitq_wake_all(&crowd_wait);
            ktest_join(&t[i]);
        }
        CHECK(crowd_in == ARRAY_SIZE(t) && crowd_out == ARRAY_SIZE(t));
    }
}

static struct {
    struct waitq wait;
    unsigned round;    /* (a) */
    unsigned answered; /* (a) the last round that the thread has seen; ~0: it leaves */
} nap[7];

#define NAP_OVER (~0u)

static void be_kicked(void *arg)
{
    unsigned i = (unsigned)(u64)arg, seen = 0;
    while (seen != NAP_OVER) {
        waitq_wait(&nap[i].wait, load_acquire(&nap[i].round) != seen);
        seen = load_acquire(&nap[i].round);
        store_release(&nap[i].answered, seen);
    }
}

static bool wake_napper(unsigned i, unsigned round)
{
    store_release(&nap[i].round, round);
    waitq_wake_all(&nap[i].wait);
    /* No sleep here, and no other thread: timers and flushes would wake the CPU as well. */
    for (u64 end = time_ns() + KTEST_LOST / 4; time_ns() < end; cpu_relax()) {
        if (load_acquire(&nap[i].answered) == round)
            return true;
    }
    return false;
}

/*
 * CPUs that have nothing to do are in HLT, without a tick: only a kick gets them out. The pauses
 * have all lengths, so that the kick meets the idle loop at all its places.
 */
static void kick_ends_hlt(void)
{
    struct ktest_thread t[ARRAY_SIZE(nap)];
    unsigned nr = MIN(nr_cpus - 1, (unsigned)ARRAY_SIZE(nap));
    for (unsigned i = 0; i < nr; i++) {
        waitq_init(&nap[i].wait, "nap");
        nap[i].round = nap[i].answered = 0;
        ktest_spawn(&t[i], 1 + i, be_kicked, (void *)(u64)i);
    }
    u64 end = time_ns() + 3 * KTEST_S; /* on a busy host each round takes its time */
    for (unsigned round = 1; round <= 16000 && time_ns() < end; round++) {
        unsigned i = round / 1000 % nr; /* many in a row: it is on its way to HLT each time */
        spin_ns(ktest_random() % (round % 50 ? 20000 : KTEST_MS));
        if (!CHECK_MSG(wake_napper(i, round), "CPU %u sleeps through a kick, round %u", 1 + i,
                       round))
            break;
    }
    for (unsigned i = 0; i < nr; i++) {
        wake_napper(i, NAP_OVER);
        cpu_kick(1 + i); /* in case the one before was what failed */
    }
    for (unsigned i = 0; i < nr; i++)
        ktest_join(&t[i]);
    cpu_kick(cpu_id()); /* oneself: nothing */
}

/* ---- interrupt ---- */

static struct {
    struct thread *thread; /* (a) */
    struct waitq wait;
    unsigned ready, go, done, leave; /* (a) */
    unsigned looks;                  /* its own */
    u64 slept;
} victim;

/* Until main has done what the round is about, or gave up. */
static void victim_stall(void)
{
    for (u64 end = time_ns() + KTEST_LOST; !load_acquire(&victim.done) && time_ns() < end;)
        cpu_relax();
}

static void sleep_long(void *stall)
{
    store_release(&victim.thread, thread_self());
    store_release(&victim.ready, 1);
    if (stall)
        victim_stall();
    u64 start = time_ns();
    thread_sleep(10 * KTEST_LOST);
    victim.slept = time_ns() - start;
}

/* Every other round the interrupt comes first, and the sleep must not begin. */
static void interrupt_ends_sleep(void)
{
    for (unsigned round = 0; round < 20; round++) {
        struct ktest_thread t;
        victim.ready = victim.done = 0;
        ktest_spawn(&t, round % nr_cpus, sleep_long, round % 2 ? &victim : NULL);
        REQUIRE(ktest_wait_for(&victim.ready, KTEST_LOST));
        if (round % 4 == 0)
            thread_sleep(ktest_random() % (3 * KTEST_MS));
        thread_interrupt(victim.thread);
        store_release(&victim.done, 1);
        if (!CHECK_MSG(ktest_join_for(&t, KTEST_LOST), "round %u: it sleeps on", round))
            thread_interrupt(victim.thread);
        ktest_join(&t);
        CHECK(victim.slept < 10 * KTEST_LOST);
    }
}

/* The second look, the one after it is queued, may answer with what was true before the kill. */
static bool victim_look(bool stall)
{
    bool go = load_acquire(&victim.go);
    if (stall && ++victim.looks == 2) {
        store_release(&victim.ready, 1);
        victim_stall();
    }
    return go;
}

static void wait_or_be_killed(void *stall)
{
    victim.looks = 0;
    store_release(&victim.thread, thread_self());
    if (!stall)
        store_release(&victim.ready, 1);
    waitq_wait(&victim.wait, victim_look(stall != NULL));
    ktest_wait_for(&victim.leave, 2 * KTEST_LOST); /* stays until nobody holds our address */
}

/* As a kill does it: the condition turns true, nobody wakes the queue, an interrupt comes. */
static void interrupt_ends_wait(void)
{
    waitq_init(&victim.wait, "victim");
    for (unsigned round = 0; round < 20; round++) {
        struct ktest_thread t;
        victim.ready = victim.go = victim.done = victim.leave = 0;
        ktest_spawn(&t, round % nr_cpus, wait_or_be_killed, round % 2 ? &victim : NULL);
        REQUIRE(ktest_wait_for(&victim.ready, KTEST_LOST));
        if (round % 4 == 0)
            thread_sleep(ktest_random() % (3 * KTEST_MS));
        store_release(&victim.go, 1);
        thread_interrupt(victim.thread);
        store_release(&victim.done, 1);
        store_release(&victim.leave, 1);
        if (!CHECK_MSG(ktest_join_for(&t, KTEST_LOST), "round %u: it waits on", round))
            waitq_wake_all(&victim.wait);
        ktest_join(&t);
    }
}

static const struct ktest cases[] = {
    {"sleep_is_long_enough", sleep_is_long_enough, 0, 0},
    {"sleepers_wake_in_order", sleepers_wake_in_order, 0, 0},
    {"many_sleepers", many_sleepers, 0, 0},
    {"no_wake_is_lost", no_wake_is_lost, 2, 0},
    {"no_wake_is_lost_on_one_cpu", no_wake_is_lost_on_one_cpu, 0, 0},
    {"one_wake_for_all", one_wake_for_all, 0, 0},
    {"kick_ends_hlt", kick_ends_hlt, 2, 0},
    {"interrupt_ends_sleep", interrupt_ends_sleep, 0, 0},
    {"interrupt_ends_wait", interrupt_ends_wait, 0, 0},
};
KTEST_SUITE(wakeup, cases);
