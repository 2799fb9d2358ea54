/*
 * One CPU: what it can do, its control registers, its descriptor tables, its per-CPU data.
 * Owns the table of CPUs (c after machine_init()). No locks.
 * Next: smp.c (waking the others), traps.c (what the IDT leads to), switch.c (threads).
 */
#include "machine.h"
#include "lib/acpi.h"
#include "lib/log.h"
#include "lib/map512.h"
#include "lib/string.h"

unsigned nr_cpus, nr_nodes;
struct cpu_features cpu_features;
u8 cpu_has_smap; /* (c) read by entry.asm */

struct cpu boot_cpu;
static struct cpu_arch boot_cpu_arch;
static struct cpu *cpus[MAX_CPUS]; /* (c) by id */

struct cpu *cpu_by_id(unsigned id)
{
    return id < MAX_CPUS ? cpus[id] : NULL;
}

unsigned cpu_node(unsigned cpu)
{
    ASSERT(cpu < nr_cpus);
    return cpus[cpu]->node;
}

void preempt_enable_slow(void)
{
    if (!irqs_enabled())
        return; /* who turns them on has the interrupt, or the look, still to come */
    irqs_off();
    on_preempt();
    irqs_on();
}

/* CPUID: SDM2 CPUID, APM3 appendix E. Everything later asks these flags, never CPUID again. */
void cpu_features_detect(void)
{
    struct cpu_features *f = &cpu_features;
    struct cpuid basic = cpuid(1, 0);
    f->mce = basic.d & 1u << 7 && basic.d & 1u << 14; /* MCE and MCA */
    f->pat = basic.d & 1u << 16;
    word512_popcnt = basic.c & 1u << 23;
    if (cpuid(0, 0).a >= 7) {
        struct cpuid more = cpuid(7, 0);
        f->smep = more.b & 1u << 7;
        f->smap = more.b & 1u << 20;
        f->umip = more.c & 1u << 2;
    }
    f->gib_pages = cpuid(0x80000001, 0).d & 1u << 26;
    f->phys_bits = cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
    if (cpuid(0x80000000, 0).a >= 0x80000008)
        clear_by_lines = cpuid(0x80000008, 0).b & CPUID_80000008_EBX_CLZERO;
    /* Bit 10 EXTD: the firmware left the APIC in x2APIC mode (SDM3 11.12.1). */
    f->x2apic = basic.c & 1u << 21 && rdmsr(MSR_APIC_BASE) & 1u << 10;
    cpu_has_smap = f->smap;
}

/* A CR4 bit that the CPU lacks is #GP on hardware and a silent hang under TCG: ask first. */
void cpu_registers_init(void)
{
    const struct cpu_features *f = &cpu_features;
    write_cr0((read_cr0() & ~(u64)(CR0_EM | CR0_TS | CR0_AM)) | CR0_MP | CR0_NE | CR0_WP);
    /*
     * No global pages, so that a load of CR3 flushes everything. No OSXSAVE: guests get x87 and
     * SSE, which FXSAVE covers. No FSGSBASE: trap_paranoid in entry.asm relies on it.
     */
    u64 cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (f->mce)
        cr4 |= CR4_MCE;
    if (f->umip)
        cr4 |= CR4_UMIP;
    if (f->smep)
        cr4 |= CR4_SMEP;
    if (f->smap)
        cr4 |= CR4_SMAP;
    write_cr4(cr4);

    /* The hypercall entry: target, selectors, and the flags that it clears (APM2 6.1.1). */
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
    wrmsr(MSR_STAR, (u64)KERNEL_DS << 48 | (u64)KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (u64)hypercall_entry);
    wrmsr(MSR_CSTAR, 0); /* there is no 32-bit code segment to come from */
    wrmsr(MSR_SFMASK,
          RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_RF | RFLAGS_AC);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    __asm__ volatile("mov %0, %%dr7" ::"r"(0x400UL)); /* no breakpoints (APM2 13.1.1.4) */

    /* PAT as at reset, but entry 1 write-combining instead of write-through (APM2 7.8.1). */
    if (f->pat)
        wrmsr(MSR_PAT, 0x0007040600070106);
}

/* Descriptors of 64-bit mode: base and limit are ignored but for the TSS (APM2 4.8); accessed. */
static void cpu_fill_gdt(struct cpu_arch *a)
{
    u64 base = (u64)&a->tss, limit = sizeof(a->tss) - 1;
    a->gdt[KERNEL_CS / 8] = 0x00209b0000000000;
    a->gdt[KERNEL_DS / 8] = 0x0000930000000000;
    a->gdt[USER_DS / 8] = 0x0000f30000000000;
    a->gdt[USER_CS / 8] = 0x0020fb0000000000;
    a->gdt[TSS_SEL / 8] =
        limit | (base & 0xffffff) << 16 | 0x89ULL << 40 | (base >> 24 & 0xff) << 56;
    a->gdt[TSS_SEL / 8 + 1] = base >> 32;
}

void cpu_register(struct cpu *c, struct cpu_arch *a, unsigned id, u32 apic_id, unsigned node,
                  u64 stack_top, u64 ist_stacks)
{
    c->self = c;
    c->arch = a;
    c->id = id;
    c->apic_id = apic_id;
    c->node = node;
    c->kernel_rsp = a->tss.rsp0 = a->stack_top = stack_top;
    for (unsigned i = 0; i < IST_COUNT; i++) /* each stands above its guard page */
        a->tss.ist[i] = ist_stacks + (i + 1) * (FRAME_SIZE + IST_STACK_SIZE);
    a->tss.iomap_base = sizeof(a->tss); /* behind the limit: no port is open to ring 3 */
    cpu_fill_gdt(a);
    cpus[id] = c;
}

void cpu_load(struct cpu *c)
{
    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) gdtr = {sizeof(c->arch->gdt) - 1, (u64)c->arch->gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl %2, %%ss\n\t"
                     "movl %3, %%ds\n\t"
                     "movl %3, %%es\n\t"
                     "movl %3, %%fs\n\t"
                     "movl %3, %%gs\n\t"
                     "ltr %w4" ::"m"(gdtr),
                     "i"(KERNEL_CS), "r"(KERNEL_DS), "r"(0), "r"(TSS_SEL)
                     : "rax", "memory");
    wrmsr(MSR_GS_BASE, (u64)c); /* after the selector, whose load clears the base */
    trap_table_load();
    cpu_registers_init();
    c->cr3 = read_cr3();
}

void cpu_early_init(void)
{
    cpu_features_detect();
    cpu_register(&boot_cpu, &boot_cpu_arch, 0, apic_boot_id(), 0, (u64)boot_stack_top,
                 (u64)boot_ist_stacks);
    nr_cpus = nr_nodes = 1;
    trap_table_init();
    cpu_load(&boot_cpu);
    boot_cpu.online = true;
    clear_count_init();
    time_init();
}

/*
 * Per-CPU data and stacks of the others, before any of them wakes. A CPU that later does not
 * come keeps its id and stays offline.
 */
void cpus_create(const struct topology *topo)
{
    unsigned id = 1;
    boot_cpu.node = topo->cpu[0].node;
    for (unsigned i = 1; i < topo->nr_cpus && id < MAX_CPUS; i++) {
        u32 apic_id = topo->cpu[i].apic_id;
        if (apic_id >= 0xff && !cpu_features.x2apic) {
            log_line("cpu: APIC id %u needs x2APIC mode, which the firmware left off: not used",
                     apic_id);
            continue;
        }
        struct both {
            struct cpu cpu;
            struct cpu_arch arch;
        } *b = phys_va(boot_take(ALIGN_UP(sizeof(struct both), FRAME_SIZE)));
        u64 stack_top = kstack_create_boot(KSTACK_SIZE);
        u64 ist[IST_COUNT];
        for (unsigned s = 0; s < IST_COUNT; s++)
            ist[s] = kstack_create_boot(IST_STACK_SIZE);
        cpu_register(&b->cpu, &b->arch, id, apic_id, topo->cpu[i].node, stack_top, 0);
        memcpy(b->arch.tss.ist, ist, sizeof(ist));
        id++;
    }
    nr_cpus = id;
    nr_nodes = topo->nr_nodes;
}
