/*
 * Threads: where they run, that they are preempted, that they end without a trace; how they sleep
 * and wake is suite_wakeup.c. What must happen is waited for with KTEST_LOST, which a passing test
 * never reaches; no case says that something is quick, only that it happens, or in which order.
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
    {"spinners_are_preempted", spinners_are_preempted, 0, 0},
    {"slices_go_round", slices_go_round, 0, 0},
    {"preemption_can_be_off", preemption_can_be_off, 0, 0},
    {"yield_lets_others_run", yield_lets_others_run, 0, 0},
    {"a_thousand_threads_leave_nothing", a_thousand_threads_leave_nothing, 0, 0},
    {"the_reaper_tells", the_reaper_tells, 0, 0},
    {"idle_work_yields", idle_work_yields, 2, 0},
};
KTEST_SUITE(sched, cases);
