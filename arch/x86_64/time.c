/*
 * The clock: the TSC, whose rate the PIT tells. Owns the rate (c after time_init()).
 *
 * The PIT is read by latching it (8254 data sheet, "counter latch command"). On a busy host the
 * vCPU can lose its core between the latch and the reading of the TSC, and one pair of samples
 * is then off by 15%. So each point is the tightest of several latches, and the rate is the
 * median of several windows.
 *
 * The LAPIC timer runs in one-shot mode only: the tick and timer_arm() share it (bottom half).
 */
#include "machine.h"
#include "lib/log.h"

#define PIT_HZ      1193182u
#define PIT_CH2     0x42
#define PIT_COMMAND 0x43
#define PORT_B      0x61 /* bit 0: gate of channel 2; bit 1: speaker */

#define WINDOWS       7
#define WINDOW_TICKS  2400 /* of the PIT: 2 ms */
#define POINT_LATCHES 6
#define PIT_GIVE_UP   1000000

extern u64 time_entry_tsc; /* (c) boot.asm */
static u64 tsc_hz;         /* (c) */
static u64 ns_per_tick_32; /* (c) nanoseconds of a TSC tick, times 2^32; 0: not known yet */

struct point {
    u64 tsc;
    u16 pit; /* counts down */
};

static struct point time_read_point(void)
{
    struct point best = {0};
    u64 best_gap = ~0ULL;
    for (unsigned i = 0; i < POINT_LATCHES; i++) {
        u64 before = rdtsc();
        outb(PIT_COMMAND, 0x80); /* latch channel 2 */
        u64 after = rdtsc();
        u16 pit = inb(PIT_CH2);
        pit |= (u16)(inb(PIT_CH2) << 8);
        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct point){before + best_gap / 2, pit};
        }
    }
    return best;
}

/* TSC ticks a second by one window, 0: the PIT stands still. */
static u64 time_measure_window(void)
{
    struct point from = time_read_point();
    for (unsigned tries = 0; tries < PIT_GIVE_UP; tries++) {
        struct point to = time_read_point();
        u16 ticks = from.pit - to.pit; /* modulo 2^16: 55 ms */
        if (ticks >= WINDOW_TICKS)
            return (to.tsc - from.tsc) * PIT_HZ / ticks;
    }
    return 0;
}

static u64 time_median(u64 *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j > 0 && v[j] < v[j - 1]; j--) {
            u64 t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
    return v[n / 2];
}

void time_init(void)
{
    outb(PORT_B, (inb(PORT_B) & ~2u) | 1u); /* gate open, speaker off */
    outb(PIT_COMMAND, 0xb4);                /* channel 2, both bytes, mode 2 */
    outb(PIT_CH2, 0);
    outb(PIT_CH2, 0); /* counts 65536 and begins again */

    u64 hz[WINDOWS];
    unsigned n = 0;
    while (n < WINDOWS && (hz[n] = time_measure_window()))
        n++;
    if (!n)
        log_line("time: the PIT stands still; taking the TSC for 1 GHz");
    tsc_hz = n ? time_median(hz, n) : 1000000000;
    ns_per_tick_32 = (1000000000ULL << 32) / tsc_hz;
}

u64 time_ns(void)
{
    return (u64)((unsigned __int128)(rdtsc() - time_entry_tsc) * ns_per_tick_32 >> 32);
}

void delay_ns(u64 ns)
{
    u64 end = time_ns() + ns;
    while (time_ns() < end)
        cpu_relax();
}

/* ---- the tick and timer_arm(), both of this CPU ---- */

/* Arms the LAPIC timer for whichever comes first. Interrupts off. */
static void timer_program(struct cpu_arch *a, u64 now)
{
    u64 next = a->tick_period ? a->tick_next : ~0ULL;
    if (a->deadline && a->deadline < next)
        next = a->deadline;
    if (next == ~0ULL)
        apic_timer_set(0);
    else
        apic_timer_set(next > now ? next - now : 1);
}

void tick_set(u64 ns)
{
    struct cpu_arch *a = this_cpu()->arch;
    ASSERT(!irqs_enabled());
    u64 now = time_ns();
    a->tick_period = ns;
    a->tick_next = now + ns;
    timer_program(a, now);
}

void timer_arm(u64 deadline)
{
    ASSERT(!irqs_enabled());
    struct cpu_arch *a = this_cpu()->arch;
    a->deadline = deadline;
    timer_program(a, time_ns());
}

/* The interrupt. One that comes early (the timer's clock is not the TSC's) only arms anew. */
void timer_handle(void)
{
    struct cpu_arch *a = this_cpu()->arch;
    u64 now = time_ns();
    bool due = false;
    if (a->tick_period && now >= a->tick_next) {
        a->tick_next = MAX(a->tick_next + a->tick_period, now + a->tick_period / 2);
        due = true;
    }
    if (a->deadline && now >= a->deadline) {
        a->deadline = 0;
        due = true;
    }
    if (due)
        on_tick(); /* may call tick_set() and timer_arm() */
    timer_program(a, time_ns());
}
