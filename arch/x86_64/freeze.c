/*
 * Stopping the other CPUs for good, so that one can tell what went wrong, and they do not run on
 * with what is broken.
 *
 * Owns `freezing` and where each CPU was stopped; cpu_arch.frozen says that the latter is
 * complete. No locks: whoever holds one may be stopped with it.
 *
 * By NMI, since a CPU with interrupts off has to stop, too. One that serves an NMI already, or
 * that is gone altogether, does not answer; nobody waits for it longer than FREEZE_WAIT_NS.
 * Next: kernel/panic.c.
 */
#include "machine.h"

#define FREEZE_WAIT_NS 2000000000ULL /* for all together; vCPUs may wait long for their host */
#define IPI_NMI        0x400         /* delivery mode NMI; the vector is not used (SDM3 11.6.1) */

static bool freezing; /* (a) once true, every NMI is the last */
static u32 deaf;      /* (a) the id of a CPU + 1 that must not answer; 0: none */
static struct cpu_place places[MAX_CPUS]; /* (o) until `frozen`, then constant */

extern char trap_handled[], trap_handled_paranoid[]; /* entry.asm */

static void __attribute__((noreturn)) freeze_stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* First thing in the handler of every NMI. */
void freeze_answer(const struct trapframe *tf)
{
    struct cpu *c = this_cpu();
    /* Acquire: pairs with the exchange below, and in machine_deafen(). */
    if (load_acquire(&deaf) == c->id + 1)
        freeze_stop(); /* no NMI comes through before an iretq, which never comes */
    if (!load_acquire(&freezing))
        return;
    places[c->id] = (struct cpu_place){tf->rip, tf->rsp, tf->rbp, trap_from_user(tf)};
    store_release(&c->arch->frozen, true); /* pairs with the acquires below */
    freeze_stop();
}

void machine_freeze_others(void)
{
    if (xchg(&freezing, true))
        return;
    apic_nmi_others();
    u64 end = time_ns() + FREEZE_WAIT_NS;
    for (unsigned id = 0; id < nr_cpus; id++) {
        const struct cpu *c = cpu_by_id(id);
        if (id == cpu_id() || !load_acquire(&c->online))
            continue;
        while (!load_acquire(&c->arch->frozen) && time_ns() < end)
            cpu_relax();
    }
}

bool machine_frozen_at(unsigned cpu, struct cpu_place *place)
{
    if (!load_acquire(&cpu_by_id(cpu)->arch->frozen))
        return false;
    *place = places[cpu];
    return true;
}

void machine_deafen(unsigned cpu)
{
    xchg(&deaf, cpu + 1);
    apic_ipi(cpu_by_id(cpu)->apic_id, IPI_NMI);
}

void trap_interrupted(u64 frame, struct cpu_place *place)
{
    const struct trapframe *tf = (const struct trapframe *)(frame + 16);
    _Static_assert(TRAP_FRAME_BYTES == 16 + sizeof(struct trapframe), "entry.asm, STACK_FRAME");
    *place = (struct cpu_place){tf->rip, tf->rsp, tf->rbp, trap_from_user(tf)};
}

bool trap_is_entry(u64 return_address)
{
    return return_address == (u64)trap_handled || return_address == (u64)trap_handled_paranoid;
}
