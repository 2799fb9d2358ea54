/*
 * Where a guest's frames come from, and the check (P1): every frame that is to reach a guest, by
 * whatever way, is read just before it is mapped (guest/touch.c). mm/ has promised that it is
 * zero; here nobody takes its word.
 *
 * It fails closed. A frame that is not zero is not mapped: it is retired, so that nobody ever
 * gets it again, and reported, and another one is taken instead. A frame that cannot be retired
 * is kept: it stays allocated to nobody for good.
 *
 * Owns the counters below (a). No lock: a block that was just taken belongs to the taker.
 * Next: guest/touch.c, guest/memory.c.
 */
#include "guest/memory.h"
#include "lib/log.h"

/*
 * One guest refuses no more than this many. A bad frame now and then is a bad frame; more is a
 * broken scrubber, which must not retire the whole machine.
 */
#define CHECK_DIRTY_MAX 32

static u64 check_refused; /* (a) fetch_add */
static u64 check_kept;    /* (a) fetch_add */
static u64 check_shown;   /* (a) fetch_add */

u64 guests_leak_count(void)
{
    return load_relaxed(&check_refused);
}

u64 guests_leak_kept(void)
{
    return load_relaxed(&check_kept);
}

u64 guests_shown_count(void)
{
    return load_relaxed(&check_shown);
}

void guest_count_shown(struct guest *g, u64 frames)
{
    count_add(&g->shown, frames);
    fetch_add(&check_shown, frames);
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

bool guest_check_refuse(struct guest *g, pfn_t pfn)
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

pfn_t guest_take(struct guest *g, unsigned order, struct map512 *dirt)
{
    u64 cleared = 0;
    ASSERT(order <= ORDER_PAGEBLOCK);
    pfn_t pfn = mm_take_carrying(order, g->take, g->node, dirt, &cleared);
    if (pfn == PFN_NONE)
        return PFN_NONE;
    u64 carried = map512_count(dirt);
    count_add(&g->taken_cleared, cleared);
    count_add(&g->taken_dirty, carried);
    count_add(&g->taken_clean, (1ULL << order) - cleared - carried);
    return pfn;
}

pfn_t guest_take_checked(struct guest *g, int *error)
{
    for (;;) {
        if (g->dirty_seen > CHECK_DIRTY_MAX) {
            *error = E_DIRTY;
            return PFN_NONE;
        }
        u64 cleared = 0;
        pfn_t pfn = mm_take_counted(0, g->take, g->node, &cleared);
        if (pfn == PFN_NONE) {
            *error = E_NOMEM;
            return PFN_NONE;
        }
        count_add(&g->taken_cleared, cleared);
        count_add(&g->taken_clean, 1 - cleared);
        if (likely(frame_is_zero(frame_va(pfn))))
            return pfn;
        /* A retired one goes back: mm/ keeps it out for good. */
        if (guest_check_refuse(g, pfn))
            mm_free(pfn, 0);
    }
}
