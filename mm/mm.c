/*
 * The calls of mm/mm.h: each goes through the door to the backend that the boot has chosen, or is
 * common to all. Owns the choice (constant after mm_init()) and the switch of idle scrubbing (a).
 * Next: mm/backend.h, mm/limpid.c.
 */
#include "mm/backend.h"
#include "mm/strategy/strategy.h"
#include "arch.h"
#include "mm/bell.h"
#include "mm/nodes.h"
#include "mm/policy.h"

static const struct backend *const backends[] = {&backend_limpid, &backend_classic};
const struct backend *mm_backend = &backend_limpid;

static bool scrub_on = true; /* (a) idle CPUs scrub */

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* ---- which backend ---- */

int mm_backend_set(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(backends); i++) {
        if (!same(backends[i]->name, name))
            continue;
        mm_backend = backends[i];
        return 0;
    }
    return E_NOENT;
}

const char *mm_backend_name(void)
{
    return mm_backend->name;
}

const char *mm_backend_nth(unsigned i)
{
    return i < ARRAY_SIZE(backends) ? backends[i]->name : NULL;
}

int mm_init(const struct mm_config *cfg)
{
    if (cfg->nr_nodes != nr_nodes || cfg->nr_ranges > MM_RANGES_MAX)
        return E_INVAL;
    nodes_init(cfg);
    bell_init();
    policy_init();
    store_relaxed(&scrub_on, !cfg->scrub_off); /* there is nobody to ring for yet */
    return mm_backend->init(cfg);
}

/* ---- strategies ---- */

static bool has_strategy(const struct backend *b, const char *name)
{
    const char *have;
    for (unsigned i = 0; (have = b->strategy_nth(i)) != NULL; i++)
        if (same(have, name))
            return true;
    return false;
}

const char *mm_strategy_backend(const char *name)
{
    if (has_strategy(mm_backend, name))
        return mm_backend->name;
    for (unsigned i = 0; i < ARRAY_SIZE(backends); i++)
        if (has_strategy(backends[i], name))
            return backends[i]->name;
    return NULL;
}

int mm_strategy_set(const char *name)
{
    const char *owner = mm_strategy_backend(name);
    if (!owner)
        return E_NOENT;
    return owner == mm_backend->name ? mm_backend->strategy_set(name) : E_INVAL;
}

const char *mm_strategy_name(void)
{
    return mm_backend->strategy_name();
}

const char *mm_strategy_nth(unsigned i)
{
    return mm_backend->strategy_nth(i);
}

const char *mm_strategy_warning(void)
{
    return mm_backend->strategy_now()->warning;
}

bool mm_strategy_scrubs_free(void)
{
    return !mm_backend->strategy_now()->leaves_free_dirty;
}

/* ---- frames ---- */

enum mm_carry mm_carry(void)
{
    return mm_backend->strategy_now()->carry;
}

pfn_t mm_take_carrying(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt,
                       u64 *cleared)
{
    /* Asked once: a strategy that comes later finds the flag at the frame, and scrubs it. */
    if (mm_carry() != CARRY_NONE)
        return mm_backend->take_dirty(order, flags, node, dirt);
    map512_zero(dirt);
    return mm_backend->take(order, flags | TAKE_CLEAN, node, cleared);
}

void mm_scrub_carried(pfn_t pfn, unsigned frames)
{
    mm_backend->scrub_carried(pfn, frames);
}

void mm_free_mask(pfn_t first, const struct map512 *frames)
{
    mm_backend->free_mask(first, frames);
}

int mm_retire(pfn_t pfn)
{
    return mm_backend->retire(pfn);
}

bool mm_owns(pfn_t pfn)
{
    return mm_backend->owns(pfn);
}

/* ---- the calls of the idle loop and of the aged scrubber ---- */

bool mm_scrub_step(void)
{
    return mm_scrub_enabled() && mm_backend->scrub_step();
}

bool mm_scrub_may(void)
{
    return mm_scrub_enabled() && mm_backend->scrub_may();
}

u64 mm_scrub_may_at(void)
{
    return mm_scrub_enabled() ? mm_backend->scrub_may_at() : 0;
}

bool mm_scrub_enabled(void)
{
    return load_relaxed(&scrub_on);
}

void mm_scrub_enable(bool on)
{
    store_relaxed(&scrub_on, on);
    if (on)
        mm_bell_pass_on(); /* orders the switch before its look at dirt and sleepers */
}

void mm_stores_flush(void)
{
    mm_backend->stores_flush();
}

void mm_bell_pass_on(void)
{
    mm_backend->bell_pass_on();
}

bool mm_has_age_bound(void)
{
    return !mm_backend->no_age_bound;
}

bool mm_helps_busy_nodes(void)
{
    return !mm_backend->no_help;
}

bool mm_waits_for_one_clear(void)
{
    return !mm_backend->waits_add_up;
}

bool mm_scrub_at_work(void)
{
    return mm_backend->scrub_at_work && mm_backend->scrub_at_work();
}

u64 mm_aged_step(unsigned node)
{
    return mm_backend->aged_step(node);
}

/* ---- looking ---- */

unsigned mm_nr_zones(void)
{
    return mm_backend->nr_zones();
}

void mm_zone_info(unsigned zone, struct mm_zone_info *out)
{
    mm_backend->zone_info(zone, out);
}

void mm_cpu_info(unsigned cpu, struct mm_cpu_info *out)
{
    mm_backend->cpu_info(cpu, out);
}

void mm_costs_get(struct mm_costs *out)
{
    mm_backend->costs(out, false);
}

void mm_costs_reset(void)
{
    struct mm_costs unused;
    mm_backend->costs(&unused, true);
}

unsigned mm_check(bool contents, void (*say)(const char *line))
{
    return mm_backend->check(contents, say);
}

void mm_node_info(unsigned node, struct mm_zone_info *out)
{
    *out = (struct mm_zone_info){.node = node};
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        struct mm_zone_info z;
        mm_zone_info(n, &z);
        if (node != MM_ALL_NODES && z.node != node)
            continue;
        out->frames += z.frames;
        out->clean += z.clean;
        out->dirty += z.dirty;
        out->stored_clean += z.stored_clean;
        out->stored_dirty += z.stored_dirty;
        out->in_flight += z.in_flight;
        out->allocated += z.allocated;
        out->retired += z.retired;
        out->metadata_bytes += z.metadata_bytes;
        out->scrubbed_idle_local += z.scrubbed_idle_local;
        out->scrubbed_idle_remote += z.scrubbed_idle_remote;
        out->scrubbed_takers_local += z.scrubbed_takers_local;
        out->scrubbed_takers_remote += z.scrubbed_takers_remote;
        out->scrubbed_aged += z.scrubbed_aged;
        out->scrubbed_at_free += z.scrubbed_at_free;
        out->scrubbed_at_map += z.scrubbed_at_map;
        out->waits += z.waits;
        out->max_clears_waited = MAX(out->max_clears_waited, z.max_clears_waited);
        out->oldest_dirt_ms = MAX(out->oldest_dirt_ms, z.oldest_dirt_ms);
        out->oldest_scrubbed_ms = MAX(out->oldest_scrubbed_ms, z.oldest_scrubbed_ms);
    }
}
