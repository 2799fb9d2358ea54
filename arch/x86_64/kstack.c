/*
 * Kernel stacks, each with unmapped guard pages below it: who runs off its stack faults (as #DF,
 * since the fault cannot be pushed either) instead of writing over another thread.
 *
 * Owns two areas of the address space. Threads: slots of 32 KiB, the upper half stack, the lower
 * half guard; 64 slots share one page table and one word of the bitmap. Boot (the idle and IST
 * stacks of the other CPUs): one after the other, never freed.
 *
 * No locks: a slot's bit is won by compare-and-swap, and the entries of a slot belong to who
 * holds the bit. So taking a frame from mm/ happens with nothing held. The page tables are all
 * made at boot (256 KiB): a machine whose threads have ended owes mm/ nothing.
 */
#include "machine.h"
#include "lib/log.h"
#include "lib/printf.h"

#define SLOT_SIZE    (2 * KSTACK_SIZE)
#define SLOTS_A_WORD 64 /* and SLOT_SIZE * 64 is 2 MiB, what one page table maps */
#define WORDS        64 /* 4096 threads */
#define AREA_END     (KSTACK_BASE + WORDS * SLOTS_A_WORD * SLOT_SIZE)
#define BOOT_AREA    (KSTACK_BASE + GIB) /* the next page directory */
#define STACK_FRAMES (KSTACK_SIZE / FRAME_SIZE)

_Static_assert(SLOTS_A_WORD *SLOT_SIZE == 2 * MIB, "one word of slots is one page table");

static u64 used[WORDS];           /* (a) bit set: the slot is taken */
static u64 *slot_table[WORDS];    /* (c) the page table of each word's slots */
static u64 boot_next = BOOT_AREA; /* boot only */

void kstack_init(void)
{
    for (unsigned w = 0; w < WORDS; w++) {
        slot_table[w] = paging_entry(kernel_root, KSTACK_BASE + w * 2 * MIB, 1, 0, true, NULL);
        if (!slot_table[w])
            panic("boot: no memory for page tables");
    }
}

/* The first entry of the slot's stack. */
static u64 *slot_entries(unsigned slot)
{
    u64 va = KSTACK_BASE + slot * SLOT_SIZE + KSTACK_SIZE;
    return slot_table[slot / SLOTS_A_WORD] + (va >> FRAME_SHIFT & 511);
}

static int slot_take(void)
{
    for (unsigned w = 0; w < WORDS; w++)
        for (;;) {
            u64 old = load_relaxed(&used[w]); /* the cas() decides */
            if (old == ~0ULL)
                break;
            unsigned bit = (unsigned)__builtin_ctzll(~old);
            if (cas(&used[w], old, old | 1ULL << bit))
                return (int)(w * SLOTS_A_WORD + bit);
        }
    return -1;
}

static void slot_free(unsigned slot)
{
    u64 *word = &used[slot / SLOTS_A_WORD], old;
    do {
        old = load_relaxed(word);
        ASSERT(old & 1ULL << slot % SLOTS_A_WORD);
    } while (!cas(word, old, old & ~(1ULL << slot % SLOTS_A_WORD)));
}

void *kstack_create(void)
{
    int slot = slot_take();
    if (slot < 0)
        return NULL;
    u64 *entry = slot_entries((unsigned)slot);
    unsigned n = 0;
    while (n < STACK_FRAMES) {
        pfn_t pfn = table_frame_take();
        if (pfn == PFN_NONE)
            break;
        entry[n++] = pfn << FRAME_SHIFT | PTE_P | PTE_W | PTE_NX;
    }
    if (n == STACK_FRAMES)
        return (void *)(KSTACK_BASE + ((u64)slot + 1) * SLOT_SIZE);
    while (n > 0) { /* never used, so no CPU has them in its TLB but by speculation */
        pfn_t pfn = (entry[--n] & PTE_PHYS) >> FRAME_SHIFT;
        entry[n] = 0;
        shoot_range(0, KSTACK_BASE + (u64)slot * SLOT_SIZE + KSTACK_SIZE, KSTACK_SIZE, 0);
        table_frame_free(pfn);
    }
    slot_free((unsigned)slot);
    return NULL;
}

void kstack_destroy(void *top)
{
    u64 end = (u64)top;
    ASSERT(end > KSTACK_BASE && end <= AREA_END && IS_ALIGNED(end, SLOT_SIZE));
    unsigned slot = (unsigned)((end - KSTACK_BASE) / SLOT_SIZE - 1);
    ASSERT(load_relaxed(&used[slot / SLOTS_A_WORD]) & 1ULL << slot % SLOTS_A_WORD);
    u64 *entry = slot_entries(slot);
    pfn_t pfn[STACK_FRAMES];
    for (unsigned i = 0; i < STACK_FRAMES; i++) {
        pfn[i] = (entry[i] & PTE_PHYS) >> FRAME_SHIFT;
        entry[i] = 0;
    }
    shoot_range(0, end - KSTACK_SIZE, KSTACK_SIZE, 0); /* before the frames change hands */
    for (unsigned i = 0; i < STACK_FRAMES; i++)
        table_frame_free(pfn[i]);
    slot_free(slot);
}

u64 kstack_frames_held(void)
{
    u64 slots = 0;
    for (unsigned w = 0; w < WORDS; w++)
        for (u64 bits = load_relaxed(&used[w]); bits; bits &= bits - 1)
            slots++;
    return slots * STACK_FRAMES;
}

u64 kstack_create_boot(u64 bytes)
{
    u64 phys = boot_take(bytes), va = boot_next + FRAME_SIZE; /* the guard page */
    for (u64 at = 0; at < bytes; at += FRAME_SIZE) {
        u64 *entry = paging_entry(kernel_root, va + at, 1, 0, true, NULL);
        ASSERT(entry && !*entry);
        *entry = (phys + at) | PTE_P | PTE_W | PTE_NX;
    }
    boot_next = va + bytes;
    return boot_next;
}

static bool guard_below(u64 va, u64 top, u64 size)
{
    return va >= top - size - FRAME_SIZE && va < top - size;
}

const char *kstack_guard_name(u64 va)
{
    static const char *const ist_name[] = {"#DF", "NMI", "#MC", "#DB"};
    static char text[64]; /* one CPU panics */
    if (va >= KSTACK_BASE && va < AREA_END) {
        if ((va - KSTACK_BASE) % SLOT_SIZE >= KSTACK_SIZE)
            return NULL;
        snprintf(text, sizeof(text), "guard page of thread stack %llu",
                 (va - KSTACK_BASE) / SLOT_SIZE);
        return text;
    }
    for (unsigned id = 0; id < nr_cpus; id++) {
        const struct cpu_arch *a = cpu_by_id(id)->arch;
        if (guard_below(va, a->stack_top, KSTACK_SIZE)) {
            snprintf(text, sizeof(text), "guard page of the %s stack of CPU %u",
                     id ? "idle" : "boot", id);
            return text;
        }
        for (unsigned i = 0; i < IST_COUNT; i++)
            if (guard_below(va, a->tss.ist[i], IST_STACK_SIZE)) {
                snprintf(text, sizeof(text), "guard page of the %s stack of CPU %u", ist_name[i],
                         id);
                return text;
            }
    }
    return NULL;
}

static bool stack_covers(u64 va, u64 top, u64 size, u64 *low, u64 *high)
{
    *low = top - size;
    *high = top;
    return va >= *low && va < *high;
}

/*
 * Any thread's stack that is there, not only the one that belongs to cpu->current: in the middle
 * of a switch a CPU stands on the one that it is about to leave.
 */
static bool thread_stack_find(u64 va, u64 *low, u64 *high)
{
    unsigned slot = (unsigned)((va - KSTACK_BASE) / SLOT_SIZE);
    if (!slot_table[slot / SLOTS_A_WORD] ||
        !stack_covers(va, KSTACK_BASE + (slot + 1ULL) * SLOT_SIZE, KSTACK_SIZE, low, high))
        return false;
    const u64 *entry = slot_entries(slot);
    for (unsigned i = 0; i < STACK_FRAMES; i++)
        if (!(entry[i] & PTE_P))
            return false;
    return true;
}

bool cpu_stack_find(unsigned cpu, u64 va, u64 *low, u64 *high)
{
    const struct cpu_arch *a = cpu_by_id(cpu)->arch;
    if (va >= KSTACK_BASE && va < AREA_END)
        return thread_stack_find(va, low, high);
    for (unsigned i = 0; i < IST_COUNT; i++)
        if (stack_covers(va, a->tss.ist[i], IST_STACK_SIZE, low, high))
            return true;
    return stack_covers(va, a->stack_top, KSTACK_SIZE, low, high);
}
