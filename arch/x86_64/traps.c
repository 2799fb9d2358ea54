/*
 * Where traps go. entry.asm saves the registers and calls trap_handle() (ordinary traps),
 * trap_handle_paranoid() (NMI, #DF, #MC, #DB in ring 0) or hypercall_handle().
 *
 *   from ring 3   a fault goes to on_user_trap() with interrupts on; every way back to ring 3
 *                 goes through user_return_prepare()
 *   from ring 0   a fault is a bug: registers, then panic. A hit on a guard page says so.
 *   interrupts    end with a look at need_resched
 *
 * Owns the IDT (c). No locks. Next: entry.asm, mce.c.
 */
#include "machine.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

struct gate { /* APM2 4.8.3 */
    u16 offset_low, selector;
    u8 ist, type;
    u16 offset_mid;
    u32 offset_high, reserved;
};

#define GATE_INTERRUPT 0x8e /* present, ring 0, interrupts off */
#define GATE_RING3     0xee

extern const u64 trap_stubs[256];
static struct gate idt[256] __attribute__((aligned(16)));

const char *trap_name(u64 vector)
{
    static const char *const name[] = {
        "divide error",
        "debug exception",
        "NMI",
        "breakpoint",
        "overflow",
        "bound range",
        "invalid opcode",
        "device not available",
        "double fault",
        "vector 9",
        "invalid TSS",
        "segment not present",
        "stack fault",
        "general protection",
        "page fault",
        "vector 15",
        "x87 error",
        "alignment check",
        "machine check",
        "SIMD error",
        "virtualization exception",
        "control protection",
    };
    if (vector < ARRAY_SIZE(name))
        return name[vector];
    return vector == TRAP_HYPERCALL ? "hypercall" : "unknown trap";
}

void trap_table_init(void)
{
    static const u8 ist[32] = {
        [TRAP_DB] = IST_DB, [TRAP_NMI] = IST_NMI, [TRAP_DF] = IST_DF, [TRAP_MC] = IST_MC};
    for (unsigned v = 0; v < 256; v++) {
        u64 at = trap_stubs[v];
        idt[v] = (struct gate){
            .offset_low = (u16)at,
            .offset_mid = (u16)(at >> 16),
            .offset_high = (u32)(at >> 32),
            .selector = KERNEL_CS,
            .ist = v < 32 ? ist[v] : 0,
            /* int3 may come from ring 3, so that it has its own name; other int n are #GP. */
            .type = v == TRAP_BP ? GATE_RING3 : GATE_INTERRUPT,
        };
    }
}

void trap_table_load(void)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) idtr = {sizeof(idt) - 1, (u64)idt};
    __asm__ volatile("lidt %0" ::"m"(idtr));
}

/*
 * A register dump goes through the log like any line, unless this CPU broke down inside it.
 */
static void trap_say(const char *fmt, ...) __printf_like(1, 2);
static void trap_say(const char *fmt, ...)
{
    const struct cpu *c = this_cpu();
    char line[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (c->nr_locks_held && c->locks_held[c->nr_locks_held - 1]->rank == RANK_LOG) {
        serial_write("\n", 1);
        serial_write(line, strlen(line));
    } else {
        log_line("%s", line);
    }
}

static void __attribute__((noreturn)) trap_kernel_fault(const struct trapframe *tf)
{
    irqs_off();
    trap_say("rax %016lx rbx %016lx rcx %016lx rdx %016lx", tf->rax, tf->rbx, tf->rcx, tf->rdx);
    trap_say("rsi %016lx rdi %016lx rbp %016lx rsp %016lx", tf->rsi, tf->rdi, tf->rbp, tf->rsp);
    trap_say("r8  %016lx r9  %016lx r10 %016lx r11 %016lx", tf->r8, tf->r9, tf->r10, tf->r11);
    trap_say("r12 %016lx r13 %016lx r14 %016lx r15 %016lx", tf->r12, tf->r13, tf->r14, tf->r15);
    trap_say("rip %016lx cs %04lx ss %04lx rflags %lx cr2 %016lx cr3 %lx", tf->rip, tf->cs, tf->ss,
             tf->rflags, tf->cr2, read_cr3());

    /* A push into a guard page faults, and so does the push of that fault: #DF, with CR2 kept. */
    const char *guard =
        tf->vector == TRAP_PF || tf->vector == TRAP_DF ? kstack_guard_name(tf->cr2) : NULL;
    if (guard)
        panic("stack overflow: %s, rsp %#lx, at rip %#lx on CPU %u", guard, tf->rsp, tf->rip,
              cpu_id());
    if (tf->vector == TRAP_PF)
        panic("page fault in the kernel: %s %#lx (%s) at rip %#lx on CPU %u",
              tf->error & PF_FETCH   ? "executing"
              : tf->error & PF_WRITE ? "writing"
                                     : "reading",
              tf->cr2, tf->error & PF_PRESENT ? "forbidden" : "not mapped", tf->rip, cpu_id());
    panic("%s in the kernel: error %#lx at rip %#lx on CPU %u", trap_name(tf->vector), tf->error,
          tf->rip, cpu_id());
}

static void trap_interrupt(const struct trapframe *tf)
{
    struct cpu *c = this_cpu();
    c->irq_depth++;
    c->arch->irq_locks = c->nr_locks_held;
    switch (tf->vector) {
    case VECTOR_SERIAL:
        serial_handle();
        apic_eoi();
        break;
    case VECTOR_TIMER:
        apic_eoi(); /* first: the handler arms the next one */
        timer_handle();
        break;
    case VECTOR_KICK: /* it has ended HLT; need_resched is looked at on the way out */
        apic_eoi();
        break;
    case VECTOR_SHOOT:
        apic_eoi(); /* first: a request that comes while we answer gets an interrupt of its own */
        shoot_answer();
        break;
    case VECTOR_NOTE:
        apic_eoi();
        machine_check_tell();
        break;
    case VECTOR_APIC_ERROR:
        apic_eoi();
        log_line("cpu %u: local APIC error %#x", c->id, apic_error());
        break;
    case VECTOR_SPURIOUS: /* wants no EOI (SDM3 11.9) */
        break;
    default:
        if (!apic_in_service((unsigned)tf->vector))
            break; /* a masked 8259 sighs: spurious IRQ 7 or 15, or int n of our own: no EOI */
        apic_eoi();
        log_line("cpu %u: interrupt %#lx, which nobody asked for", c->id, tf->vector);
    }
    c->arch->irq_locks = 0;
    c->irq_depth--;
}

/*
 * The last look before ring 3, with interrupts off until iretq. on_user_return() may turn them
 * on for a while; then what it had looked at may have changed, so all is looked at again. If it
 * turned them off again by itself, that second look was its own.
 */
void user_return_prepare(struct trapframe *tf)
{
    for (;;) {
        irqs_off();
        if (need_resched())
            on_preempt();
        on_user_return();
        if (irqs_enabled())
            continue;
        if (tf->rip < USER_TOP)
            return;
        /* iretq would fault in ring 0 (a hypercall in the last bytes below USER_TOP). */
        tf->vector = TRAP_GP;
        irqs_on();
        on_user_trap(tf);
        if (tf->rip >= USER_TOP)
            panic("a guest returns to %#lx", tf->rip);
    }
}

void trap_handle(struct trapframe *tf)
{
    bool user = trap_from_user(tf);
    if (tf->vector >= 32) {
        trap_interrupt(tf);
        if (!user && need_resched() && preempt_count() == 0)
            on_preempt();
    } else if (user) {
        if (tf->vector == TRAP_DB)
            __asm__ volatile("mov %0, %%dr6" ::"r"(0xffff0ff0UL)); /* sticky (APM2 13.1.1.3) */
        irqs_on();
        on_user_trap(tf);
    } else {
        trap_kernel_fault(tf);
    }
    if (user)
        user_return_prepare(tf);
}

void hypercall_handle(struct trapframe *tf)
{
    irqs_on();
    on_hypercall(tf);
    user_return_prepare(tf);
}

/*
 * May have interrupted anything: a lock holder, this file. So no locks and no lines here; what
 * is to be said is noted, and said by an interrupt that this CPU sends itself.
 */
void trap_handle_paranoid(struct trapframe *tf)
{
    struct cpu_arch *a = this_cpu()->arch;
    if (tf->vector == TRAP_MC) {
        machine_check_handle(tf);
        return;
    }
    if (tf->vector != TRAP_NMI)
        trap_kernel_fault(tf);
    freeze_answer(tf);
    a->nmi_rip = tf->rip;
    fetch_add(&a->nmis, 1);
    apic_ipi_self(VECTOR_NOTE);
}
