/*
 * The end of the road: who broke what, where, and then out, with a status that no test takes
 * for a pass.
 *
 * Owns nothing but the question who panicked first. Takes no lock, allocates nothing, and is
 * safe against itself: a panic inside a panic says so in one line and leaves.
 *
 * Next: log.c.
 */
#include "kernel/console.h"
#include "sched/sched.h"
#include "lib/printf.h"

#define BACKTRACE_MAX 24
#define KERNEL_HALF   0xffff800000000000ULL /* canonical upper half, APM2 5.3.1 */

static u32 panic_owner; /* (a) CPU id + 1 of the first; cas decides who it is */

static void __attribute__((noreturn)) panic_stop(void)
{
    for (;;) {
        irqs_off();
        __asm__ volatile("hlt");
    }
}

static void panic_print_locks(const struct cpu *c)
{
    if (c->nr_locks_held == 0) {
        log_raw_line("  locks held: none");
        return;
    }
    for (unsigned i = 0; i < c->nr_locks_held && i < LOCKS_HELD_MAX; i++) {
        const struct spinlock *l = c->locks_held[i];
        log_raw_line("  lock held: '%s', rank %u.%u", l->name, l->rank, l->sub);
    }
}

/*
 * Follows the saved frame pointers (every function keeps one: -fno-omit-frame-pointer). A chain
 * that does not rise within the upper half is the end of it: entry code, or a broken stack.
 */
static void panic_print_backtrace(void)
{
    const u64 *frame = __builtin_frame_address(0);

    log_raw_line("  backtrace (addr2line -pfe build/limpid.elf ADDRESS...):");
    for (unsigned i = 0; i < BACKTRACE_MAX; i++) {
        const u64 *next = (const u64 *)frame[0];
        u64 ret = frame[1];
        if (ret < KERNEL_HALF)
            break;
        log_raw_line("    0x%016lx", ret);
        if (next <= frame || (u64)next - (u64)frame > KSTACK_SIZE * 4 || !IS_ALIGNED((u64)next, 8))
            break;
        frame = next;
    }
}

void panic(const char *fmt, ...)
{
    irqs_off();
    struct cpu *c = this_cpu();
    u32 me = c->id + 1;

    if (!cas(&panic_owner, 0, me)) {
        if (load_relaxed(&panic_owner) != me) /* only we could have written that */
            panic_stop(); /* another CPU tells its story: ours would only garble it */
        /* Whatever broke, broke again while it was being told. Told it was in part. */
        static const char again[] = "\nPANIC while panicking; giving up\n";
        serial_write(again, sizeof(again) - 1);
        machine_exit(EXIT_PANIC);
    }
    if (nr_cpus > 1)
        machine_freeze_others();
    log_enter_panic();

    char text[224];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_raw_line("PANIC: %s", text);
    log_raw_line("  cpu %u (node %u), thread %s%s, %lu ms after kernel entry", c->id, c->node,
                 c->current ? thread_name(c->current) : "none yet",
                 c->irq_depth ? ", in an interrupt" : "", time_ns() / 1000000);
    panic_print_locks(c);
    panic_print_backtrace();
    machine_exit(EXIT_PANIC);
}
