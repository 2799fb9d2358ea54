/*
 * mm/classic/ as a backend: each of its strategies keeps the promises that it means to keep, and
 * fails as the thread says it fails, by schedules that turn gates act out (one thread plays both
 * columns: A's step is taken inside of B's). Then real threads, and strategies that change.
 */
#include "stage.h"
#include "mm/classic/strategy/strategy.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>

static const char *const safe[] = {"inplace", "eager", "ondemand", "locked", "batch", "overlap"};
static const char *const all[] = {"inplace", "eager",   "ondemand", "locked",
                                  "batch",   "overlap", "mark",     "walk"};

static void boot(struct port_machine *m, const char *strategy)
{
    struct mm_policy p = {.age_ms = 0};
    CHECK_EQ(mm_backend_set("classic"), 0);
    CHECK_EQ(port_boot(m), 0);
    CHECK_EQ(mm_strategy_set(strategy), 0);
    CHECK_EQ(mm_policy_set(&p), 0);
    store_release(&classic_gate, NULL);
    port_set_hooks(&(struct port_hooks){.clears_under_locks = true}); /* `locked` does */
    mm_costs_reset();
}

static void soil_all(void)
{
    for (unsigned n = 0; n < classic_nr_heaps; n++)
        for (u32 i = classic_heaps[n].first; i < classic_heaps[n].end; i++)
            if (mm_owns(heap_pfn(&classic_heaps[n], i)))
                port_soil(heap_pfn(&classic_heaps[n], i));
}

static struct mm_costs costs(void)
{
    struct mm_costs c;
    mm_costs_get(&c);
    return c;
}

/* Every CPU idles until nothing is left for it. */
static void scrub_everywhere(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        port_be_cpu(cpu);
        scrub_all();
    }
    port_be_cpu(0);
}

/* All of it gone and back, so that all of it is dirty. */
static u64 drain(pfn_t *frame, u64 max)
{
    u64 n = 0;
    while (n < max && (frame[n] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        n++;
    return n;
}

/* ---- every strategy, one CPU after the other ---- */

enum { HELD_MAX = 400, FRAMES_MAX = 16 * 256 };
static struct {
    pfn_t pfn;
    unsigned order;
} held[HELD_MAX];
static unsigned nr_held;
static u8 owned[2 * FRAMES_MAX + 16 * 256];

static void own(pfn_t pfn, unsigned order, u8 now)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        REQUIRE(p < sizeof(owned));
        CHECK_EQ(owned[p], !now);
        owned[p] = now;
    }
}

static void one_take(bool clean)
{
    unsigned order = (unsigned)(check_random() % 4 ? check_random() % 4 : check_random() % 11);
    u64 cleared = 0;
    pfn_t pfn = mm_take_counted(order, clean ? TAKE_CLEAN : TAKE_ANY,
                                (unsigned)(check_random() % nr_nodes), &cleared);
    if (pfn == PFN_NONE)
        return;
    CHECK(IS_ALIGNED(pfn, 1ULL << order));
    CHECK(cleared <= 1ULL << order);
    own(pfn, order, 1);
    if (clean)
        CHECK_MSG(block_is_zero(pfn, order), "%s: order %u not zero", mm_strategy_name(), order);
    soil_block(pfn, order);
    held[nr_held].pfn = pfn;
    held[nr_held++].order = order;
}

/* As a block, as its halves, or as a mask of its frames. */
static void one_free(void)
{
    unsigned k = (unsigned)(check_random() % nr_held), order = held[k].order;
    pfn_t pfn = held[k].pfn;
    held[k] = held[--nr_held];
    own(pfn, order, 0);
    if (order && order <= ORDER_PAGEBLOCK && check_random() % 3 == 0) {
        struct map512 m = map512_range((unsigned)(pfn % 512), 1u << order);
        mm_free_mask(ALIGN_DOWN(pfn, 512), &m);
    } else if (order && check_random() % 3 == 0) {
        mm_free(pfn + (1ULL << (order - 1)), order - 1);
        mm_free(pfn, order - 1);
    } else {
        mm_free(pfn, order);
    }
}

static void random_work(unsigned steps, const char *const *strategies, unsigned nr)
{
    for (unsigned n = 0; n < steps; n++) {
        port_be_cpu((unsigned)(check_random() % nr_cpus));
        unsigned what = (unsigned)(check_random() % 16);
        if (what < 6 && nr_held < HELD_MAX)
            one_take(check_random() % 2);
        else if (what < 11 && nr_held)
            one_free();
        else if (what < 15)
            mm_scrub_step();
        else if (nr && check_random() % 8 == 0)
            CHECK_EQ(mm_strategy_set(strategies[check_random() % nr]), 0);
        if (n % 256 == 0)
            CHECK_EQ(mm_check(true, say), 0);
    }
    while (nr_held)
        one_free();
    CHECK_EQ(mm_check(true, say), 0);
}

static void case_each_strategy(void)
{
    for (unsigned s = 0; s < ARRAY_SIZE(all); s++) {
        struct port_machine m = two_nodes(4, 16);
        memset(owned, 0, sizeof(owned));
        boot(&m, all[s]);
        soil_all();
        u64 frames = total().frames;
        random_work(3000, NULL, 0);
        scrub_everywhere();
        struct mm_zone_info i = total();
        CHECK_EQ(i.clean + i.dirty, frames);
        CHECK_EQ(i.in_flight, 0);
        if (mm_strategy_scrubs_free())
            CHECK_MSG(i.dirty == 0, "%s leaves %llu dirty", all[s], (unsigned long long)i.dirty);
        CHECK_EQ(mm_check(true, say), 0);
    }
}

static void case_strategies_change(void)
{
    struct port_machine m = two_nodes(4, 16);
    memset(owned, 0, sizeof(owned));
    boot(&m, "inplace");
    soil_all();
    /* All of them: no two columns are at work here, and the unsafe ones lose no dirt either. */
    random_work(20000, all, ARRAY_SIZE(all));
    CHECK_EQ(mm_strategy_set("batch"), 0);
    scrub_everywhere();
    CHECK_EQ(total().dirty, 0);
    CHECK_EQ(total().allocated, 0);
}

static void case_blocks_merge(void)
{
    static pfn_t frame[FRAMES_MAX];
    struct port_machine m = one_node(1, 16, 16);
    boot(&m, "ondemand");
    u64 n = drain(frame, ARRAY_SIZE(frame));
    CHECK_EQ(n, total().frames);
    CHECK_EQ(mm_take(0, TAKE_ANY, 0), PFN_NONE);
    for (u64 i = 0; i < n; i++) {
        u64 j = i + check_random() % (n - i);
        pfn_t t = frame[i];
        frame[i] = frame[j];
        frame[j] = t;
        mm_free(frame[i], 0);
    }
    CHECK_EQ(mm_check(false, say), 0); /* finds buddies that were not merged */
    CHECK_EQ(total().dirty, n);
}

/* ---- misuse, bad frames, limits ---- */

static jmp_buf out;
static char panic_line[256];
static unsigned kind; /* not a variable of the function that is jumped into */

static void on_panic(const char *line)
{
    snprintf(panic_line, sizeof(panic_line), "%s", line);
    longjmp(out, 1);
}

static void after_panic(void)
{
    port_self.nr_locks = port_self.preempt_count = 0;
    store_release(&classic_gate, NULL);
    port_set_hooks(&(struct port_hooks){0});
}

static void case_misuse_panics(void)
{
    struct port_hooks hooks = {.panic = on_panic};
    for (kind = 0; kind < 5; kind++) {
        struct port_machine m = one_node(1, 16, 16);
        boot(&m, "inplace");
        pfn_t pfn = mm_take(4, TAKE_ANY, 0), other = mm_take(4, TAKE_ANY, 0);
        struct map512 half = map512_range((unsigned)(pfn % 512), 8);
        mm_free(pfn, 4);
        port_set_hooks(&hooks);
        if (setjmp(out) == 0) {
            if (kind == 0)
                mm_free(pfn, 4);
            else if (kind == 1)
                mm_free(pfn + 3, 0);
            else if (kind == 2)
                mm_free_mask(ALIGN_DOWN(pfn, 512), &half);
            else if (kind == 3)
                mm_free(other + 1, 2); /* not aligned */
            else
                mm_free(m.range[0].end - 1, 0); /* a record stands there */
            CHECK_MSG(false, "kind %u went through", kind);
        }
        CHECK(strstr(panic_line, "P2 one owner") != NULL);
        after_panic();
    }
}

static void case_bad_frames(void)
{
    for (unsigned s = 0; s < ARRAY_SIZE(all); s++) {
        struct port_machine m = one_node(2, 16, 16);
        boot(&m, all[s]);
        soil_all();
        pfn_t pfn = mm_take(5, TAKE_CLEAN, 0);
        CHECK_EQ(mm_retire(pfn + 7), 0); /* owned: when it comes back */
        CHECK_EQ(mm_retire(pfn + 7), E_EXIST);
        CHECK_EQ(total().retired, 0);
        pfn_t free_one = mm_take(0, TAKE_ANY, 0);
        mm_free(free_one, 0);
        CHECK_EQ(mm_retire(free_one), 0); /* free: now */
        CHECK_EQ(total().retired, 1);
        mm_free(pfn, 5);
        CHECK_EQ(total().retired, 2);
        CHECK_EQ(mm_retire(m.range[0].end - 1), E_INVAL);
        scrub_everywhere();
        CHECK_EQ(mm_check(true, say), 0);
        pfn_t got;
        while ((got = mm_take(0, TAKE_CLEAN, 0)) != PFN_NONE)
            CHECK(got != pfn + 7 && got != free_one);
        CHECK_EQ(total().allocated + total().retired, total().frames);
        CHECK_EQ(mm_check(true, say), 0);
    }
}

static void case_limits(void)
{
    struct port_machine m = one_node(2, 16, 16);
    struct mm_policy p = {.rate_mib = 1};
    boot(&m, "inplace");
    port_set_clock(1000000000);
    CHECK_EQ(mm_policy_set(&p), 0);
    CHECK(mm_scrub_step());
    CHECK_EQ(total().scrubbed_idle_local, 512); /* no more in one step under a rate */
    CHECK(!mm_scrub_may());
    CHECK(mm_scrub_may_at() > 1000000000);
    port_set_clock(mm_scrub_may_at());
    CHECK(mm_scrub_may());
    port_set_clock(0);
    p = (struct mm_policy){.batch = ORDER_MAX + 1};
    CHECK_EQ(mm_policy_set(&p), E_INVAL);
    CHECK(!mm_has_age_bound());
    CHECK_EQ(mm_aged_step(0), ~0ULL);
}

static void case_doors(void)
{
    struct port_machine m = one_node(1, 16, 16);
    boot(&m, "eager");
    CHECK_EQ(mm_backend_set("none"), E_NOENT);
    CHECK_EQ(mm_strategy_set("claim"), E_INVAL); /* limpid's: takes a boot */
    CHECK_EQ(mm_strategy_set("none"), E_NOENT);
    CHECK(strcmp(mm_strategy_name(), "eager") == 0);
    CHECK(strcmp(mm_strategy_backend("mark"), "classic") == 0);
    CHECK(strcmp(mm_strategy_backend("claim"), "limpid") == 0);
    CHECK(strcmp(mm_strategy_backend("eager"), "classic") == 0); /* this one's comes first */
}

/* ---- as the thread says they fail ---- */

static unsigned turn; /* how often A has stepped in */
static const char *turn_at;
static void (*turn_of_a)(void);

/* A's whole step, at B's named point, once. */
static void take_turn(const char *point, pfn_t pfn)
{
    (void)pfn;
    if (strcmp(point, turn_at) != 0 || turn)
        return;
    turn++;
    unsigned b = cpu_id(), depth = port_self.preempt_count;
    port_self.preempt_count = 0;
    port_self.id = 1;
    turn_of_a();
    port_self.id = b;
    port_self.preempt_count = depth;
}

static void act(const char *point, void (*a)(void))
{
    turn = 0;
    turn_at = point;
    turn_of_a = a;
    store_release(&classic_gate, take_turn);
}

static void a_takes_all(void)
{
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
}

static void stale_link(const char *strategy)
{
    struct port_machine m = one_node(2, 16, 16);
    struct port_hooks hooks = {.panic = on_panic};
    boot(&m, strategy);
    act("walk: before the next link", a_takes_all);
    port_set_hooks(&hooks);
    if (setjmp(out) == 0) {
        scrub_all();
        CHECK_MSG(false, "%s walked on", strategy);
    }
    CHECK_MSG(strstr(panic_line, "stale link") && strstr(panic_line, strategy), "%s", panic_line);
    CHECK_EQ(turn, 1);
    after_panic();
}

/* Bob's two columns, and those of the naive walk. */
static void case_a_stale_link_is_named(void)
{
    stale_link("mark");
    stale_link("walk");
}

static pfn_t theirs[64 * 256];
static u64 nr_theirs;

static void a_takes_all_clean_and_writes(void)
{
    nr_theirs = 0;
    while (nr_theirs < ARRAY_SIZE(theirs) &&
           (theirs[nr_theirs] = mm_take(0, TAKE_CLEAN, 0)) != PFN_NONE) {
        CHECK(block_is_zero(theirs[nr_theirs], 0));
        port_soil(theirs[nr_theirs++]);
    }
}

static u64 frames_lost(void)
{
    u64 lost = 0;
    for (u64 n = 0; n < nr_theirs; n++)
        lost += frame_is_zero(frame_va(theirs[n]));
    return lost;
}

/* B has looked, A takes and writes, B clears: what A wrote is gone. Of all, `walk` alone does so. */
static void case_walk_clears_what_is_owned(void)
{
    struct port_machine m = one_node(2, 16, 16);
    struct port_hooks hooks = {.panic = on_panic};
    boot(&m, "walk");
    soil_all();
    act("walk: before a clear", a_takes_all_clean_and_writes);
    port_set_hooks(&hooks);
    if (setjmp(out) == 0)
        scrub_all();
    CHECK_EQ(turn, 1);
    CHECK_EQ(frames_lost(), 1);
    after_panic();
}

/* A asks for a huge block while B is at its first frame. */
static bool huge_failed;

static void a_takes_huge(void)
{
    pfn_t pfn = mm_take(10, TAKE_ANY, 0);
    huge_failed = pfn == PFN_NONE;
}

static bool clear_hook(void *p, size_t bytes, bool stream)
{
    (void)p;
    (void)bytes;
    (void)stream;
    take_turn("clear", PFN_NONE);
    return false;
}

static void take_all_but_one_huge(void)
{
    pfn_t keep = mm_take(10, TAKE_ANY, 0);
    a_takes_all();
    mm_free(keep, 10);
    CHECK_EQ(total().dirty, 1024);
}

/* Jan's objection to `mark`; `batch` detains as well; the others do not. */
static void case_a_huge_block_is_detained(void)
{
    struct port_hooks hooks = {.clear = clear_hook, .clears_under_locks = true};
    static const char *const detains[] = {"mark", "batch"};
    for (unsigned s = 0; s < ARRAY_SIZE(detains); s++) {
        struct port_machine m = one_node(2, 16, 16);
        boot(&m, detains[s]);
        take_all_but_one_huge();
        u64 failed = costs().failed_detained;
        act("clear", a_takes_huge);
        port_set_hooks(&hooks);
        scrub_all();
        CHECK_EQ(turn, 1);
        CHECK_MSG(huge_failed, "%s detained nothing", detains[s]);
        CHECK_EQ(costs().failed_detained, failed + 1);
        after_panic();
        a_takes_huge(); /* it is there afterwards */
        CHECK(!huge_failed);
    }
}

/* One frame dirty in 4 MiB that are clean otherwise: under `inplace` none of it counts as clean. */
static void case_one_dirty_frame_spoils_its_block(void)
{
    struct port_machine m = one_node(1, 16, 16);
    boot(&m, "inplace");
    pfn_t keep = mm_take(10, TAKE_ANY, 0);
    a_takes_all();
    mm_free(keep, 10);
    scrub_all();
    CHECK_EQ(total().clean, 1024);
    CHECK_EQ(costs().spoilt, 0);
    pfn_t pfn = mm_take(0, TAKE_CLEAN, 0);
    mm_free(pfn, 0);
    CHECK_EQ(total().dirty, 1);
    CHECK_EQ(costs().spoilt, 1023);
    CHECK_EQ(mm_check(true, say), 0);
    scrub_all();
    CHECK_EQ(costs().spoilt, 0);
}

static void case_locked_clears_under_the_lock(void)
{
    struct port_machine m = one_node(1, 16, 16);
    struct port_hooks hooks = {.panic = on_panic}; /* and clears under a lock are looked for */
    boot(&m, "locked");
    port_set_hooks(&hooks);
    if (setjmp(out) == 0) {
        scrub_all();
        CHECK_MSG(false, "no clear under the lock was seen");
    }
    CHECK_MSG(strstr(panic_line, "P5") != NULL, "%s", panic_line);
    after_panic();
    for (unsigned s = 0; s < ARRAY_SIZE(safe); s++) {
        struct mm_policy p = {.batch = 4};
        boot(&m, safe[s]);
        CHECK_EQ(mm_policy_set(&p), 0);
        a_takes_all();
        mm_free(16 * 256, 4);
        mm_costs_reset();
        scrub_all();
        u64 steps = costs().max_hold_steps;
        CHECK_MSG((steps >= 512) == (strcmp(safe[s], "locked") == 0), "%s: %llu steps", safe[s],
                  (unsigned long long)steps);
    }
}

/* ---- real threads ---- */

enum { TAKERS = 3, SCRUBBERS = 2, STEPS = 5000 };
static bool stop;              /* (a) */
static u64 leaks, lost, takes; /* (a) */

static void *taker_main(void *arg)
{
    u64 r = (u64)(uintptr_t)arg * 0x9e3779b97f4a7c15ULL | 1;
    struct {
        pfn_t pfn;
        unsigned order;
        u64 sign;
    } mine[128];
    unsigned nr = 0;
    port_be_cpu((unsigned)(uintptr_t)arg & 7);
    for (unsigned n = 0; n < STEPS || nr; n++) {
        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        if (n < STEPS && nr < ARRAY_SIZE(mine) && r % 5 < 3) {
            unsigned order = r >> 8 & 7 ? (unsigned)(r >> 16 & 3) : (unsigned)(r >> 16 & 15) % 11;
            bool clean = r >> 20 & 1;
            pfn_t pfn = mm_take(order, clean ? TAKE_CLEAN : TAKE_ANY, (unsigned)(r >> 24 & 1));
            if (pfn == PFN_NONE)
                continue;
            fetch_add(&takes, 1);
            if (clean && !block_is_zero(pfn, order))
                fetch_add(&leaks, 1);
            for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
                store_relaxed((u64 *)frame_va(p), r | 1);
            mine[nr].pfn = pfn;
            mine[nr].sign = r | 1;
            mine[nr++].order = order;
        } else if (nr) {
            unsigned k = (unsigned)(r >> 32) % nr;
            for (pfn_t p = mine[k].pfn; p < mine[k].pfn + (1ULL << mine[k].order); p++)
                if (load_relaxed((u64 *)frame_va(p)) != mine[k].sign)
                    fetch_add(&lost, 1);
            mm_free(mine[k].pfn, mine[k].order);
            mine[k] = mine[--nr];
        }
    }
    return NULL;
}

static void *scrubber_main(void *arg)
{
    port_be_cpu((unsigned)(uintptr_t)arg);
    mm_cpu_state_set(CPU_AWAKE);
    while (!load_acquire(&stop))
        if (!mm_scrub_step())
            sched_yield();
    mm_cpu_state_set(CPU_BUSY);
    return NULL;
}

static void storm(const char *strategy, bool changing)
{
    struct port_machine m = two_nodes(TAKERS + SCRUBBERS, 16);
    pthread_t taker[TAKERS], scrubber[SCRUBBERS];
    boot(&m, strategy);
    soil_all();
    store_release(&stop, false);
    leaks = lost = takes = 0;
    for (unsigned n = 0; n < SCRUBBERS; n++)
        pthread_create(&scrubber[n], NULL, scrubber_main, (void *)(uintptr_t)(TAKERS + n));
    for (unsigned n = 0; n < TAKERS; n++)
        pthread_create(&taker[n], NULL, taker_main,
                       (void *)(uintptr_t)((check_random() & ~7ULL) | n));
    for (unsigned n = 0; changing && n < 200; n++) {
        CHECK_EQ(mm_strategy_set(safe[check_random() % ARRAY_SIZE(safe)]), 0);
        if (n % 16 == 0)
            CHECK_EQ(mm_check(false, say), 0);
        sched_yield();
    }
    for (unsigned n = 0; n < TAKERS; n++)
        pthread_join(taker[n], NULL);
    store_release(&stop, true);
    for (unsigned n = 0; n < SCRUBBERS; n++)
        pthread_join(scrubber[n], NULL);
    struct mm_costs c = costs();
    printf("# %s: %llu takes, %llu failed, %llu of them detained; %llu waits, %llu clears waited "
           "for, at most %llu; %llu cleared, %llu twice; %llu steps under the lock\n",
           changing ? "changing" : strategy, (unsigned long long)takes,
           (unsigned long long)c.failed, (unsigned long long)c.failed_detained,
           (unsigned long long)c.waits, (unsigned long long)c.clears_waited,
           (unsigned long long)c.max_clears_waited, (unsigned long long)c.cleared,
           (unsigned long long)c.cleared_twice, (unsigned long long)c.max_hold_steps);
    CHECK_EQ(leaks, 0);
    CHECK_EQ(lost, 0);
    CHECK_EQ(total().allocated, 0);
    CHECK_EQ(mm_check(true, say), 0);
}

static void case_storms(void)
{
    for (unsigned s = 0; s < ARRAY_SIZE(safe); s++)
        storm(safe[s], false);
}

static void case_storm_of_changes(void)
{
    storm("inplace", true);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_doors);
    RUN(case_each_strategy);
    RUN(case_strategies_change);
    RUN(case_blocks_merge);
    RUN(case_misuse_panics);
    RUN(case_bad_frames);
    RUN(case_limits);
    RUN(case_a_stale_link_is_named);
    RUN(case_walk_clears_what_is_owned);
    RUN(case_a_huge_block_is_detained);
    RUN(case_one_dirty_frame_spoils_its_block);
    RUN(case_locked_clears_under_the_lock);
    RUN(case_storms);
    RUN(case_storm_of_changes);
    return check_done();
}
