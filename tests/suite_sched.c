/*
 * Threads: where they run, how they sleep and wake, that they are preempted, that they end
 * without a trace. What must happen is waited for with KTEST_LOST, which a passing test never
 * reaches; no case says that something is quick, only that it happens, or in which order.
 */
#include "tests/ktest.h"
#include "arch.h"
#include "mm/mm.h"
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

/* ---- where ---- */

static void record_cpu(void *arg)
{
    unsigned *cpu = arg;
    *cpu = cpu_id();
    CHECK(thread_cpu(thread_self()) == *cpu && this_cpu()->current == thread_self());
    CHECK(irqs_enabled() && preempt_count() == 0);
    sched_yield();
    thread_sleep(KTEST_MS);
    CHECK(cpu_id() == *cpu);
}

static void threads_run_on_their_cpu(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        unsigned got = ~0u;
        ktest_run_on(cpu, record_cpu, &got);
        CHECK_MSG(got == cpu, "a thread for CPU %u ran on %u", cpu, got);
    }
}

static unsigned placed_runs; /* (a) and reaped */

static void placed(void *arg)
{
    unsigned *node = arg;
    *node = cpu_node(cpu_id());
}

static void placed_gone(void *unused)
{
    (void)unused;
    fetch_add(&placed_runs, 1);
}

static void threads_run_on_their_node(void)
{
    for (unsigned node = 0; node < nr_nodes; node++) {
        unsigned cpus = 0, got = ~0u;
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            cpus += cpu_node(cpu) == node;
        placed_runs = 0;
        struct thread *t = thread_create("placed", placed, &got, ANY_CPU, node);
        REQUIRE(t != NULL);
        thread_on_reaped(t, placed_gone, NULL);
        thread_start(t);
        REQUIRE(ktest_wait_for(&placed_runs, KTEST_LOST));
        CHECK_MSG(cpus == 0 || got == node, "a thread for node %u ran on %u", node, got);
    }
}

/* ANY_CPU spreads: as many threads as CPUs, none of which ends before all are made. */
static unsigned spread_go;             /* (a) */
static unsigned spread_seen[MAX_CPUS]; /* (a) */

static void spread(void *unused)
{
    (void)unused;
    fetch_add(&spread_seen[cpu_id()], 1);
    ktest_wait_for(&spread_go, KTEST_LOST);
}

static void any_cpu_is_the_least_loaded(void)
{
    static struct ktest_thread t[MAX_CPUS];
    unsigned n = MIN(nr_cpus, 32u), used = 0;
    spread_go = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        spread_seen[cpu] = 0;
    for (unsigned i = 0; i < n; i++)
        ktest_spawn(&t[i], ANY_CPU, spread, NULL);
    store_release(&spread_go, 1);
    for (unsigned i = 0; i < n; i++)
        ktest_join(&t[i]);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        used += spread_seen[cpu] != 0;
    /* CPU 0 has threads of its own (main, reaper), so it may get none. */
    CHECK_MSG(used + 2 >= n, "%u threads went to %u CPUs", n, used);
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

/* ---- sharing a CPU ---- */

static unsigned preempted; /* (a) */

static void set_preempted(void *unused)
{
    (void)unused;
    store_release(&preempted, 1);
}

/* Spins until a thread of the same CPU has run: only preemption lets it. */
static void spin_for_it(void *unused)
{
    struct ktest_thread t;
    (void)unused;
    store_release(&preempted, 0);
    ktest_spawn(&t, cpu_id(), set_preempted, NULL);
    for (u64 end = time_ns() + KTEST_LOST; !load_acquire(&preempted) && time_ns() < end;)
        cpu_relax();
    CHECK_MSG(load_acquire(&preempted), "CPU %u: a spinning thread is not preempted", cpu_id());
    ktest_join(&t);
}

static void spinners_are_preempted(void)
{
    spin_for_it(NULL);
    for (unsigned cpu = 1; cpu < MIN(nr_cpus, 8u); cpu++)
        ktest_run_on(cpu, spin_for_it, NULL);
}

static struct {
    unsigned stop;    /* (a) */
    u64 turns[3];     /* (a) slices that each one saw begin */
    unsigned running; /* (a) who ran last, + 1 */
} share;

static void share_spin(void *arg)
{
    u64 *turns = arg;
    unsigned me = (unsigned)(turns - share.turns) + 1;
    u64 end = time_ns() + KTEST_LOST;
    while (!load_acquire(&share.stop) && time_ns() < end) {
        if (load_relaxed(&share.running) != me) { /* relaxed: one CPU, its own stores */
            store_relaxed(&share.running, me);
            store_relaxed(turns, *turns + 1);
        }
        cpu_relax();
    }
}

/* Three that never give way: each gets slice after slice. */
static void slices_go_round(void)
{
    struct ktest_thread t[3];
    share.stop = share.running = 0;
    for (unsigned i = 0; i < 3; i++) {
        share.turns[i] = 0;
        ktest_spawn(&t[i], last_cpu(), share_spin, &share.turns[i]);
    }
    u64 end = time_ns() + KTEST_LOST;
    bool fair = false;
    while (!fair && time_ns() < end) {
        thread_sleep(20 * KTEST_MS);
        fair = true;
        for (unsigned i = 0; i < 3; i++)
            fair &= load_relaxed(&share.turns[i]) >= 5;
    }
    store_release(&share.stop, 1);
    for (unsigned i = 0; i < 3; i++)
        ktest_join(&t[i]);
    CHECK_MSG(fair, "slices: %lu, %lu, %lu", share.turns[0], share.turns[1], share.turns[2]);
    struct sched_stats stats;
    for (end = time_ns() + KTEST_LOST; time_ns() < end; thread_sleep(KTEST_MS)) {
        sched_cpu_stats(last_cpu(), &stats);
        if (!stats.tick_on)
            break;
    }
    CHECK_MSG(!stats.tick_on, "the tick of CPU %u goes on with nobody to share", last_cpu());
}

/*
 * With preemption off nobody else runs here, although the slice is over and somebody waits; and
 * with preemption on again that one runs at once.
 */
static void hold_the_cpu(void *unused)
{
    struct ktest_thread t;
    (void)unused;
    preempted = 0;
    preempt_disable();
    ktest_spawn(&t, cpu_id(), set_preempted, NULL);
    for (u64 end = time_ns() + KTEST_LOST; !need_resched() && time_ns() < end;)
        cpu_relax();
    CHECK_MSG(need_resched(), "no slice ends on CPU %u", cpu_id());
    spin_ns(20 * KTEST_MS);
    CHECK(!load_acquire(&preempted));
    struct sched_stats before, after;
    sched_cpu_stats(cpu_id(), &before);
    preempt_enable();
    sched_cpu_stats(cpu_id(), &after);
    /* Switches, not `preempted`: a slice that the host slept through may end before its first step. */
    CHECK_MSG(after.switches > before.switches, "preempt_enable() did not switch");
    ktest_join(&t);
    CHECK(load_acquire(&preempted));
}

static void preemption_can_be_off(void)
{
    ktest_run_on(last_cpu(), hold_the_cpu, NULL);
}

static struct {
    unsigned turn; /* (a) */
    unsigned wrong;
} yielding;

static void yield_in_turn(void *arg)
{
    unsigned side = arg != NULL;
    for (unsigned i = 0; i < 500; i++) {
        u64 end = time_ns() + KTEST_LOST;
        while (load_acquire(&yielding.turn) % 2 != side && time_ns() < end)
            sched_yield();
        yielding.wrong += load_acquire(&yielding.turn) != 2 * i + side;
        store_release(&yielding.turn, 2 * i + side + 1);
    }
}

static void yield_lets_others_run(void)
{
    struct ktest_thread a, b;
    yielding.turn = yielding.wrong = 0;
    ktest_spawn(&a, last_cpu(), yield_in_turn, NULL);
    ktest_spawn(&b, last_cpu(), yield_in_turn, &yielding);
    ktest_join(&a);
    ktest_join(&b);
    CHECK_MSG(yielding.wrong == 0 && yielding.turn == 1000, "%u turns, %u wrong", yielding.turn,
              yielding.wrong);
    for (unsigned i = 0; i < 100; i++)
        sched_yield(); /* alone it comes back at once */
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

/* ---- birth and death ---- */

static void do_nothing(void *unused)
{
    (void)unused;
}

/* The framework counts the frames afterwards. */
static void a_thousand_threads_leave_nothing(void)
{
    static struct ktest_thread t[20];
    for (unsigned round = 0; round < 1000 / ARRAY_SIZE(t); round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
            ktest_spawn(&t[i], (round + i) % nr_cpus, do_nothing, NULL);
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
            ktest_join(&t[i]);
    }
}

static unsigned reaped; /* (a) */

static void count_reaped(void *arg)
{
    fetch_add(&reaped, arg == &reaped);
}

static void the_reaper_tells(void)
{
    reaped = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct thread *t = thread_create("short", do_nothing, NULL, cpu, ANY_NODE);
        REQUIRE(t != NULL);
        thread_on_reaped(t, count_reaped, &reaped);
        thread_start(t);
    }
    for (u64 end = time_ns() + KTEST_LOST; load_acquire(&reaped) < nr_cpus && time_ns() < end;)
        thread_sleep(KTEST_MS);
    CHECK_MSG(reaped == nr_cpus, "%u of %u threads reaped", reaped, nr_cpus);
}

/* ---- the idle loop ---- */

/*
 * P8: while idle CPUs have dirt to scrub, each thread that becomes runnable there runs after at
 * most one more frame's clear. Counted, not timed.
 */
static void idle_work_yields(void)
{
    enum { ORDER = 13, BLOCKS = 4 }; /* 32 MiB each */
    pfn_t block[BLOCKS];
    unsigned have = 0;
    struct sched_stats stats;

    sched_stats_reset();
    for (unsigned round = 0; round < 5; round++) {
        for (have = 0; have < BLOCKS; have++) {
            block[have] = mm_take(ORDER, TAKE_ANY, cpu_node(last_cpu()));
            if (block[have] == PFN_NONE)
                break;
        }
        while (have)
            mm_free(block[--have], ORDER);
        for (unsigned i = 0; i < 20; i++) {
            struct ktest_thread t;
            ktest_spawn(&t, 1 + i % (nr_cpus - 1), do_nothing, NULL);
            while (!load_acquire(&t.done))
                cpu_relax();
            ktest_join(&t);
        }
    }
    for (unsigned cpu = 1; cpu < nr_cpus; cpu++) {
        sched_cpu_stats(cpu, &stats);
        CHECK_MSG(stats.clears_before_run_max <= 1,
                  "CPU %u cleared %lu frames before it let a thread run", cpu,
                  stats.clears_before_run_max);
    }
}

static const struct ktest cases[] = {
    {"threads_run_on_their_cpu", threads_run_on_their_cpu, 0, 0},
    {"threads_run_on_their_node", threads_run_on_their_node, 0, 0},
    {"any_cpu_is_the_least_loaded", any_cpu_is_the_least_loaded, 0, 0},
    {"sleep_is_long_enough", sleep_is_long_enough, 0, 0},
    {"sleepers_wake_in_order", sleepers_wake_in_order, 0, 0},
    {"many_sleepers", many_sleepers, 0, 0},
    {"no_wake_is_lost", no_wake_is_lost, 2, 0},
    {"no_wake_is_lost_on_one_cpu", no_wake_is_lost_on_one_cpu, 0, 0},
    {"one_wake_for_all", one_wake_for_all, 0, 0},
    {"kick_ends_hlt", kick_ends_hlt, 2, 0},
    {"spinners_are_preempted", spinners_are_preempted, 0, 0},
    {"slices_go_round", slices_go_round, 0, 0},
    {"preemption_can_be_off", preemption_can_be_off, 0, 0},
    {"yield_lets_others_run", yield_lets_others_run, 0, 0},
    {"interrupt_ends_sleep", interrupt_ends_sleep, 0, 0},
    {"interrupt_ends_wait", interrupt_ends_wait, 0, 0},
    {"a_thousand_threads_leave_nothing", a_thousand_threads_leave_nothing, 0, 0},
    {"the_reaper_tells", the_reaper_tells, 0, 0},
    {"idle_work_yields", idle_work_yields, 2, 0},
};
KTEST_SUITE(sched, cases);
