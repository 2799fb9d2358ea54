/*
 * Cases that go wrong on purpose, each in its own way, so that the runner can be held to telling
 * them apart (tools/selftest.py). Only by name: test=selftest.fails.
 *
 * Owns nothing.
 */
#include "tests/ktest.h"
#include "arch.h"
#include "kernel/console.h"
#include "guest/internal.h"
#include "mm/mm.h"
#include "tests/ktest_guest.h"

static void passes(void)
{
    CHECK(1 + 1 == 2);
}

static void skips(void)
{
    ktest_skip("told to");
}

static void fails(void)
{
    unsigned two = 2;
    CHECK_MSG(two == 3, "two is %u, not three", two);
}

/* Nothing that it checks is wrong, but a frame is gone. */
static void leaks(void)
{
    CHECK(mm_take(0, TAKE_ANY, 0) != PFN_NONE);
}

static struct spinlock kept = SPINLOCK("kept by a test", RANK_STORE);

/* The test itself is broken: no case can run after it. */
static void errs(void)
{
    spin_lock(&kept);
}

static void panics(void)
{
    panic("selftest: a case that panics");
}

static void hangs(void)
{
    irqs_off();
    for (;;)
        __asm__ volatile("hlt"); /* the host has better things to do meanwhile */
}

/* No table of interrupts, and one interrupt: nothing can tell of it any more. */
static void triple_faults(void)
{
    static const struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; int3" ::"m"(none));
}

/* Leaves as if all were well, before its plan is done. */
static void leaves_early(void)
{
    machine_exit(EXIT_PASS);
}

/* A guest that gives memory back is believed: its translations are left where they are. */
static void flush_nothing(struct guest *g, u64 va, u64 bytes)
{
    (void)g;
    (void)va;
    (void)bytes;
}

static void believe(const struct guest *g)
{
    (void)g;
}

/* Neither flushed nor checked: the attack succeeds, and the test has to see it. */
static void stale_translations(void)
{
    static struct guest_ops forgetful;
    forgetful = ring3_ops;
    forgetful.kind = "forgetful";
    forgetful.flush = flush_nothing;
    forgetful.check_flushed = believe;
    guest_kind_add(&forgetful);
    ktest_attack("forgetful", 8);
}

/* Not flushed, and checked: it does not come as far as that. */
static void flush_left_out(void)
{
    static struct guest_ops careless;
    careless = ring3_ops;
    careless.kind = "careless";
    careless.flush = flush_nothing;
    guest_kind_add(&careless);
    ktest_attack("careless", 8);
}

/* A flush that one page escapes. */
static void flush_short(struct guest *g, u64 va, u64 bytes)
{
    ring3_ops.flush(g, va, bytes - FRAME_SIZE);
}

static void flush_too_short(void)
{
    static struct guest_ops hasty;
    hasty = ring3_ops;
    hasty.kind = "hasty";
    hasty.flush = flush_short;
    guest_kind_add(&hasty);
    ktest_attack("hasty", 8);
}

/* One unmap more than anybody has flushed: as if a CPU had not been asked. */
static void flush_all_but_one(struct guest *g, u64 va, u64 bytes)
{
    ring3_ops.flush(g, va, bytes);
    g->space.unmaps++;
}

static void cpu_not_asked(void)
{
    static struct guest_ops deaf;
    deaf = ring3_ops;
    deaf.kind = "deaf";
    deaf.flush = flush_all_but_one;
    guest_kind_add(&deaf);
    ktest_attack("deaf", 8);
}

static const struct ktest cases[] = {
    {"cpu_not_asked", cpu_not_asked, 2, 0},
    {"stale_translations", stale_translations, 2, 0},
    {"flush_left_out", flush_left_out, 2, 0},
    {"flush_too_short", flush_too_short, 2, 0},
    {"passes", passes, 0, 0},
    {"skips", skips, 0, 0},
    {"fails", fails, 0, 0},
    {"leaks", leaks, 0, 0},
    {"errs", errs, 0, 0},
    {"panics", panics, 0, 0},
    {"hangs", hangs, 0, 0},
    {"triple_faults", triple_faults, 0, 0},
    {"leaves_early", leaves_early, 0, 0},
};
KTEST_SUITE_BY_NAME(selftest, cases);
