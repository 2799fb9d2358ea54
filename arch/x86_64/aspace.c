/*
 * Address spaces of guests: a lower half of their own under the kernel's upper half, which all
 * share (its top-level entries are complete when paging_init() returns, and are copied once).
 *
 * The caller serialises calls on one space (guest/ holds the guest's lock); a walk may run
 * beside nothing but walks. Table frames are taken from and given back to mm/.
 */
#include "machine.h"
#include "lib/errors.h"
#include "lib/string.h"

#define HALF 256 /* entries of a top-level table that are the guest's */

int aspace_create(struct aspace *as)
{
    pfn_t pfn = table_frame_take();
    if (pfn == PFN_NONE)
        return E_NOMEM;
    u64 *root = frame_va(pfn);
    memcpy(root + HALF, (u64 *)phys_va(kernel_root) + HALF, HALF * sizeof(u64));
    *as = (struct aspace){.root = pfn << FRAME_SHIFT, .tables = 1};
    return 0;
}

static u64 order_bytes(unsigned order)
{
    return FRAME_SIZE << order;
}

/* Order 0 or 9, aligned, below USER_TOP. The last page is nobody's: see user_return_prepare(). */
static bool aspace_range_ok(u64 va, unsigned order)
{
    return (order == 0 || order == ORDER_PAGEBLOCK) && IS_ALIGNED(va, order_bytes(order)) &&
           va < USER_TOP - FRAME_SIZE && order_bytes(order) <= USER_TOP - FRAME_SIZE - va;
}

static bool table_empty(const u64 *table)
{
    for (unsigned i = 0; i < 512; i++)
        if (table[i])
            return false;
    return true;
}

/*
 * A 2 MiB page wants the place of a page table that is empty by now. The table's frame changes
 * hands only after every CPU has forgotten that it was a table.
 */
static int aspace_drop_table(struct aspace *as, u64 *entry, u64 va)
{
    u64 phys = *entry & PTE_PHYS;
    if (*entry & PTE_PS || !table_empty(phys_va(phys)))
        return E_EXIST;
    *entry = 0;
    shoot_range(as->root, va, order_bytes(ORDER_PAGEBLOCK), 0);
    table_frame_free(phys >> FRAME_SHIFT);
    as->tables--;
    return 0;
}

/* The entry for a page of this order, its tables made if need be; NULL: *error says why. */
static u64 *aspace_entry(struct aspace *as, u64 va, unsigned order, int *error)
{
    *error = E_INVAL;
    if (!aspace_range_ok(va, order))
        return NULL;
    u64 *upper = paging_entry(as->root, va, 2, PTE_U, false, NULL);
    *error = E_EXIST;
    if (!order && upper && *upper & PTE_PS)
        return NULL;
    *error = E_NOMEM;
    return paging_entry(as->root, va, order ? 2 : 1, PTE_U, true, &as->tables);
}

int aspace_prepare(struct aspace *as, u64 va, unsigned order)
{
    int err;
    return aspace_entry(as, va, order, &err) ? 0 : err;
}

int aspace_map(struct aspace *as, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    if (!prot || (prot & PROT_WRITE && prot & PROT_EXEC) || pfn & ((1ULL << order) - 1))
        return E_INVAL;
    int err;
    u64 *entry = aspace_entry(as, va, order, &err);
    if (!entry)
        return err;
    if (*entry & PTE_P) {
        err = order ? aspace_drop_table(as, entry, va) : E_EXIST;
        if (err)
            return err;
    }
    u64 flags = PTE_P | PTE_U;
    if (prot & PROT_WRITE)
        flags |= PTE_W;
    if (!(prot & PROT_EXEC))
        flags |= PTE_NX;
    if (order)
        flags |= PTE_PS;
    store_release(entry, pfn << FRAME_SHIFT | flags); /* what the frames hold comes before it */
    return 0;
}

/* The entry that maps va, and its level; NULL: none. */
static u64 *aspace_find(const struct aspace *as, u64 va, unsigned *level)
{
    if (va >= USER_TOP)
        return NULL;
    u64 *table = phys_va(as->root);
    for (unsigned l = 4; l > 0; l--) {
        u64 *entry = &table[va >> (12 + 9 * (l - 1)) & 511];
        if (!(*entry & PTE_P))
            return NULL;
        if (l == 1 || *entry & PTE_PS) {
            *level = l;
            return entry;
        }
        table = phys_va(*entry & PTE_PHYS);
    }
    return NULL;
}

int aspace_unmap(struct aspace *as, u64 va, unsigned order)
{
    unsigned level;
    u64 *entry = aspace_range_ok(va, order) ? aspace_find(as, va, &level) : NULL;
    if (!entry || level != (order ? 2 : 1))
        return E_NOENT;
    *entry = 0;
    /* Counted after the entry is gone (x86 keeps stores in order): see shoot_load_root(). */
    store_release(&as->unmaps, as->unmaps + 1);
    if (as->stale == as->stale_end)
        as->stale = va, as->stale_end = va;
    as->stale = MIN(as->stale, va);
    as->stale_end = MAX(as->stale_end, va + order_bytes(order));
    return 0;
}

int aspace_allow_write(struct aspace *as, u64 va, unsigned order)
{
    unsigned level;
    u64 *entry = aspace_range_ok(va, order) ? aspace_find(as, va, &level) : NULL;
    if (!entry || level != (order ? 2 : 1))
        return E_NOENT;
    if (!(*entry & PTE_NX))
        return E_INVAL;
    store_release(entry, *entry | PTE_W); /* what the frames hold comes before it */
    return 0;
}

pfn_t aspace_walk(const struct aspace *as, u64 va, enum prot prot)
{
    unsigned level;
    u64 *entry = aspace_find(as, va, &level);
    if (!entry || !(*entry & PTE_U) || (prot & PROT_WRITE && !(*entry & PTE_W)) ||
        (prot & PROT_EXEC && *entry & PTE_NX))
        return PFN_NONE;
    u64 pfn = (*entry & PTE_PHYS) >> FRAME_SHIFT;
    if (level == 2)
        pfn += va >> FRAME_SHIFT & 511;
    return pfn;
}

void aspace_flush(struct aspace *as, u64 va, u64 bytes)
{
    /* Covers all that is stale, or says nothing of it: see aspace_check_flushed(). */
    bool all = va <= as->stale && as->stale_end <= va + bytes;
    if (all)
        as->stale = as->stale_end = 0;
    shoot_range(as->root, va, bytes, all ? as->unmaps : 0);
}

void aspace_check_flushed(const struct aspace *as)
{
    if (as->stale != as->stale_end)
        panic("P1 no leak: %#lx to %#lx of a guest was unmapped and not flushed", as->stale,
              as->stale_end);
    for (unsigned id = 0; id < nr_cpus; id++) {
        const struct cpu *c = cpu_by_id(id);
        /* Acquire: who is seen in the space has said before what it had flushed by then. */
        if (load_acquire(&c->cr3) != as->root)
            continue;
        u64 flushed = load_relaxed(&c->arch->flushed);
        if (flushed < as->unmaps)
            panic("P1 no leak: CPU %u may still use what a guest gives back: it has flushed %lu of "
                  "%lu unmaps",
                  id, flushed, as->unmaps);
    }
}

void aspace_leave(void)
{
    preempt_disable(); /* this CPU, from the note to the load */
    shoot_load_root(NULL);
    preempt_enable();
}

static void table_free(u64 phys, unsigned level, unsigned entries)
{
    u64 *table = phys_va(phys);
    for (unsigned i = 0; level > 1 && i < entries; i++)
        if (table[i] & PTE_P && !(table[i] & PTE_PS))
            table_free(table[i] & PTE_PHYS, level - 1, 512);
    table_frame_free(phys >> FRAME_SHIFT);
}

void aspace_destroy(struct aspace *as)
{
    for (unsigned id = 0; id < nr_cpus; id++)
        if (load_relaxed(&cpu_by_id(id)->cr3) == as->root)
            panic("an address space ends while CPU %u runs in it", id);
    table_free(as->root, 4, HALF);
    *as = (struct aspace){0};
}
