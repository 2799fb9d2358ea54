/*
 * The first touch: what a guest was given is mapped when it first uses it, by the page fault, or
 * by a hypercall that names it. Here, and nowhere else, a frame becomes reachable for a guest; so
 * here it is scrubbed if it came dirty, and here it is read (P1), just before it is mapped.
 *
 * A 2 MiB block is one touch: it is read, and mapped, as a whole. That is one fault for 512, and
 * what a guest that was given 2 MiB in one piece will use is mostly all of it.
 *
 * Scrubbing and reading take long, so they happen outside of the memory gate, under a note
 * (struct touching) of who is at what:
 *
 *     thread A of the guest             thread B, another CPU
 *     gate: entry not mapped
 *       notes the range; leaves
 *     scrubs, reads                     touches the same: gate, sees the note; waits
 *                                       touches another page: gate, notes; scrubs, reads
 *                                       gives the range back: gate, sees the note; waits
 *     gate: maps; takes the note away
 *       leaves; wakes B                 gate: it is mapped; nothing to do
 *
 * If it is not zero it fails closed: the frame is refused, retired and reported, another takes
 * its place. A block becomes a leaf first, so that one bad frame costs no more than itself.
 *
 * Owns struct touching (m). Next: guest/check.c.
 */
#include "guest/memory.h"
#include "mm/mm.h"

#define KILL_FRAMES 64 /* so many frames are worked on between two looks whether it was killed */

/* The notes, and one count more: they stand on the stacks of who is at work. */
struct touching {
    struct list link;
    u64 va, pages;
};

/* ---- the gate ---- */

void guest_memory_enter(struct guest *g)
{
    mutex_lock(&g->gate);
}

void guest_memory_leave(struct guest *g)
{
    mutex_unlock(&g->gate);
}

/* Is anybody at work in the range? In the gate. */
static bool touching_in(const struct guest *g, u64 va, u64 pages)
{
    list_for_each(it, &g->touching)
    {
        const struct touching *t = container_of(it, struct touching, link);
        if (va < t->va + t->pages * FRAME_SIZE && t->va < va + pages * FRAME_SIZE)
            return true;
    }
    return false;
}

/* In the gate, and in it again when some touch has ended. */
static void touching_wait(struct guest *g)
{
    u64 ended = g->touches_ended;
    guest_memory_leave(g);
    waitq_wait(&g->touched, load_acquire(&g->touches_ended) != ended);
    guest_memory_enter(g);
}

void guest_memory_enter_alone(struct guest *g, u64 va, u64 pages)
{
    u64 first = ALIGN_DOWN(va, SLOT_BYTES); /* blocks that are cut are touched as a whole */
    u64 end = ALIGN_UP(va + pages * FRAME_SIZE, SLOT_BYTES);
    guest_memory_enter(g);
    while (touching_in(g, first, (end - first) >> FRAME_SHIFT))
        touching_wait(g);
}

/* ---- one touch ---- */

struct touch {
    struct guest *g;
    u64 va;
    enum prot access; /* what is to be done there */
    bool clean;       /* it has to be scrubbed, whatever the strategy says */
    u64 *entry;       /* in the gate; it does not move while the note is there */
    struct touching note;
};

#define TOUCH_WORK 1 /* there is something to do */

static bool is_block(const struct touch *t)
{
    return t->note.pages > 1;
}

/* It stays dirty for now: `readonly`, and the guest only reads. */
static bool stays_dirty(const struct touch *t)
{
    return !t->clean && t->access != PROT_WRITE && mm_carry() == CARRY_UNTIL_WRITE;
}

/* In the gate. 0: the guest may do it now; TOUCH_WORK; E_FAULT; E_KILLED. */
static int touch_look(struct touch *t)
{
    struct guest *g = t->g;
    for (;;) {
        if (guest_must_end(g))
            return E_KILLED; /* first: its map may be broken by now */
        t->entry = entry_find(g, t->va);
        if (!t->entry || !(ENTRY_PROT(*t->entry) & t->access))
            return E_FAULT;
        bool dirty = *t->entry & ENTRY_DIRTY;
        if (*t->entry & ENTRY_MAPPED && !(dirty && (t->clean || t->access == PROT_WRITE))) {
            /* Another thread was faster, or this CPU had an older translation. */
            ASSERT(g->ops->walk(g, t->va, t->access) != PFN_NONE);
            return 0;
        }
        bool block = *t->entry & ENTRY_BLOCK;
        t->note.va = block ? ALIGN_DOWN(t->va, SLOT_BYTES) : t->va;
        t->note.pages = block ? SLOT_PAGES : 1;
        if (!touching_in(g, t->note.va, t->note.pages))
            return TOUCH_WORK;
        touching_wait(g);
    }
}

/* ---- outside of the gate ---- */

static bool frames_are_zero(pfn_t pfn, u64 frames)
{
    for (u64 i = 0; i < frames; i++)
        if (unlikely(!frame_is_zero(frame_va(pfn + i))))
            return false;
    return true;
}

/*
 * Scrubs and reads, a part at a time that fits into a cache: what is read was just written, and
 * the guest is about to use it. 0, E_DIRTY (it is not zero), E_KILLED.
 */
static int touch_frames(struct touch *t, u64 entry)
{
    pfn_t pfn = entry_pfn(entry);
    u64 step = MIN(t->note.pages, (u64)KILL_FRAMES), scrubbed = 0;
    for (u64 i = 0; i < t->note.pages; i += step) {
        if (guest_must_end(t->g))
            return E_KILLED;
        if (entry & ENTRY_DIRTY) {
            u64 begin = time_ns();
            mm_scrub_carried(pfn + i, (unsigned)step);
            scrubbed += time_ns() - begin;
        }
        if (!frames_are_zero(pfn + i, step))
            return E_DIRTY;
    }
    if (entry & ENTRY_DIRTY) {
        fetch_add(&t->g->cleared_at_touch, t->note.pages);
        fetch_add(&t->g->scrub_ns, scrubbed);
    }
    return 0;
}

/* ---- in the gate again ---- */

static int touch_map(struct touch *t, bool dirty)
{
    struct guest *g = t->g;
    unsigned order = is_block(t) ? ORDER_PAGEBLOCK : 0;
    enum prot prot = ENTRY_PROT(*t->entry);
    int err;
    if (*t->entry & ENTRY_MAPPED) /* read until now, and dirty */
        err = prot & PROT_WRITE ? g->ops->allow_write(g, t->note.va, order) : 0;
    else
        err = g->ops->map(g, t->note.va, entry_pfn(*t->entry), order,
                          dirty ? prot & ~(unsigned)PROT_WRITE : prot);
    if (err)
        return err;
    if (!(*t->entry & ENTRY_MAPPED)) {
        count_add(&g->frames_mapped, t->note.pages);
        count_add(&g->frames_touched, t->note.pages);
        count_add(&g->touched_dirty, *t->entry & ENTRY_DIRTY ? t->note.pages : 0);
        if (dirty)
            guest_count_shown(g, t->note.pages);
    }
    *t->entry |= ENTRY_MAPPED;
    if (!dirty)
        *t->entry &= ~ENTRY_DIRTY;
    return 0;
}

/* The frame of a page is not zero: another one for it. 0, E_NOMEM, E_DIRTY (too many by now). */
static int touch_replace(struct touch *t)
{
    struct guest *g = t->g;
    pfn_t bad = entry_pfn(*t->entry);
    bool retired = guest_check_refuse(g, bad);
    int err;
    ASSERT(!(*t->entry & ENTRY_MAPPED));
    pfn_t pfn = guest_take_checked(g, &err);
    if (pfn != PFN_NONE) {
        *t->entry = entry_with(*t->entry & ~ENTRY_DIRTY, pfn);
    } else if (!retired) {
        *t->entry = 0; /* kept: it may not go back at the end */
        count_sub(&g->frames_held, 1);
    }
    if (pfn != PFN_NONE && retired)
        mm_free(bad, 0); /* mm/ keeps it out for good */
    return pfn == PFN_NONE ? err : 0;
}

/* What is there is not zero. 0: it was mended, look again. */
static int touch_mend(struct touch *t)
{
    struct guest *g = t->g;
    if (*t->entry & ENTRY_MAPPED) { /* so far it was read only, and could not be scrubbed */
        int err = g->ops->unmap(g, t->note.va, is_block(t) ? ORDER_PAGEBLOCK : 0);
        ASSERT(!err);
        g->ops->flush(g, t->note.va, t->note.pages * FRAME_SIZE);
        g->ops->check_flushed(g);
        *t->entry &= ~ENTRY_MAPPED;
        count_sub(&g->frames_mapped, t->note.pages);
    }
    return is_block(t) ? slot_to_leaf(g, t->note.va, t->entry) : touch_replace(t);
}

/* One round, in the gate: 0, or an error, or TOUCH_WORK: look again. */
static int touch_work(struct touch *t)
{
    struct guest *g = t->g;
    u64 entry = *t->entry;
    bool dirty = entry & ENTRY_DIRTY && stays_dirty(t);

    list_push_back(&g->touching, &t->note.link);
    guest_memory_leave(g);
    int err = dirty ? 0 : touch_frames(t, entry);
    guest_memory_enter(g);
    list_remove(&t->note.link);

    if (!err) {
        err = touch_map(t, dirty);
    } else if (err == E_DIRTY) {
        err = touch_mend(t);
        err = err ? err : TOUCH_WORK;
    }
    store_release(&g->touches_ended, g->touches_ended + 1);
    waitq_wake_all(&g->touched);
    return err;
}

static int touch(struct guest *g, u64 va, enum prot access, bool clean)
{
    struct touch t = {.g = g, .va = ALIGN_DOWN(va, FRAME_SIZE), .access = access, .clean = clean};
    u64 begin = time_ns();
    bool worked = false;
    int err;

    guest_memory_enter(g);
    while ((err = touch_look(&t)) == TOUCH_WORK) {
        worked = true;
        err = touch_work(&t);
        if (err < 0)
            break;
    }
    if (worked) {
        count_add(&g->touches, 1);
        count_add(&g->touch_ns, time_ns() - begin);
    }
    guest_memory_leave(g);
    return err;
}

int guest_memory_touch(struct guest *g, u64 va, enum prot access)
{
    return touch(g, va, access, false);
}

pfn_t guest_memory_page(struct guest *g, u64 va, enum prot prot, enum page_use use, int *error)
{
    guest_memory_enter(g);
    *error = guest_memory_fill(g, va, 1, prot, use);
    guest_memory_leave(g);
    if (!*error)
        *error = touch(g, va, PROT_READ, true);
    return *error ? PFN_NONE : entry_pfn(*entry_find(g, va));
}
