/*
 * Looking at zones: the numbers behind the tables of the prompt. Consistent for one zone, since
 * they are read under its lock. Next: mm/check.c.
 */
#include "mm/info.h"
#include "mm/limpid.h"
#include "mm/store.h"
#include "mm/zone.h"

static struct {
    u64 idle_local, idle_remote, aged; /* (o) others read them relaxed */
    u64 takers_local, takers_remote;   /* (a) takers preempt each other */
} __attribute__((aligned(64))) cpu_scrubs[MAX_CPUS];

void info_count_claim(const struct zone *z, bool aged, u64 n)
{
    unsigned cpu = cpu_id();
    u64 *count = aged                       ? &cpu_scrubs[cpu].aged
                 : cpu_node(cpu) == z->node ? &cpu_scrubs[cpu].idle_local
                                            : &cpu_scrubs[cpu].idle_remote;
    store_relaxed(count, *count + n);
}

void info_count_taker(const struct zone *z, u64 n)
{
    unsigned cpu = cpu_id();
    bool local = cpu_node(cpu) == z->node;
    fetch_add(local ? &cpu_scrubs[cpu].takers_local : &cpu_scrubs[cpu].takers_remote, n);
}

void limpid_cpu_info(unsigned cpu, struct mm_cpu_info *out)
{
    ASSERT(cpu < nr_cpus);
    *out = (struct mm_cpu_info){
        .scrubbed_idle_local = load_relaxed(&cpu_scrubs[cpu].idle_local),
        .scrubbed_idle_remote = load_relaxed(&cpu_scrubs[cpu].idle_remote),
        .scrubbed_aged = load_relaxed(&cpu_scrubs[cpu].aged),
        .scrubbed_takers_local = load_relaxed(&cpu_scrubs[cpu].takers_local),
        .scrubbed_takers_remote = load_relaxed(&cpu_scrubs[cpu].takers_remote),
    };
    store_count_cpu(cpu, &out->stored_clean, &out->stored_dirty);
}

unsigned limpid_nr_zones(void)
{
    return mm_zone_count;
}

/* The age of the oldest dirt in the maps; a gigablock a lock hold. */
static u64 oldest_dirt(struct zone *z)
{
    u32 oldest = 0;
    for (unsigned n = 0; n < z->nr_gigs; n++) {
        const struct gigablock *g = &z->gig[n];
        spin_lock(&z->lock);
        u32 now = now_ms();
        map512_for_each(bit, &g->dirty) oldest = MAX(oldest, now - g->since[bit]);
        spin_unlock(&z->lock);
    }
    return oldest;
}

void limpid_zone_info(unsigned zone, struct mm_zone_info *out)
{
    struct zone *z = &mm_zones[zone];
    ASSERT(zone < mm_zone_count);
    *out = (struct mm_zone_info){.node = z->node, .start = z->start, .end = z->end};
    spin_lock(&z->lock);
    out->frames = z->total;
    out->clean = z->nr_free - z->nr_dirty;
    out->dirty = z->nr_dirty;
    store_count_locked(z, &out->stored_clean, &out->stored_dirty);
    out->in_flight = z->in_flight;
    out->allocated = z->outside - out->stored_clean - out->stored_dirty;
    out->retired = z->retired;
    out->metadata_bytes = z->metadata_bytes;
    out->scrubbed_idle_local = z->scrubbed_idle_local;
    out->scrubbed_idle_remote = z->scrubbed_idle_remote;
    out->scrubbed_takers_local = load_relaxed(&z->scrubbed_takers_local);
    out->scrubbed_takers_remote = load_relaxed(&z->scrubbed_takers_remote);
    out->scrubbed_aged = z->scrubbed_aged;
    out->scrubbed_at_free = load_relaxed(&z->scrubbed_at_free);
    out->scrubbed_at_map = load_relaxed(&z->scrubbed_at_map);
    out->waits = z->waits;
    out->max_clears_waited = z->max_clears_waited;
    out->oldest_scrubbed_ms = z->oldest_scrubbed_ms;
    spin_unlock(&z->lock);
    out->oldest_dirt_ms = oldest_dirt(z);
}

void limpid_costs(struct mm_costs *out, bool reset)
{
    *out = (struct mm_costs){0};
    for (unsigned n = 0; n < mm_zone_count; n++) {
        struct zone *z = &mm_zones[n];
        spin_lock(&z->lock);
        out->cleared += z->scrubbed_idle_local + z->scrubbed_idle_remote + z->scrubbed_aged +
                        load_relaxed(&z->scrubbed_takers_local) +
                        load_relaxed(&z->scrubbed_takers_remote) +
                        load_relaxed(&z->scrubbed_at_free) + load_relaxed(&z->scrubbed_at_map);
        out->waits += z->waits;
        out->clears_waited += z->waits; /* one each at most (P4); a wait for two zones is two */
        out->max_clears_waited = MAX(out->max_clears_waited, z->max_clears_waited);
        out->detained += z->in_flight;
        if (reset)
            z->max_clears_waited = 0;
        spin_unlock(&z->lock);
    }
}
