/*
 * Waking the other CPUs, one by one: INIT, STARTUP (SDM3 9.4.4), then wait until it says it is
 * there. One that does not come costs a line and itself, not the boot. trampoline.asm is what
 * they run first. Owns the two low frames; boot CPU only, but for smp_ap_main().
 */
#include "machine.h"
#include "lib/log.h"
#include "lib/string.h"

#define LOW_END    0xa0000 /* behind it begins the video memory */
#define INIT_NS    50000   /* INIT to STARTUP; only CPUs of the nineties want 10 ms */
#define AGAIN_NS   20000000
#define GIVE_UP_NS 2000000000ULL
#define NOBODY     0xffffffffu
#define CLAIMED    0xfffffffeu /* trampoline.asm */

/* What both sides share: the frame behind the code. trampoline.asm knows the offsets. */
struct trampoline_data {
    u32 wanted; /* (a) APIC id that is awaited, CLAIMED or NOBODY */
    u32 x2apic;
    u64 cr3;
    u64 stack_top;
    struct cpu *cpu;
    void (*entry)(void);
    u64 kernel_root;
};

extern char trampoline_start[], trampoline_end[];
extern char trampoline_gdt_pointer[], trampoline_far32[], trampoline_far64[];

static u64 low_code; /* (c) physical address of the two frames, 0: there are none */
static u64 low_root; /* (c) page table that has them at their physical address */

/*
 * The first two free frames below the video memory. The loader's data are copied by now and the
 * first MiB never reaches mm/, so only the module can be in the way. Frame 0 has the BIOS's
 * interrupt table.
 */
void smp_reserve(const struct bootinfo *info)
{
    for (u64 at = FRAME_SIZE; at + 2 * FRAME_SIZE <= LOW_END; at += FRAME_SIZE) {
        if (info->module_start < at + 2 * FRAME_SIZE && at < info->module_end)
            continue;
        for (unsigned i = 0; i < info->nr_ram; i++) {
            const struct ram_range *r = &info->ram[i];
            if (r->type == RAM_USABLE && r->start <= at && at + 2 * FRAME_SIZE <= r->end) {
                low_code = at;
                return;
            }
        }
    }
    log_line("smp: no free memory below 640 KiB, so only one CPU");
}

static void trampoline_fix(char *where)
{
    u32 *word = (u32 *)((char *)phys_va(low_code) + (where - trampoline_start));
    *word += (u32)low_code;
}

void smp_prepare(void)
{
    _Static_assert(offsetof(struct trampoline_data, kernel_root) == 0x28, "trampoline.asm");
    if (!low_code || nr_cpus == 1)
        return;
    memcpy(phys_va(low_code), trampoline_start, (size_t)(trampoline_end - trampoline_start));
    trampoline_fix(trampoline_gdt_pointer + 2);
    trampoline_fix(trampoline_far32);
    trampoline_fix(trampoline_far64);
    low_root = paging_trampoline_root(low_code, low_code + FRAME_SIZE);
}

/* The first C line of another CPU. */
void smp_ap_main(struct cpu *c, void (*entry)(void))
{
    cpu_load(c);
    machine_check_init();
    apic_init_cpu();
    c->arch->start_tsc = rdtsc();
    /* Its own data are ready. Pairs with the acquire of who sends it interrupts. Full fence. */
    (void)xchg(&c->online, true);
    /* What was shot down before anybody asked us, we may have cached by speculation. */
    write_cr3(kernel_root);
    entry();
    panic("CPU %u came back from its idle loop", c->id);
}

static bool smp_wait(const struct cpu *c, u64 ns)
{
    u64 end = time_ns() + ns;
    while (!load_acquire(&c->online))
        if (time_ns() >= end)
            return false;
        else
            cpu_relax();
    return true;
}

static bool smp_wake(struct cpu *c, struct trampoline_data *data)
{
    data->cpu = c;
    data->stack_top = c->arch->stack_top;
    /* Release: the words above come first. Pairs with the locked exchange in trampoline.asm. */
    store_release(&data->wanted, c->apic_id);
    apic_send_init(c->apic_id);
    delay_ns(INIT_NS);
    apic_send_startup(c->apic_id, low_code);
    if (smp_wait(c, AGAIN_NS))
        return true;
    apic_send_startup(c->apic_id, low_code); /* ignored by a CPU that is on its way */
    if (smp_wait(c, GIVE_UP_NS))
        return true;
    /* Give it up, unless it has claimed its stack in this very moment: then it will come. */
    return !cas(&data->wanted, c->apic_id, NOBODY) && smp_wait(c, GIVE_UP_NS);
}

unsigned smp_start(void (*entry)(void))
{
    unsigned online = 1;
    if (!low_root)
        return online;
    struct trampoline_data *data = phys_va(low_code + FRAME_SIZE);
    *data = (struct trampoline_data){
        .wanted = NOBODY,
        .x2apic = cpu_features.x2apic,
        .cr3 = low_root,
        .entry = entry,
        .kernel_root = kernel_root,
    };
    for (unsigned id = 1; id < nr_cpus; id++) {
        struct cpu *c = cpu_by_id(id);
        u64 before = rdtsc();
        if (smp_wake(c, data)) {
            online++;
            if (c->arch->start_tsc < before || c->arch->start_tsc > rdtsc())
                log_line("smp: the TSC of CPU %u is not in step; its times are wrong", id);
        } else {
            log_line("smp: CPU %u (APIC id %u) did not come; going on without it", id, c->apic_id);
        }
    }
    return online;
}
