/*
 * The machine, as the rest of Limpid sees it: the only header of arch/ that others include.
 *
 * mm/ uses the first half ("what mm/ may use"); the hosted build supplies the same half from
 * tests/host/port/arch.h, found first on its include path, so that mm/ compiles there unchanged.
 * Sources: AMD64 Architecture Programmer's Manual volume 2 (APM2), Intel SDM volume 3 (SDM3).
 * Next: arch/x86_64/cpu.h (per-CPU data), arch/x86_64/trap.h (trap frames).
 */
#ifndef ARCH_H
#define ARCH_H

#include "lib/base.h"
#include "lib/lock_ranks.h"

#include "atomic.h"   /* atomics, fences, and what each is for */
#include "cpu.h"      /* struct cpu, this_cpu(), preemption */
#include "spinlock.h" /* ranked FIFO spin locks */
#include "clear.h"    /* clearing frames */
#include "freeze.h"   /* stopping the other CPUs for good */

/* ======================= what mm/ may use ======================= */

#define MAX_CPUS  256
#define MAX_NODES 64

/* (c) after the boot has counted them. CPU ids are 0 .. nr_cpus - 1, nodes 0 .. nr_nodes - 1. */
extern unsigned nr_cpus, nr_nodes;

/* The node of a CPU. (c) */
unsigned cpu_node(unsigned cpu);

/* RAM is mapped at DIRECT_MAP_BASE + physical address, writable, never executable. */
#define DIRECT_MAP_BASE 0xffff800000000000ULL

static inline void *phys_va(u64 phys)
{
    return (void *)(DIRECT_MAP_BASE + phys);
}

static inline void *frame_va(pfn_t pfn)
{
    return phys_va(pfn << FRAME_SHIFT);
}

/* The physical address behind a pointer into the direct map. */
static inline u64 va_phys(const void *va)
{
    return (u64)va - DIRECT_MAP_BASE;
}

/* Nanoseconds since the kernel was entered; monotonic, the same on every CPU. Any context. */
u64 time_ns(void);

/*
 * Makes another CPU look around: leaves HLT, or takes an interrupt and looks at need_resched.
 * Orders everything the caller did before in front of the interrupt (mfence; lfence before the
 * ICR write, SDM3 11.12.3). Kicking oneself or an offline CPU does nothing. Any context.
 */
void cpu_kick(unsigned cpu);

/*
 * After the return every other CPU has passed a full fence since the call. An IPI to each, so
 * dear: it is the half of a fence that lets the other side do without one (mm/store.c). Thread
 * context, interrupts on; the caller holds no lock that a CPU spins for with interrupts off.
 */
void cpus_serialize(void);

/* ======================= the machine, for the rest ======================= */

/* ---- bringing it up, in the order of kernel/main.c ---- */
struct bootinfo; /* lib/bootinfo.h */
struct memmap;   /* lib/memmap.h */
struct topology; /* lib/acpi.h */

void serial_init(void);
/*
 * The boot CPU's GDT, TSS, IDT and per-CPU data, and the clock. Second thing, so that a fault
 * says its name; locks and log_line() need it.
 */
void cpu_early_init(void);
/*
 * What the loader said (magic and info_phys as kernel_main() got them), copied, and the text of
 * QEMU's fw_cfg file opt/limpid/cmdline behind a blank at the end of the command line. Runs on
 * the boot map. Panics if there is no memory map.
 */
void boot_info_collect(u32 magic, u64 info_phys, struct bootinfo *out);
/*
 * What is free: usable RAM without the first MiB, the kernel image, the module and the
 * framebuffer; all on node 0 (memmap_set_node() comes after topology_init()).
 */
void boot_memmap_build(const struct bootinfo *info, struct memmap *free);
/*
 * The final page tables: kernel W^X, direct map of every RAM range of the bootinfo (not only
 * the free ones: ACPI tables, the module and boot data are read there), NX, kernel text
 * read-only in it too. Tables come out of `free`, which loses them, and go on doing so in
 * screen_init(), topology_init() and machine_init(): so `free` has to stay where it is until
 * paging_set_frame_source(), and mm_init() gets what is left after machine_init(). From here on
 * `info` and `free` are reached through the kernel's own map: they lie in the image.
 */
void paging_init(const struct bootinfo *info, struct memmap *free);
/* Parses ACPI; on a broken or absent table logs one line and falls back to one node / one CPU. */
void topology_init(const struct bootinfo *info, struct topology *out);
/*
 * Per-CPU data of all CPUs (nr_cpus, nr_nodes and cpu_node() are final), local APIC, IOAPIC.
 * `topo` has to stay: serial_enable_input() reads it. A CPU that smp_start() cannot wake keeps
 * its id, and cpu_by_id(id)->online stays false.
 */
void machine_init(const struct topology *topo);
/* Wakes the other CPUs one by one; each runs `entry` on its own idle stack. Number online. */
unsigned smp_start(void (*entry)(void));

/* ---- leaving it ---- */
enum exit_code { /* written to isa-debug-exit at 0xf4; QEMU's status is value * 2 + 1 */
                 EXIT_PASS = 0x10,
                 EXIT_FAIL = 0x11,
                 EXIT_PANIC = 0x12,
                 EXIT_HARNESS = 0x13,
                 EXIT_NOTHING_RAN = 0x14,
};
void machine_exit(enum exit_code code) __attribute__((noreturn));

/*
 * A frame that a machine check has reported, each once; false: none. The handler only notes
 * them, since it may have interrupted a lock holder. Any context; a thread retires them.
 */
bool machine_check_next(pfn_t *pfn);
/* fn is called, in interrupt context, whenever there may be a next one. Once, at boot. */
void machine_check_on_note(void (*fn)(void));

/* ---- console hardware ---- */
void serial_write(const char *s, size_t n);    /* polled; any context; caller serialises */
void screen_init(const struct bootinfo *info); /* needs the direct map; no framebuffer: no-op */
void screen_write(const char *s, size_t n);
/* From now on received bytes arrive at on_serial_byte(), by interrupt on the boot CPU. */
void serial_enable_input(void);

/* ---- stacks for kernel threads, each with an unmapped guard page below ---- */
#define KSTACK_SIZE (16 * KIB)
/* Where page tables and stack frames come from once mm/ is up: a clean frame or PFN_NONE. */
typedef pfn_t (*frame_take_fn)(void);
typedef void (*frame_free_fn)(pfn_t pfn);
void paging_set_frame_source(frame_take_fn take, frame_free_fn free);
/* The top of a new stack (grows down), NULL if out of memory. Thread context. */
void *kstack_create(void);
/*
 * Unmaps the stack, flushes it from every CPU (waits for them) and gives its frames back.
 * Thread context, interrupts on, no lock held.
 */
void kstack_destroy(void *top);
/* Frames of mm/ in all stacks of kstack_create(). Exact while none is made or destroyed. */
u64 kstack_frames_held(void);

/* ---- threads: switching kernel stacks ---- */
struct arch_thread {
    u64 rsp;      /* saved stack pointer while not running */
    void *kstack; /* top of its kernel stack */
    void *fpu;    /* 512 bytes, 16-aligned FXSAVE area of a guest thread; NULL: no FPU state */
    const struct aspace *space; /* its address space; NULL: kernel only */
};
/* Makes the FXSAVE area of a new guest thread: before the thread runs. */
void arch_fpu_init(void *fpu);
/* Prepares a new thread so that the first switch to it calls entry(arg) with interrupts off. */
void arch_thread_init(struct arch_thread *t, void *kstack_top, void (*entry)(void *), void *arg);
/*
 * Saves into prev, goes on in next. Interrupts off, run queue lock held by the caller. What one
 * guest left in FPU, selectors and debug registers is gone before the next one runs.
 */
void arch_switch(struct arch_thread *prev, struct arch_thread *next);

/* ---- interrupts and the tick ---- */
static inline bool irqs_enabled(void)
{
    u64 flags;
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    return flags & 0x200;
}
static inline void irqs_on(void)
{
    __asm__ volatile("sti" ::: "memory");
}
static inline void irqs_off(void)
{
    __asm__ volatile("cli" ::: "memory");
}
/* One statement: sti delays interrupts by one instruction, so none can slip in before hlt. */
static inline void irqs_on_and_halt(void)
{
    __asm__ volatile("sti; hlt" ::: "memory");
}
/* This CPU's local APIC timer: on_tick() every `ns`, or never (0). Own CPU, interrupts off. */
void tick_set(u64 ns);
/* One on_tick() on this CPU at or after `deadline` (time_ns()); 0 cancels. */
void timer_arm(u64 deadline);

/* ---- address spaces of ring-3 guests ---- */
struct aspace {
    u64 root;             /* physical address of the PML4 */
    u64 tables;           /* frames its tables take, the root included */
    u64 unmaps;           /* (a) calls of aspace_unmap() that unmapped, ever */
    u64 stale, stale_end; /* what of that is not flushed yet lies in here; equal: nothing */
};
enum prot { PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
#define USER_TOP 0x0000800000000000ULL /* guest addresses are below; canonical lower half */
/* An empty lower half over the kernel's upper half. 0 or E_NOMEM. */
int aspace_create(struct aspace *as);
/*
 * Maps 2^order frames (order 0 or 9) at va. The table frames come from the frame source.
 * 0; E_INVAL (misaligned, outside the lower half or in its last page); E_EXIST; E_NOMEM (nothing
 * is mapped then). W and X together is E_INVAL. Order 9 over 4 KiB pages that have all been
 * unmapped waits for other CPUs as aspace_flush() does. The caller serialises calls on one space.
 */
int aspace_map(struct aspace *as, u64 va, pfn_t pfn, unsigned order, enum prot prot);
/*
 * Takes the table frames that aspace_map() of this will need, so that it cannot fail for want of
 * them. 0, E_INVAL, E_EXIST, E_NOMEM.
 */
int aspace_prepare(struct aspace *as, u64 va, unsigned order);
/*
 * Adds PROT_WRITE to what aspace_map() mapped. No flush: who has the old translation faults once,
 * which drops it (SDM3 4.10.4.3), and finds the new one. 0, E_INVAL (executable), E_NOENT.
 */
int aspace_allow_write(struct aspace *as, u64 va, unsigned order);
/* Unmaps what aspace_map() mapped there; the caller flushes. 0 or E_NOENT. */
int aspace_unmap(struct aspace *as, u64 va, unsigned order);
/*
 * Walks the tables: the pfn behind va if it is mapped for user access with at least `prot`,
 * else PFN_NONE. This is how the kernel reads a guest's memory: through the direct map, never
 * through the guest's address (SMAP stays on).
 */
pfn_t aspace_walk(const struct aspace *as, u64 va, enum prot prot);
/*
 * Flushes [va, va + bytes) of this space from every CPU that may hold it; waits for them. Thread
 * context; no lock held that a CPU with interrupts off may be spinning on.
 */
void aspace_flush(struct aspace *as, u64 va, u64 bytes);
/*
 * Panics if any CPU may still have a translation of what was unmapped: if all of it was not in
 * the range of one aspace_flush(), or a CPU that runs in the space has not acknowledged that
 * flush. Whoever is about to give a frame away calls it; QEMU may hide a missing flush, this
 * does not.
 */
void aspace_check_flushed(const struct aspace *as);
/*
 * This CPU loads the kernel's own root, which drops every translation of the space that it was
 * in. The running thread has taken the space out of its arch_thread, so that no switch brings the
 * old one back. How a guest's thread leaves, before it gives the guest's memory back.
 */
void aspace_leave(void);
/* Frees the tables. No CPU runs in it any more: each has loaded another CR3 since. */
void aspace_destroy(struct aspace *as);
/* Enters ring 3 for the first time at entry with this stack and argument registers. */
void user_enter(u64 entry, u64 stack, u64 rdi, u64 rsi) __attribute__((noreturn));

/* ---- upcalls: what the machine calls, and who implements it ---- */
struct trapframe;                        /* arch/x86_64/trap.h */
void on_tick(void);                      /* sched/: interrupts off */
void on_preempt(void);                   /* sched/: preempt_count 0, need_resched set,
                                                interrupts off; may switch */
void on_hypercall(struct trapframe *tf); /* guest/: from ring 3, interrupts on */
void on_user_trap(struct trapframe *tf); /* guest/: a fault in ring 3, interrupts on */
void on_user_return(void);               /* guest/: before every return to ring 3, interrupts
                                                off: a killed guest ends here (may enable them) */
void on_serial_byte(u8 byte);            /* kernel/: interrupts off */

#endif
