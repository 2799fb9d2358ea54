/*
 * The claim protocol, rule by rule where one thread (or two) can show it; the names of the cases
 * carry the rule's number in docs/locking.md. Schedules are enumerated elsewhere.
 */
#include "stage.h"
#include "mm/bell.h"
#include "mm/claim.h"
#include "mm/store.h"
#include "mm/zone.h"

#include <pthread.h>

/* One zone, all clean, of which only `free` frames in the first taken pageblock are left. */
static pfn_t almost_full(unsigned cpus, unsigned free)
{
    struct port_machine m = one_node(cpus, 16, 32);
    CHECK_EQ(port_boot(&m), 0);
    scrub_all();
    pfn_t keep = mm_take(9, TAKE_CLEAN, 0);
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
    struct map512 some = map512_range(0, free);
    if (free)
        mm_free_mask(keep, &some);
    return keep;
}

static void case_rule_1_stores_of_others_are_swept(void)
{
    almost_full(2, 8);
    scrub_all();
    port_be_cpu(1);
    CHECK(mm_take(0, TAKE_CLEAN, 0) != PFN_NONE); /* the other 7 are in CPU 1's store now */
    CHECK_EQ(total().stored_clean, 7);
    port_be_cpu(0);
    CHECK(mm_take(2, TAKE_CLEAN, 0) != PFN_NONE); /* order 2: only after the sweep */
    CHECK_EQ(mm_check(true, say), 0);
    CHECK_EQ(total().stored_clean, 0);
}

static void case_rule_1_write_behind_is_swept(void)
{
    pfn_t keep = almost_full(2, 0);
    port_be_cpu(1);
    for (unsigned n = 0; n < 16; n++)
        mm_free(keep + n, 0);
    CHECK_EQ(total().stored_dirty, 16);
    port_be_cpu(0);
    CHECK(mm_take(4, TAKE_CLEAN, 0) == keep);
    CHECK_EQ(total().stored_dirty, 0);
    CHECK_EQ(mm_check(true, say), 0);
}

/* ---- the gate, with a claim that a test holds open ---- */

struct waiter {
    pthread_t thread;
    unsigned cpu, order;
    enum take_flags flags;
    pfn_t got; /* (a) */
    bool done; /* (a) */
};

static void *waiter_main(void *arg)
{
    struct waiter *w = arg;
    port_be_cpu(w->cpu);
    store_relaxed(&w->got, mm_take(w->order, w->flags, 0));
    store_release(&w->done, true);
    return NULL;
}

static void waiter_start(struct waiter *w, unsigned cpu, unsigned order, enum take_flags flags)
{
    *w = (struct waiter){.cpu = cpu, .order = order, .flags = flags};
    pthread_create(&w->thread, NULL, waiter_main, w);
}

/* Until that many takers stand at the gate. */
static void await_waiters(struct zone *z, unsigned n)
{
    while (load_relaxed(&z->waiters) != n)
        cpu_relax();
}

/* This CPU claims and gives back as a scrubber that was called back after `cleared` frames. */
static void claim_begin(struct zone *z)
{
    preempt_disable();
    spin_lock(&z->lock);
    CHECK(claim_take_locked(z));
    spin_unlock(&z->lock);
}

static void claim_end(struct zone *z, unsigned cleared)
{
    struct map512 done = {{0}}, todo = claim_own()->mask;
    unsigned n = 0;
    map512_for_each(bit, &todo)
    {
        if (n++ == cleared)
            break;
        clear_frame_stream(frame_va(zone_pb_pfn(z, claim_own()->pb) + bit));
        map512_set(&done, bit);
    }
    spin_lock(&z->lock);
    bool handed = claim_return_locked(z, &done);
    spin_unlock(&z->lock);
    if (handed)
        bell_ring(z);
    preempt_enable();
}

static void case_a_taker_waits_for_a_claim_and_gets_it(void)
{
    pfn_t keep = almost_full(3, 0);
    struct zone *z = zone_of(keep);
    struct waiter w;
    soil_block(keep, 9);
    mm_free(keep, 9);
    claim_begin(z);
    CHECK_EQ(total().in_flight, 512);
    waiter_start(&w, 1, 3, TAKE_CLEAN);
    await_waiters(z, 1);
    CHECK(!load_acquire(&w.done));

    /* Rule 6: the gate is shut, a second scrubber gets nothing, nor may it. */
    port_set_resched(2, false);
    CHECK(!mm_scrub_may());
    claim_end(z, 1);
    pthread_join(w.thread, NULL);
    CHECK(w.got != PFN_NONE && block_is_zero(w.got, 3));
    CHECK_EQ(z->waiters, 0);
    CHECK_EQ(total().in_flight, 0);
    CHECK_EQ(mm_check(true, say), 0);
    CHECK_EQ(total().max_clears_waited, 0); /* begun is counted by the step, not by this test */
}

/* Who waits for one frame is handed it by the return: a clean one, or of whatever is left. */
static void case_a_taker_of_one_is_handed_it(void)
{
    for (unsigned clean = 0; clean < 2; clean++) {
        pfn_t keep = almost_full(3, 0);
        struct zone *z = zone_of(keep);
        struct waiter w;
        soil_block(keep, 9);
        mm_free(keep, 9);
        claim_begin(z);
        waiter_start(&w, 1, 0, clean ? TAKE_CLEAN : TAKE_ANY);
        await_waiters(z, 1);
        claim_end(z, 3);
        CHECK_EQ(z->waiters, 0); /* in the return's own hold, whatever the taker does meanwhile */
        pthread_join(w.thread, NULL);
        CHECK(w.got != PFN_NONE && block_is_zero(w.got, 0) == clean);
        CHECK_EQ(total().in_flight, 0);
        CHECK_EQ(total().clean, clean ? 2 : 3);
        CHECK_EQ(mm_check(true, say), 0);
    }
}

static void case_rule_5_two_takers_at_one_gate(void)
{
    pfn_t keep = almost_full(4, 0);
    struct zone *z = zone_of(keep);
    struct waiter a, b;
    mm_free(keep, 9);
    claim_begin(z);
    waiter_start(&a, 1, 0, TAKE_CLEAN);
    waiter_start(&b, 2, 9, TAKE_CLEAN);
    await_waiters(z, 2);
    claim_end(z, 0);
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    /* One of them wins; the order-9 taker may be served first, then the other truly fails. */
    CHECK((a.got != PFN_NONE) != (b.got != PFN_NONE) || a.got != PFN_NONE);
    CHECK_EQ(z->waiters, 0);
    CHECK_EQ(mm_check(false, say), 0);
}

static void case_rule_7_no_waiting_when_claims_cannot_help(void)
{
    pfn_t keep = almost_full(2, 0);
    struct zone *z = zone_of(keep);
    /* Frames 0 and 2: no buddies of each other, with or without the claim. */
    struct map512 two = map512_range(0, 1);
    map512_set(&two, 2);
    mm_free_mask(keep, &two);
    claim_begin(z);
    CHECK_EQ(total().in_flight, 2);
    struct waiter w;
    waiter_start(&w, 1, 1, TAKE_CLEAN);
    pthread_join(w.thread, NULL); /* the claim is still out: it would hang here */
    CHECK(w.got == PFN_NONE);
    CHECK_EQ(total().waits, 0);
    claim_end(z, 2);
    CHECK_EQ(mm_check(true, say), 0);
}

static void case_rule_7_free_and_claimed_together_serve(void)
{
    pfn_t keep = almost_full(2, 0);
    struct zone *z = zone_of(keep);
    struct map512 dirty = map512_range(0, 1), clean = map512_range(1, 1);
    struct waiter w;
    mm_free_mask(keep, &clean);
    scrub_all(); /* frame 1 is clean and free */
    mm_free_mask(keep, &dirty);
    claim_begin(z); /* frame 0 is claimed: only both make an order 1 */
    waiter_start(&w, 1, 1, TAKE_CLEAN);
    await_waiters(z, 1);
    claim_end(z, 1);
    pthread_join(w.thread, NULL);
    CHECK_EQ(w.got, keep);
    CHECK_EQ(mm_check(true, say), 0);
}

static void case_rule_9_a_retired_claim_stays_out(void)
{
    pfn_t keep = almost_full(2, 0);
    struct zone *z = zone_of(keep);
    mm_free(keep, 9);
    claim_begin(z);
    CHECK_EQ(mm_retire(keep + 3), 0);
    CHECK_EQ(mm_retire(keep + 3), E_EXIST);
    claim_end(z, 100);
    CHECK_EQ(total().retired, 1);
    CHECK_EQ(mm_check(true, say), 0);
    unsigned got = 0;
    pfn_t pfn;
    while ((pfn = mm_take(0, TAKE_CLEAN, 0)) != PFN_NONE) {
        CHECK(pfn != keep + 3);
        got++;
    }
    CHECK_EQ(got, 511);
}

/* Its pageblock is filled into the take store again, to which its frames come home when freed. */
static void case_rule_9_a_retired_frame_does_not_come_home(void)
{
    struct port_machine m = one_node(1, 16, 4);
    CHECK_EQ(port_boot(&m), 0);
    pfn_t bad = mm_take(0, TAKE_ANY, 0);
    CHECK_EQ(mm_retire(bad), 0);
    pfn_t pfn = mm_take(0, TAKE_ANY, 0);
    CHECK_EQ(pfn / 512, bad / 512);
    mm_free(bad, 0);
    while ((pfn = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        CHECK(pfn != bad);
    CHECK_EQ(total().retired, 1);
    CHECK_EQ(mm_check(false, say), 0);
}

static void case_rule_9_retire_in_every_state(void)
{
    pfn_t keep = almost_full(2, 64);
    CHECK_EQ(mm_retire(keep), 0); /* free, dirty */
    CHECK_EQ(total().retired, 1);
    scrub_all();
    CHECK_EQ(mm_retire(keep + 1), 0); /* free, clean */
    CHECK_EQ(total().retired, 2);
    pfn_t pfn = mm_take(0, TAKE_CLEAN, 0); /* the others are stored */
    CHECK_EQ(mm_retire(pfn == keep + 5 ? keep + 6 : keep + 5), 0);
    CHECK_EQ(total().retired, 3);
    CHECK_EQ(mm_retire(pfn), 0); /* allocated: only when it comes back */
    CHECK_EQ(total().retired, 3);
    mm_free(pfn, 0);
    mm_stores_flush();
    CHECK_EQ(total().retired, 4);
    CHECK_EQ(mm_retire(keep + 300), 0); /* inside a block that goes back whole */
    struct map512 rest = map512_range(64, 448);
    mm_free_mask(keep, &rest);
    CHECK_EQ(total().retired, 5);
    CHECK_EQ(mm_retire(1), E_INVAL);
    CHECK_EQ(mm_check(false, say), 0);
    scrub_all();
    CHECK_EQ(total().clean, 507);
}

static void case_rule_9_the_table_of_bad_frames_is_bounded(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    for (unsigned n = 0; n < ZONE_BAD_MAX; n++)
        CHECK_EQ(mm_retire(m.range[0].start + n * 3), 0);
    CHECK_EQ(mm_retire(m.range[0].start + 1), E_NOSPC);
    CHECK_EQ(total().retired, ZONE_BAD_MAX);
    CHECK_EQ(mm_check(false, say), 0);
}

static void case_rule_13_dropping_the_count_rings(void)
{
    pfn_t keep = almost_full(3, 0);
    struct zone *z = zone_of(keep);
    struct waiter w;
    mm_free(keep, 9);
    claim_begin(z);
    port_be_cpu_state(2, CPU_ASLEEP);
    waiter_start(&w, 1, 0, TAKE_CLEAN);
    await_waiters(z, 1);
    unsigned before = port_kicks(2);
    claim_end(z, 1); /* 511 frames come back dirty, the gate is still shut */
    pthread_join(w.thread, NULL);
    CHECK(port_kicks(2) > before);
    CHECK(total().dirty > 0);
}

static void case_rule_15_a_busy_node_rings_its_neighbour(void)
{
    struct port_machine m = two_nodes(4, 16);
    CHECK_EQ(port_boot(&m), 0);
    for (unsigned cpu = 0; cpu < 4; cpu++)
        port_be_cpu_state(cpu, cpu % 2 ? CPU_ASLEEP : CPU_BUSY);
    pfn_t pfn = mm_take(4, TAKE_ANY | TAKE_THIS_NODE, 0);
    unsigned before = port_kicks(1) + port_kicks(3);
    mm_free(pfn, 4);
    CHECK_EQ(port_kicks(1) + port_kicks(3), before + 1); /* one CPU, not all */
    CHECK_EQ(port_kicks(2), 0);
    port_be_cpu(1);
    mm_scrub_enable(true);
    while (mm_scrub_step())
        ;
    CHECK_EQ(total().dirty, 0); /* own node first, then the busy one */
    CHECK(total().scrubbed_idle_remote > 0);
}

static void case_no_help_where_somebody_is_at_home(void)
{
    struct port_machine m = two_nodes(4, 16);
    struct mm_zone_info i;
    CHECK_EQ(port_boot(&m), 0);
    port_be_cpu_state(2, CPU_ASLEEP);
    port_be_cpu(1);
    scrub_all();
    mm_node_info(1, &i);
    CHECK_EQ(i.dirty, 0);
    mm_node_info(0, &i);
    CHECK_EQ(i.clean, 0);
    CHECK(!mm_scrub_may());
}

static void case_scrub_yields_to_a_thread(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    port_set_resched(0, true);
    CHECK(mm_scrub_step());
    CHECK_EQ(total().clean, 1); /* rule 16: one frame before the first look, and no more (P8) */
    port_set_resched(0, false);
    CHECK_EQ(mm_check(false, say), 0);
}

static void wait_ms(unsigned ms)
{
    u64 until = time_ns() + ms * 1000000ULL;
    while (time_ns() < until)
        ;
}

static void case_rule_17_a_return_keeps_the_age(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    scrub_all();
    pfn_t pb = mm_take(9, TAKE_ANY, 0);
    mm_free(pb, 9);
    wait_ms(30);
    claim_begin(zone_of(pb));
    claim_end(zone_of(pb), 5);
    CHECK(total().oldest_dirt_ms >= 29);
    CHECK(total().oldest_scrubbed_ms >= 29);
}

static u64 ms_since(u64 ns)
{
    return (time_ns() - ns) / 1000000;
}

/* With a bound, frees stamp with what the last aged step noted: too old at most, never too young. */
static void case_rule_17_a_stamp_is_never_too_young(void)
{
    enum { AGE = 400, LATER = 30 };
    struct port_machine m = one_node(1, 16, 64);
    struct mm_policy p;
    CHECK_EQ(port_boot(&m), 0);
    scrub_all();
    pfn_t pb = mm_take(9, TAKE_ANY, 0);
    mm_policy_get(&p);

    p.age_ms = 0; /* nobody notes anything: frees ask the clock itself */
    CHECK_EQ(mm_policy_set(&p), 0);
    CHECK_EQ(mm_aged_step(0), ~0ULL);
    wait_ms(LATER);
    u64 freed = time_ns();
    mm_free(pb, 9);
    CHECK(total().oldest_dirt_ms <= ms_since(freed) + 1);
    CHECK_EQ(mm_take(9, TAKE_ANY, 0), pb);

    p.age_ms = AGE;
    CHECK_EQ(mm_policy_set(&p), 0);
    u64 noted = time_ns();
    CHECK_EQ(mm_aged_step(0), mm_aged_sleep_ms(AGE) * 1000000ULL);
    wait_ms(LATER);
    freed = time_ns();
    mm_free(pb, 9);
    u64 oldest = total().oldest_dirt_ms;
    CHECK(oldest >= LATER - 1); /* as of the step, which was before the free */
    CHECK(oldest <= ms_since(noted) + 1);
    mm_aged_step(0);
    CHECK(ms_since(noted) >= AGE || total().scrubbed_aged == 0); /* it is not due */
    while (ms_since(freed) <= AGE)
        ;
    mm_aged_step(0);
    CHECK_EQ(total().scrubbed_aged, 512);
}

static void case_scrub_off_leaves_dirt_alone(void)
{
    struct port_machine m = one_node(1, 16, 64);
    m.scrub_off = true;
    CHECK_EQ(port_boot(&m), 0);
    CHECK(!mm_scrub_may() && !mm_scrub_step());
    soil_machine(&m);
    pfn_t pfn = mm_take(5, TAKE_CLEAN, 0); /* takers still clear what they take */
    CHECK(block_is_zero(pfn, 5));
    CHECK_EQ(total().scrubbed_takers_local, 32);
    mm_scrub_enable(true);
    CHECK(mm_scrub_may());
}

static void case_eager_frees_clean(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    scrub_all();
    CHECK_EQ(mm_strategy_set("no-such"), E_NOENT);
    CHECK_EQ(mm_strategy_set("eager"), 0);
    pfn_t pb = mm_take(9, TAKE_CLEAN, 0), one = mm_take(0, TAKE_CLEAN, 0);
    soil_block(pb, 9);
    port_soil(one);
    struct map512 some = map512_range(100, 200), rest = map512_range(0, 100);
    mm_free_mask(pb, &some);
    mm_free_mask(pb, &rest);
    mm_free(one, 0);
    CHECK_EQ(total().dirty + total().stored_dirty, 0);
    CHECK_EQ(total().scrubbed_at_free, 301);
    CHECK_EQ(mm_check(true, say), 0);
    CHECK_EQ(mm_strategy_set("claim"), 0);
}

static void case_scrubbers_and_rate_are_limits(void)
{
    struct port_machine m = one_node(3, 16, 64);
    struct mm_policy old, p = {.scrubbers = 1};
    CHECK_EQ(port_boot(&m), 0);
    mm_policy_get(&old);
    CHECK_EQ(mm_policy_set(&p), 0);
    claim_begin(&mm_zones[0]);
    CHECK(!mm_scrub_may()); /* the one place is taken, for everybody */
    spin_lock(&mm_zones[0].lock);
    port_self.id = 1;
    mm_zones[0].lock.holder = 2;
    CHECK(!claim_take_locked(&mm_zones[0]));
    port_self.id = 0;
    mm_zones[0].lock.holder = 1;
    spin_unlock(&mm_zones[0].lock);
    claim_end(&mm_zones[0], 512);
    CHECK(mm_scrub_may());

    p = (struct mm_policy){.rate_mib = 1}; /* a frame costs 4 ms, a claim two seconds */
    CHECK_EQ(mm_policy_set(&p), 0);
    CHECK(mm_scrub_step());
    CHECK(!mm_scrub_may() && !mm_scrub_step());
    CHECK(mm_scrub_may_at() > time_ns() + 1500000000);
    CHECK(mm_aged_step(0) > 0); /* no bound is set: nothing is due */
    p.age_ms = 1;
    CHECK_EQ(mm_policy_set(&p), 0);
    CHECK(mm_scrub_step()); /* a new limit forgets the old one's debt */
    CHECK(!mm_scrub_may());
    u64 dirty = total().dirty;
    CHECK_EQ(mm_aged_step(0), 0); /* outranks the rate limit */
    CHECK_EQ(total().dirty, dirty - 512);
    CHECK_EQ(total().scrubbed_aged, 512);
    CHECK_EQ(mm_policy_set(&old), 0);
}

static void case_old_dirt_is_swept_from_stores(void)
{
    struct port_machine m = one_node(2, 16, 64);
    struct mm_policy old, p = {.age_ms = 1};
    CHECK_EQ(port_boot(&m), 0);
    mm_policy_get(&old);
    scrub_all();
    CHECK_EQ(mm_policy_set(&p), 0);
    pfn_t pfn = mm_take(0, TAKE_CLEAN, 0);
    mm_free(pfn, 0);
    CHECK_EQ(total().stored_dirty, 1);
    u64 until = time_ns() + 3000000;
    while (time_ns() < until)
        ;
    port_be_cpu(1); /* not the CPU that keeps it */
    CHECK_EQ(mm_aged_step(0), 0);
    CHECK_EQ(total().stored_dirty + total().dirty, 0);
    CHECK_EQ(mm_policy_set(&old), 0);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_rule_1_stores_of_others_are_swept);
    RUN(case_rule_1_write_behind_is_swept);
    RUN(case_a_taker_waits_for_a_claim_and_gets_it);
    RUN(case_a_taker_of_one_is_handed_it);
    RUN(case_rule_5_two_takers_at_one_gate);
    RUN(case_rule_7_no_waiting_when_claims_cannot_help);
    RUN(case_rule_7_free_and_claimed_together_serve);
    RUN(case_rule_9_a_retired_claim_stays_out);
    RUN(case_rule_9_a_retired_frame_does_not_come_home);
    RUN(case_rule_9_retire_in_every_state);
    RUN(case_rule_9_the_table_of_bad_frames_is_bounded);
    RUN(case_rule_13_dropping_the_count_rings);
    RUN(case_rule_15_a_busy_node_rings_its_neighbour);
    RUN(case_no_help_where_somebody_is_at_home);
    RUN(case_scrub_yields_to_a_thread);
    RUN(case_rule_17_a_return_keeps_the_age);
    RUN(case_rule_17_a_stamp_is_never_too_young);
    RUN(case_scrub_off_leaves_dirt_alone);
    RUN(case_eager_frees_clean);
    RUN(case_scrubbers_and_rate_are_limits);
    RUN(case_old_dirt_is_swept_from_stores);
    return check_done();
}
