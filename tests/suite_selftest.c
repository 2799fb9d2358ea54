/*
 * Cases that go wrong on purpose, each in its own way, so that the runner can be held to telling
 * them apart (tools/selftest.py). Only by name: test=selftest.fails.
 *
 * Owns nothing.
 */
#include "tests/ktest.h"
#include "arch.h"
#include "kernel/console.h"
#include "mm/mm.h"

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

static const struct ktest cases[] = {
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
