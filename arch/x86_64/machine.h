/*
 * What the files of arch/x86_64/ share with each other and with nobody else.
 */
#ifndef ARCH_MACHINE_H
#define ARCH_MACHINE_H

#include "arch.h"
#include "lib/bootinfo.h"
#include "lib/memmap.h"
#include "trap.h"
#include "x86.h"

/* ---- addresses: who lives where in the upper half (docs: arch.h for the direct map) ---- */
#define KERNEL_BASE     0xffffffff80000000ULL /* the image, at 16 MiB: linker.ld */
#define DIRECT_MAP_SIZE (64ULL << 40)
#define KSTACK_BASE     0xffffc00000000000ULL /* stacks with guard pages */
#define MMIO_BASE       0xffffc80000000000ULL /* devices, uncached or write-combining */

extern char image_phys_start[], image_phys_end[]; /* physical: their addresses are the values */
extern char image_text_start[], image_text_end[], image_rodata_start[], image_rodata_end[];
extern char image_data_start[], image_data_end[];
extern char boot_stacks[], boot_stack_top[], boot_ist_stacks[], boot_stacks_end[];

/* ---- vectors ---- */
enum {
    VECTOR_PIC = 0x20, /* 16 of them: the 8259s, masked, but they may still sigh */
    VECTOR_SERIAL = 0x30,
    VECTOR_TIMER = 0xf0,
    VECTOR_KICK = 0xf1,
    VECTOR_SHOOT = 0xf2,
    VECTOR_NOTE = 0xf3, /* to oneself: say what an NMI or #MC could not */
    VECTOR_APIC_ERROR = 0xfe,
    VECTOR_SPURIOUS = 0xff, /* its low four bits are ones, as old APICs insist (SDM3 11.9) */
};

/* From now on clears are counted: struct cpu has to be there (clear_count.c). */
void clear_count_init(void);

/* ---- per-CPU data that only the machine knows ---- */
struct tss { /* APM2 12.2.5 */
    u32 reserved0;
    u64 rsp0, rsp1, rsp2;
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, iomap_base;
} __attribute__((packed));

enum { IST_DF = 1, IST_NMI, IST_MC, IST_DB, IST_COUNT = IST_DB };
#define IST_STACK_SIZE (8 * KIB)

/* One shootdown that this CPU asked the others for: arch/x86_64/shoot.c */
struct shoot {
    u64 root;      /* of the address space, 0: kernel addresses */
    u64 va, bytes; /* what to flush */
    u64 unmaps;    /* aspace.unmaps that are covered by it; 0: says nothing of that */
    u32 waiting;   /* (a) CPUs that have not answered yet */
};

struct cpu_arch {
    u64 gdt[8] __attribute__((aligned(16)));
    struct tss tss __attribute__((aligned(16)));
    u64 stack_top;               /* (c) of its idle (the boot CPU: boot) stack */
    bool fpu_shut;               /* (o) CR0.TS is set: the running guest thread has no FPU state */
    unsigned irq_locks;          /* (o) locks that the interrupted code held: see spinlock.c */
    u64 start_tsc;               /* (c) when it came up */
    struct spinlock *halted_for; /* (a) the lock that it waits for in HLT, NULL: none */
    u32 halted_ticket;           /* (a) and the ticket it has */
    u64 tick_period;             /* (o) ns, 0: no tick */
    u64 tick_next;               /* (o) time_ns() of the next tick */
    u64 deadline;                /* (o) of timer_arm(), 0: none */
    u64 nmi_rip;                 /* (o) where the last NMI came in */
    u32 nmis;                    /* (o) NMIs not yet told of */
    bool frozen;                 /* (a) stopped for good by machine_freeze_others() */
    struct shoot shoot;          /* (o) but for `waiting` */
    u64 shoot_from[MAX_CPUS / 64]; /* (a) who wants this CPU to look at their shoot */
    /*
     * (o), read by aspace_check_flushed(): this CPU has no translation left of what the first
     * `flushed` unmaps of the space it runs in have unmapped.
     */
    u64 flushed;
};

/* ---- cpu.c, features.c ---- */
struct cpu_features {
    bool smep, smap, umip, mce, pat, gib_pages, x2apic;
    unsigned phys_bits;
};
extern struct cpu_features cpu_features; /* (c) after cpu_early_init() */
void cpu_features_detect(void);
/* Control registers and MSRs of the CPU that runs this; each has to do it. */
void cpu_registers_init(void);
/* GDT, TSS, IDT, GS base and registers of the CPU that runs this. */
void cpu_load(struct cpu *c);
/* Makes a CPU known: id, place in the table, stacks. */
void cpu_register(struct cpu *c, struct cpu_arch *a, unsigned id, u32 apic_id, unsigned node,
                  u64 stack_top, u64 ist_stacks);
extern struct cpu boot_cpu;
/* Per-CPU data and stacks of all other CPUs. machine_init() */
void cpus_create(const struct topology *topo);

/* ---- freeze.c ---- */
/* Does not come back if this NMI is the one that stops the CPU. */
void freeze_answer(const struct trapframe *tf);

/* ---- traps.c, mce.c ---- */
void trap_table_init(void);
void trap_table_load(void);
void machine_check_init(void);
void machine_check_handle(struct trapframe *tf);
/* Logs what NMIs and machine checks noted. Interrupt handler of VECTOR_NOTE. */
void machine_check_tell(void);

/* ---- entry.asm ---- */
void hypercall_entry(void);
void stack_switch(u64 *save_rsp, u64 next_rsp);
void thread_begin(void);
void trap_return(struct trapframe *tf) __attribute__((noreturn));
/* Called from there. */
void trap_handle(struct trapframe *tf);
void trap_handle_paranoid(struct trapframe *tf);
void hypercall_handle(struct trapframe *tf);
void user_return_prepare(struct trapframe *tf);

/* ---- paging.c, kstack.c, shoot.c ---- */
#define PTE_P    (1ULL << 0)
#define PTE_W    (1ULL << 1)
#define PTE_U    (1ULL << 2)
#define PTE_PWT  (1ULL << 3)
#define PTE_PCD  (1ULL << 4)
#define PTE_A    (1ULL << 5)
#define PTE_D    (1ULL << 6)
#define PTE_PS   (1ULL << 7)
#define PTE_NX   (1ULL << 63)
#define PTE_PHYS 0x000ffffffffff000ULL
/* PAT entry 1 is made write-combining (cpu_registers_init()); entry 3 is uncached. */
#define PTE_WC PTE_PWT
#define PTE_UC (PTE_PCD | PTE_PWT)

extern u64 kernel_root; /* (c) physical address of the kernel's own PML4 */
/* `bytes` of memory, zeroed, for good; boot only, between paging_init() and mm. Panics if none. */
u64 boot_take(u64 bytes);
/* Devices: a mapping of [phys, phys + bytes) with PTE_UC, PTE_WC or 0 (read-only, cached). */
volatile void *mmio_map(u64 phys, u64 bytes, u64 cache);
/* True if the direct map has all of it. */
bool direct_map_covers(u64 phys, u64 bytes);
/*
 * The entry of the lowest level for va in the tables under `root`, made if `make`; NULL: none,
 * or out of memory. `level` 1: 4 KiB, 2: 2 MiB. Counts frames that it takes in *tables.
 */
u64 *paging_entry(u64 root, u64 va, unsigned level, u64 flags, bool make, u64 *tables);
pfn_t table_frame_take(void);
void table_frame_free(pfn_t pfn);
/* A page table with one code page and one data page at their physical addresses: smp.c */
u64 paging_trampoline_root(u64 code_phys, u64 data_phys);
/* Stacks of `bytes` with a guard page below, boot only; frames from boot_take(). The top. */
u64 kstack_create_boot(u64 bytes);
void kstack_init(void);
/* NULL, or which stack's guard page va is in. */
const char *kstack_guard_name(u64 va);
/* Answers what other CPUs ask; interrupt handler of VECTOR_SHOOT, and in every wait. */
void shoot_answer(void);
/*
 * Flushes the range from every CPU that may hold it. root 0: kernel addresses. `unmaps`: see
 * struct shoot.
 */
void shoot_range(u64 root, u64 va, u64 bytes, u64 unmaps);
/* This CPU goes to another space (NULL: the kernel's own). No switch to another thread meanwhile. */
void shoot_load_root(const struct aspace *as);

/* ---- apic.c, ioapic.c, time.c, serial.c ---- */
void apic_init(u64 phys);
void apic_init_cpu(void);
u32 apic_boot_id(void);
void apic_eoi(void);
/* Is this vector in service, so that it wants an EOI? */
bool apic_in_service(unsigned vector);
/* Reads and clears the error status (SDM3 11.5.3). */
u32 apic_error(void);
void apic_ipi(u32 apic_id, unsigned vector);
void apic_ipi_self(unsigned vector);
void apic_nmi_others(void);
void apic_send_init(u32 apic_id);
void apic_send_startup(u32 apic_id, u64 phys);
void apic_timer_calibrate(void);
void apic_timer_set(u64 ns);
void timer_handle(void);
void ioapic_init(const struct topology *topo);
void ioapic_enable_isa(unsigned irq, unsigned vector, u32 apic_id);
void pic_mask_all(void);
void time_init(void);
/* Waits; usable from cpu_early_init() on. */
void delay_ns(u64 ns);
void serial_handle(void);

/* ---- smp.c ---- */
/* Chooses the low memory that the trampoline will stand in. From paging_init(). */
void smp_reserve(const struct bootinfo *info);
/* Builds the trampoline's page table while there is boot memory. */
void smp_prepare(void);

void smp_ap_main(struct cpu *c, void (*entry)(void)) __attribute__((noreturn));

/* ---- machine.c, boot_info.c ---- */
/* A parse_warn_fn that logs the text. */
void machine_warn(void *ctx, const char *fmt, ...) __printf_like(2, 3);

/* ---- fw_cfg.c ---- */
/* Reads a file of QEMU's fw_cfg into buf (without a NUL). Its length, 0: none. */
size_t fw_cfg_read(const char *name, void *buf, size_t max);

#endif
