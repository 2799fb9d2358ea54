/*
 * Machine checks, and what NMIs and machine checks have to say.
 *
 * A machine check may interrupt a lock holder, so its handler only notes: the frame that is bad
 * goes into a small table without locks, and machine_check_next() gives it to a thread, which
 * retires it. Owns the table (a). APM2 9.3 (the registers), SDM3 16.3.
 */
#include "machine.h"
#include "lib/log.h"

#define MCG_CAP_COUNT   0xff
#define MCG_CAP_CTL     (1u << 8)
#define MCG_STATUS_RIPV (1u << 0) /* the interrupted code can go on */
#define MCI_VALID       (1ULL << 63)
#define MCI_ADDRV       (1ULL << 58)
#define MCI_PCC         (1ULL << 57) /* the CPU's state is lost */

#define NOTES 32
static u64 note[NOTES];  /* (a) pfn + 1 of a bad frame, 0: empty */
static u64 notes_lost;   /* (a) that found the table full */
static u64 notes_untold; /* (a) machine checks without a log line so far */
static u64 last_status;  /* (a) of any bank, for the line */

static void (*on_note)(void); /* (c) once the scheduler is up */

void machine_check_on_note(void (*fn)(void))
{
    store_release(&on_note, fn); /* pairs with the acquire in machine_check_tell() */
}

void machine_check_init(void)
{
    if (!cpu_features.mce)
        return;
    u64 cap = rdmsr(MSR_MCG_CAP);
    if (cap & MCG_CAP_CTL)
        wrmsr(MSR_MCG_CTL, ~0ULL);
    for (u32 bank = 0; bank < (cap & MCG_CAP_COUNT); bank++) {
        wrmsr(MSR_MC0_CTL + bank * 4, ~0ULL);
        wrmsr(MSR_MC0_CTL + bank * 4 + 1, 0); /* what the firmware saw is not ours */
    }
    wrmsr(MSR_MCG_STATUS, 0);
}

static void machine_check_note(u64 pfn)
{
    for (unsigned i = 0; i < NOTES; i++)
        if (load_relaxed(&note[i]) == pfn + 1 || cas(&note[i], 0, pfn + 1))
            return;
    fetch_add(&notes_lost, 1);
}

bool machine_check_next(pfn_t *pfn)
{
    for (unsigned i = 0; i < NOTES; i++) {
        u64 v = load_relaxed(&note[i]) ? xchg(&note[i], 0) : 0;
        if (v) {
            *pfn = v - 1;
            return true;
        }
    }
    return false;
}

void machine_check_handle(struct trapframe *tf)
{
    u64 banks = rdmsr(MSR_MCG_CAP) & MCG_CAP_COUNT;
    bool lost = !(rdmsr(MSR_MCG_STATUS) & MCG_STATUS_RIPV);
    for (u32 bank = 0; bank < banks; bank++) {
        u32 base = MSR_MC0_CTL + bank * 4; /* CTL, STATUS, ADDR, MISC */
        u64 status = rdmsr(base + 1);
        if (!(status & MCI_VALID))
            continue;
        if (status & MCI_ADDRV)
            machine_check_note((rdmsr(base + 2) & PTE_PHYS) >> FRAME_SHIFT);
        if (status & MCI_PCC)
            lost = true;
        store_relaxed(&last_status, status); /* for the line only */
        wrmsr(base + 1, 0);
    }
    if (lost)
        panic("machine check: status %#lx, rip %#lx on CPU %u cannot go on", last_status, tf->rip,
              cpu_id());
    fetch_add(&notes_untold, 1);
    apic_ipi_self(VECTOR_NOTE);
    wrmsr(MSR_MCG_STATUS, 0); /* last: until then another machine check shuts the CPU down */
}

void machine_check_tell(void)
{
    struct cpu *c = this_cpu();
    u32 nmis = xchg(&c->arch->nmis, 0);
    if (nmis)
        log_line("cpu %u: NMI at rip %#lx%s", c->id, c->arch->nmi_rip,
                 nmis > 1 ? " (and more before it)" : "");
    u64 checks = xchg(&notes_untold, 0);
    if (checks == 0)
        return;
    log_line("cpu %u: %lu machine check(s), status %#lx, %lu bad frames lost", c->id, checks,
             load_relaxed(&last_status), load_relaxed(&notes_lost));
    void (*fn)(void) = load_acquire(&on_note);
    if (fn)
        fn();
}
