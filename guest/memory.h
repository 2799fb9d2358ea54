/*
 * A guest's map of memory: what guest/memory.c and guest/touch.c share. Nobody else looks inside.
 *
 * Three storeys like the page tables, but our own, so that they hold for any kind of guest:
 *
 *     g->gib[512]     a GiB of addresses each      -> a frame of 512 slots, or 0
 *     slot            2 MiB of addresses           -> a block of order 9, or a leaf, or 0
 *     leaf[512]       a page each                  -> a frame, or 0
 *
 * An entry is pfn << 12 | flags. The frames in it are the guest's from the moment they are taken;
 * whether the guest can reach them yet is a flag:
 *
 *     entry               what it is                                     what the page tables have
 *     FRAME or BLOCK      taken, never touched; zero if mm/ keeps its word     nothing
 *     ... | DIRTY         taken as it was, never touched: holds anything       nothing
 *     ... | MAPPED        touched: scrubbed if need be, read, found zero       PROT(entry)
 *     ... | MAPPED|DIRTY  touched, but only read (`readonly`): holds anything  the same, no writes
 *
 * Only guest/touch.c moves an entry down this table.
 */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include "guest/internal.h"

#define ENTRIES          512u
#define SLOT_SHIFT       21
#define SLOT_PAGES       512ULL
#define SLOT_BYTES       (1ULL << SLOT_SHIFT)
#define GIB_SHIFT        30
#define ENTRY_BLOCK      1ULL /* of a slot: an order-9 block, one page when it is mapped */
#define ENTRY_LEAF       2ULL /* of a slot: pfn is the leaf's */
#define ENTRY_FRAME      4ULL /* of a leaf */
#define ENTRY_GIVE       8ULL /* block or frame: the guest may give it back */
#define ENTRY_PROT_SHIFT 4    /* enum prot: what the guest may do there */
#define ENTRY_PROT(e)    ((enum prot)((e) >> ENTRY_PROT_SHIFT & 7))
#define ENTRY_MAPPED     0x80ULL
#define ENTRY_DIRTY      0x100ULL
#define ENTRY_FLAGS      (FRAME_SIZE - 1)

static inline pfn_t entry_pfn(u64 entry)
{
    return entry >> FRAME_SHIFT;
}

static inline u64 entry_make(pfn_t pfn, u64 flags, enum prot prot, enum page_use use)
{
    return pfn << FRAME_SHIFT | flags | (u64)prot << ENTRY_PROT_SHIFT |
           (use == USE_MEMORY ? ENTRY_GIVE : 0);
}

/* The same flags, for another frame. */
static inline u64 entry_with(u64 entry, pfn_t pfn)
{
    return pfn << FRAME_SHIFT | (entry & ENTRY_FLAGS);
}

static inline u64 *entry_table(u64 entry)
{
    return frame_va(entry_pfn(entry));
}

/* The slot of any address, or NULL if its GiB has no slots. */
static inline u64 *slot_find(const struct guest *g, u64 va)
{
    u64 gib = va >> GIB_SHIFT < ENTRIES ? g->gib[va >> GIB_SHIFT] : 0;
    return gib ? entry_table(gib) + (va >> SLOT_SHIFT) % ENTRIES : NULL;
}

/* Where the entry of a page stands: its block's slot or its place in a leaf. NULL: nothing there. */
static inline u64 *entry_find(const struct guest *g, u64 va)
{
    u64 *slot = slot_find(g, va);
    if (!slot || !*slot)
        return NULL;
    u64 *entry = *slot & ENTRY_BLOCK ? slot : &entry_table(*slot)[(va >> FRAME_SHIFT) % ENTRIES];
    return *entry ? entry : NULL;
}

/*
 * A block that is not mapped becomes 512 frames of a leaf. 0; E_NOMEM and it is as it was.
 */
int slot_to_leaf(struct guest *g, u64 va, u64 *slot);

#endif
