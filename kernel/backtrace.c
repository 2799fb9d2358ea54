/*
 * Backtraces. A function that calls others keeps a frame pointer (-fno-omit-frame-pointer), so a
 * stack is a chain of pairs: the caller's frame pointer, and the address to return to in the
 * caller. Only where a CPU was interrupted, the innermost function may have none, or not yet: see
 * caller_without_pair().
 *
 * The kernel may be telling this because that chain is broken. So nothing is believed: each pair
 * has to lie on the stack that the CPU stands on and above the one before, and each address has
 * to be code. What fails ends the trace, with a line that says why. From one stack to another
 * (an IST stack to what was interrupted) only traps lead.
 *
 * Owns nothing. Next: panic.c, symbols.c, arch/x86_64/freeze.h.
 */
#include "kernel/backtrace.h"
#include "kernel/console.h"
#include "kernel/symbols.h"
#include "lib/string.h"

#define LINES_MAX 48 /* of one trace; a recursion is one line */
#define PAIRS_MAX (KSTACK_SIZE / 16)
#define TRAPS_MAX 8

struct trace {
    unsigned cpu;
    u64 low, high; /* the stack that it follows */
    unsigned lines;

    /* A line that is not printed yet, since the next ones may be the same. */
    u64 address;
    bool behind_call; /* the address is behind a call, maybe the last instruction of its function */
    bool trapped;     /* a trap came at this very instruction */
    unsigned times;   /* 0: there is none */
};

static void trace_flush(struct trace *t)
{
    u64 offset = 0;
    if (t->times == 0)
        return;
    const char *name = symbol_find(t->address - t->behind_call, &offset);
    if (name)
        log_raw_line("    0x%016lx %s+0x%lx%s", t->address, name, offset + t->behind_call,
                     t->trapped ? "  <- a trap came here" : "");
    else
        log_raw_line("    0x%016lx (no code of the kernel)%s", t->address,
                     t->trapped ? "  <- a trap came here" : "");
    if (t->times > 1)
        log_raw_line("    ... and the same %u times more", t->times - 1);
    t->times = 0;
    t->lines++;
}

static void trace_add(struct trace *t, u64 address, bool behind_call, bool trapped)
{
    if (t->times && t->address == address) {
        t->times++;
        return;
    }
    trace_flush(t);
    t->address = address;
    t->behind_call = behind_call;
    t->trapped = trapped;
    t->times = 1;
}

/* Is there a call in front of this address: of `function`, or of what is not written in it? */
static bool is_behind_call(u64 address, u64 function)
{
    static const u8 lengths[] = {2, 3, 4, 6, 7}; /* of CALL r/m64: FF /2 (APM3, CALL) */
    const u8 *p = (const u8 *)address;
    s32 distance;

    if (!symbol_is_code(address - 8) || !symbol_is_code(address - 1))
        return false;
    memcpy(&distance, p - 4, sizeof(distance));
    if (p[-5] == 0xe8) /* CALL rel32 */
        return address + (u64)(s64)distance == function;
    for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++)
        if (p[-lengths[i]] == 0xff && (p[1 - lengths[i]] >> 3 & 7) == 2)
            return true;
    return false;
}

/* Has the function that begins at `start` set rbp, somewhere in front of `address`? */
static bool has_set_rbp(u64 start, u64 address)
{
    static const u8 mov_rbp_rsp[] = {0x48, 0x89, 0xe5};
    for (u64 at = start; at + sizeof(mov_rbp_rsp) <= address; at++)
        if (memcmp((const void *)at, mov_rbp_rsp, sizeof(mov_rbp_rsp)) == 0)
            return true;
    return false;
}

/*
 * Interrupted before it has made its pair, after it has dropped it (at RET), or in a function
 * that makes none because it calls nobody: the return address is on top of the stack, or behind a
 * pushed rbp. Believed if a call of this very function stands in front of it. 0: none.
 */
static u64 caller_without_pair(const struct trace *t, const struct cpu_place *place)
{
    u64 offset = 0, start = place->rip;
    if (symbol_find(place->rip, &offset)) {
        start -= offset;
        if (has_set_rbp(start, place->rip) && *(const u8 *)place->rip != 0xc3 /* RET */)
            return 0;
    }
    for (u64 at = place->rsp; at <= place->rsp + 8; at += 8) {
        if (!IS_ALIGNED(at, 8) || at < t->low || at + 8 > t->high)
            return 0;
        if (is_behind_call(*(const u64 *)at, start))
            return *(const u64 *)at;
    }
    return 0;
}

/* NULL, or why the pair at `fp` must not be followed. */
static const char *pair_refused(const struct trace *t, u64 fp, u64 above, u64 bytes)
{
    if (!IS_ALIGNED(fp, 8))
        return "is not aligned";
    if (fp < t->low || fp >= t->high)
        return "is not on this stack";
    if (fp < above)
        return "does not rise";
    return t->high - fp < bytes ? "is at the very end of its stack" : NULL;
}

/*
 * Follows the pairs up to a trap, or to the end. True: a trap, and `place` is where it came. The
 * stack pointer is below them all.
 */
static bool trace_pairs(struct trace *t, struct cpu_place *place, u64 address, bool behind_call)
{
    u64 fp = place->rbp, above = place->rsp;
    for (unsigned n = 0; n < PAIRS_MAX && t->lines < LINES_MAX; n++) {
        if (fp == 0) { /* as the first function of a thread finds it */
            trace_flush(t);
            return false;
        }
        bool trap = behind_call && trap_is_entry(address);
        const char *why = pair_refused(t, fp, above, trap ? TRAP_FRAME_BYTES : 16);
        if (why) {
            trace_flush(t);
            log_raw_line("    the frame pointer 0x%lx %s: the trace ends", fp, why);
            return false;
        }
        if (trap) {
            trap_interrupted(fp, place);
            return true;
        }
        const u64 *pair = (const u64 *)fp;
        above = fp + 16;
        fp = pair[0];
        address = pair[1];
        behind_call = true;
        if (!symbol_is_code(address)) {
            trace_flush(t);
            log_raw_line("    0x%016lx is no code of the kernel: the trace ends", address);
            return false;
        }
        trace_add(t, address, true, false);
    }
    trace_flush(t);
    log_raw_line("    ... and more");
    return false;
}

void backtrace_print(unsigned cpu, const struct cpu_place *from, bool behind_call)
{
    struct trace t = {.cpu = cpu};
    struct cpu_place place = *from;

    for (unsigned traps = 0; traps < TRAPS_MAX; traps++) {
        u64 address = place.rip, caller = 0;
        trace_flush(&t);
        if (place.user) {
            log_raw_line("    ring 3, rip 0x%lx", address);
            return;
        }
        trace_add(&t, address, behind_call, traps > 0);
        if (!cpu_stack_find(cpu, place.rsp, &t.low, &t.high)) {
            trace_flush(&t);
            log_raw_line("    the stack pointer 0x%lx is on no stack of this CPU", place.rsp);
            /* It ran off its stack, maybe, and the frame pointer is still on it. */
            if (!cpu_stack_find(cpu, place.rbp, &t.low, &t.high))
                return;
        }
        if (!behind_call && (caller = caller_without_pair(&t, &place)) != 0)
            trace_add(&t, caller, true, false);
        if (!trace_pairs(&t, &place, caller ? caller : address, behind_call || caller))
            return;
        behind_call = false;
    }
    trace_flush(&t);
    log_raw_line("    ... and more traps");
}
