/*
 * The end of the road: which promise broke, and what every CPU was doing; then out, with a status
 * that no test takes for a pass.
 *
 * Owns the question who panicked first. Takes no lock and allocates nothing. It does not trust
 * what it reads, since something just broke: when telling one thing breaks, it goes on with the
 * next, a few times.
 *
 * Next: backtrace.c, log.c, arch/x86_64/freeze.c; docs/debugging.md reads an example.
 */
#include "kernel/backtrace.h"
#include "kernel/console.h"
#include "kernel/symbols.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "sched/sched.h"

#define TEXT_MAX   224
#define AGAIN_MAX  3    /* panics while telling; each needs some more of the stack */
#define OPCODE_HLT 0xf4 /* APM3, HLT */

static u32 panic_owner; /* (a) CPU id + 1 of the first; cas decides who it is */
/* (a) What each CPU had to say that panicked, on its stack: it does not come back from there. */
static const char *panic_text[MAX_CPUS];
/* (o) of the owner: */
static struct cpu_place panic_place; /* who called panic() */
static unsigned panic_step;          /* how far it has come: panic_tell_rest() */
static unsigned panic_again;         /* faults on the way */

/* A message that is about a promise begins with its number: "P2 one owner: ...". */
static const char *const promises[] = {
    "no leak: what reaches a guest held only zeroes when it was mapped",
    "one owner: a frame is reserved, allocated, free, stored, in flight or retired, never two",
    "clean means zero: a frame that counts as clean holds only zeroes",
    "scrubbing hides nothing: with every claim and store given back it would also fail",
    "no clearing under a lock: a zone lock is held for a bounded number of steps",
    "cleanliness survives: merging never loses which frames are clean",
    "free costs no clears: it touches metadata only",
    "idle work yields: a thread waits for at most one frame's clear",
    "no dirt is forgotten: somebody is awake for it, and it does not grow older than allowed",
};

static void panic_tell_promise(const char *text)
{
    unsigned n = (unsigned)text[1] - '1';
    if (text[0] == 'P' && n < ARRAY_SIZE(promises) && text[2] == ' ')
        log_raw_line("  broken promise: P%u, %s", n + 1, promises[n]);
    else
        log_raw_line("  broken promise: none of P1 to P9 by name; the line above says what");
}

static void __attribute__((noreturn)) panic_stop(void)
{
    for (;;) {
        irqs_off();
        __asm__ volatile("hlt");
    }
}

static void panic_tell_locks(const struct cpu *c)
{
    const struct spinlock *l = c->waits_for;
    if (c->nr_locks_held == 0)
        log_raw_line("  holds no lock");
    for (unsigned i = 0; i < c->nr_locks_held && i < LOCKS_HELD_MAX; i++)
        log_raw_line("  holds lock '%s' (rank %u.%u)", c->locks_held[i]->name,
                     c->locks_held[i]->rank, c->locks_held[i]->sub);
    if (!l)
        return;
    u32 holder = load_relaxed(&l->holder);
    if (holder)
        log_raw_line("  waits for lock '%s' (rank %u.%u), which cpu %u holds", l->name, l->rank,
                     l->sub, holder - 1);
    else
        log_raw_line("  waits for lock '%s' (rank %u.%u), which nobody holds", l->name, l->rank,
                     l->sub);
}

static bool panic_is_halted(const struct cpu_place *place)
{
    return !place->user && symbol_is_code(place->rip - 1) &&
           *(const u8 *)(place->rip - 1) == OPCODE_HLT;
}

/* Who, and in what state. `place` NULL: that CPU did not stop. */
static void panic_tell_who(const struct cpu *c, const struct cpu_place *place)
{
    const struct thread *t = c->current;
    const char *text = load_acquire(&panic_text[c->id]);
    const char *where = !place ? "" : place->user ? ", in ring 3" : ", halted";

    if (place && !place->user && !panic_is_halted(place))
        where = "";
    log_raw_line("cpu %u (node %u): thread %s%s%s%s%s%s", c->id, c->node,
                 t ? thread_name(t) : "none yet", t ? ", " : "", t ? thread_state_name(t) : "",
                 t && t == c->idle ? ", idle" : "", c->irq_depth ? ", in an interrupt" : "", where);
    if (text && load_relaxed(&panic_owner) != c->id + 1)
        log_raw_line("  panicked, too: %s", text);
    panic_tell_locks(c);
}

static void panic_tell_calls(const struct cpu *c, const struct cpu_place *place)
{
    if (place)
        backtrace_print(c->id, place, load_relaxed(&panic_owner) == c->id + 1);
    else
        log_raw_line("  does not answer the NMI: no backtrace; it is dead, or still running");
}

/* Two steps for each CPU, the owner first. What is asked for again after a fault is the rest. */
static void __attribute__((noreturn)) panic_tell_rest(const struct cpu *me)
{
    while (panic_step < 2 * nr_cpus) {
        unsigned turn = panic_step / 2, calls = panic_step % 2;
        unsigned id = turn == 0 ? me->id : turn <= me->id ? turn - 1 : turn;
        const struct cpu *c = cpu_by_id(id);
        struct cpu_place place = panic_place;

        panic_step++;
        if (!load_acquire(&c->online))
            continue;
        bool stopped = c == me || machine_frozen_at(id, &place);
        (calls ? panic_tell_calls : panic_tell_who)(c, stopped ? &place : NULL);
    }
    /* Once more, for who sees only the end of it: a screen, the tail of a log. */
    log_raw_line("end of the panic on cpu %u: %s", me->id, panic_text[me->id]);
    machine_exit(EXIT_PANIC);
}

/* We own the panic already: whatever broke, broke again while it was being told. */
static void __attribute__((noreturn)) panic_go_on(const struct cpu *me, const char *text)
{
    static const char enough[] = "\nPANIC while panicking; giving up\n";
    if (panic_step == 0 || panic_again++ == AGAIN_MAX) {
        serial_write(enough, sizeof(enough) - 1);
        machine_exit(EXIT_PANIC);
    }
    log_raw_line("  telling this broke: %s", text);
    panic_tell_rest(me);
}

void panic(const char *fmt, ...)
{
    irqs_off();
    struct cpu *c = this_cpu();
    const u64 *frame = __builtin_frame_address(0);
    u32 me = c->id + 1;
    char text[TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (load_relaxed(&panic_owner) == me) /* only we could have written that */
        panic_go_on(c, text);
    store_release(&panic_text[c->id], text); /* pairs with the acquire in panic_tell_cpu() */
    if (!cas(&panic_owner, 0, me))
        panic_stop(); /* another CPU tells the story, ours included */

    panic_place = (struct cpu_place){.rip = frame[1], .rbp = frame[0], .rsp = (u64)(frame + 2)};
    if (nr_cpus > 1)
        machine_freeze_others();
    log_enter_panic();
    log_raw_line("PANIC: %s", text);
    panic_tell_promise(text);
    log_raw_line("  on cpu %u, %lu ms after kernel entry", c->id, time_ns() / 1000000);
    panic_tell_rest(c);
}
