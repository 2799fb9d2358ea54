/*
 * The strategies of the allocator that this boot has (mm/strategy/, mm/classic/strategy/): each of
 * them that is not unsafe by design keeps what it promises on the real machine, changing them
 * under load loses no dirt, and on classic each shows what the thread says of it. The two that
 * break memory have their schedules on the host (tests/host/mm/test_heaps.c) and in boots of
 * their own (tests/suite_thread.c, `crash lost-write`).
 */
#include "arch.h"
#include "lib/string.h"
#include "mm/classic/strategy/strategy.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest.h"
#include "tests/ktest_ballast.h"

/* A name that another allocator has is not tried here. */
static const char *const safe[] = {"claim",  "eager", "onmap",   "inplace",
                                   "locked", "batch", "overlap", "ondemand"};

static struct mm_zone_info total(void)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    return i;
}

static u64 unclean(void)
{
    struct mm_zone_info i = total();
    return i.dirty + i.stored_dirty + i.in_flight;
}

static bool wait_clean(void)
{
    u64 end = time_ns() + KTEST_LOST;
    while (unclean() && time_ns() < end)
        thread_sleep(KTEST_MS);
    return unclean() == 0;
}

static bool is_here(const char *name)
{
    return strcmp(mm_strategy_backend(name), mm_backend_name()) == 0;
}

static void say(const char *line)
{
    ktest_note("%s", line);
}

static void soil(pfn_t pfn, unsigned order, u64 sign)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        u64 *w = frame_va(p);
        w[0] = w[511] = sign | 1;
    }
}

static bool is_zero(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
        if (!frame_is_zero(frame_va(p)))
            return false;
    return true;
}

static void names_are_known(void)
{
    const char *was = mm_strategy_name(), *name;
    for (unsigned i = 0; (name = mm_strategy_nth(i)) != NULL; i++)
        CHECK(is_here(name));
    CHECK(mm_strategy_set("nonsense") == E_NOENT);
    /* What another allocator has takes a boot, and nothing is changed. */
    CHECK(mm_strategy_set(is_here("claim") ? "inplace" : "claim") == E_INVAL);
    CHECK(mm_strategy_name() == was);
    CHECK(mm_backend_nth(0) && mm_backend_nth(1) && !mm_backend_nth(2));
}

/* Taken clean is zero, whoever made it so; what idle CPUs are to scrub, they do. */
static void clean_is_zero_under_each(void)
{
    const char *was = mm_strategy_name();
    for (unsigned s = 0; s < ARRAY_SIZE(safe); s++) {
        if (!is_here(safe[s]))
            continue;
        CHECK(mm_strategy_set(safe[s]) == 0);
        for (unsigned order = 0; order <= 10; order++) {
            pfn_t pfn = mm_take(order, TAKE_CLEAN, 0);
            if (pfn == PFN_NONE)
                break;
            CHECK_MSG(is_zero(pfn, order), "%s: order %u not zero", safe[s], order);
            soil(pfn, order, pfn);
            mm_free(pfn, order);
            pfn = mm_take(order, TAKE_CLEAN, 0);
            REQUIRE(pfn != PFN_NONE);
            CHECK_MSG(is_zero(pfn, order), "%s: order %u not zero, second time", safe[s], order);
            mm_free(pfn, order);
        }
        if (mm_strategy_scrubs_free())
            CHECK_MSG(wait_clean(), "%s: %lu frames stay dirty", safe[s], unclean());
        CHECK(mm_check(false, say) == 0);
    }
    CHECK(mm_strategy_set(was) == 0);
}

/* ---- under load ---- */

static struct load {
    struct ktest_thread thread;
    u64 random, takes, leaks, lost;
    u32 stop; /* (a) */
} load[8];

static void take_and_give(void *arg)
{
    enum { HELD = 48 };
    struct load *l = arg;
    struct {
        pfn_t pfn;
        unsigned order;
        u64 sign;
    } mine[HELD];
    unsigned nr = 0;
    while (!load_acquire(&l->stop) || nr) {
        l->random = l->random * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned r = (unsigned)(l->random >> 33);
        if (!load_acquire(&l->stop) && nr < HELD && r % 5 < 3) {
            unsigned order = r >> 8 & 7 ? r >> 12 & 1 : r >> 12 & 7;
            bool clean = r >> 16 & 1;
            pfn_t pfn = mm_take(order, clean ? TAKE_CLEAN : TAKE_ANY, (r >> 17) % nr_nodes);
            if (pfn == PFN_NONE)
                continue;
            l->takes++;
            l->leaks += clean && !is_zero(pfn, order);
            soil(pfn, order, l->random);
            mine[nr].pfn = pfn;
            mine[nr].sign = l->random | 1;
            mine[nr++].order = order;
        } else if (nr) {
            unsigned k = r % nr;
            for (pfn_t p = mine[k].pfn; p < mine[k].pfn + (1ULL << mine[k].order); p++)
                l->lost += *(u64 *)frame_va(p) != mine[k].sign;
            mm_free(mine[k].pfn, mine[k].order);
            mine[k] = mine[--nr];
        }
        if ((r >> 20) % 16 == 7)
            thread_sleep(KTEST_MS / 5); /* and this CPU scrubs */
    }
}

static void changing_under_load_loses_nothing(void)
{
    const char *was = mm_strategy_name();
    unsigned threads = MIN(nr_cpus, (unsigned)ARRAY_SIZE(load)), changes = 0;
    u64 takes = 0;
    for (unsigned n = 0; n < threads; n++) {
        load[n] = (struct load){.random = ktest_random()};
        if (!ktest_spawn(&load[n].thread, n, take_and_give, &load[n]))
            return;
    }
    for (u64 end = time_ns() + KTEST_S; changes < 60 && time_ns() < end; thread_sleep(KTEST_MS)) {
        const char *name = safe[ktest_random() % ARRAY_SIZE(safe)];
        if (!is_here(name))
            continue;
        CHECK(mm_strategy_set(name) == 0);
        if (++changes % 16 == 0)
            CHECK(mm_check(false, say) == 0);
    }
    for (unsigned n = 0; n < threads; n++)
        store_release(&load[n].stop, 1u);
    for (unsigned n = 0; n < threads; n++) {
        ktest_join(&load[n].thread);
        CHECK_MSG(load[n].leaks == 0 && load[n].lost == 0, "CPU %u: %lu leaks, %lu frames lost", n,
                  load[n].leaks, load[n].lost);
        takes += load[n].takes;
    }
    CHECK(mm_strategy_set(was) == 0);
    CHECK(wait_clean());
    CHECK(mm_check(false, say) == 0);
    ktest_note("%u changes of strategy, %lu takes", changes, takes);
}

/* ---- classic: what each shows ---- */

static void who_zeroes_when(void)
{
    const char *was = mm_strategy_name();
    if (!ktest_alloc_is("classic", "the strategies of the thread"))
        return;
    CHECK(wait_clean());
    pfn_t pfn = mm_take(9, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    CHECK(mm_strategy_set("eager") == 0);
    struct mm_zone_info before = total();
    mm_free(pfn, 9);
    CHECK(total().scrubbed_at_free - before.scrubbed_at_free == 512);

    CHECK(mm_strategy_set("ondemand") == 0);
    CHECK(!mm_strategy_scrubs_free());
    pfn = mm_take(9, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    mm_free(pfn, 9);
    thread_sleep(20 * KTEST_MS);
    CHECK(unclean() >= 512); /* and nobody does anything about it */
    CHECK(mm_strategy_set(was) == 0);
    CHECK(wait_clean());
}

/* Idle CPUs hold the lock of all heaps while they clear, and takers queue behind them. */
static void locked_holds_the_lock(void)
{
    const char *was = mm_strategy_name();
    struct mm_costs after;
    if (!ktest_alloc_is("classic", "the strategies of the thread"))
        return;
    CHECK(mm_strategy_set("locked") == 0);
    pfn_t pfn = mm_take(11, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    mm_costs_reset();
    mm_free(pfn, 11);
    /* A taker beside the clears. */
    for (unsigned n = 0; n < 400; n++) {
        pfn = mm_take(0, TAKE_ANY, 0);
        if (pfn != PFN_NONE)
            mm_free(pfn, 0);
    }
    CHECK(wait_clean());
    mm_costs_get(&after);
    CHECK_MSG(after.max_hold_steps >= 512, "%lu steps", after.max_hold_steps);
    ktest_note("the lock was held for %lu steps; a request waited for %lu clears at most",
               after.max_hold_steps, after.max_clears_waited);
    CHECK(mm_strategy_set(was) == 0);
    CHECK(wait_clean());
}

/* B, an idle CPU, stands where it has detained the node's only free block, until A has asked. */
static u32 b_stands, b_goes; /* (a) */
static pfn_t b_block;

static void hold_b(const char *point, pfn_t pfn)
{
    if (strcmp(point, "batch: detained") != 0 || ALIGN_DOWN(pfn, 1024) != b_block ||
        !cas(&b_stands, 0u, 1u))
        return;
    for (u64 end = time_ns() + KTEST_LOST; !load_acquire(&b_goes) && time_ns() < end;)
        cpu_relax();
}

/* Without sleeping: this CPU must not become B itself. */
static bool b_came(void)
{
    for (u64 end = time_ns() + KTEST_LOST; !load_acquire(&b_stands) && time_ns() < end;)
        cpu_relax();
    return load_acquire(&b_stands);
}

static void batch_detains_memory(void)
{
    const char *was = mm_strategy_name();
    struct mm_costs before, after;
    unsigned node = cpu_node(cpu_id() == nr_cpus - 1 ? 0 : nr_cpus - 1), ballast;
    if (!ktest_alloc_is("classic", "the strategies of the thread") ||
        !ktest_ballast_node(&ballast) || !ktest_has_mib(40))
        return;
    pfn_t pfn = mm_take(10, TAKE_CLEAN | TAKE_THIS_NODE, node);
    if (pfn == PFN_NONE) {
        ktest_skip("node %u has no block of order 10", node);
        return;
    }
    struct mm_policy saved, p;
    mm_policy_get(&saved);
    p = saved;
    p.batch = 10; /* that block, and nothing else */
    CHECK(mm_policy_set(&p) == 0);
    b_block = pfn;
    CHECK(mm_strategy_set("batch") == 0);
    mm_scrub_enable(false);
    ktest_ballast_take(node, 0);
    b_stands = b_goes = 0;
    store_release(&classic_gate, hold_b);
    mm_free(pfn, 10);
    mm_costs_get(&before);
    mm_scrub_enable(true);
    if (CHECK_MSG(b_came(), "no idle CPU took a batch")) {
        pfn_t got = mm_take(10, TAKE_ANY | TAKE_THIS_NODE, node);
        mm_costs_get(&after);
        CHECK_MSG(got == PFN_NONE, "the block was not detained");
        CHECK(after.failed_detained == before.failed_detained + 1);
        CHECK(after.detained >= 1024);
        if (got != PFN_NONE)
            mm_free(got, 10);
    }
    store_release(&b_goes, 1u);
    store_release(&classic_gate, NULL);
    for (u64 end = time_ns() + KTEST_LOST; total().in_flight && time_ns() < end;)
        thread_sleep(KTEST_MS);
    pfn = mm_take(10, TAKE_CLEAN | TAKE_THIS_NODE, node); /* there it is */
    if (CHECK(pfn != PFN_NONE))
        mm_free(pfn, 10);
    ktest_ballast_free();
    CHECK(mm_policy_set(&saved) == 0);
    CHECK(mm_strategy_set(was) == 0);
    CHECK(wait_clean());
}

static const struct ktest cases[] = {
    {"names_are_known", names_are_known, 0, 0},
    {"clean_is_zero_under_each", clean_is_zero_under_each, 0, 0},
    {"changing_under_load_loses_nothing", changing_under_load_loses_nothing, 0, 0},
    {"who_zeroes_when", who_zeroes_when, 0, 0},
    {"locked_holds_the_lock", locked_holds_the_lock, 2, 0},
    {"batch_detains_memory", batch_detains_memory, 2, 0},
};

KTEST_SUITE(strategies, cases);
