/*
 * Retiring bad frames. A frame that is free or stored is taken out at once; one that is allocated
 * or in flight is noted, and pageblock_put_locked(), the one door back into the maps, drops it
 * when it comes:
 *
 *     A: retire                              B: idle scrub
 *                                            claim: frame f leaves the maps
 *     lock; f is not free: note f; unlock
 *                                            clear f
 *                                            lock; put: f is in the table, f stays out; unlock
 *
 * Owns zone.bad, zone.nr_bad, pageblock.has_bad; zone lock.
 */
#include "mm/retire.h"
#include "mm/bell.h"
#include "mm/limpid.h"
#include "mm/pageblock.h"
#include "mm/store.h"

/* The number of the first entry at or above pfn: the table is sorted. */
static unsigned bad_from(const struct zone *z, pfn_t pfn)
{
    unsigned low = 0, high = z->nr_bad;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (z->bad[mid].pfn < pfn)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void retire_filter_locked(const struct zone *z, u32 i, struct part512 *frames)
{
    pfn_t first = zone_pb_pfn(z, i);
    ASSERT(spin_held(&z->lock));
    for (unsigned n = bad_from(z, first); n < z->nr_bad && z->bad[n].pfn < first + 512; n++)
        if (part512_test(frames, (unsigned)(z->bad[n].pfn - first)))
            map512_clear(&frames->map, (unsigned)(z->bad[n].pfn - first));
}

unsigned retire_at_door_locked(struct zone *z, u32 i, struct part512 *frames)
{
    unsigned dropped = 0;
    pfn_t first = zone_pb_pfn(z, i);
    ASSERT(spin_held(&z->lock));
    for (unsigned n = bad_from(z, first); n < z->nr_bad && z->bad[n].pfn < first + 512; n++) {
        if (!part512_test(frames, (unsigned)(z->bad[n].pfn - first)))
            continue;
        if (z->bad[n].retired)
            panic("P2 one owner: free of the retired frame at pfn 0x%llx (node %u)",
                  (unsigned long long)z->bad[n].pfn, z->node);
        z->bad[n].retired = 1;
        map512_clear(&frames->map, (unsigned)(z->bad[n].pfn - first));
        dropped++;
    }
    return dropped;
}

static int retire_locked(struct zone *z, pfn_t pfn)
{
    u32 i = zone_pb(z, pfn);
    struct part512 frame;
    part512_run(&frame, (unsigned)(pfn % 512), 0);
    unsigned at = bad_from(z, pfn);
    if (at < z->nr_bad && z->bad[at].pfn == pfn)
        return E_EXIST;
    if (z->nr_bad == ZONE_BAD_MAX)
        return E_NOSPC;
    /* Out of the stores first: from here on it can only be free, in flight or allocated. */
    store_sweep_locked(z);
    for (unsigned n = z->nr_bad++; n > at; n--)
        z->bad[n] = z->bad[n - 1];
    z->pb[i].has_bad = true;

    struct map512 view = pageblock_view_locked(z, i, VIEW_ANY);
    bool is_free = part512_within(&frame, &view);
    z->bad[at].pfn = pfn;
    z->bad[at].retired = is_free;
    if (is_free) {
        pageblock_get_locked(z, i, &frame, NULL);
        z->retired++;
    }
    return 0;
}

int limpid_retire(pfn_t pfn)
{
    if (!limpid_owns(pfn))
        return E_INVAL;
    struct zone *z = zone_of(pfn);
    spin_lock(&z->lock);
    int error = retire_locked(z, pfn);
    spin_unlock_keep_preempt_off(&z->lock);
    bell_ring(z); /* for the stored dirt that the sweep has put into the maps */
    preempt_enable();
    return error;
}
