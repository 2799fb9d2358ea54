/*
 * The hosted machine: see tests/host/port/arch.h and port.h.
 */
#include "port.h"
#include "lib/log.h"

#include <cpuid.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

unsigned nr_cpus, nr_nodes;
char *port_memory;
__thread struct port_cpu port_self;

static size_t memory_bytes;
static struct port_machine machine;
static unsigned kicks[MAX_CPUS];
static bool resched[MAX_CPUS];
static u64 clock_ns; /* (a) */
static struct port_hooks hook;
void (*port_relax)(void);

void panic(const char *fmt, ...)
{
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (hook.panic)
        hook.panic(line);
    fprintf(stderr, "panic: %s\n", line);
    abort();
}

void port_set_hooks(const struct port_hooks *hooks)
{
    hook = *hooks;
    port_relax = hook.relax;
}

void log_line(const char *fmt, ...)
{
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (hook.log)
        hook.log(line);
    else
        fprintf(stderr, "%s\n", line);
}

unsigned cpu_node(unsigned cpu)
{
    return machine.cpu_node[cpu];
}

u64 time_ns(void)
{
    u64 stands = load_relaxed(&clock_ns);
    if (stands)
        return stands;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* What the kernel does by IPI the host's kernel does for us: membarrier(2). */
void cpus_serialize(void)
{
    static bool registered; /* (a) twice is no harm */
    if (!load_relaxed(&registered)) {
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
        store_relaxed(&registered, true);
    }
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        panic("membarrier(2) does not work on this host");
}

void port_set_clock(u64 ns)
{
    store_relaxed(&clock_ns, ns);
}

void cpu_kick(unsigned cpu)
{
    fetch_add(&kicks[cpu], 1);
}

unsigned port_kicks(unsigned cpu)
{
    return load_relaxed(&kicks[cpu]);
}

bool need_resched(void)
{
    return load_relaxed(&resched[port_self.id]);
}

void port_set_resched(unsigned cpu, bool on)
{
    store_relaxed(&resched[cpu], on);
}

void port_be_cpu(unsigned cpu)
{
    ASSERT(port_self.nr_locks == 0 && port_self.preempt_count == 0);
    port_self.id = cpu;
}

void port_be_cpu_state(unsigned cpu, enum cpu_state state)
{
    unsigned self = port_self.id;
    port_self.id = cpu;
    mm_cpu_state_set(state);
    port_self.id = self;
}

/* ---- clears: the kernel's own, whose number of stores an argument in mm/scrub.c counts on ---- */

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer sees no stores of inline assembly: here they are ordinary ones. */
static void machine_clear_ordinary(void *p, size_t bytes)
{
    memset(p, 0, bytes);
}
static void machine_clear_frame_stream(void *frame)
{
    memset(frame, 0, FRAME_SIZE);
}
static bool machine_frame_is_zero(const void *frame)
{
    const u64 *p = frame, *end = p + FRAME_SIZE / sizeof(u64);
    while (p < end && *p == 0)
        p++;
    return p == end;
}
#else
#define clear_frame_stream machine_clear_frame_stream
#define clear_ordinary     machine_clear_ordinary
#define frame_is_zero      machine_frame_is_zero
#include "arch/x86_64/clear.c"
#undef clear_frame_stream
#undef clear_ordinary
#undef frame_is_zero

/* The kernel's choices, on this machine. */
static __attribute__((constructor)) void features_detect(void)
{
    unsigned a, b, c, d;
    clear_by_lines = __get_cpuid(0x80000008, &a, &b, &c, &d) && b & CPUID_80000008_EBX_CLZERO;
    word512_popcnt = __builtin_cpu_supports("popcnt");
}
#endif

/* P5: no frame is cleared while a lock is held. Every hosted test looks at every clear. */
static bool clear_begins(void *p, size_t bytes, bool stream)
{
    if (port_self.nr_locks && !hook.clears_under_locks)
        panic("P5 no clearing under a lock: %s is held", port_self.lock[0]->name);
    return hook.clear && hook.clear(p, bytes, stream);
}

void clear_frame_stream(void *frame)
{
    if (!clear_begins(frame, FRAME_SIZE, true))
        machine_clear_frame_stream(frame);
}

void clear_ordinary(void *p, size_t bytes)
{
    if (!clear_begins(p, bytes, false))
        machine_clear_ordinary(p, bytes);
}

bool frame_is_zero(const void *frame)
{
    return hook.is_zero ? hook.is_zero(frame) : machine_frame_is_zero(frame);
}

void port_soil(pfn_t pfn)
{
    u64 *w = frame_va(pfn);
    for (unsigned i = 0; i < FRAME_SIZE / 8; i++)
        w[i] = 0xd1d1000000000000ULL | pfn << 9 | i;
}

void port_yield(void)
{
    sched_yield();
}

/* ---- locks ---- */

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub)
{
    *l = (struct spinlock){.rank = (u16)rank, .sub = (u16)sub, .name = name};
}

void spin_lock(struct spinlock *l)
{
    struct port_cpu *c = &port_self;
    preempt_disable();
    if (c->nr_locks) {
        const struct spinlock *top = c->lock[c->nr_locks - 1];
        if (top->rank > l->rank || (top->rank == l->rank && top->sub >= l->sub))
            panic("lock order: %s %u taken while %s %u is held", l->name, l->sub, top->name,
                  top->sub);
    }
    u32 ticket = fetch_add(&l->next, 1);
    while (load_acquire(&l->serving) != ticket)
        sched_yield(); /* there may be fewer cores than threads */
    store_relaxed(&l->holder, c->id + 1);
    c->lock[c->nr_locks++] = l;
}

void spin_unlock_keep_preempt_off(struct spinlock *l)
{
    struct port_cpu *c = &port_self;
    ASSERT(spin_held(l));
    unsigned n = c->nr_locks;
    while (c->lock[n - 1] != l)
        n--;
    for (; n < c->nr_locks; n++)
        c->lock[n - 1] = c->lock[n];
    c->nr_locks--;
    store_relaxed(&l->holder, 0);
    store_release(&l->serving, l->serving + 1);
}

void spin_unlock(struct spinlock *l)
{
    spin_unlock_keep_preempt_off(l);
    preempt_enable();
}

void spin_wait_for_holder(const struct spinlock *l)
{
    u32 ticket = load_acquire(&l->serving);
    ASSERT(!spin_held(l));
    if (load_acquire(&l->next) == ticket)
        return;
    while (load_acquire(&l->serving) == ticket)
        sched_yield();
}

bool spin_held(const struct spinlock *l)
{
    return load_relaxed(&l->holder) == port_self.id + 1;
}

/* ---- the stage ---- */

static void map_memory(size_t bytes)
{
    if (port_memory)
        munmap(port_memory, memory_bytes);
    memory_bytes = bytes;
    port_memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (port_memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    madvise(port_memory, memory_bytes, MADV_NOHUGEPAGE);
}

int port_boot(const struct port_machine *m)
{
    u64 end = 0;
    machine = *m;
    nr_cpus = m->cpus;
    nr_nodes = m->nodes;
    memset(kicks, 0, sizeof(kicks));
    memset(resched, 0, sizeof(resched));
    for (unsigned n = 0; n < m->nr_ranges; n++)
        end = MAX(end, m->range[n].end);
    if (!m->keep_memory || end * FRAME_SIZE > memory_bytes)
        map_memory(end * FRAME_SIZE);
    port_be_cpu(0);
    struct mm_config cfg = {.range = m->range,
                            .nr_ranges = m->nr_ranges,
                            .nr_nodes = m->nodes,
                            .distance = m->distance,
                            .zone_gib = m->zone_gib,
                            .scrub_off = m->scrub_off};
    return mm_init(&cfg);
}
