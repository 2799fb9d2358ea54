/*
 * `mark`: Konrad Wilk's proposal in the thread: "another flag that would be 'PG_scrubbing_now` -
 * and the allocator could bypass all of the pages that have said flag (and also PG_need_scrub). If
 * the allocator can't find enough pages to satisfy the demands - it goes back in and looks at
 * PG_need_scrub pages and scrubs those. In parallel, another thread pick the ones that have
 * PG_need_scrub and change them to PG_scrubbing_now and scrubs them. When it has completed it
 * removes both flags." He says how the flags are to change: by compare-and-swap.
 *
 * The flags do what they are meant to: of a taker and a scrubber that want one block one wins the
 * compare-and-swap, and no frame is cleared under its owner. What they do not guard is the link to
 * the next block. Bob answers with these two columns:
 *
 *     A: alloc path                          B: idle scrub path
 *                                            page = list_entry(&heap_list);
 *     Delist the page from heap_list
 *     (Can happen any time)
 *                                            if (PG_need_scrub)
 *                                                set PG_scrubbing_now
 *                                            scrub and clear both flags
 *                                            page = page_list_next(page);
 *                                                   ^^^ Get panic
 *
 * and with what Jan pointed out: a block of order 20 that is being scrubbed is passed over as a
 * whole: "a long time we have large memory but can't allocate any page".
 *
 *     A: takes                               B: idle
 *                                            marks the only free block: 1 GiB
 *     lock; passes over what is marked       clears frame 1 of 262144
 *     nothing else: fails                    clears frame 2
 *
 * The links of a block that leaves its list are poisoned, so the first ends in a panic that names
 * it. Better than in the thread: B gives up a marked block when a thread wants the CPU; blocks
 * whose merge was kept off by a mark are merged before a taker fails.
 */
#include "mm/classic/strategy/strategy.h"

static bool mark_visit(struct scrub *s, u32 i, unsigned k)
{
    struct heap *h = s->h;
    struct record *r = rec(h, i);
    u8 f = load_relaxed(&r->flags);
    (void)k;
    if (!(f & BK_DIRT) || f & BK_SCRUBBING || !cas(&r->flags, f, (u8)(f | BK_SCRUBBING)))
        return false;
    /* Ours: who takes or merges passes it over. It is listed, so what the record says holds. */
    u32 size = 1u << load_relaxed(&r->order), at = load_relaxed(&r->first_dirty);
    bool stop = false;
    for (; at < size && !stop; at++) {
        if (!(load_relaxed(&rec(h, i + at)->flags) & FR_DIRTY))
            continue;
        scrub_clear(s, i + at);
        dirt_drop_one(&s->drop, i + at, 0);
        /* Only who retires a frame asks a marked block to be let go (mm/classic/free.c). */
        stop = scrub_must_stop(s) || load_relaxed(&r->flags) & BK_ABORT;
    }
    dirt_drop_end(&s->drop);
    store_relaxed(&r->first_dirty, at);
    if (at < size)
        store_relaxed(&h->need_scrub, 1u); /* somebody has to come again */
    flags_change(r, BK_SCRUBBING | BK_ABORT | (at < size ? 0 : BK_DIRT), 0);
    return true;
}

static bool mark_step(struct scrub *s)
{
    return walk_lists(s, "mark", mark_visit);
}

/* First what has neither flag, or for who wants no zeroes what is not marked; then what is dirty. */
static u32 mark_pick_locked(struct heap *h, unsigned order, bool clean)
{
    unsigned avoid = clean ? BK_DIRT | BK_SCRUBBING : BK_SCRUBBING;
    for (unsigned pass = 0; pass < 2; pass++, avoid = BK_SCRUBBING) {
        for (unsigned k = order; k <= ORDER_MAX; k++) {
            for (u32 i = h->head[k]; i != LINK_NONE; i = rec(h, i)->next) {
                heap_steps_locked(1);
                if (!(load_relaxed(&rec(h, i)->flags) & avoid) && heap_claim_locked(h, i))
                    return i;
            }
        }
    }
    return LINK_NONE;
}

const struct classic_strategy strategy_mark = {
    .common = {.name = "mark",
               .warning = "breaks memory, on purpose: it walks lists that others change"},
    .pick_locked = mark_pick_locked,
    .step = mark_step,
    .may = walk_may,
};
