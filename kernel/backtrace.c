/*
 * Backtraces. Every function keeps a frame pointer (-fno-omit-frame-pointer), so a stack is a
 * chain of pairs: the caller's frame pointer, and the address to return to in the caller.
 *
 * The kernel may be telling this because that chain is broken. So nothing is believed: each pair
 * has to lie on the stack that the CPU stands on and above the one before, and each address has
 * to be code. What fails ends the trace, with a line that says why. From one stack to another
 * (an IST stack to what was interrupted) only the frames lead that entry.asm makes up for it.
 *
 * Owns nothing. Next: panic.c, symbols.c, arch/x86_64/freeze.h.
 */
#include "kernel/backtrace.h"
#include "kernel/console.h"
#include "kernel/symbols.h"

#define LINES_MAX 48   /* of one trace; a recursion is one line */
#define STEPS_MAX 4096 /* more pairs than fit on all stacks of a CPU */

/* A line that is not printed yet, since the next ones may be the same. */
struct told {
    u64 address;
    bool behind_call; /* the address is behind a call, maybe the last instruction of its function */
    bool trapped;     /* a trap came at this very instruction */
    unsigned times, lines;
};

static void told_flush(struct told *t)
{
    u64 offset = 0;
    if (t->times == 0)
        return;
    const char *name = symbol_find(t->address - t->behind_call, &offset);
    if (name)
        log_raw_line("    0x%016lx %s+0x%lx%s", t->address, name, offset + t->behind_call,
                     t->trapped ? "  <- a trap came here" : "");
    else
        log_raw_line("    0x%016lx (code without a name)", t->address);
    if (t->times > 1)
        log_raw_line("    ... and the same %u times more", t->times - 1);
    t->times = 0;
    t->lines++;
}

static void told_add(struct told *t, u64 address, bool behind_call, bool trapped)
{
    if (t->times && t->address == address) {
        t->times++;
        return;
    }
    told_flush(t);
    t->address = address;
    t->behind_call = behind_call;
    t->trapped = trapped;
    t->times = 1;
}

/* NULL, or why the pair at `fp` must not be followed. Finds the stack that it lies on. */
static const char *pair_refused(unsigned cpu, u64 fp, u64 above, bool other_stack, u64 *low,
                                u64 *high)
{
    if (!IS_ALIGNED(fp, 8))
        return "is not aligned";
    if (other_stack) {
        if (!cpu_stack_find(cpu, fp, low, high))
            return "is on no stack of this CPU";
    } else if (fp < *low || fp >= *high) {
        return "is not on this stack";
    } else if (fp < above) {
        return "does not rise";
    }
    return *high - fp < 16 ? "is at the very end of its stack" : NULL;
}

void backtrace_print(unsigned cpu, const struct cpu_place *place, bool behind_call)
{
    struct told told = {0};
    u64 address = place->rip, fp = place->rbp, above = place->rsp, low, high;
    bool trapped = false, other_stack = false;

    if (place->user) {
        log_raw_line("    ring 3, rip 0x%lx", address);
        return;
    }
    if (!cpu_stack_find(cpu, above, &low, &high)) {
        log_raw_line("    the stack pointer 0x%lx is on no stack of this CPU", above);
        other_stack = true; /* it ran off its stack, maybe, and the frame pointer is still on it */
    }
    for (unsigned steps = 0; steps < STEPS_MAX && told.lines < LINES_MAX; steps++) {
        if (!symbol_is_code(address)) {
            told_flush(&told);
            if (trapped && address < USER_TOP)
                log_raw_line("    ring 3, rip 0x%lx", address);
            else
                log_raw_line("    0x%016lx is no code of the kernel: the trace ends", address);
            return;
        }
        told_add(&told, address, behind_call, trapped);
        if (fp == 0) { /* as the first function of a thread finds it */
            told_flush(&told);
            return;
        }
        const char *why = pair_refused(cpu, fp, above, other_stack, &low, &high);
        if (why) {
            told_flush(&told);
            log_raw_line("    the frame pointer 0x%lx %s: the trace ends", fp, why);
            return;
        }
        const u64 *pair = (const u64 *)fp;
        /* Behind the return address into a trap's entry comes the frame that was made up there. */
        trapped = behind_call && trap_is_entry(address);
        other_stack = trapped;
        behind_call = !trapped;
        above = fp + 16;
        fp = pair[0];
        address = pair[1];
    }
    told_flush(&told);
    log_raw_line("    ... and more");
}
