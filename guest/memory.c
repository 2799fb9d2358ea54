/*
 * Who owns what: a guest's map of memory, by guest address, and taking and giving back through
 * it. mm/ does not know who has an allocated frame; this map does, and the walker adds it up.
 * guest/memory.h says what is in it. The frames of the map itself are the guest's metadata
 * (frames_own).
 *
 * What a guest is given it is given here, at its start and in mem_get, page tables included, so
 * that it does not fail later for want of memory. It is mapped at its first touch, which is
 * guest/touch.c.
 *
 * Everything here runs inside the memory gate, or before and after the guest runs. Order in
 * which a frame leaves: out of the page tables; flushed from every CPU, and that is checked; only
 * then mm_free().
 *
 * Next: guest/touch.c; guest/check.c, where frames come from; guest/gather.c, where they go.
 */
#include "guest/memory.h"

/* ---- metadata ---- */

/*
 * A table of our own has to be empty, so its frame goes through the check like the guest's: an
 * entry that somebody left there would be a frame that the guest does not have.
 */
void *guest_own_take(struct guest *g)
{
    int err;
    pfn_t pfn = guest_take_checked(g, &err);
    if (pfn == PFN_NONE)
        return NULL;
    count_add(&g->frames_own, 1);
    return frame_va(pfn);
}

void guest_own_free(struct guest *g, const void *table)
{
    mm_free(va_phys(table) >> FRAME_SHIFT, 0);
    count_sub(&g->frames_own, 1);
    count_add(&g->frees, 1);
}

int guest_memory_create(struct guest *g)
{
    g->head = guest_own_take(g);
    g->gib = guest_own_take(g);
    if (!g->head || !g->gib)
        return E_NOMEM; /* guest_memory_destroy() takes care of one without the other */
    gather_init(&g->head->gather, &g->frees);
    return 0;
}

static u64 *slot_make(struct guest *g, u64 va)
{
    ASSERT(va >> GIB_SHIFT < ENTRIES);
    u64 *gib = &g->gib[va >> GIB_SHIFT];
    if (!*gib) {
        u64 *slots = guest_own_take(g);
        if (!slots)
            return NULL;
        *gib = va_phys(slots);
    }
    return slot_find(g, va);
}

/* The leaf under a slot that holds no block; made if there is none. NULL: out of memory. */
static u64 *leaf_make(struct guest *g, u64 *slot)
{
    ASSERT(!(*slot & ENTRY_BLOCK));
    if (!*slot) {
        u64 *leaf = guest_own_take(g);
        if (!leaf)
            return NULL;
        *slot = va_phys(leaf) | ENTRY_LEAF;
    }
    return entry_table(*slot);
}

static void held_add(struct guest *g, u64 frames)
{
    count_add(&g->frames_held, frames);
    if (g->frames_held > g->frames_peak)
        store_relaxed(&g->frames_peak, g->frames_held);
}

/* ---- taking ---- */

struct fill { /* one guest_memory_fill() */
    struct guest *g;
    enum prot prot;
    enum page_use use;
    /* Larger blocks were not to be had: not asked for again, a failed take looks at every zone. */
    unsigned order_max;
};

/* Entries for frames that were just taken, with their dirt. */
static void entries_fill(struct fill *f, u64 *entry, pfn_t pfn, u64 frames,
                         const struct map512 *dirt)
{
    for (u64 i = 0; i < frames; i++) {
        bool dirty = map512_test(dirt, (unsigned)((pfn + i) % MAP512_BITS));
        entry[i] = entry_make(pfn + i, ENTRY_FRAME | (dirty ? ENTRY_DIRTY : 0), f->prot, f->use);
    }
    held_add(f->g, frames);
}

/* A block in which some frames are dirty and some are not: a leaf says which. */
static int fill_mixed(struct fill *f, u64 va, u64 *slot, pfn_t pfn, const struct map512 *dirt)
{
    u64 *leaf = leaf_make(f->g, slot);
    if (!leaf) {
        mm_free(pfn, ORDER_PAGEBLOCK);
        return E_NOMEM;
    }
    entries_fill(f, leaf, pfn, SLOT_PAGES, dirt);
    return f->g->ops->prepare(f->g, va, 0);
}

/* One order-9 block for a whole slot. On E_NOMEM with the slot still empty there was no block. */
static int fill_block(struct fill *f, u64 va, u64 *slot)
{
    struct map512 dirt;
    pfn_t pfn = guest_take(f->g, ORDER_PAGEBLOCK, &dirt);
    if (pfn == PFN_NONE)
        return E_NOMEM;
    bool dirty = map512_full(&dirt);
    if (!dirty && !map512_empty(&dirt))
        return fill_mixed(f, va, slot, pfn, &dirt);
    *slot = entry_make(pfn, ENTRY_BLOCK | (dirty ? ENTRY_DIRTY : 0), f->prot, f->use);
    held_add(f->g, SLOT_PAGES);
    count_add(&f->g->blocks, 1);
    return f->g->ops->prepare(f->g, va, ORDER_PAGEBLOCK);
}

/* `pages` frames within one slot, in the largest blocks that there are. */
static int fill_leaf(struct fill *f, u64 va, u64 *slot, u64 pages)
{
    u64 *leaf = leaf_make(f->g, slot);
    if (!leaf)
        return E_NOMEM;
    u64 *entry = leaf + (va >> FRAME_SHIFT) % ENTRIES;

    for (u64 done = 0; done < pages;) {
        struct map512 dirt;
        unsigned order = MIN(f->order_max, ORDER_PAGEBLOCK - 1u);
        while (1ULL << order > pages - done)
            order--;
        pfn_t pfn = guest_take(f->g, order, &dirt);
        if (pfn == PFN_NONE && order == 0)
            return E_NOMEM;
        if (pfn == PFN_NONE) {
            f->order_max = order - 1;
            continue;
        }
        entries_fill(f, entry + done, pfn, 1ULL << order, &dirt);
        done += 1ULL << order;
    }
    return f->g->ops->prepare(f->g, va, 0); /* one page table serves the slot */
}

int guest_memory_fill(struct guest *g, u64 va, u64 pages, enum prot prot, enum page_use use)
{
    struct fill f = {.g = g, .prot = prot, .use = use, .order_max = ORDER_PAGEBLOCK};

    while (pages) {
        u64 in_slot = MIN(pages, SLOT_PAGES - (va >> FRAME_SHIFT) % SLOT_PAGES);
        u64 *slot = slot_make(g, va);
        int err;

        if (guest_must_end(g))
            return E_KILLED;
        if (!slot)
            return E_NOMEM;
        if (in_slot == SLOT_PAGES && !*slot && f.order_max == ORDER_PAGEBLOCK) {
            err = fill_block(&f, va, slot);
            if (err == E_NOMEM && !*slot) {
                f.order_max = ORDER_PAGEBLOCK - 1;
                continue;
            }
        } else {
            err = fill_leaf(&f, va, slot, in_slot);
        }
        if (err)
            return err;
        va += in_slot * FRAME_SIZE;
        pages -= in_slot;
    }
    return 0;
}

/* ---- looking ---- */

/* What the map has for a page: a block's or a frame's entry, 0: nothing. */
static u64 entry_at(const struct guest *g, u64 va)
{
    const u64 *entry = entry_find(g, va);
    return entry ? *entry : 0;
}

/* How many pages from va on, at most `pages`, one step of a walk may take: a slot's at once if
 * it is empty or a block. */
static u64 walk_step(const struct guest *g, u64 va, u64 pages)
{
    const u64 *slot = slot_find(g, va);
    if (slot && *slot & ENTRY_LEAF)
        return 1;
    return MIN(pages, SLOT_PAGES - (va >> FRAME_SHIFT) % SLOT_PAGES);
}

bool guest_memory_givable(const struct guest *g, u64 va, u64 pages)
{
    while (pages) {
        u64 step = walk_step(g, va, pages);
        if (!(entry_at(g, va) & ENTRY_GIVE))
            return false;
        va += step * FRAME_SIZE;
        pages -= step;
    }
    return true;
}

/*
 * First fit in a window of twice the limit: it bounds what the tables can grow to, and a guest
 * that riddles it with holes hurts only itself.
 */
u64 guest_memory_find(const struct guest *g, u64 pages)
{
    u64 align = pages >= SLOT_PAGES ? SLOT_PAGES * FRAME_SIZE : FRAME_SIZE;
    u64 end = GUEST_MEM_BASE + ALIGN_UP(2 * g->frames_limit * FRAME_SIZE, SLOT_BYTES);
    u64 start = GUEST_MEM_BASE;

    end = MIN(end, (u64)ENTRIES << GIB_SHIFT);
    for (u64 va = start; va < end;) {
        u64 step = walk_step(g, va, (end - va) >> FRAME_SHIFT);
        va += step * FRAME_SIZE;
        if (entry_at(g, va - step * FRAME_SIZE))
            start = ALIGN_UP(va, align);
        else if (va >= start && va - start >= pages * FRAME_SIZE)
            return start;
    }
    return 0;
}

bool guest_memory_may(const struct guest *g, u64 va, enum prot prot)
{
    return (ENTRY_PROT(entry_at(g, va)) & prot) == prot;
}

/* ---- giving back ---- */

static void leaf_fill(u64 *leaf, u64 block)
{
    for (unsigned i = 0; i < ENTRIES; i++)
        leaf[i] = entry_with((block & ~ENTRY_BLOCK) | ENTRY_FRAME, entry_pfn(block) + i);
}

int slot_to_leaf(struct guest *g, u64 va, u64 *slot)
{
    u64 *leaf = guest_own_take(g);
    ASSERT(*slot & ENTRY_BLOCK && !(*slot & ENTRY_MAPPED));
    if (!leaf)
        return E_NOMEM;
    int err = g->ops->prepare(g, va, 0);
    if (err) {
        guest_own_free(g, leaf);
        return err;
    }
    leaf_fill(leaf, *slot);
    *slot = va_phys(leaf) | ENTRY_LEAF;
    count_sub(&g->blocks, 1);
    return 0;
}

/* What is mapped of an entry: a page that is still dirty must not be written to. */
static int entry_map(struct guest *g, u64 va, u64 entry, unsigned order)
{
    enum prot prot = ENTRY_PROT(entry);
    if (entry & ENTRY_DIRTY)
        prot &= ~(unsigned)PROT_WRITE;
    return g->ops->map(g, va, entry_pfn(entry), order, prot);
}

static int leaf_map(struct guest *g, u64 va, const u64 *leaf)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        int err = entry_map(g, va + i * FRAME_SIZE, leaf[i], 0);
        if (err)
            return err;
    }
    return 0;
}

/*
 * Makes 512 pages of one 2 MiB page, so that a part of it can go. Other threads of the guest may
 * be using it: who touches it meanwhile faults, and waits at the gate until it is there again.
 * The flush comes in between, so that no CPU ever has both sizes of the same page.
 *
 * E_NOMEM: it is as before; E_KILLED: not even that could be done, and the guest cannot go on.
 */
static int slot_split(struct guest *g, u64 va)
{
    u64 base = ALIGN_DOWN(va, SLOT_BYTES);
    u64 *slot = slot_find(g, base);
    u64 block = *slot;
    if (!(block & ENTRY_MAPPED))
        return slot_to_leaf(g, base, slot);
    u64 *leaf = guest_own_take(g);
    if (!leaf)
        return E_NOMEM;
    leaf_fill(leaf, block);

    int err = g->ops->unmap(g, base, ORDER_PAGEBLOCK);
    ASSERT(!err);
    g->ops->flush(g, base, SLOT_BYTES);
    /* This takes one frame for a table, at the first page, so it fails there or nowhere. */
    if (leaf_map(g, base, leaf) != 0) {
        guest_own_free(g, leaf);
        if (entry_map(g, base, block, ORDER_PAGEBLOCK) == 0)
            return E_NOMEM;
        *slot &= ~ENTRY_MAPPED;
        count_sub(&g->frames_mapped, SLOT_PAGES);
        return E_KILLED;
    }
    *slot = va_phys(leaf) | ENTRY_LEAF;
    count_sub(&g->blocks, 1);
    return 0;
}

/* Splits the block that `va` cuts in two, if it does. */
static int split_at(struct guest *g, u64 va)
{
    const u64 *slot = slot_find(g, va);
    if (IS_ALIGNED(va, SLOT_BYTES) || !slot || !(*slot & ENTRY_BLOCK))
        return 0;
    return slot_split(g, va);
}

/* True if anything was mapped there. */
static bool unmap_range(struct guest *g, u64 va, u64 pages)
{
    bool any = false;
    while (pages) {
        u64 step = walk_step(g, va, pages);
        u64 entry = entry_at(g, va);
        if (entry & ENTRY_MAPPED) {
            int err = g->ops->unmap(g, va, entry & ENTRY_BLOCK ? ORDER_PAGEBLOCK : 0);
            ASSERT(!err);
            count_sub(&g->frames_mapped, entry & ENTRY_BLOCK ? SLOT_PAGES : 1);
            any = true;
        }
        va += step * FRAME_SIZE;
        pages -= step;
    }
    return any;
}

/* Gives back [first, first + pages) of one slot. A block goes as a whole. */
static void slot_free(struct guest *g, u64 *slot, unsigned first, unsigned pages)
{
    if (!*slot)
        return;
    if (*slot & ENTRY_BLOCK) {
        ASSERT(pages == ENTRIES);
        mm_free(entry_pfn(*slot), ORDER_PAGEBLOCK);
        *slot = 0;
        count_add(&g->frees, 1);
        count_sub(&g->frames_held, SLOT_PAGES);
        count_sub(&g->blocks, 1);
        return;
    }
    u64 *leaf = entry_table(*slot);
    u64 any_left = 0, freed = 0;
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (i >= first && i < first + pages && leaf[i]) {
            gather_add(&g->head->gather, entry_pfn(leaf[i]));
            leaf[i] = 0;
            freed++;
        }
        any_left |= leaf[i];
    }
    count_sub(&g->frames_held, freed);
    if (!any_left) {
        guest_own_free(g, leaf);
        *slot = 0;
    }
}

int guest_memory_release(struct guest *g, u64 va, u64 pages)
{
    u64 end = va + pages * FRAME_SIZE;
    int err = split_at(g, va);
    if (!err)
        err = split_at(g, end);
    if (err)
        return err;

    /* What was never touched is in no table, and no CPU can have a translation of it. */
    if (unmap_range(g, va, pages))
        g->ops->flush(g, va, pages * FRAME_SIZE);
    g->ops->check_flushed(g);
    while (va < end) {
        u64 in_slot = MIN((end - va) >> FRAME_SHIFT, SLOT_PAGES - (va >> FRAME_SHIFT) % SLOT_PAGES);
        u64 *slot = slot_find(g, va);
        if (slot)
            slot_free(g, slot, (va >> FRAME_SHIFT) % ENTRIES, (unsigned)in_slot);
        va += in_slot * FRAME_SIZE;
    }
    gather_flush(&g->head->gather);
    return 0;
}

void guest_memory_destroy(struct guest *g)
{
    for (unsigned i = 0; g->gib && i < ENTRIES; i++) {
        if (!g->gib[i])
            continue;
        u64 *slots = entry_table(g->gib[i]);
        for (unsigned s = 0; s < ENTRIES; s++)
            slot_free(g, &slots[s], 0, ENTRIES);
        guest_own_free(g, slots);
    }
    if (g->gib)
        guest_own_free(g, g->gib);
    if (g->head) {
        if (g->gib)
            gather_flush(&g->head->gather);
        guest_own_free(g, g->head);
    }
    g->gib = NULL;
    g->head = NULL;
    g->frames_mapped = 0; /* the tables go next, and nobody runs on them any more */
    if (g->frames_held || g->frames_own || g->blocks)
        panic("P2 one owner: guest %u is gone and still counts %lu frames, %lu of its map's own, "
              "%lu blocks",
              g->id, g->frames_held, g->frames_own, g->blocks);
}
