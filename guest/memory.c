/*
 * Who owns what: a guest's map of memory, by guest address, and taking and giving back through
 * it. mm/ does not know who has an allocated frame; this map does, and the walker adds it up.
 *
 * Three storeys like the page tables, but our own, so that they hold for any kind of guest:
 *
 *     g->gib[512]     a GiB of addresses each      -> a frame of 512 slots, or 0
 *     slot            2 MiB of addresses           -> a block of order 9, or a leaf, or 0
 *     leaf[512]       a page each                  -> a frame, or 0
 *
 * An entry is pfn << 12 | flags. A block slot is one 2 MiB page and goes back as one block; a
 * leaf is for what could not be had, or does not fit, as a block. The frames of the map itself
 * are the guest's metadata (frames_own).
 *
 * Everything here runs inside the memory gate, or before and after the guest runs. Order in
 * which a frame leaves: out of the page tables; flushed from every CPU; only then mm_free().
 *
 * Next: guest/check.c, where frames come from; guest/gather.c, where they go.
 */
#include "guest/internal.h"

#define ENTRIES          512u
#define SLOT_SHIFT       21
#define SLOT_PAGES       512ULL
#define GIB_SHIFT        30
#define ENTRY_BLOCK      1ULL /* of a slot: an order-9 block, mapped as one page */
#define ENTRY_LEAF       2ULL /* of a slot: pfn is the leaf's */
#define ENTRY_FRAME      4ULL /* of a leaf */
#define ENTRY_GIVE       8ULL /* block or frame: the guest may give it back */
#define ENTRY_PROT_SHIFT 4    /* enum prot of what is mapped: a split has to map it again */
#define ENTRY_PROT(e)    ((enum prot)((e) >> ENTRY_PROT_SHIFT & 7))

static pfn_t entry_pfn(u64 entry)
{
    return entry >> FRAME_SHIFT;
}

static u64 entry_make(pfn_t pfn, u64 kind, enum prot prot, enum page_use use)
{
    return pfn << FRAME_SHIFT | kind | (u64)prot << ENTRY_PROT_SHIFT |
           (use == USE_MEMORY ? ENTRY_GIVE : 0);
}

static u64 *entry_table(u64 entry)
{
    return frame_va(entry_pfn(entry));
}

/* ---- the memory gate ---- */

void guest_memory_enter(struct guest *g)
{
    waitq_wait(&g->gate, cas(&g->gate_taken, 0u, 1u));
}

void guest_memory_leave(struct guest *g)
{
    /* Release: what was done inside is seen by who enters next (its cas acquires). */
    store_release(&g->gate_taken, 0u);
    waitq_wake_all(&g->gate);
}

/* ---- metadata ---- */

/*
 * A table of our own has to be empty, so its frame goes through the check like the guest's: an
 * entry that somebody left there would be a frame that the guest does not have.
 */
static void *own_take(struct guest *g)
{
    int err;
    pfn_t pfn = guest_take_checked(g, 0, &err);
    if (pfn == PFN_NONE)
        return NULL;
    count_add(&g->frames_own, 1);
    return frame_va(pfn);
}

static void own_free(struct guest *g, const void *table)
{
    mm_free(va_phys(table) >> FRAME_SHIFT, 0);
    count_sub(&g->frames_own, 1);
    count_add(&g->frees, 1);
}

int guest_memory_create(struct guest *g)
{
    g->head = own_take(g);
    g->gib = own_take(g);
    if (!g->head || !g->gib)
        return E_NOMEM; /* guest_memory_destroy() takes care of one without the other */
    gather_init(&g->head->gather, &g->frees);
    return 0;
}

/* The slot of any address, or NULL if its GiB has no slots. */
static u64 *slot_find(const struct guest *g, u64 va)
{
    u64 gib = va >> GIB_SHIFT < ENTRIES ? g->gib[va >> GIB_SHIFT] : 0;
    return gib ? entry_table(gib) + (va >> SLOT_SHIFT) % ENTRIES : NULL;
}

static u64 *slot_make(struct guest *g, u64 va)
{
    ASSERT(va >> GIB_SHIFT < ENTRIES);
    u64 *gib = &g->gib[va >> GIB_SHIFT];
    if (!*gib) {
        u64 *slots = own_take(g);
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
        u64 *leaf = own_take(g);
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

/* One order-9 block for a whole slot. On E_NOMEM with the slot still empty there was no block. */
static int fill_block(struct fill *f, u64 va, u64 *slot)
{
    int err;
    pfn_t pfn = guest_take_checked(f->g, ORDER_PAGEBLOCK, &err);
    if (pfn == PFN_NONE)
        return err;
    *slot = entry_make(pfn, ENTRY_BLOCK, f->prot, f->use);
    held_add(f->g, SLOT_PAGES);
    count_add(&f->g->blocks, 1);
    return f->g->ops->map(f->g, va, pfn, ORDER_PAGEBLOCK, f->prot);
}

/* Maps the first `pages` frames that `entry` has, at va. */
static int leaf_map(struct guest *g, u64 va, const u64 *entry, u64 pages)
{
    for (u64 i = 0; i < pages; i++) {
        int err = g->ops->map(g, va + i * FRAME_SIZE, entry_pfn(entry[i]), 0, ENTRY_PROT(entry[i]));
        if (err)
            return err;
    }
    return 0;
}

/* `pages` frames within one slot, in the largest blocks that there are. */
static int fill_leaf(struct fill *f, u64 va, u64 *slot, u64 pages)
{
    u64 *leaf = leaf_make(f->g, slot);
    if (!leaf)
        return E_NOMEM;
    u64 *entry = leaf + (va >> FRAME_SHIFT) % ENTRIES;

    for (u64 done = 0; done < pages;) {
        unsigned order = MIN(f->order_max, ORDER_PAGEBLOCK - 1u);
        while (1ULL << order > pages - done)
            order--;
        int err;
        pfn_t pfn = guest_take_checked(f->g, order, &err);
        if (pfn == PFN_NONE && err == E_NOMEM && order > 0) {
            f->order_max = order - 1;
            continue;
        }
        if (pfn == PFN_NONE)
            return err;
        for (unsigned i = 0; i < 1u << order; i++)
            entry[done + i] = entry_make(pfn + i, ENTRY_FRAME, f->prot, f->use);
        held_add(f->g, 1ULL << order);
        done += 1ULL << order;
    }
    return leaf_map(f->g, va, entry, pages);
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

pfn_t guest_memory_page(struct guest *g, u64 va, enum prot prot, enum page_use use, int *error)
{
    u64 *slot = slot_make(g, va);
    u64 *leaf = slot ? leaf_make(g, slot) : NULL;
    *error = E_NOMEM;
    if (!leaf)
        return PFN_NONE;
    u64 *entry = &leaf[(va >> FRAME_SHIFT) % ENTRIES];
    ASSERT(!*entry);
    pfn_t pfn = guest_take_checked(g, 0, error);
    if (pfn == PFN_NONE)
        return PFN_NONE;
    *entry = entry_make(pfn, ENTRY_FRAME, prot, use);
    held_add(g, 1);
    return pfn;
}

/* ---- looking ---- */

/* What the map has for a page: a block's or a frame's entry, 0: nothing. */
static u64 entry_at(const struct guest *g, u64 va)
{
    const u64 *slot = slot_find(g, va);
    if (!slot || !*slot)
        return 0;
    return *slot & ENTRY_BLOCK ? *slot : entry_table(*slot)[(va >> FRAME_SHIFT) % ENTRIES];
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
    u64 end = GUEST_MEM_BASE + ALIGN_UP(2 * g->frames_limit * FRAME_SIZE, 1ULL << SLOT_SHIFT);
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

/* ---- giving back ---- */

/*
 * Makes 512 pages of one 2 MiB page, so that a part of it can go. Nobody runs in the guest
 * meanwhile: its one thread is here. E_NOMEM: it is as before; E_KILLED: not even that could be
 * done, and the guest cannot go on.
 */
static int slot_split(struct guest *g, u64 va)
{
    u64 base = ALIGN_DOWN(va, 1ULL << SLOT_SHIFT);
    u64 *slot = slot_find(g, base);
    u64 block = *slot;
    u64 *leaf = own_take(g);
    if (!leaf)
        return E_NOMEM;
    for (unsigned i = 0; i < ENTRIES; i++)
        leaf[i] = entry_make(entry_pfn(block) + i, ENTRY_FRAME, ENTRY_PROT(block),
                             block & ENTRY_GIVE ? USE_MEMORY : USE_IMAGE);

    int err = g->ops->unmap(g, base, ORDER_PAGEBLOCK);
    ASSERT(!err);
    /* This takes one frame for a table, at the first page, so it fails there or nowhere. */
    bool split = leaf_map(g, base, leaf, ENTRIES) == 0;
    if (!split)
        err = g->ops->map(g, base, entry_pfn(block), ORDER_PAGEBLOCK, ENTRY_PROT(block));
    g->ops->flush(g, base, 1ULL << SLOT_SHIFT);
    if (!split) {
        own_free(g, leaf);
        return err ? E_KILLED : E_NOMEM;
    }
    *slot = va_phys(leaf) | ENTRY_LEAF;
    count_sub(&g->blocks, 1);
    return 0;
}

/* Splits the block that `va` cuts in two, if it does. */
static int split_at(struct guest *g, u64 va)
{
    const u64 *slot = slot_find(g, va);
    if (IS_ALIGNED(va, 1ULL << SLOT_SHIFT) || !slot || !(*slot & ENTRY_BLOCK))
        return 0;
    return slot_split(g, va);
}

static void unmap_range(struct guest *g, u64 va, u64 pages)
{
    while (pages) {
        u64 step = walk_step(g, va, pages);
        u64 entry = entry_at(g, va);
        /* What was taken but could not be mapped is in the map, too: E_NOENT is fine. */
        if (entry)
            (void)g->ops->unmap(g, va, entry & ENTRY_BLOCK ? ORDER_PAGEBLOCK : 0);
        va += step * FRAME_SIZE;
        pages -= step;
    }
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
        own_free(g, leaf);
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

    unmap_range(g, va, pages);
    g->ops->flush(g, va, pages * FRAME_SIZE);
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
        own_free(g, slots);
    }
    if (g->gib)
        own_free(g, g->gib);
    if (g->head) {
        if (g->gib)
            gather_flush(&g->head->gather);
        own_free(g, g->head);
    }
    g->gib = NULL;
    g->head = NULL;
    if (g->frames_held || g->frames_own || g->blocks)
        panic("P2 one owner: guest %u is gone and still counts %lu frames, %lu of its map's own, "
              "%lu blocks",
              g->id, g->frames_held, g->frames_own, g->blocks);
}
