/*
 * The aged step: no dirt is forgotten (P9), even if every CPU of the machine runs threads for
 * ever. One thread a node calls it (sched/aged.c) and has its turn like any other thread.
 *
 * Only a free stamps dirt with an age; claims and returns keep the stamp (rule 17). What it stamps
 * with is the moment that the last step noted here (stamp_ms()), so a free reads no clock. The
 * search for old dirt walks stamps, one gigablock a lock hold.
 */
#include "mm/bell.h"
#include "mm/claim.h"
#include "mm/limpid.h"
#include "mm/policy.h"
#include "mm/scrub.h"
#include "mm/store.h"
#include "mm/strategy/strategy.h"

enum { RETRY_MS = 1 }; /* the gate was shut: takers pass in less */

/* The dirty pageblock of gigablock g that was freed first, and its age. PB_NONE: none is dirty. */
static u32 oldest_in_gig_locked(const struct zone *z, unsigned g, u32 *age)
{
    const struct gigablock *gig = &z->gig[g];
    u32 now = now_ms(), oldest = PB_NONE;
    *age = 0;
    map512_for_each(bit, &gig->dirty)
    {
        if (oldest == PB_NONE || now - gig->since[bit] > *age) {
            *age = now - gig->since[bit];
            oldest = (u32)((z->first_gib + g) * 512 + bit - z->first_pb);
        }
    }
    return oldest;
}

/* Stored dirt past the bound goes back into the maps, where the search finds it. */
static void sweep_old_stores(struct zone *z, u32 age_ms)
{
    spin_lock(&z->lock);
    if (store_holds_older_locked(z, age_ms))
        store_sweep_locked(z);
    spin_unlock_keep_preempt_off(&z->lock);
    bell_ring(z);
    preempt_enable();
}

/*
 * Scrubs the oldest pageblock of one gigablock if it is due. True: it did, look again. *wait_ms
 * is lowered to when the next one of this gigablock is due.
 */
static bool scrub_due_in_gig(struct zone *z, unsigned g, u32 age_ms, u32 *wait_ms)
{
    u32 age;
    bool claimed = false;
    spin_lock(&z->lock);
    u32 i = oldest_in_gig_locked(z, g, &age);
    if (i != PB_NONE && age >= age_ms) {
        claimed = claim_take_aged_locked(z, i);
        *wait_ms = MIN(*wait_ms, (u32)RETRY_MS);
    } else if (i != PB_NONE) {
        *wait_ms = MIN(*wait_ms, age_ms - age);
    }
    spin_unlock_keep_preempt_off(&z->lock); /* rule 10: off from claim to return, here too */
    if (claimed)
        scrub_claimed(z);
    preempt_enable();
    return claimed;
}

/* A second; less for short bounds, for by so much a stamp may be too old. */
u32 mm_aged_sleep_ms(u32 age_ms)
{
    return MAX(MIN(age_ms / 4, 1000u), 1u);
}

u64 limpid_aged_step(unsigned node)
{
    struct mm_policy p;
    mm_policy_get(&p);
    u32 wait_ms = mm_aged_sleep_ms(p.age_ms);
    /* Without a bound nobody calls again, and frees have to ask the clock themselves. */
    store_relaxed(&mm_stamp, p.age_ms ? MAX(now_ms(), 1u) : 0);
    if (p.age_ms == 0)
        return ~0ULL;
    if (!mm_scrub_enabled() || strategy_now()->leaves_free_dirty)
        return wait_ms * 1000000ULL;
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct zone *z = &mm_zones[n];
        if (z->node != node)
            continue;
        sweep_old_stores(z, p.age_ms);
        for (unsigned g = 0; g < z->nr_gigs; g++)
            if (scrub_due_in_gig(z, g, p.age_ms, &wait_ms))
                return 0;
    }
    return wait_ms * 1000000ULL;
}
