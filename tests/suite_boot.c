/*
 * What the boot promised about the machine: who may write and run what, guard pages, control
 * registers, one clock, every CPU in its place. Looks at the hardware's own tables and registers,
 * with a walker and constants of its own, not at what arch/x86_64/ remembers having done.
 * Section numbers: AMD64 Architecture Programmer's Manual volume 2 (APM2).
 */
#include "tests/ktest.h"
#include "arch.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define ENTRY_P    (1ULL << 0) /* APM2 5.4.1 */
#define ENTRY_W    (1ULL << 1)
#define ENTRY_U    (1ULL << 2)
#define ENTRY_PS   (1ULL << 7)
#define ENTRY_NX   (1ULL << 63)
#define ENTRY_PHYS 0x000ffffffffff000ULL

extern char image_text_start[], image_text_end[], image_rodata_start[], image_rodata_end[];
extern char image_data_start[], image_data_end[];

static u64 cr0_get(void)
{
    u64 v;
    __asm__ volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}

static u64 cr3_get(void)
{
    u64 v;
    __asm__ volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}

static u64 cr4_get(void)
{
    u64 v;
    __asm__ volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

static u64 efer_get(void)
{
    u32 lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0xc0000080));
    return (u64)hi << 32 | lo;
}

struct leaf {
    u32 a, b, c, d;
};

static struct leaf cpuid_get(u32 leaf, u32 sub)
{
    struct leaf r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}

/* ---- page tables ---- */

/* What the tables allow at an address, all levels taken together. */
struct rights {
    bool mapped, write, exec, user;
    u64 phys;
};

static struct rights walk(u64 va)
{
    struct rights r = {.mapped = true, .write = true, .exec = true, .user = true};
    u64 table = cr3_get() & ENTRY_PHYS;
    for (unsigned shift = 39;; shift -= 9) {
        u64 entry = ((const u64 *)phys_va(table))[va >> shift & 511];
        if (!(entry & ENTRY_P))
            return (struct rights){0};
        r.write &= (entry & ENTRY_W) != 0;
        r.exec &= !(entry & ENTRY_NX);
        r.user &= (entry & ENTRY_U) != 0;
        table = entry & ENTRY_PHYS;
        if (shift == 12 || (entry & ENTRY_PS)) {
            u64 low = (1ULL << shift) - 1;
            r.phys = (table & ~low) | (va & low);
            return r;
        }
    }
}

static void image_part(const char *start, const char *end, bool write, bool exec, const char *name)
{
    CHECK_MSG(end > start, "%s is empty", name);
    for (u64 va = (u64)start; va < (u64)end; va += FRAME_SIZE) {
        struct rights r = walk(va);
        /* Guard pages of the boot stacks are holes in the data. */
        if (!r.mapped && write)
            continue;
        if (!CHECK_MSG(r.mapped && r.write == write && r.exec == exec && !r.user,
                       "%s at %#lx: mapped %d, write %d, exec %d, user %d", name, va, r.mapped,
                       r.write, r.exec, r.user))
            return;
    }
}

static void image_is_w_xor_x(void)
{
    image_part(image_text_start, image_text_end, false, true, "text");
    image_part(image_rodata_start, image_rodata_end, false, false, "rodata");
    image_part(image_data_start, image_data_end, true, false, "data");
}

/* The image again, through the direct map: no way around its rights. */
static void direct_map_of_image(void)
{
    for (u64 va = (u64)image_text_start; va < (u64)image_rodata_end; va += FRAME_SIZE) {
        struct rights image = walk(va);
        if (!image.mapped)
            continue;
        struct rights r = walk((u64)phys_va(image.phys));
        if (!CHECK_MSG(!r.write && !r.exec && !r.user, "%#lx may be written through the direct map",
                       va))
            return;
    }
}

/* Counts leaves that can be written and run, and user leaves, below a table. */
static void scan(u64 table, unsigned shift, bool write, bool exec, unsigned *bad)
{
    const u64 *entries = phys_va(table);
    for (unsigned i = 0; i < 512; i++) {
        u64 e = entries[i];
        if (!(e & ENTRY_P))
            continue;
        bool w = write && (e & ENTRY_W), x = exec && !(e & ENTRY_NX);
        if (e & ENTRY_U)
            ++*bad;
        if (shift == 12 || (e & ENTRY_PS))
            *bad += w && x;
        else
            scan(e & ENTRY_PHYS, shift - 9, w, x, bad);
    }
}

static void nothing_is_writable_and_executable(void)
{
    const u64 *top = phys_va(cr3_get() & ENTRY_PHYS);
    for (unsigned i = 0; i < 512; i++) {
        unsigned bad = 0;
        if (!(top[i] & ENTRY_P))
            continue;
        CHECK_MSG(i >= 256, "the kernel's own tables map something at %#lx", (u64)i << 39);
        scan(top[i] & ENTRY_PHYS, 30, top[i] & ENTRY_W, !(top[i] & ENTRY_NX), &bad);
        CHECK_MSG(bad == 0 && !(top[i] & ENTRY_U), "entry %u of the top table: %u bad pages", i,
                  bad);
    }
}

static void direct_map_is_ram_only(void)
{
    /* Devices of every q35: local APIC, IOAPIC, and the ROM below 1 MiB. */
    static const u64 devices[] = {0xfee00000, 0xfec00000, 0xf0000, 0xa0000};
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        CHECK_MSG(!walk(DIRECT_MAP_BASE + devices[i]).mapped, "device memory at %#lx is mapped",
                  devices[i]);
    /*
     * And all that zones may hand out is there, writable, not executable. A zone's span has frames
     * that it does not manage: holes of the firmware, and the kernel's text, which is read-only.
     * There may be no more frames that cannot be written to than those.
     */
    for (unsigned z = 0; z < mm_nr_zones(); z++) {
        struct mm_zone_info info;
        mm_zone_info(z, &info);
        u64 unusable = 0, unmanaged = info.end - info.start - info.frames;
        for (pfn_t pfn = info.start; pfn < info.end; pfn++) {
            struct rights r = walk((u64)frame_va(pfn));
            unusable += !r.mapped || !r.write;
            if (r.mapped && !CHECK_MSG(!r.exec && !r.user && r.phys >> 12 == pfn,
                                       "frame %#lx of zone %u", pfn, z))
                return;
        }
        CHECK_MSG(unusable <= unmanaged, "zone %u: %lu frames cannot be written, %lu are not its",
                  z, unusable, unmanaged);
    }
}

/* ---- stacks ---- */

/* Below a stack top: pages of stack, then one that is not mapped. */
static void check_guarded(u64 top, u64 size, const char *name)
{
    for (u64 va = top - size; va < top; va += FRAME_SIZE) {
        struct rights r = walk(va);
        if (!CHECK_MSG(r.mapped && r.write && !r.exec && !r.user, "%s stack at %#lx", name, va))
            return;
    }
    CHECK_MSG(!walk(top - size - FRAME_SIZE).mapped, "%s stack: no guard page below %#lx", name,
              top - size);
    u64 here = (u64)__builtin_frame_address(0);
    if (strcmp(name, "own") == 0)
        CHECK_MSG(here < top && here >= top - size, "own stack is not at %#lx but at %#lx", top,
                  here);
}

static void own_stack(void *unused)
{
    (void)unused;
    check_guarded((u64)thread_arch(thread_self())->kstack, KSTACK_SIZE, "own");
}

static void stacks_have_guard_pages(void)
{
    own_stack(NULL); /* the boot CPU's */
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        ktest_run_on(cpu, own_stack, NULL);
        struct thread *idle = cpu_by_id(cpu)->idle;
        check_guarded((u64)thread_arch(idle)->kstack, KSTACK_SIZE, "idle");
    }
}

struct table_register { /* what sidt and sgdt store: APM2 4.6.2 */
    u16 limit;
    u64 base;
} __attribute__((packed));

static u64 ist_size; /* of the first that was measured: without its guard page one is larger */

/* Reads where this CPU's emergency stacks are from its own IDT, GDT and TSS. */
static void ist_stacks(void *unused)
{
    static const struct {
        unsigned vector;
        const char *name;
    } wanted[] = {{8, "#DF"}, {2, "NMI"}, {18, "#MC"}, {1, "#DB"}};
    struct table_register idt, gdt;
    u16 selector;
    u64 seen[ARRAY_SIZE(wanted)];

    (void)unused;
    __asm__ volatile("sidt %0" : "=m"(idt));
    __asm__ volatile("sgdt %0" : "=m"(gdt));
    __asm__ volatile("str %0" : "=r"(selector));
    const u8 *d = (const u8 *)gdt.base + (selector & ~7); /* APM2 4.8.3 */
    u64 tss = (u64)d[2] | (u64)d[3] << 8 | (u64)d[4] << 16 | (u64)d[7] << 24 |
              (u64) * (const u32 *)(d + 8) << 32;
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
        const u8 *gate = (const u8 *)idt.base + 16 * wanted[i].vector; /* APM2 4.8.4 */
        unsigned ist = gate[4] & 7;
        if (!CHECK_MSG(ist != 0, "%s has no stack of its own", wanted[i].name))
            return;
        u64 top;
        memcpy(&top, (const u8 *)tss + 36 + 8 * (ist - 1), 8); /* APM2 12.2.5 */
        for (unsigned j = 0; j < i; j++)
            CHECK_MSG(seen[j] != top, "%s shares its stack with %s", wanted[i].name,
                      wanted[j].name);
        seen[i] = top;
        u64 low = top - FRAME_SIZE; /* how deep it is, up to the guard page */
        while (walk(low).mapped && top - low <= 64 * KIB)
            low -= FRAME_SIZE;
        u64 size = top - low - FRAME_SIZE;
        if (ist_size == 0)
            ist_size = size;
        CHECK_MSG(size == ist_size && size >= 4 * KIB, "%s stack of %llu KiB on CPU %u",
                  wanted[i].name, size / KIB, cpu_id());
    }
}

static void emergency_stacks(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        ktest_run_on(cpu, ist_stacks, NULL);
}

/* ---- control registers ---- */

static void bit(u64 reg, unsigned n, bool want, const char *name)
{
    CHECK_MSG((reg >> n & 1) == want, "CPU %u: %s is %s", cpu_id(), name, want ? "off" : "on");
}

/* APM2 3.1.1, 3.1.3, 3.1.7; what CPUID has must be on, what it has not must be off. */
static void registers(void *unused)
{
    (void)unused;
    u64 cr0 = cr0_get(), cr4 = cr4_get(), efer = efer_get();
    struct leaf one = cpuid_get(1, 0), seven = {0};
    if (cpuid_get(0, 0).a >= 7)
        seven = cpuid_get(7, 0);
    bit(cr0, 0, true, "CR0.PE");
    bit(cr0, 5, true, "CR0.NE");
    bit(cr0, 16, true, "CR0.WP");
    bit(cr0, 31, true, "CR0.PG");
    bit(cr0, 30, false, "CR0.CD");
    bit(cr4, 5, true, "CR4.PAE");
    bit(cr4, 6, one.d >> 7 & 1, "CR4.MCE");
    bit(cr4, 20, seven.b >> 7 & 1, "CR4.SMEP");
    bit(cr4, 21, seven.b >> 20 & 1, "CR4.SMAP");
    bit(cr4, 11, seven.c >> 2 & 1, "CR4.UMIP");
    bit(cr4, 16, false, "CR4.FSGSBASE"); /* a guest could set the base that the kernel trusts */
    bit(efer, 11, true, "EFER.NXE");
    bit(efer, 10, true, "EFER.LMA");
    CHECK(irqs_enabled());
}

static void control_registers(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        ktest_run_on(cpu, registers, NULL);
}

/* ---- CPUs and the clock ---- */

static void who_am_i(void *arg)
{
    unsigned *apic_id = arg;
    const struct cpu *c = this_cpu();
    *apic_id = cpuid_get(1, 0).b >> 24; /* the initial APIC id */
    CHECK(c->self == c && c->online && c == cpu_by_id(c->id) && c->id == cpu_id());
    CHECK(c->node == cpu_node(c->id) && c->node < nr_nodes);
    CHECK_MSG((u8)c->apic_id == *apic_id, "CPU %u: APIC id %u, CPUID says %u", c->id, c->apic_id,
              *apic_id);
}

static void cpus_know_themselves(void)
{
    static unsigned apic_id[MAX_CPUS];
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        ktest_run_on(cpu, who_am_i, &apic_id[cpu]);
        for (unsigned other = 0; other < cpu; other++)
            CHECK_MSG(apic_id[other] != apic_id[cpu], "CPUs %u and %u are one", other, cpu);
    }
    CHECK(cpu_by_id(nr_cpus) == NULL);
}

static u64 clock_last; /* (a) the latest reading that any CPU has published */

/* No lock: eight that spin for one on two host cores would take their time. */
static void read_clock(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 5000; i++) {
        /* Acquire: our reading comes after theirs, so it must not be smaller. */
        u64 last = load_acquire(&clock_last), now = time_ns();
        if (!CHECK_MSG(now >= last, "the clock of CPU %u is %lu ns behind", cpu_id(), last - now))
            return;
        while (last < now && !cas(&clock_last, last, now))
            last = load_acquire(&clock_last);
    }
}

static void one_clock(void)
{
    struct ktest_thread t[8];
    unsigned n = MIN(nr_cpus, (unsigned)ARRAY_SIZE(t));
    clock_last = 0;
    for (unsigned i = 0; i < n; i++)
        ktest_spawn(&t[i], nr_cpus - 1 - i, read_clock, NULL);
    for (unsigned i = 0; i < n; i++)
        ktest_join(&t[i]);
}

/* ---- memory ---- */

/*
 * Takes all memory there is, in the largest blocks that are to be had: nothing of the kernel's own
 * may be among it. The blocks are chained through their first bytes, so this needs no memory.
 */
static void the_kernel_is_never_handed_out(void)
{
    struct block {
        pfn_t next;
        unsigned order;
    };
    u64 image_start = walk((u64)image_text_start).phys >> FRAME_SHIFT;
    u64 image_end = image_start + (u64)(image_data_end - image_text_start) / FRAME_SIZE;
    u64 root = cr3_get() >> FRAME_SHIFT, frames = 0;
    pfn_t first = PFN_NONE;

    CHECK(walk((u64)image_data_end - FRAME_SIZE).phys >> FRAME_SHIFT == image_end - 1);
    for (unsigned order = ORDER_MAX + 1; order-- > 0;) {
        for (pfn_t pfn; (pfn = mm_take(order, TAKE_ANY, 0)) != PFN_NONE;) {
            pfn_t end = pfn + (1ULL << order);
            CHECK_MSG(end <= image_start || pfn >= image_end, "frames %#lx to %#lx", pfn, end);
            CHECK_MSG(end <= root || pfn > root, "frames %#lx to %#lx: page tables", pfn, end);
            struct block *b = frame_va(pfn);
            *b = (struct block){first, order};
            first = pfn;
            frames += 1ULL << order;
        }
    }
    struct mm_zone_info info;
    mm_node_info(MM_ALL_NODES, &info);
    CHECK_MSG(info.clean + info.dirty + info.stored_clean + info.stored_dirty + info.in_flight == 0,
              "%lu clean, %lu dirty, %lu stored, %lu in flight were not to be had", info.clean,
              info.dirty, info.stored_clean + info.stored_dirty, info.in_flight);
    CHECK(frames > 0);
    while (first != PFN_NONE) {
        struct block b = *(struct block *)frame_va(first);
        mm_free(first, b.order);
        first = b.next;
    }
}

static const struct ktest cases[] = {
    {"image_is_w_xor_x", image_is_w_xor_x, 0, 0},
    {"direct_map_of_image", direct_map_of_image, 0, 0},
    {"nothing_is_writable_and_executable", nothing_is_writable_and_executable, 0, 0},
    {"direct_map_is_ram_only", direct_map_is_ram_only, 0, 0},
    {"stacks_have_guard_pages", stacks_have_guard_pages, 0, 0},
    {"emergency_stacks", emergency_stacks, 0, 0},
    {"control_registers", control_registers, 0, 0},
    {"cpus_know_themselves", cpus_know_themselves, 0, 0},
    {"one_clock", one_clock, 0, 0},
    {"the_kernel_is_never_handed_out", the_kernel_is_never_handed_out, 0, 0},
};
KTEST_SUITE(boot, cases);
