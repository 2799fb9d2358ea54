/*
 * Memory on the real machine: the promises P1 to P6 and P8, P9, with real idle threads, real
 * kicks and HLT. The same sources are tested harder on the host (tests/host/mm/); what is here
 * is what only the machine can show. Large memories are left alone: no case touches more than
 * TOUCH_MAX of what it takes, since a touched frame really comes out of the host.
 */
#include "arch.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/claim.h"
#include "mm/mm.h"
#include "mm/zone.h"
#include "sched/sched.h"
#include "tests/ktest.h"

enum { TOUCH_MAX = 256 * 256 }; /* frames: 256 MiB */

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

/* Sleeps until nothing is dirty: so it also shows that idle CPUs do their work (P9). */
static bool wait_clean(u64 seconds)
{
    u64 end = time_ns() + seconds * 1000000000;
    while (unclean()) {
        if (time_ns() > end)
            return false;
        thread_sleep(2000000);
    }
    return true; /* at that moment: the machine itself may free a stack in the next */
}

static void say(const char *line)
{
    ktest_note("%s", line);
}

static void soil(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        u64 *w = frame_va(p);
        for (unsigned n = 0; n < FRAME_SIZE / 8; n += 8)
            w[n] = 0x5ec3e75ec3e70000ULL + p;
    }
}

static bool is_zero(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
        if (!frame_is_zero(frame_va(p)))
            return false;
    return true;
}

/* ---- P1, P3: clean means zero ---- */

static void test_clean_is_zero(void)
{
    for (unsigned order = 0; order <= 12; order++) {
        pfn_t pfn = mm_take(order, TAKE_CLEAN, 0);
        if (pfn == PFN_NONE) {
            ktest_note("nothing of order %u in this memory", order);
            break;
        }
        CHECK_MSG(is_zero(pfn, order), "order %u: not zero when taken", order);
        soil(pfn, order);
        mm_free(pfn, order);
        pfn_t again = mm_take(order, TAKE_CLEAN, 0);
        REQUIRE(again != PFN_NONE);
        CHECK_MSG(is_zero(again, order), "order %u: not zero when taken again", order);
        mm_free(again, order);
    }
    CHECK(wait_clean(60));
    if (total().clean <= 2 * TOUCH_MAX)
        CHECK(mm_check(true, say) == 0);
    else
        ktest_note("%lu MiB clean: contents not read", (unsigned long)(total().clean / 256));
}

/* ---- P2, P6: blocks come back and merge ---- */

/* In limpid's maps. Busy: an idle CPU has claimed part of it already. */
static bool is_whole_or_busy(pfn_t pb)
{
    struct zone *z = zone_of(pb);
    unsigned bit;
    spin_lock(&z->lock);
    bool busy = z->pb[zone_pb(z, pb)].out;
    const struct gigablock *g = zone_pb_gig(z, zone_pb(z, pb), &bit);
    bool whole = map512_test(&g->free, bit);
    spin_unlock(&z->lock);
    return whole || busy;
}

static void test_blocks_merge(void)
{
    struct map512 odd = {{0}};
    pfn_t pb = mm_take(ORDER_PAGEBLOCK, TAKE_CLEAN, 0);
    REQUIRE(pb != PFN_NONE);
    for (unsigned n = 1; n < 512; n += 2)
        map512_set(&odd, n);
    mm_free_mask(pb, &odd);
    for (unsigned n = 0; n < 512; n += 2)
        mm_free(pb + n, 0);
    mm_stores_flush();
    if (strcmp(mm_backend_name(), "limpid") == 0)
        CHECK(is_whole_or_busy(pb));
    CHECK(wait_clean(60));
    CHECK(mm_check(false, say) == 0);
}

static void test_no_clean_frame_is_scrubbed_again(void)
{
    enum { N = 600 };
    if (!ktest_has_mib(40))
        return;
    CHECK(wait_clean(60));
    struct mm_zone_info before = total();
    pfn_t block = mm_take(11, TAKE_CLEAN, 0);
    REQUIRE(block != PFN_NONE);
    CHECK(total().scrubbed_takers_local == before.scrubbed_takers_local);
    mm_free(block, 11);
    CHECK(wait_clean(60));
    struct mm_zone_info after = total();
    u64 cleared = after.scrubbed_idle_local + after.scrubbed_idle_remote -
                  before.scrubbed_idle_local - before.scrubbed_idle_remote;
    /* Exactly what was freed, and the few frames that the machine itself gave back meanwhile. */
    CHECK_MSG(cleared >= 2048 && cleared < 2048 + N, "2048 frames freed, %lu cleared",
              (unsigned long)cleared);
}

/* ---- P4: failing is true, waiting is short ---- */

/* By all takers since boot. */
static void check_waits(void)
{
    u64 most = total().max_clears_waited;
    if (mm_waits_for_one_clear())
        CHECK_MSG(most <= 1, "%lu clears begun behind a shut gate", (unsigned long)most);
    else if (most > 1)
        ktest_note("a taker waited for %lu clears: others of theirs, with the lock held",
                   (unsigned long)most);
}

static void test_failing_is_true(void)
{
    struct mm_zone_info i;
    enum { ROUNDS = 4 };
    static pfn_t block[4096];
    unsigned nr = 0, node = nr_nodes - 1;
    mm_node_info(node, &i);
    if (i.frames == 0) {
        ktest_skip("node %u has no memory", node);
        return;
    }
    /* The whole node, in the largest blocks it has; contents untouched. */
    for (int order = ORDER_MAX; order >= 6; order--) {
        pfn_t pfn;
        while (nr < ARRAY_SIZE(block) &&
               (pfn = mm_take((unsigned)order, TAKE_ANY | TAKE_THIS_NODE, node)) != PFN_NONE)
            block[nr++] = pfn | (u64)order << 56;
    }
    CHECK(nr > 0);
    CHECK(mm_take(6, TAKE_ANY | TAKE_THIS_NODE, node) == PFN_NONE);
    /* One block of it back and dirty: scrubbers claim it, and it must be had at once all the same. */
    for (unsigned round = 0; round < ROUNDS && nr; round++) {
        pfn_t pfn = block[0] & ((1ULL << 56) - 1);
        unsigned order = MIN((unsigned)(block[0] >> 56), 9u);
        mm_free(pfn, order);
        thread_sleep(50000);
        CHECK_MSG(mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, node) == pfn,
                  "order %u was not to be had while it was being scrubbed", order);
    }
    for (unsigned n = 0; n < nr; n++)
        mm_free(block[n] & ((1ULL << 56) - 1), (unsigned)(block[n] >> 56));
    check_waits();
    CHECK(mm_check(false, say) == 0);
}

/* ---- P4, P8: everything at once ---- */

enum { STORM_STEPS = 3000, STORM_HELD = 200 };

struct storm {
    u64 random;
    u64 leaks, takes; /* the thread's, till it is joined */
};

static void storm_thread(void *arg)
{
    struct storm *s = arg;
    struct {
        pfn_t pfn;
        unsigned order;
    } held[STORM_HELD];
    unsigned nr = 0, node = cpu_node(cpu_id());
    for (unsigned step = 0; step < STORM_STEPS; step++) {
        s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned r = (unsigned)(s->random >> 33);
        if (nr < STORM_HELD && r % 5 < 3) {
            unsigned order = r >> 8 & 15 ? r >> 12 & 3 : r >> 12 & 7;
            pfn_t pfn = mm_take(order, TAKE_CLEAN, node);
            if (pfn == PFN_NONE)
                continue;
            s->takes++;
            if (!is_zero(pfn, order))
                s->leaks++;
            soil(pfn, order);
            held[nr].pfn = pfn;
            held[nr++].order = order;
        } else if (nr) {
            unsigned k = r % nr;
            mm_free(held[k].pfn, held[k].order);
            held[k] = held[--nr];
        }
        if (r >> 20 == 7)
            thread_sleep(100000);
    }
    while (nr) {
        nr--;
        mm_free(held[nr].pfn, held[nr].order);
    }
}

static void test_storm(void)
{
    static struct storm storm[MAX_CPUS];
    static struct ktest_thread thread[MAX_CPUS];
    unsigned threads = MIN(nr_cpus, 16u);
    u64 takes = 0;
    for (unsigned n = 0; n < threads; n++) {
        storm[n] = (struct storm){.random = ktest_random()};
        ktest_spawn(&thread[n], n, storm_thread, &storm[n]);
    }
    for (unsigned n = 0; n < threads; n++) {
        ktest_join(&thread[n]);
        CHECK_MSG(storm[n].leaks == 0, "CPU %u: %lu blocks were not zero", n,
                  (unsigned long)storm[n].leaks);
        takes += storm[n].takes;
    }
    CHECK(takes > threads * 100);
    CHECK(wait_clean(60));
    CHECK(mm_check(false, say) == 0);
    check_waits();
}

/* ---- P9: dirt wakes a sleeper, and a busy node gets help ---- */

static void test_freed_memory_wakes_a_cpu(void)
{
    for (unsigned round = 0; round < 20; round++) {
        pfn_t pfn = mm_take(7, TAKE_CLEAN, nr_nodes - 1);
        REQUIRE(pfn != PFN_NONE);
        CHECK(wait_clean(60));
        thread_sleep(1000000); /* long enough for the CPUs to fall asleep */
        mm_free(pfn, 7);
        CHECK_MSG(wait_clean(60), "round %u: dirt, and nobody woke", round);
    }
}

static bool busy_stop;        /* (a) */
static unsigned busy_running; /* (a) */

static void busy_thread(void *arg)
{
    (void)arg;
    fetch_add(&busy_running, 1);
    while (!load_relaxed(&busy_stop))
        cpu_relax();
}

static void test_a_busy_node_gets_help(void)
{
    static struct ktest_thread thread[MAX_CPUS];
    unsigned busy = 0, node = nr_nodes - 1, others = 0;
    struct mm_zone_info before, after;
    if (!ktest_alloc_is("limpid", "help for a busy node"))
        return;
    pfn_t pfn = mm_take(10, TAKE_CLEAN | TAKE_THIS_NODE, node);
    if (pfn == PFN_NONE) {
        ktest_skip("node %u has no block of order 10", node);
        return;
    }
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        others += cpu_node(cpu) != node;
    if (!others) {
        mm_free(pfn, 10);
        ktest_skip("no CPU on another node");
        return;
    }
    CHECK(wait_clean(60));
    store_release(&busy_stop, false);
    store_relaxed(&busy_running, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (cpu_node(cpu) != node || cpu == cpu_id())
            continue;
        busy += ktest_spawn(&thread[busy], cpu, busy_thread, NULL);
    }
    while (load_relaxed(&busy_running) != busy)
        thread_sleep(1000000);
    mm_node_info(node, &before);
    mm_free(pfn, 10);
    CHECK_MSG(wait_clean(60), "a node whose CPUs are all busy stayed dirty");
    mm_node_info(node, &after);
    CHECK(after.scrubbed_idle_remote - before.scrubbed_idle_remote >= 1024);
    store_release(&busy_stop, true);
    while (busy)
        ktest_join(&thread[--busy]);
}

/* ---- bad frames, strategies, the switch ---- */

static void test_retired_frames_stay_out(void)
{
    pfn_t pfn = mm_take(4, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    u64 before = total().retired;
    CHECK(mm_retire(pfn + 9) == 0);
    CHECK(mm_retire(pfn + 9) == E_EXIST);
    mm_free(pfn, 4);
    CHECK(total().retired == before + 1);
    CHECK(mm_retire(PFN_NONE >> 1) == E_INVAL);
    CHECK(wait_clean(60));
    CHECK(mm_check(false, say) == 0);
}

static void test_eager_leaves_no_dirt(void)
{
    const char *strategy = mm_strategy_name();
    CHECK(wait_clean(60));
    CHECK(mm_strategy_set("eager") == 0);
    pfn_t pfn = mm_take(10, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    soil(pfn, 10);
    u64 before = total().scrubbed_at_free;
    mm_free(pfn, 10);
    CHECK(total().scrubbed_at_free - before >= 1024);
    CHECK(mm_take(10, TAKE_CLEAN, 0) == pfn);
    CHECK(is_zero(pfn, 10));
    CHECK(mm_strategy_set(strategy) == 0);
    mm_free(pfn, 10);
}

static void test_scrub_off_leaves_dirt(void)
{
    CHECK(wait_clean(60));
    mm_scrub_enable(false);
    pfn_t pfn = mm_take(8, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    mm_free(pfn, 8);
    thread_sleep(20000000);
    CHECK(unclean() >= 256);
    mm_scrub_enable(true);
    CHECK(wait_clean(60)); /* the switch itself rings */
}

static const struct ktest cases[] = {
    {.name = "clean_is_zero", .run = test_clean_is_zero},
    {.name = "blocks_merge", .run = test_blocks_merge},
    {.name = "no_clean_frame_is_scrubbed_again", .run = test_no_clean_frame_is_scrubbed_again},
    {.name = "failing_is_true", .run = test_failing_is_true},
    {.name = "storm", .run = test_storm},
    {.name = "freed_memory_wakes_a_cpu", .run = test_freed_memory_wakes_a_cpu},
    {.name = "a_busy_node_gets_help", .run = test_a_busy_node_gets_help, .min_nodes = 2},
    {.name = "retired_frames_stay_out", .run = test_retired_frames_stay_out},
    {.name = "eager_leaves_no_dirt", .run = test_eager_leaves_no_dirt},
    {.name = "scrub_off_leaves_dirt", .run = test_scrub_off_leaves_dirt},
};

KTEST_SUITE(mm, cases);
