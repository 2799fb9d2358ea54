/*
 * The kernel's page tables. 4 levels (APM2 5.3). What is where:
 *
 *   DIRECT_MAP_BASE  RAM, never executable; kernel text and rodata read-only
 *   KSTACK_BASE      stacks with guard pages (kstack.c)
 *   MMIO_BASE        devices, uncached or write-combining
 *   KERNEL_BASE      the image: text r-x, rodata r--, data rw-
 *
 * All top-level entries of the upper half that will ever be used exist when paging_init()
 * returns: address spaces of guests copy them once and never look again.
 *
 * Owns the kernel's tables. After boot only kstack.c changes them, under its own lock; boot is
 * one CPU. Next: aspace.c (guests), kstack.c, shoot.c.
 */
#include "machine.h"
#include "lib/acpi.h"
#include "lib/log.h"

u64 kernel_root;
static bool direct_map_ready;      /* (c) before: tables are reached at their physical address */
static struct memmap *boot_free;   /* (c) NULL once mm/ is up */
static frame_take_fn frame_source; /* (c) */
static frame_free_fn frame_sink;   /* (c) */
static u64 mmio_next = MMIO_BASE;  /* boot only */

/* What the direct map has: sorted, disjoint, whole frames. (c) */
static struct ram_range mapped[BOOT_RANGES_MAX];
static unsigned nr_mapped;

/* ---- where tables come from ---- */

static u64 *table_at(u64 phys)
{
    return direct_map_ready ? phys_va(phys) : (u64 *)phys;
}

static u64 boot_take_below(u64 bytes, u64 limit)
{
    ASSERT(boot_free);
    u64 phys = memmap_take(boot_free, bytes, FRAME_SIZE, limit);
    if (!phys)
        panic("boot: no memory for %llu KiB of tables and stacks", bytes / KIB);
    clear_ordinary(table_at(phys), ALIGN_UP(bytes, FRAME_SIZE));
    return phys;
}

u64 boot_take(u64 bytes)
{
    return boot_take_below(bytes, direct_map_ready ? ~0ULL : 4 * GIB); /* what the boot map has */
}

pfn_t table_frame_take(void)
{
    if (!frame_source)
        return boot_take(FRAME_SIZE) >> FRAME_SHIFT;
    pfn_t pfn = frame_source();
    /* A table full of old data would map whatever it says. */
    if (pfn != PFN_NONE && !frame_is_zero(frame_va(pfn)))
        panic("paging: frame %#lx for a page table is not zero", pfn);
    return pfn;
}

void table_frame_free(pfn_t pfn)
{
    ASSERT(frame_sink);
    frame_sink(pfn);
}

void paging_set_frame_source(frame_take_fn take, frame_free_fn free)
{
    frame_source = take;
    frame_sink = free;
    boot_free = NULL; /* what is left of it belongs to mm/ now */
}

/* ---- walking and mapping ---- */

u64 *paging_entry(u64 root, u64 va, unsigned level, u64 flags, bool make, u64 *tables)
{
    u64 *table = table_at(root);
    for (unsigned l = 4;; l--) {
        u64 *entry = &table[va >> (12 + 9 * (l - 1)) & 511];
        if (l == level)
            return entry;
        if (!(*entry & PTE_P)) {
            if (!make)
                return NULL;
            pfn_t pfn = table_frame_take();
            if (pfn == PFN_NONE)
                return NULL;
            if (tables)
                (*tables)++;
            *entry = pfn << FRAME_SHIFT | PTE_P | PTE_W | (flags & PTE_U);
        } else if (*entry & PTE_PS) {
            return make ? NULL : entry;
        }
        table = table_at(*entry & PTE_PHYS);
    }
}

static void map_page(u64 root, u64 va, u64 phys, unsigned level, u64 flags)
{
    u64 *entry = paging_entry(root, va, level, flags, true, NULL);
    if (!entry || *entry & PTE_P)
        panic("paging: %#lx cannot be mapped at level %u", va, level);
    *entry = phys | flags | PTE_P | (level > 1 ? PTE_PS : 0);
}

/* Maps whole frames with the largest pages that fit. */
static void map_range(u64 root, u64 va, u64 phys, u64 bytes, u64 flags)
{
    while (bytes) {
        unsigned level = 1;
        u64 size = FRAME_SIZE;
        if (IS_ALIGNED(va | phys, GIB) && bytes >= GIB && cpu_features.gib_pages) {
            level = 3;
            size = GIB;
        } else if (IS_ALIGNED(va | phys, 2 * MIB) && bytes >= 2 * MIB) {
            level = 2;
            size = 2 * MIB;
        }
        map_page(root, va, phys, level, flags);
        va += size;
        phys += size;
        bytes -= size;
    }
}

/* ---- the direct map ---- */

/*
 * Usable RAM is rounded inwards, as mm/ sees it; ACPI tables outwards, since they begin and end
 * where they like. The ranges are sorted and disjoint (bootinfo_settle_ram()).
 */
static void direct_map_collect(const struct bootinfo *info)
{
    u64 limit = MIN(DIRECT_MAP_SIZE, 1ULL << cpu_features.phys_bits);
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        u64 start = r->start, end = MIN(r->end, limit);
        if (r->type == RAM_USABLE) {
            start = ALIGN_UP(start, FRAME_SIZE);
            end = ALIGN_DOWN(end, FRAME_SIZE);
        } else if (r->type == RAM_ACPI) {
            start = ALIGN_DOWN(start, FRAME_SIZE);
            end = ALIGN_UP(end, FRAME_SIZE);
        } else {
            continue;
        }
        struct ram_range *last = nr_mapped ? &mapped[nr_mapped - 1] : NULL;
        if (last)
            start = MAX(start, last->end);
        if (start >= end)
            continue;
        if (last && last->end == start)
            last->end = end;
        else
            mapped[nr_mapped++] = (struct ram_range){start, end, RAM_USABLE};
    }
}

bool direct_map_covers(u64 phys, u64 bytes)
{
    for (unsigned i = 0; i < nr_mapped; i++)
        if (phys >= mapped[i].start && phys < mapped[i].end)
            return bytes <= mapped[i].end - phys;
    return false;
}

/* The part of [start, end) that lies in [from, to). */
static void map_direct_part(u64 root, u64 start, u64 end, u64 from, u64 to, u64 flags)
{
    start = MAX(start, from);
    end = MIN(end, to);
    if (start < end)
        map_range(root, DIRECT_MAP_BASE + start, start, end - start, flags);
}

static u64 image_phys(const char *va)
{
    return (u64)va - KERNEL_BASE;
}

static void map_direct(u64 root)
{
    u64 fixed = image_phys(image_text_start), free = image_phys(image_rodata_end);
    for (unsigned i = 0; i < nr_mapped; i++) {
        u64 start = mapped[i].start, end = mapped[i].end;
        map_direct_part(root, start, end, 0, fixed, PTE_W | PTE_NX);
        map_direct_part(root, start, end, fixed, free, PTE_NX);
        map_direct_part(root, start, end, free, ~0ULL, PTE_W | PTE_NX);
    }
}

/* ---- the image ---- */

static void map_image_part(u64 root, const char *start, const char *end, u64 flags)
{
    for (u64 va = (u64)start; va < (u64)end; va += FRAME_SIZE)
        map_page(root, va, va - KERNEL_BASE, 1, flags);
}

static void unmap_guard(u64 root, u64 va)
{
    *paging_entry(root, va, 1, 0, false, NULL) = 0;
}

static void map_image(u64 root)
{
    map_image_part(root, image_text_start, image_text_end, 0);
    map_image_part(root, image_rodata_start, image_rodata_end, PTE_NX);
    map_image_part(root, image_data_start, image_data_end, PTE_W | PTE_NX);
    unmap_guard(root, (u64)boot_stacks);
    for (unsigned i = 0; i < IST_COUNT; i++)
        unmap_guard(root, (u64)boot_ist_stacks + i * (FRAME_SIZE + IST_STACK_SIZE));
}

/* ---- devices ---- */

volatile void *mmio_map(u64 phys, u64 bytes, u64 cache)
{
    u64 first = ALIGN_DOWN(phys, FRAME_SIZE), end = ALIGN_UP(phys + bytes, FRAME_SIZE);
    if (cache == PTE_WC && !cpu_features.pat)
        cache = PTE_UC;
    u64 flags = cache ? cache | PTE_W | PTE_NX : PTE_NX;
    u64 va = ALIGN_UP(mmio_next, 2 * MIB) + (first & (2 * MIB - 1)); /* so that 2 MiB pages fit */
    map_range(kernel_root, va, first, end - first, flags);
    mmio_next = va + (end - first) + FRAME_SIZE; /* a hole, so that an overrun faults */
    return (volatile void *)(va + (phys - first));
}

u64 paging_trampoline_root(u64 code_phys, u64 data_phys)
{
    u64 root = boot_take_below(FRAME_SIZE, 4 * GIB); /* CR3 is loaded in 32-bit mode */
    for (unsigned i = 256; i < 512; i++)
        table_at(root)[i] = table_at(kernel_root)[i];
    map_page(root, code_phys, code_phys, 1, 0);
    map_page(root, data_phys, data_phys, 1, PTE_W | PTE_NX);
    return root;
}

/* ---- the switch ---- */

void paging_init(const struct bootinfo *info, struct memmap *free)
{
    boot_free = free;
    direct_map_collect(info);
    smp_reserve(info);
    u64 root = boot_take(FRAME_SIZE);
    map_image(root);
    map_direct(root);
    /* The areas that grow later: their top-level entries exist from now on. */
    if (!paging_entry(root, KSTACK_BASE, 3, 0, true, NULL) ||
        !paging_entry(root, MMIO_BASE, 3, 0, true, NULL))
        panic("boot: no memory for page tables");

    kernel_root = root;
    write_cr3(root); /* the identity map is gone; info and free live in the image */
    this_cpu()->cr3 = root;
    direct_map_ready = true;
    kstack_init();
}
