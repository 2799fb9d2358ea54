/*
 * From thread to thread, and into ring 3. Owns what a thread has in the CPU beyond its general
 * registers: CR3, the kernel stack that traps from ring 3 land on, x87 and SSE state, and the
 * odds and ends (selectors, debug registers) through which one guest could see another's.
 */
#include "machine.h"
#include "lib/string.h"

/* As FNINIT and reset leave them: all exceptions masked (APM1 6.2.1, 4.2.2). */
void arch_fpu_init(void *fpu)
{
    memset(fpu, 0, 512);
    *(u16 *)fpu = 0x37f;
    *(u32 *)((u8 *)fpu + 24) = 0x1f80;
}

void arch_thread_init(struct arch_thread *t, void *kstack_top, void (*entry)(void *), void *arg)
{
    u64 *sp = kstack_top;
    *--sp = 0;                 /* keeps the stack aligned as after a call (System V ABI 3.2.2) */
    *--sp = (u64)thread_begin; /* where stack_switch() returns to */
    *--sp = 0;                 /* rbp */
    *--sp = 0;                 /* rbx */
    *--sp = (u64)entry;        /* r12 */
    *--sp = (u64)arg;          /* r13 */
    *--sp = 0;                 /* r14 */
    *--sp = 0;                 /* r15 */
    *t = (struct arch_thread){.rsp = (u64)sp, .kstack = kstack_top};
}

/*
 * Old AMD CPUs leave the last x87 instruction's addresses alone in FXRSTOR unless an exception
 * is pending (APM2 11.4.4): a load of our own replaces what the last guest left there.
 */
static void fpu_load(const void *fpu)
{
    static const u32 zero;
    __asm__ volatile("fnclex; emms; fildl %0; fxrstor64 (%1)" ::"m"(zero), "r"(fpu) : "memory");
}

/* Nothing of the last guest in the selectors, their bases or the debug registers. */
static void switch_clear_user_state(void)
{
    u64 dr7;
    /* Loading GS clears the base: between the swaps it is the guest's, and an NMI sees that. */
    __asm__ volatile("movl %0, %%ds; movl %0, %%es; movl %0, %%fs\n\t"
                     "swapgs; movl %0, %%gs; swapgs" ::"r"(0)
                     : "memory");
    wrmsr(MSR_FS_BASE, 0); /* a null selector need not clear it (APM2 4.5.3) */
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    __asm__ volatile("mov %%dr7, %0" : "=r"(dr7));
    if (dr7 != 0x400)
        __asm__ volatile("mov %0, %%dr7" ::"r"(0x400UL));
}

static void switch_fpu(struct cpu_arch *a, struct arch_thread *prev, struct arch_thread *next)
{
    if (prev->fpu)
        __asm__ volatile("fxsave64 (%0)" ::"r"(prev->fpu) : "memory");
    if (next->fpu) {
        if (a->fpu_shut)
            __asm__ volatile("clts");
        a->fpu_shut = false;
        fpu_load(next->fpu);
    } else if (next->space && !a->fpu_shut) {
        write_cr0(read_cr0() | CR0_TS); /* a guest without FPU state: #NM, not its neighbour's */
        a->fpu_shut = true;
    }
}

void arch_switch(struct arch_thread *prev, struct arch_thread *next)
{
    struct cpu *c = this_cpu();
    ASSERT(!irqs_enabled());
    if (c->cr3 != (next->space ? next->space->root : kernel_root))
        shoot_load_root(next->space);
    c->kernel_rsp = c->arch->tss.rsp0 = (u64)next->kstack;
    switch_fpu(c->arch, prev, next);
    if (next->space)
        switch_clear_user_state();
    stack_switch(&prev->rsp, next->rsp);
}

void user_enter(u64 entry, u64 stack, u64 rdi, u64 rsi)
{
    irqs_off();
    struct trapframe first = {
        .rip = entry,
        .cs = USER_CS,
        .rflags = RFLAGS_FIXED | RFLAGS_IF,
        .rsp = stack,
        .ss = USER_DS,
        .rdi = rdi,
        .rsi = rsi,
    };
    trap_return(&first); /* all other registers are zero */
}
