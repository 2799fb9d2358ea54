/*
 * That it adds up, and that it would be seen if it did not. The framework checks the sums after
 * every case of every suite; here are the cases in which something moves from one sum to
 * another, and each has to move by just that much.
 */
#include "arch.h"
#include "kernel/accounting.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest_ballast.h"
#include "tests/ktest_guest.h"

static void say(const char *line)
{
    ktest_note("%s", line);
}

/* As it is now; a failed check if it does not add up. */
static struct accounting sums(void)
{
    struct accounting a;
    unsigned wrong = accounting_check(say, &a);
    CHECK_MSG(wrong == 0, "%u things do not add up", wrong);
    return a;
}

static u64 unclean(const struct mm_zone_info *i)
{
    return i->dirty + i->stored_dirty + i->in_flight;
}

static bool wait_clean(void)
{
    struct mm_zone_info i;
    u64 least = ~0ULL, end = 0;
    do {
        mm_node_info(MM_ALL_NODES, &i);
        if (unclean(&i) == 0)
            return true;
        if (unclean(&i) < least) /* on a busy host slowly, but it goes on */
            end = time_ns() + KTEST_LOST;
        least = MIN(least, unclean(&i));
        thread_sleep(2 * KTEST_MS);
    } while (time_ns() < end);
    return CHECK_MSG(false, "%lu frames stay dirty", unclean(&i));
}

/* ---- who holds what ---- */

static void nothing_is_nobodys(void)
{
    struct accounting a = sums();
    CHECK_MSG(a.unaccounted == 0, "%ld allocated frames belong to nobody", (long)a.unaccounted);
    CHECK(a.guests == 0 && a.guest_own == 0);
    CHECK_MSG(a.stacks > 0 && a.records > 0, "stacks %lu, records %lu", a.stacks, a.records);
}

/* What nobody counts shows, to the frame: so a lost one would. */
static void a_lost_frame_would_show(void)
{
    static pfn_t block[24];
    static unsigned order[ARRAY_SIZE(block)];
    struct accounting before = sums();
    u64 taken = 0;
    unsigned n = 0;

    for (; n < ARRAY_SIZE(block); n++) {
        order[n] = (unsigned)(ktest_random() % 8);
        block[n] = mm_take(order[n], n % 2 ? TAKE_CLEAN : TAKE_ANY, n % nr_nodes);
        if (block[n] == PFN_NONE)
            break;
        taken += 1ULL << order[n];
        struct accounting now = sums();
        CHECK_MSG((u64)now.unaccounted == (u64)before.unaccounted + taken,
                  "took %lu frames, %ld are of nobody", taken,
                  (long)(now.unaccounted - before.unaccounted));
    }
    CHECK(n > 0);
    while (n-- > 0)
        mm_free(block[n], order[n]);
    CHECK(sums().unaccounted == before.unaccounted);
}

static unsigned threads_stop; /* (a) */

static void wait_for_stop(void *unused)
{
    (void)unused;
    ktest_wait_for(&threads_stop, KTEST_LOST);
}

static void threads_hold_stacks_and_records(void)
{
    enum { N = 40 };
    static struct ktest_thread t[N];
    struct accounting before = sums();

    threads_stop = 0;
    for (unsigned i = 0; i < N; i++)
        ktest_spawn(&t[i], i % nr_cpus, wait_for_stop, NULL);
    struct accounting with = sums();
    CHECK_MSG(with.stacks == before.stacks + N * KSTACK_SIZE / FRAME_SIZE,
              "%lu frames of stacks, before %lu", with.stacks, before.stacks);
    CHECK(with.records > before.records && with.records <= before.records + N);
    CHECK(with.unaccounted == before.unaccounted);
    store_release(&threads_stop, 1);
    for (unsigned i = 0; i < N; i++)
        ktest_join(&t[i]);
    thread_reap_wait();
    struct accounting after = sums();
    CHECK(after.stacks == before.stacks && after.records == before.records);
}

static void guests_hold_what_they_were_given(void)
{
    static const u64 mem[] = {1 * MIB, 3 * MIB + 4096, 8 * MIB};
    unsigned id[ARRAY_SIZE(mem)];
    struct guest_stat stat;
    u64 given = 0;

    if (!ktest_guest_have("secretive") || !ktest_guest_have("balloon"))
        return;
    struct accounting before = sums();
    for (unsigned i = 0; i < ARRAY_SIZE(mem); i++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("secretive");
        cfg.mem = mem[i];
        cfg.linger = true;
        id[i] = ktest_guest_start(&cfg);
        given += mem[i] / FRAME_SIZE;
    }
    struct accounting with = sums();
    CHECK_MSG(with.guests == before.guests + given, "guests hold %lu frames, were given %lu",
              with.guests, given);
    CHECK(with.guest_own > before.guest_own && with.unaccounted == before.unaccounted);

    /* One comes, changes what it holds all the time, and goes: the others' sums are as before. */
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("balloon");
    cfg.mem = 4 * MIB;
    unsigned balloon = ktest_guest_start(&cfg);
    ktest_guest_ends_well(balloon);
    if (balloon && guest_stat_get(balloon, &stat) == 0)
        CHECK_MSG(stat.frames_got > 0 && stat.frames_back > stat.frames_got && stat.cpu_ns > 0,
                  "got %lu, gave %lu, ran for %lu ns", stat.frames_got, stat.frames_back,
                  stat.cpu_ns);
    struct accounting again = sums();
    CHECK(again.guests == with.guests && again.guest_own == with.guest_own);

    for (unsigned i = 0; i < ARRAY_SIZE(mem); i++) {
        guest_kill(id[i]);
        ktest_guest_ended(id[i], &stat);
    }
    struct accounting after = sums();
    CHECK(after.guests == before.guests && after.guest_own == before.guest_own);
}

/* ---- who scrubbed what ---- */

static void a_clear_is_counted_once(void)
{
    enum { ORDER = 11 };
    if (!ktest_has_mib(40))
        return;
    if (!wait_clean())
        return;
    struct accounting before = sums();
    pfn_t pfn = mm_take(ORDER, TAKE_CLEAN, 0);
    REQUIRE(pfn != PFN_NONE);
    mm_free(pfn, ORDER);
    if (!wait_clean())
        return;
    struct accounting after = sums();
    u64 cpus = after.cpu_scrubbed - before.cpu_scrubbed;
    u64 zones = after.all.scrubbed_idle_local + after.all.scrubbed_idle_remote +
                after.all.scrubbed_aged - before.all.scrubbed_idle_local -
                before.all.scrubbed_idle_remote - before.all.scrubbed_aged;
    CHECK_MSG(cpus == zones && cpus >= 1u << ORDER, "freed %u frames, CPUs cleared %lu, zones %lu",
              1u << ORDER, cpus, zones);
}

static u64 takers_cleared(const struct mm_zone_info *i)
{
    return i->scrubbed_takers_local + i->scrubbed_takers_remote;
}

/* Who wants clean memory and gets dirty clears just that; who does not care clears nothing. */
static void takers_count_what_they_clear(void)
{
    enum { ORDER = 6 };
    struct mm_zone_info before, after;
    unsigned node;

    if (!ktest_ballast_node(&node))
        return;
    mm_scrub_enable(false);
    pfn_t pfn = mm_take(ORDER, TAKE_CLEAN | TAKE_THIS_NODE, node);
    ktest_ballast_take(node, 0);
    if (CHECK(pfn != PFN_NONE)) {
        /* Nothing else is free there, so now it is this block that is to be had, dirty. */
        mm_free(pfn, ORDER);
        mm_node_info(node, &before);
        CHECK(mm_take(ORDER, TAKE_ANY | TAKE_THIS_NODE, node) == pfn);
        mm_free(pfn, ORDER);
        mm_node_info(node, &after);
        CHECK(takers_cleared(&after) == takers_cleared(&before));
        CHECK(mm_take(ORDER, TAKE_CLEAN | TAKE_THIS_NODE, node) == pfn);
        mm_node_info(node, &after);
        CHECK_MSG(takers_cleared(&after) - takers_cleared(&before) == 1u << ORDER,
                  "%u dirty frames taken, %lu cleared", 1u << ORDER,
                  takers_cleared(&after) - takers_cleared(&before));
        mm_free(pfn, ORDER);
    }
    ktest_ballast_free();
    mm_scrub_enable(true);
}

/* What a guest is given dirty is cleared for it, and both are told apart. */
static void guests_know_what_was_cleared(void)
{
    enum { MEM_MIB = 4 };
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("prober");
    struct guest_stat stat;
    unsigned node;

    if (!ktest_guest_have("prober") || !ktest_ballast_node(&node))
        return;
    cfg.mem = MEM_MIB * MIB;
    cfg.node = node;
    if (!wait_clean())
        return;
    unsigned id = ktest_guest_start(&cfg);
    ktest_guest_ends_well(id);
    REQUIRE(guest_stat_get(id, &stat) == 0);
    CHECK_MSG(stat.taken_cleared == 0 && stat.taken_clean >= stat.frames_given,
              "all was clean: %lu clean, %lu cleared", stat.taken_clean, stat.taken_cleared);

    /* All that is free there is dirty now. Two blocks: the area, and the rest. */
    mm_scrub_enable(false);
    pfn_t room[4];
    for (unsigned i = 0; i < ARRAY_SIZE(room); i++)
        room[i] = mm_take(ORDER_PAGEBLOCK, TAKE_ANY | TAKE_THIS_NODE, node);
    ktest_ballast_take(node, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(room); i++)
        if (room[i] != PFN_NONE)
            mm_free(room[i], ORDER_PAGEBLOCK);
    id = ktest_guest_start(&cfg);
    ktest_guest_ends_well(id);
    if (id && guest_stat_get(id, &stat) == 0)
        CHECK_MSG(stat.taken_cleared >= stat.frames_given, "all was dirty: %lu clean, %lu cleared",
                  stat.taken_clean, stat.taken_cleared);
    ktest_ballast_free();
    mm_scrub_enable(true);
}

/* ---- at every moment ---- */

static unsigned movers_stop; /* (a) */

static void move_frames(void *unused)
{
    enum { HELD = 32 };
    struct {
        pfn_t pfn;
        unsigned order;
    } held[HELD] = {{0}};
    (void)unused;
    while (!load_acquire(&movers_stop)) {
        unsigned i = (unsigned)(ktest_random() % HELD);
        if (held[i].pfn) {
            mm_free(held[i].pfn, held[i].order);
            held[i].pfn = 0;
            continue;
        }
        held[i].order = ktest_random() % 4 ? 0 : (unsigned)(ktest_random() % 8);
        pfn_t pfn = mm_take(held[i].order, ktest_random() % 2 ? TAKE_CLEAN : TAKE_ANY,
                            (unsigned)(ktest_random() % nr_nodes));
        held[i].pfn = pfn == PFN_NONE ? 0 : pfn;
    }
    for (unsigned i = 0; i < HELD; i++)
        if (held[i].pfn)
            mm_free(held[i].pfn, held[i].order);
}

/* A zone's frames are each in one state while all CPUs move them about. */
static void zones_add_up_while_they_move(void)
{
    static struct ktest_thread t[8];
    unsigned n = MIN(nr_cpus, (unsigned)ARRAY_SIZE(t)), looks = 0;

    movers_stop = 0;
    for (unsigned i = 0; i < n; i++)
        ktest_spawn(&t[i], i * nr_cpus / n, move_frames, NULL);
    /* A busy host may give us hardly a turn in that time: then it takes longer, not fewer looks. */
    for (u64 end = time_ns() + 300 * KTEST_MS; looks < 16 || time_ns() < end; looks++) {
        struct mm_zone_info i;
        unsigned zone = looks % mm_nr_zones();
        mm_zone_info(zone, &i);
        u64 sum = i.clean + i.dirty + i.stored_clean + i.stored_dirty + i.in_flight + i.allocated +
                  i.retired;
        CHECK_MSG(sum == i.frames && i.allocated <= i.frames,
                  "zone %u: %lu frames, their states come to %lu", zone, i.frames, sum);
        if (looks % 64 == 63)
            thread_sleep(KTEST_MS);
    }
    store_release(&movers_stop, 1);
    for (unsigned i = 0; i < n; i++)
        ktest_join(&t[i]);
}

static const struct ktest cases[] = {
    {"nothing_is_nobodys", nothing_is_nobodys, 0, 0},
    {"a_lost_frame_would_show", a_lost_frame_would_show, 0, 0},
    {"threads_hold_stacks_and_records", threads_hold_stacks_and_records, 0, 0},
    {"guests_hold_what_they_were_given", guests_hold_what_they_were_given, 0, 0},
    {"a_clear_is_counted_once", a_clear_is_counted_once, 0, 0},
    {"takers_count_what_they_clear", takers_count_what_they_clear, 0, 0},
    {"guests_know_what_was_cleared", guests_know_what_was_cleared, 0, 0},
    {"zones_add_up_while_they_move", zones_add_up_while_they_move, 0, 0},
};
KTEST_SUITE(accounting, cases);
