/*
 * The first touch, and the strategies that scrub there. The suite `readonly` shows the leak that
 * strategy is there to show, and runs only by its name.
 */
#include "arch.h"
#include "kernel/accounting.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest_ballast.h"
#include "tests/ktest_guest.h"

#define FRAMES(bytes) ((bytes) / FRAME_SIZE)

static unsigned start(const char *name, u64 mem, const char *secret, bool linger)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    cfg.mem = mem;
    cfg.secret = secret;
    cfg.linger = linger;
    cfg.cpu = (unsigned)(ktest_random() % nr_cpus);
    return ktest_guest_start(&cfg);
}

/* A guest runs to its end; false, and a failed check: it did not start. */
static bool run(const char *name, u64 mem, const char *secret, struct guest_stat *stat)
{
    return ktest_guest_ended(start(name, mem, secret, false), stat);
}

static u64 scrubbed_at_map(void)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    return i.scrubbed_at_map;
}

/* ---- under whichever strategy ---- */

static void what_is_not_touched_is_not_mapped(void)
{
    struct guest_stat stat;
    if (!ktest_guest_have("spinner") || !ktest_guest_have("prober") || !ktest_has_mib(40))
        return;
    unsigned id = start("spinner", 16 * MIB, NULL, false);
    REQUIRE(id);
    thread_sleep(20 * KTEST_MS);
    CHECK(guest_stat_get(id, &stat) == 0);
    CHECK_MSG(stat.frames_held == FRAMES(16 * MIB) && stat.frames_mapped < 40,
              "holds %lu frames, %lu mapped", stat.frames_held, stat.frames_mapped);
    CHECK(guest_kill(id) == 0 && guest_wait(id) == 0);

    if (run("prober", 16 * MIB, NULL, &stat)) {
        CHECK(stat.exit_code == 0);
        /* The page below the stack's top that it stands on is one of 16, and all are looked at. */
        CHECK_MSG(stat.frames_touched == FRAMES(16 * MIB), "%lu of %llu frames touched",
                  stat.frames_touched, FRAMES(16 * MIB));
        CHECK_MSG(stat.touches < FRAMES(4 * MIB), "%lu touches: a block is one", stat.touches);
    }
}

/* ---- onmap ---- */

static const char *strategy_was; /* one case at a time */

static bool strategy_begin(const char *name)
{
    strategy_was = mm_strategy_name();
    const char *alloc = mm_strategy_backend(name);
    if (alloc && !ktest_alloc_is(alloc, name))
        return false;
    return CHECK(mm_strategy_set(name) == 0);
}

static void strategy_end(void)
{
    CHECK(mm_strategy_set(strategy_was) == 0);
}

/* In a node that has no room for both, so that the second one gets what the first one left. */
static bool run_both(u64 first_mem, struct guest_stat *first, u64 second_mem,
                     struct guest_stat *second, unsigned node)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("secretive");
    ktest_ballast_take(node, FRAMES(first_mem + second_mem / 4));
    cfg.secret = "left-by-another-";
    cfg.node = node;
    cfg.mem = first_mem;
    bool ok = ktest_guest_ended(ktest_guest_start(&cfg), first);
    cfg.name = "prober";
    cfg.secret = NULL;
    cfg.mem = second_mem;
    ok = ok && ktest_guest_ended(ktest_guest_start(&cfg), second);
    ktest_ballast_free();
    return ok;
}

static void onmap_pays_at_the_first_touch(void)
{
    struct guest_stat dirty, first;
    unsigned node;
    u64 leaks = guests_leak_count(), before = scrubbed_at_map();
    if (!ktest_guest_have("secretive") || !ktest_guest_have("prober") ||
        !ktest_ballast_node(&node) || !strategy_begin("onmap"))
        return;
    if (run_both(24 * MIB, &dirty, 16 * MIB, &first, node)) {
        CHECK_MSG(first.taken_dirty >= FRAMES(8 * MIB), "%lu taken dirty", first.taken_dirty);
        CHECK(first.cleared_at_touch >= FRAMES(8 * MIB));
        CHECK(first.scrub_ns > 0 && first.scrub_ns < first.touch_ns);
        CHECK(first.exit_code == 0);
        CHECK_MSG(first.touched_dirty == first.cleared_at_touch && first.frames_shown == 0,
                  "%lu touched dirty, %lu cleared", first.touched_dirty, first.cleared_at_touch);
        CHECK(first.taken_cleared <= first.frames_peak / 64 + 16); /* what the kernel keeps */
        CHECK(scrubbed_at_map() - before == dirty.cleared_at_touch + first.cleared_at_touch);
        ktest_note("%lu frames taken dirty, %lu scrubbed at the touch, in %lu us of %lu",
                   first.taken_dirty, first.cleared_at_touch, first.scrub_ns / 1000,
                   first.touch_ns / 1000);
    }
    strategy_end();
    CHECK(guests_leak_count() == leaks && guests_shown_count() == 0);
}

/* Nobody scrubs what is free; what was never touched went back as it was, and counts as dirty. */
static void onmap_leaves_free_memory_alone(void)
{
    struct mm_zone_info i, later;
    struct guest_stat stat;
    if (!ktest_guest_have("spinner") || !ktest_guest_have("secretive") || !ktest_has_mib(40) ||
        !strategy_begin("onmap"))
        return;
    if (run("secretive", 16 * MIB, "left-", &stat)) {
        unsigned id = start("spinner", 16 * MIB, NULL, false);
        thread_sleep(5 * KTEST_MS);
        CHECK(guest_kill(id) == 0);
        if (ktest_guest_ended(id, &stat))
            CHECK(stat.cleared_at_touch < 600);
        mm_node_info(MM_ALL_NODES, &i);
        thread_sleep(50 * KTEST_MS);
        mm_node_info(MM_ALL_NODES, &later);
        CHECK_MSG(i.dirty + i.stored_dirty >= FRAMES(16 * MIB) &&
                      later.dirty + later.stored_dirty >= i.dirty + i.stored_dirty,
                  "%lu dirty, later %lu", i.dirty + i.stored_dirty,
                  later.dirty + later.stored_dirty);
        CHECK(later.scrubbed_idle_local == i.scrubbed_idle_local);
    }
    strategy_end();
}

/* Guests live through changes of strategy, with dirt on its way. */
static void strategies_change_under_guests(void)
{
    static const char *const limpid[] = {"onmap", "claim", "eager"};
    static const char *const classic[] = {"inplace", "batch", "overlap"};
    const char *const *strategies = strcmp(mm_backend_name(), "limpid") == 0 ? limpid : classic;
    unsigned id[3];
    u64 leaks = guests_leak_count();
    if (!ktest_guest_have("crowd") || !ktest_guest_have("prober") ||
        !ktest_guest_have("secretive") || !ktest_has_mib(60))
        return;
    strategy_was = mm_strategy_name();
    for (unsigned round = 0; round < 3; round++) {
        struct guest_stat stat;
        unsigned soils = start("secretive", 12 * MIB, "on-its-way-", true);
        for (unsigned i = 0; i < ARRAY_SIZE(id); i++) {
            char words[24];
            snprintf(words, sizeof(words), "%ux20x%lu", 2 + i, ktest_random() % 1000 + 1);
            CHECK(mm_strategy_set(strategies[ktest_random() % 3]) == 0);
            id[i] = start("crowd", 4 * MIB, words, false);
        }
        for (unsigned i = 0; i < 10; i++) {
            CHECK(mm_strategy_set(strategies[ktest_random() % 3]) == 0);
            thread_sleep(ktest_random() % (2 * KTEST_MS));
        }
        guest_kill(soils);
        ktest_guest_ended(soils, &stat);
        for (unsigned i = 0; i < ARRAY_SIZE(id); i++)
            ktest_guest_ends_well(id[i]);
        if (run("prober", 16 * MIB, NULL, &stat))
            CHECK(stat.exit_code == 0 && stat.touched_dirty == stat.cleared_at_touch);
    }
    strategy_end();
    CHECK(guests_leak_count() == leaks && guests_shown_count() == 0);
}

/* Killed while they scrub at a touch, on several threads, with more of the same starting. */
static void kills_in_mid_touch(void)
{
    struct guest_stat stat;
    struct accounting sums;
    if (!ktest_guest_have("crowd") || !ktest_guest_have("secretive") || !ktest_has_mib(60) ||
        !strategy_begin("onmap"))
        return;
    for (unsigned i = 0; i < 20; i++) {
        bool crowd = i % 2;
        unsigned id = crowd ? start("crowd", 4 * MIB, "6", true)
                            : start("secretive", 20 * MIB, "cut-short-", true);
        REQUIRE(id);
        thread_sleep(ktest_random() % (6 * KTEST_MS));
        CHECK(guest_kill(id) == 0);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(strcmp(stat.end, "killed") == 0, "%s", stat.end);
    }
    strategy_end();
    thread_reap_wait();
    CHECK(accounting_check(NULL, &sums) == 0 && sums.guests == 0 && sums.guest_own == 0);
}

/* The attack, with frames that go from guest to guest dirty. */
static void onmap_given_back_is_out_of_reach(void)
{
    if (!strategy_begin("onmap"))
        return;
    ktest_attack(NULL, 8);
    ktest_attack(NULL, 600);
    strategy_end();
}

static const struct ktest cases[] = {
    {"what_is_not_touched_is_not_mapped", what_is_not_touched_is_not_mapped, 0, 0},
    {"onmap_pays_at_the_first_touch", onmap_pays_at_the_first_touch, 0, 0},
    {"onmap_leaves_free_memory_alone", onmap_leaves_free_memory_alone, 0, 0},
    {"strategies_change_under_guests", strategies_change_under_guests, 0, 0},
    {"kills_in_mid_touch", kills_in_mid_touch, 0, 0},
    {"onmap_given_back_is_out_of_reach", onmap_given_back_is_out_of_reach, 2, 0},
};
KTEST_SUITE(touch, cases);

/* ---- readonly: what it is there to show ---- */

static void prober_reads_the_secret(void)
{
    struct guest_stat stat, wrote;
    unsigned node;
    u64 refused = guests_leak_count(), shown = guests_shown_count();
    if (!ktest_guest_have("secretive") || !ktest_guest_have("prober") ||
        !ktest_ballast_node(&node) || !strategy_begin("readonly"))
        return;
    CHECK(mm_strategy_warning() != NULL);
    if (run_both(32 * MIB, &wrote, 16 * MIB, &stat, node)) {
        CHECK_MSG(wrote.touched_dirty - wrote.cleared_at_touch < 16,
                  "who writes is scrubbed for: %lu, %lu", wrote.touched_dirty,
                  wrote.cleared_at_touch);
        CHECK_MSG(stat.exit_code == 1 && stat.frames_shown > FRAMES(8 * MIB),
                  "code %ld, %lu frames shown", stat.exit_code, stat.frames_shown);
        CHECK(guests_shown_count() - shown == stat.frames_shown + wrote.frames_shown);
        CHECK(stat.cleared_at_touch < stat.touched_dirty);
        ktest_note("prober was shown %lu of %lu frames as they were left", stat.frames_shown,
                   stat.frames_peak);
    }
    CHECK(guests_leak_count() == refused); /* the check let them by: that is the point */
    strategy_end();
    shown = guests_shown_count();
    if (run("prober", 16 * MIB, NULL, &stat))
        CHECK(stat.exit_code == 0 && stat.frames_shown == 0);
    CHECK(guests_shown_count() == shown && mm_strategy_warning() == NULL);
}

/* Reading, writing, splitting and giving back, on many threads, killed or not: it only leaks. */
static void it_breaks_nothing_else(void)
{
    struct guest_stat stat;
    if (!ktest_guest_have("balloon") || !ktest_guest_have("crowd") || !strategy_begin("readonly"))
        return;
    for (unsigned i = 0; i < 12; i++) {
        unsigned id =
            i % 2 ? start("crowd", 4 * MIB, "5", true) : start("balloon", 6 * MIB, NULL, true);
        thread_sleep(ktest_random() % (20 * KTEST_MS));
        CHECK(guest_kill(id) == 0);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(strcmp(stat.end, "killed") == 0, "%s", stat.end);
    }
    strategy_end();
}

static const struct ktest readonly_cases[] = {
    {"prober_reads_the_secret", prober_reads_the_secret, 0, 0},
    {"it_breaks_nothing_else", it_breaks_nothing_else, 0, 0},
};
KTEST_SUITE_BY_NAME(readonly, readonly_cases);
