/*
 * The check before mapping (P1): every frame that is to reach a guest, by whatever way, comes
 * through guest_take_checked(), which reads all of it. mm/ has promised that it is zero; here
 * nobody takes its word.
 *
 * It fails closed. A frame that is not zero is not mapped: it is retired, so that nobody ever
 * gets it again, and reported, and another one is taken instead. A frame that cannot be retired
 * is kept: it stays allocated to nobody for good.
 *
 * Owns the counters below (a). No lock: a block that was just taken belongs to the taker.
 * Next: guest/memory.c, the only caller.
 */
#include "guest/internal.h"
#include "lib/log.h"

/*
 * One guest refuses no more than this many. A bad frame now and then is a bad frame; more is a
 * broken scrubber, which must not retire the whole machine.
 */
#define CHECK_DIRTY_MAX 32

static u64 check_refused; /* (a) fetch_add */
static u64 check_kept;    /* (a) fetch_add */

u64 guests_leak_count(void)
{
    return load_relaxed(&check_refused);
}

u64 guests_leak_kept(void)
{
    return load_relaxed(&check_kept);
}

/* For the report only. A frame of no zone cannot have been taken. */
static unsigned check_node(pfn_t pfn)
{
    struct mm_zone_info zone;
    for (unsigned z = 0; z < mm_nr_zones(); z++) {
        mm_zone_info(z, &zone);
        if (zone.start <= pfn && pfn < zone.end)
            return zone.node;
    }
    return ANY_NODE;
}

/* Reports and retires one frame. False: mm/ cannot remember it, so nobody may have it back. */
static bool check_refuse(struct guest *g, pfn_t pfn)
{
    int err = mm_retire(pfn);
    bool retired = err == 0 || err == E_EXIST;

    g->dirty_seen++;
    fetch_add(&check_refused, 1);
    if (!retired)
        fetch_add(&check_kept, 1);
    log_line("guest %u %s: frame 0x%lx of node %u was not zero: refused and %s", g->id, g->name,
             pfn, check_node(pfn), retired ? "retired" : "kept, the table of bad frames is full");
    return retired;
}

/*
 * Reads the block. True if all of it is zero; else the bad frames are dealt with and `good` has
 * the ones to give back: all but those that are kept. Only the frames of one pageblock at a
 * time, so that one mask holds them.
 */
static bool check_read(struct guest *g, pfn_t pfn, unsigned frames, struct map512 *good)
{
    bool clean = true;
    unsigned first = pfn % MAP512_BITS;

    *good = map512_range(first, frames);
    for (unsigned i = 0; i < frames && g->dirty_seen <= CHECK_DIRTY_MAX; i++) {
        if (likely(frame_is_zero(frame_va(pfn + i))))
            continue;
        clean = false;
        /* Retired ones go back with the others: mm/ keeps them out for good. */
        if (!check_refuse(g, pfn + i))
            map512_clear(good, first + i);
    }
    return clean;
}

pfn_t guest_take_checked(struct guest *g, unsigned order, int *error)
{
    ASSERT(order <= ORDER_PAGEBLOCK);
    for (;;) {
        struct map512 good;
        if (g->dirty_seen > CHECK_DIRTY_MAX) {
            *error = E_DIRTY;
            return PFN_NONE;
        }
        u64 cleared = 0;
        pfn_t pfn = mm_take_counted(order, g->take, g->node, &cleared);
        if (pfn == PFN_NONE) {
            *error = E_NOMEM;
            return PFN_NONE;
        }
        count_add(&g->taken_cleared, cleared);
        count_add(&g->taken_clean, (1ULL << order) - cleared);
        if (likely(check_read(g, pfn, 1u << order, &good)))
            return pfn;
        if (!map512_empty(&good))
            mm_free_mask(ALIGN_DOWN(pfn, MAP512_BITS), &good);
    }
}
