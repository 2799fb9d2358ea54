/*
 * The ways to break the kernel on purpose, for who wants to see what a panic says, and for the
 * tests that hold it to that (tools/debug_test.py). Each breaks one thing as a bug would; what
 * follows is not acted.
 *
 * Owns nothing. Next: panic.c.
 */
#include "kernel/crash.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/classic/strategy/strategy.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define NOINLINE __attribute__((noinline, noclone)) /* so that each has its name in the backtrace */
#define LOST_NS  (2000ULL * 1000 * 1000)

static unsigned crash_ready; /* (a) released by the other CPU when it is where it should be */

/* Another CPU than this one, for the kinds that need two. */
static unsigned crash_other(void)
{
    for (unsigned id = 0; id < nr_cpus; id++)
        if (id != cpu_id() && load_acquire(&cpu_by_id(id)->online))
            return id;
    return nr_cpus;
}

/* Runs fn there and waits until it has set crash_ready. */
static void crash_send(unsigned cpu, void (*fn)(void *arg), void *arg)
{
    struct thread *t = thread_create("crash", fn, arg, cpu, ANY_NODE);
    u64 end = time_ns() + LOST_NS;
    if (!t)
        panic("crash: no memory for a thread");
    store_relaxed(&crash_ready, 0); /* it is not started yet */
    thread_start(t);
    while (!load_acquire(&crash_ready) && time_ns() < end)
        sched_yield();
}

static void NOINLINE crash_panic(void)
{
    panic("crash: this is what a panic looks like");
}

static void NOINLINE crash_double_free(void)
{
    unsigned node = cpu_node(cpu_id());
    pfn_t pfn = mm_take(ORDER_PAGEBLOCK, TAKE_ANY | TAKE_THIS_NODE, node);
    /* Another one, which stays taken: not the counts alone are to find us out. */
    if (pfn == PFN_NONE || mm_take(ORDER_PAGEBLOCK, TAKE_ANY | TAKE_THIS_NODE, node) == PFN_NONE)
        panic("crash: no memory for two blocks");
    mm_free(pfn, ORDER_PAGEBLOCK);
    mm_free(pfn, ORDER_PAGEBLOCK);
}

static struct spinlock crash_outer = SPINLOCK("crash outer", RANK_STORE);
static struct spinlock crash_inner = SPINLOCK("crash inner", RANK_ZONE);

static void NOINLINE crash_lock_order(void)
{
    spin_lock(&crash_outer);
    spin_lock(&crash_inner);
}

static void NOINLINE crash_page_fault(void)
{
    *(volatile u64 *)(USER_TOP - 8) = 1; /* no guest's address space is loaded */
}

static void NOINLINE crash_bad_call(void)
{
    void (*volatile nowhere)(void) = NULL;
    nowhere();
}

static u64 NOINLINE crash_recurse(volatile u64 depth)
{
    volatile u64 pad[16];
    pad[depth % 16] = depth;
    if (depth == ~0ULL)
        return 0;
    return crash_recurse(depth + 1) + pad[depth % 16];
}

static void NOINLINE crash_stack_overflow(void)
{
    crash_recurse(0);
}

static void NOINLINE crash_corrupt_stack(void)
{
    u64 *frame = __builtin_frame_address(0);
    frame[0] = 0xffffc0de00000008ULL; /* our caller's frame pointer: canonical, and nothing there */
    panic("crash: the chain of stack frames is broken");
}

/* Never lets go, and takes no interrupt. */
static void NOINLINE crash_hang(void *unused)
{
    (void)unused;
    spin_lock(&crash_outer);
    irqs_off();
    store_release(&crash_ready, 1);
    for (;;)
        cpu_relax();
}

static void NOINLINE crash_wait(void *unused)
{
    (void)unused;
    store_release(&crash_ready, 1);
    spin_lock(&crash_outer);
}

static void NOINLINE crash_hang_other(void)
{
    unsigned hung = crash_other();
    crash_send(hung, crash_hang, NULL);
    for (unsigned id = 0; id < nr_cpus; id++)
        if (id != hung && id != cpu_id() && load_acquire(&cpu_by_id(id)->online)) {
            crash_send(id, crash_wait, NULL);
            thread_sleep(50 * 1000 * 1000); /* ready, and then it waits for the lock */
            break;
        }
    panic("crash: cpu %u hangs with a lock held", hung);
}

static void NOINLINE crash_lost_cpu(void)
{
    unsigned lost = crash_other();
    machine_deafen(lost);
    thread_sleep(50 * 1000 * 1000);
    panic("crash: cpu %u is gone", lost);
}

static void NOINLINE crash_broken_records(void)
{
    struct cpu *other = cpu_by_id(crash_other());
    other->locks_held[0] = (const struct spinlock *)0x10;
    other->nr_locks_held = 1;
    panic("crash: what cpu %u says of its locks is nonsense", other->id);
}

static unsigned crash_now; /* (a) both panic when it is set */

static void NOINLINE crash_second(void *unused)
{
    (void)unused;
    irqs_off();
    store_release(&crash_ready, 1);
    while (!load_acquire(&crash_now))
        cpu_relax();
    panic("crash: the second of two");
}

static void NOINLINE crash_two_at_once(void)
{
    crash_send(crash_other(), crash_second, NULL);
    store_release(&crash_now, 1);
    panic("crash: the first of two");
}

/*
 * The second schedule of two columns that `walk` fails by (mm/classic/strategy/walk.c), acted: B is
 * the first idle CPU that is about to clear, and stands there until A, this thread, owns the
 * frame. (The first, the thread's own, is tests/suite_thread.c.)
 */
static u32 crash_held;    /* (a) B stands there */
static pfn_t crash_pfn;   /* what it is about; written before crash_held */
static u32 crash_release; /* (a) */

static void crash_hold(const char *point, pfn_t pfn)
{
    /* And no further: the stale link that comes next has a panic of its own. */
    while (strcmp(point, "walk: before the next link") == 0 && load_acquire(&crash_release))
        cpu_relax();
    if (strcmp(point, "walk: before a clear") != 0 || !cas(&crash_held, 0u, 1u))
        return;
    store_relaxed(&crash_pfn, pfn);
    store_release(&crash_held, 2u);
    while (!load_acquire(&crash_release))
        cpu_relax();
}

/* The frame that B is about to clear, once it stands there. PFN_NONE: nobody comes. */
static pfn_t crash_wait_for_b(void)
{
    u64 end = time_ns() + LOST_NS;
    if (strcmp(mm_strategy_name(), "walk") != 0) {
        log_line("crash: lost-write wants a boot with scrub=walk,off");
        return PFN_NONE;
    }
    store_release(&classic_gate, crash_hold);
    mm_scrub_enable(true);
    while (load_acquire(&crash_held) != 2 && time_ns() < end)
        sched_yield();
    return load_acquire(&crash_held) == 2 ? load_relaxed(&crash_pfn) : PFN_NONE;
}

/* Takes block after block until it has that frame. */
static void crash_take(pfn_t wanted)
{
    unsigned node = heap_of(wanted)->node;
    for (unsigned order = ORDER_MAX + 1; order-- > 0;) {
        pfn_t pfn;
        while ((pfn = mm_take(order, TAKE_ANY | TAKE_THIS_NODE, node)) != PFN_NONE)
            if (pfn <= wanted && wanted < pfn + (1ULL << order))
                return;
    }
}

static void NOINLINE crash_lost_write(void)
{
    pfn_t pfn = crash_wait_for_b();
    if (pfn == PFN_NONE)
        return;
    crash_take(pfn);
    u64 *mine = frame_va(pfn);
    store_relaxed(mine, 0x5ec3e7ULL);
    store_release(&crash_release, 1u);
    for (u64 end = time_ns() + LOST_NS; load_relaxed(mine) && time_ns() < end;)
        cpu_relax();
    if (load_relaxed(mine) == 0)
        panic("P2 one owner: walk: pfn 0x%lx was cleared under its owner", pfn);
}

static const struct {
    const char *name, *help;
    void (*run)(void);
    bool two; /* needs another CPU */
} kinds[] = {
    {"panic", "a plain panic", crash_panic, false},
    {"double-free", "a block is freed twice: P2", crash_double_free, false},
    {"lock-order", "two locks are taken in the wrong order", crash_lock_order, false},
    {"page-fault", "a write to an address where nothing is", crash_page_fault, false},
    {"bad-call", "a call of a function at address 0", crash_bad_call, false},
    {"stack-overflow", "a recursion without end", crash_stack_overflow, false},
    {"corrupt-stack", "a panic on a stack whose frames lead nowhere", crash_corrupt_stack, false},
    {"hang-other", "another CPU hangs with a lock held, a third waits for it", crash_hang_other,
     true},
    {"lost-cpu", "another CPU is dead: it does not answer", crash_lost_cpu, true},
    {"broken-records", "the panic itself meets nonsense", crash_broken_records, true},
    {"lost-write", "scrub=walk: an idle CPU clears what has got an owner: P2", crash_lost_write,
     true},
    {"two-at-once", "two CPUs panic at the same time", crash_two_at_once, true},
};

void crash(const char *kind)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].name, kind) != 0)
            continue;
        if (kinds[i].two && crash_other() == nr_cpus) {
            log_line("crash: %s needs a second CPU", kind);
            return;
        }
        kinds[i].run();
    }
}

void crash_list(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        log_line("  %-15s %s", kinds[i].name, kinds[i].help);
}
