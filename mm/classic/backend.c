/*
 * The backend `classic`, as the door of mm/backend.h sees it. It keeps no stores, and knows no age
 * of dirt but for the tables. Next: heap.h, where it begins.
 */
#include "mm/backend.h"
#include "mm/classic/classic_backend.h"

static void no_stores(void) {}

static u64 no_age_bound(unsigned node)
{
    (void)node;
    return ~0ULL;
}

const struct backend backend_classic = {
    .name = "classic",
    .init = heaps_init,
    .take = heaps_take,
    .free = heaps_free,
    .free_mask = heaps_free_mask,
    .retire = heaps_retire,
    .owns = heaps_own,
    .scrub_step = heaps_scrub_step,
    .scrub_may = heaps_scrub_may,
    .scrub_may_at = heaps_scrub_may_at,
    .stores_flush = no_stores,
    .bell_pass_on = heaps_bell_pass_on,
    .aged_step = no_age_bound,
    .no_age_bound = true,
    .no_help = true,
    .waits_add_up = true,
    .scrub_at_work = heaps_scrub_at_work,
    .strategy_nth = heaps_strategy_nth,
    .strategy_name = heaps_strategy_name,
    .strategy_set = heaps_strategy_set,
    .strategy_now = heaps_strategy_now,
    .nr_zones = heaps_nr_zones,
    .zone_info = heaps_zone_info,
    .cpu_info = heaps_cpu_info,
    .costs = heaps_costs,
    .check = heaps_check,
};
