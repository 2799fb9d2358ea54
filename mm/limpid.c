/*
 * The backend `limpid`, as the door of mm/backend.h sees it. Next: mm/zone.h, where it begins.
 */
#include "mm/limpid.h"
#include "mm/backend.h"

const struct backend backend_limpid = {
    .name = "limpid",
    .init = limpid_init,
    .take = limpid_take,
    .free = limpid_free,
    .free_mask = limpid_free_mask,
    .retire = limpid_retire,
    .owns = limpid_owns,
    .scrub_step = limpid_scrub_step,
    .scrub_may = limpid_scrub_may,
    .scrub_may_at = limpid_scrub_may_at,
    .stores_flush = limpid_stores_flush,
    .bell_pass_on = limpid_bell_pass_on,
    .aged_step = limpid_aged_step,
    .strategy_nth = limpid_strategy_nth,
    .strategy_name = limpid_strategy_name,
    .strategy_set = limpid_strategy_set,
    .strategy_now = limpid_strategy_now,
    .take_dirty = limpid_take_dirty,
    .scrub_carried = limpid_scrub_carried,
    .nr_zones = limpid_nr_zones,
    .zone_info = limpid_zone_info,
    .cpu_info = limpid_cpu_info,
    .costs = limpid_costs,
    .check = limpid_check,
};
