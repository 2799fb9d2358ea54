/*
 * Virtual CPUs and one execution: see explore.h. Owns the coroutines, the snapshot that every
 * execution starts from, and the one place where it is decided who goes on.
 *
 * A decision has these options, in this order:
 *
 *   the running CPU goes on          free, if it can
 *   another CPU that could run       a preemption: costs 1; free if the running one is blocked
 *   the oldest store of some CPU's
 *   buffer becomes visible           free: to have kept it there has cost 1 (memory.c)
 *
 * A CPU that spins can run only once something that it read has changed, one that waits for a
 * lock once it is its turn. If nobody can run the clock goes to the first timer; if there is
 * none, all is at rest: the execution is over, or it is a deadlock.
 */
#include "explore.h"
#include "mm/classic/heap.h"
#include "sched/thread.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct world world;
struct vcpu *self = &world.cpu[0];
const struct scenario *scenario;
struct engine engine;

unsigned nr_cpus, nr_nodes;
char *explore_memory;

enum {
    STACK_BYTES = 64 << 10,
    STEPS_MAX = 20000, /* of one execution: more is a livelock */
    NAPS_MAX = 64,
    PFN_END = 0x80000, /* 2 GiB of addresses, of which only the zones' records are touched */
};

/* ---- switching stacks ---- */

static char stacks[MAX_CPUS][STACK_BYTES] __attribute__((aligned(64)));
static void *stack_top[MAX_CPUS], *main_top;

void stack_switch(void **save, void *load);
__asm__(".text\n"
        "stack_switch:\n"
        "    push %rbp\n    push %rbx\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbx\n    pop %rbp\n"
        "    ret\n");

static void vcpu_main(void) __attribute__((noreturn));

static void stack_make(unsigned cpu)
{
    void **top = (void **)(stacks[cpu] + STACK_BYTES);
    *--top = NULL; /* vcpu_main() begins as if it had been called: rsp is 8 past a multiple of 16 */
    *--top = (void *)vcpu_main;
    for (unsigned n = 0; n < 6; n++)
        *--top = NULL; /* the registers that stack_switch() pops */
    stack_top[cpu] = top;
}

/* ---- the end of an execution ---- */

static jmp_buf checks_out;
static bool checking; /* between an execution and the end of its checks: checks_out is good */
static enum outcome outcome;

static void leave(enum outcome how)
{
    outcome = how;
    if (!engine.running && !checking) {
        fprintf(stderr, "%s: %s\n", scenario ? scenario->name : "explore", engine.why);
        exit(2);
    }
    if (!engine.running)
        longjmp(checks_out, 1);
    void *unused;
    stack_switch(&unused, main_top);
    __builtin_unreachable();
}

void broke(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(engine.why, sizeof(engine.why), fmt, ap);
    va_end(ap);
    leave(BROKE);
    __builtin_unreachable();
}

void panic(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(engine.why, sizeof(engine.why), fmt, ap);
    va_end(ap);
    memmove(engine.why + 7, engine.why, sizeof(engine.why) - 8);
    memcpy(engine.why, "panic: ", 7);
    leave(BROKE);
    __builtin_unreachable();
}

/* A broken mm/ may also crash. The handler has a stack of its own and does not return. */
static void on_crash(int signal)
{
    broke("crash: %s", signal == SIGFPE ? "division by zero" : "an address that is not there");
}

static void catch_crashes(void)
{
    static char stack[16384];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alternative, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}

void engine_cut(void)
{
    leave(CUT);
    __builtin_unreachable();
}

void log_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
}

/* ---- who goes on ---- */

u64 hash_mix(u64 a, u64 b)
{
    a = (a ^ b) * 0x9e3779b97f4a7c15ULL + 0xd1342543de82ef95ULL;
    a ^= a >> 29;
    a *= 0xbf58476d1ce4e5b9ULL;
    return a ^ a >> 32;
}

static bool can_run(const struct vcpu *c)
{
    return c->state == VCPU_RUNS || (c->state == VCPU_SPINS && memory_watch_changed(c));
}

/* All sleep: the clock goes to the first timer. False: there is none. */
static bool nap(void)
{
    struct vcpu *first = NULL;
    for (unsigned n = 0; n < scenario->cpus; n++) {
        struct vcpu *c = &world.cpu[n];
        if (c->state == VCPU_HALTS && c->timer && (!first || c->timer < first->timer))
            first = c;
    }
    if (!first)
        return false;
    if (world.naps++ == NAPS_MAX)
        broke("no rest: a CPU sets its timer again and again");
    world.now = MAX(world.now, first->timer);
    first->timer = 0;
    first->state = VCPU_RUNS;
    return true;
}

/* Nobody can go on, nothing is in a store buffer. */
static void check_deadlock(void)
{
    for (unsigned n = 0; n < scenario->cpus; n++) {
        const struct vcpu *c = &world.cpu[n];
        if (c->state == VCPU_LOCK)
            broke("deadlock: CPU %u waits for a lock that nobody gives back", n);
        if (c->state == VCPU_SPINS)
            broke("deadlock: CPU %u spins on what nobody changes any more", n);
    }
}

/* The CPU that goes on, the running one (`from`, NULL: none) perhaps. NULL: all is at rest. */
static struct vcpu *decide(struct vcpu *from, enum choice_kind kind)
{
    unsigned cpus = scenario->cpus, first = from ? from->id : cpus - 1;
    for (;;) {
        struct vcpu *who[2 * MAX_CPUS];
        u8 cost[2 * MAX_CPUS];
        unsigned n = 0, drains;
        bool goes_on = from && can_run(from);
        if (goes_on) {
            who[n] = from;
            cost[n++] = 0;
        }
        for (unsigned i = 1; i <= cpus; i++) {
            struct vcpu *c = &world.cpu[(first + i) % cpus];
            if (c != from && can_run(c)) {
                who[n] = c;
                cost[n++] = goes_on;
            }
        }
        drains = n;
        for (unsigned i = 0; i < cpus; i++) {
            if (world.cpu[i].nr_buffered) {
                who[n] = &world.cpu[i];
                cost[n++] = 0;
            }
        }
        if (n == 0) {
            if (nap())
                continue;
            check_deadlock();
            return NULL;
        }
        unsigned chosen = n == 1 ? 0 : search_choose(kind, n, cost, goes_on ? first : MAX_CPUS);
        if (chosen < drains)
            return who[chosen];
        memory_drain_one(who[chosen]);
    }
}

/* From CPU `from`, which stays where it is, to whoever is next. */
static void go_on(struct vcpu *from, enum choice_kind kind)
{
    struct vcpu *next = decide(from, kind);
    if (!next)
        leave(RAN);
    next->state = VCPU_RUNS;
    self = next;
    if (next != from)
        stack_switch(&stack_top[from->id], stack_top[next->id]);
}

void engine_pass(const struct site *at)
{
    if (!engine.running)
        return;
    if (++engine.steps > STEPS_MAX)
        broke("livelock: no end after %u steps, at %s:%u", STEPS_MAX, at->file, at->line);
    self->passed = true;
}

void engine_point(const struct site *at)
{
    if (!engine.running)
        return;
    engine_pass(at);
    self->passed = false;
    go_on(self, CHOICE_POINT);
}

void engine_call_point(void)
{
    engine_point(SITE("call"));
}

void engine_block(enum vcpu_state state)
{
    if (!engine.running)
        broke("CPU 0 would wait for ever outside of an execution");
    self->state = state;
    self->passed = false;
    go_on(self, CHOICE_BLOCK);
}

static void vcpu_main(void)
{
    struct vcpu *c = self;
    if (scenario->script[c->id])
        scenario->script[c->id]();
    c->state = VCPU_DONE;
    go_on(c, CHOICE_BLOCK);
    __builtin_unreachable();
}

/* ---- what mm/ and sched/idle.c ask of the machine and of the scheduler ---- */

unsigned cpu_id(void)
{
    return self->id;
}

unsigned cpu_node(unsigned cpu)
{
    return scenario->cpu_node[cpu];
}

u64 time_ns(void)
{
    return world.now;
}

void preempt_disable(void)
{
    self->preempt++;
}

void preempt_enable(void)
{
    if (--self->preempt == 0)
        oracle_preemptible();
}

void preempt_enable_no_resched(void)
{
    preempt_enable();
}

unsigned preempt_count(void)
{
    return self->preempt;
}

/* As in sched/runq.c: the thread that has become runnable runs till it blocks. */
void runq_schedule(void)
{
    do {
        store_relaxed(&world.resched[self->id], 0);
        if (engine.tracing)
            trace(NULL, "a thread runs");
        if (scenario->threads[self->id])
            scenario->threads[self->id]();
    } while (need_resched());
}

void sleep_arm_idle(u64 when)
{
    if (engine.tracing)
        trace(NULL, "sets its timer");
    self->timer = when;
}

/* ---- what an execution starts from ---- */

extern char __start_mm_data[], __stop_mm_data[], __start_mm_bss[], __stop_mm_bss[];

static struct piece {
    char *at, *copy;
    size_t bytes;
} pieces[8];
static unsigned nr_pieces;
static struct world world_copy;

static void piece_add(void *at, size_t bytes)
{
    struct piece *p = &pieces[nr_pieces++];
    *p = (struct piece){.at = at, .bytes = bytes, .copy = malloc(bytes)};
    memcpy(p->copy, at, bytes);
}

static void snapshot(void)
{
    char *used = (char *)&mm_zones[mm_zone_count], *end = (char *)&mm_zones[MAX_ZONES];
    while (nr_pieces)
        free(pieces[--nr_pieces].copy);
    piece_add(__start_mm_data, (size_t)(__stop_mm_data - __start_mm_data));
    piece_add(__start_mm_bss, (size_t)(used - __start_mm_bss));
    piece_add(end, (size_t)(__stop_mm_bss - end)); /* zones that are not there do not change */
    for (unsigned n = 0; on_classic() && n < classic_nr_heaps; n++)
        piece_add(classic_heaps[n].record, classic_heaps[n].metadata_bytes);
    for (unsigned n = 0; n < mm_zone_count; n++)
        piece_add(mm_zones[n].gig, mm_zones[n].nr_gigs * sizeof(struct gigablock) +
                                       mm_zones[n].nr_pbs * sizeof(struct pageblock));
    world_copy = world;
}

static void put_back(void)
{
    for (unsigned n = 0; n < nr_pieces; n++)
        memcpy(pieces[n].at, pieces[n].copy, pieces[n].bytes);
    size_t frames = world_copy.nr_frames * sizeof(struct frame);
    memcpy(&world, &world_copy, offsetof(struct world, frame) + frames);
}

/* mm/ as it is before mm_init(): scenario after scenario begins with it. */
static void put_pristine(void)
{
    static char *data, *bss;
    size_t data_bytes = (size_t)(__stop_mm_data - __start_mm_data);
    size_t bss_bytes = (size_t)(__stop_mm_bss - __start_mm_bss);
    if (!data) {
        data = malloc(data_bytes);
        bss = malloc(bss_bytes);
        memcpy(data, __start_mm_data, data_bytes);
        memcpy(bss, __start_mm_bss, bss_bytes);
    }
    memcpy(__start_mm_data, data, data_bytes);
    memcpy(__start_mm_bss, bss, bss_bytes);
}

void engine_prepare(const struct scenario *s)
{
    scenario = s;
    engine = (struct engine){.running = false};
    put_pristine();
    memory_forget();
    catch_crashes();
    if (!explore_memory)
        explore_memory = mmap(NULL, (size_t)PFN_END * FRAME_SIZE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (explore_memory == MAP_FAILED)
        broke("no address space");
    nr_cpus = s->cpus;
    nr_nodes = s->nodes;
    memset(&world, 0, sizeof(world));
    world.now = 1000000000;
    for (unsigned n = 0; n < MAX_CPUS; n++)
        world.cpu[n].id = n;
    self = &world.cpu[0];
    memory_reset();
    struct mm_config cfg = {.nr_nodes = s->nodes, .range = s->range, .zone_gib = s->zone_gib};
    while (cfg.nr_ranges < RANGES_MAX && s->range[cfg.nr_ranges].end)
        cfg.nr_ranges++;
    if (mm_backend_set(s->alloc ? s->alloc : "limpid") != 0 || mm_init(&cfg) != 0 ||
        (s->strategy && mm_strategy_set(s->strategy) != 0))
        broke("no such machine");
    oracle_reset(s);
    mm_cpu_state_set(CPU_BUSY); /* as it is already: to learn where it stands */
    engine.states = memory_last_locked();
    if (s->setup)
        s->setup();
    self = &world.cpu[0];
    snapshot();
}

enum outcome engine_run(void)
{
    put_back();
    memory_reset();
    engine.sum = 0;
    engine.steps = 0;
    engine.why[0] = 0;
    for (unsigned n = 0; n < scenario->cpus; n++) {
        world.cpu[n].chain = hash_mix(n, 0); /* two CPUs' first steps are not one and the same */
        if (scenario->script[n])
            stack_make(n);
        else
            world.cpu[n].state = VCPU_DONE;
    }
    /* Decided out here: the first decision, like any, may find that nothing follows. */
    checking = true;
    if (setjmp(checks_out) == 0) {
        self = decide(NULL, CHOICE_POINT);
        engine.running = true;
        stack_switch(&main_top, stack_top[self->id]);
        engine.running = false;
        if (outcome == RAN)
            oracle_at_rest();
    }
    engine.running = checking = false;
    return outcome;
}
