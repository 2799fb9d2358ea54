/*
 * The local APIC: interrupts between CPUs, the timer, NMI (SDM3 chapter 11). Registers are
 * reached through memory (xAPIC), or through MSRs where the firmware left x2APIC mode on.
 * Each CPU touches only its own. Owns the mapping and the timer's rate (c).
 */
#include "machine.h"
#include "lib/log.h"

enum { /* offsets (SDM3 table 11-1); the x2APIC MSR is 0x800 + offset / 16 */
       APIC_ID = 0x20,
       APIC_TPR = 0x80,
       APIC_EOI = 0xb0,
       APIC_SVR = 0xf0,
       APIC_ISR = 0x100,
       APIC_ESR = 0x280,
       APIC_ICR = 0x300,
       APIC_ICR_HIGH = 0x310,
       APIC_LVT_TIMER = 0x320,
       APIC_LVT_LINT0 = 0x350,
       APIC_LVT_LINT1 = 0x360,
       APIC_LVT_ERROR = 0x370,
       APIC_TIMER_COUNT = 0x380,
       APIC_TIMER_NOW = 0x390,
       APIC_TIMER_DIVIDE = 0x3e0,
};

#define APIC_ENABLE  (1u << 8)
#define LVT_MASKED   (1u << 16)
#define LVT_NMI      (4u << 8)
#define ICR_INIT     (5u << 8)
#define ICR_STARTUP  (6u << 8)
#define ICR_NMI      (4u << 8)
#define ICR_BUSY     (1u << 12)
#define ICR_ASSERT   (1u << 14)
#define ICR_SELF     (1u << 18)
#define ICR_OTHERS   (3u << 18)
#define DIVIDE_BY_16 3
#define BASE_ENABLE  (1ULL << 11)
#define BASE_X2APIC  (1ULL << 10)
#define POLLS_MAX    1000000
#define CALIBRATE_NS 2000000
#define CALIBRATIONS 5

static volatile u32 *regs; /* (c) volatile: device registers. NULL before apic_init() */
static u64 timer_hz;       /* (c) after the divider */

static u32 apic_read(unsigned reg)
{
    return cpu_features.x2apic ? (u32)rdmsr(MSR_X2APIC + reg / 16) : regs[reg / 4];
}

static void apic_write(unsigned reg, u32 v)
{
    if (cpu_features.x2apic)
        wrmsr(MSR_X2APIC + reg / 16, v);
    else
        regs[reg / 4] = v;
}

/* By CPUID, before there is a mapping. */
u32 apic_boot_id(void)
{
    return cpu_features.x2apic ? cpuid(0xb, 0).d : cpuid(1, 0).b >> 24;
}

void apic_init(u64 phys)
{
    if (!cpu_features.x2apic)
        regs = mmio_map(phys, FRAME_SIZE, PTE_UC);
    apic_init_cpu();
}

bool apic_in_service(unsigned vector)
{
    return apic_read(APIC_ISR + vector / 32 * 0x10) >> vector % 32 & 1;
}

u32 apic_error(void)
{
    apic_write(APIC_ESR, 0);
    return apic_read(APIC_ESR);
}

/* Whatever the firmware was serving when it left: each EOI ends one of at most 256. */
static void apic_drain(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        if (apic_in_service(vector))
            apic_write(APIC_EOI, 0);
}

void apic_init_cpu(void)
{
    u64 base = rdmsr(MSR_APIC_BASE) | BASE_ENABLE;
    wrmsr(MSR_APIC_BASE, cpu_features.x2apic ? base | BASE_X2APIC : base);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_LVT_LINT0, LVT_MASKED); /* the 8259s: masked, and not listened to */
    apic_write(APIC_LVT_LINT1, LVT_NMI);    /* where every board wires NMI (ACPI 5.2.12.7) */
    apic_write(APIC_LVT_ERROR, VECTOR_APIC_ERROR);
    apic_write(APIC_TIMER_DIVIDE, DIVIDE_BY_16);
    apic_write(APIC_ESR, 0);
    apic_drain();
    apic_write(APIC_SVR, APIC_ENABLE | VECTOR_SPURIOUS);
}

void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

/* Two registers in xAPIC mode: nobody may come in between who sends one, too. */
static void apic_icr(u32 apic_id, u32 low)
{
    bool were_on = irqs_save();
    /*
     * In x2APIC mode the write does not serialise: what the receiver is to see has to be visible
     * first (SDM3 11.12.3). xAPIC writes are uncached stores, in order after earlier ones, but
     * not after cache-bypassing ones. Pairs with the receiver's interrupt entry.
     */
    __asm__ volatile("mfence; lfence" ::: "memory");
    if (cpu_features.x2apic) {
        wrmsr(MSR_X2APIC + APIC_ICR / 16, (u64)apic_id << 32 | low);
    } else {
        for (unsigned i = 0; apic_read(APIC_ICR) & ICR_BUSY && i < POLLS_MAX; i++)
            cpu_relax();
        apic_write(APIC_ICR_HIGH, apic_id << 24);
        apic_write(APIC_ICR, low);
    }
    irqs_restore(were_on);
}

void apic_ipi(u32 apic_id, unsigned vector)
{
    apic_icr(apic_id, ICR_ASSERT | vector);
}

/*
 * From NMI and #MC, too, which may interrupt apic_icr() between its two writes: so only the low
 * half is written, and the high half that stands there stays.
 */
void apic_ipi_self(unsigned vector)
{
    if (cpu_features.x2apic)
        wrmsr(MSR_X2APIC + APIC_ICR / 16, ICR_SELF | ICR_ASSERT | vector);
    else if (regs)
        apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | vector);
}

void apic_nmi_others(void)
{
    if (regs || cpu_features.x2apic)
        apic_icr(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
}

void apic_send_init(u32 apic_id)
{
    apic_icr(apic_id, ICR_ASSERT | ICR_INIT);
}

/* The CPU starts in real mode at phys, a multiple of 4 KiB below 1 MiB (SDM3 9.4.4.1). */
void apic_send_startup(u32 apic_id, u64 phys)
{
    apic_icr(apic_id, ICR_ASSERT | ICR_STARTUP | (u32)(phys >> FRAME_SHIFT));
}

void cpu_kick(unsigned cpu)
{
    struct cpu *c = cpu_by_id(cpu);
    /* Acquire: pairs with the release at the end of the CPU's own start (smp.c). */
    if (!c || cpu == cpu_id() || !load_acquire(&c->online))
        return;
    apic_ipi(c->apic_id, VECTOR_KICK);
}

/* The timer's rate against the TSC's; the median, since a busy host spoils some of them. */
void apic_timer_calibrate(void)
{
    u64 hz[CALIBRATIONS];
    for (unsigned i = 0; i < CALIBRATIONS; i++) {
        apic_write(APIC_TIMER_COUNT, ~0u);
        u32 c0 = apic_read(APIC_TIMER_NOW);
        u64 t0 = time_ns();
        delay_ns(CALIBRATE_NS);
        u32 c1 = apic_read(APIC_TIMER_NOW);
        u64 t1 = time_ns();
        u64 v = (u64)(c0 - c1) * 1000000000 / (t1 - t0);
        unsigned j = i;
        for (; j > 0 && hz[j - 1] > v; j--)
            hz[j] = hz[j - 1];
        hz[j] = v;
    }
    apic_write(APIC_TIMER_COUNT, 0);
    timer_hz = hz[CALIBRATIONS / 2];
    if (!timer_hz)
        panic("the local APIC timer stands still");
}

/* One interrupt after `ns`, at most some seconds (then it is early, and armed again); 0: none. */
void apic_timer_set(u64 ns)
{
    if (!ns) {
        apic_write(APIC_TIMER_COUNT, 0);
        return;
    }
    u64 ticks = ns < 4000000000 ? ns * timer_hz / 1000000000 + 1 : 4 * timer_hz;
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER); /* one-shot (SDM3 11.5.4) */
    apic_write(APIC_TIMER_COUNT, (u32)MIN(ticks, 0xffffffffULL));
}
