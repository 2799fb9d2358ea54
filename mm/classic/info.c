/*
 * Looking at heaps: the numbers behind the tables. Consistent for one heap, since they are read
 * under the lock. Next: check.c.
 */
#include "mm/classic/info.h"
#include "mm/classic/classic_backend.h"

static struct {
    u64 idle_local, idle_remote;     /* (o) others read them relaxed */
    u64 takers_local, takers_remote; /* (a) takers preempt each other */
} __attribute__((aligned(64))) cpu_scrubs[MAX_CPUS];

void heaps_count_idle(struct heap *h, u64 n)
{
    unsigned cpu = cpu_id();
    bool local = cpu_node(cpu) == h->node;
    u64 *count = local ? &cpu_scrubs[cpu].idle_local : &cpu_scrubs[cpu].idle_remote;
    store_relaxed(count, *count + n);
    fetch_add(local ? &h->scrubbed_idle_local : &h->scrubbed_idle_remote, n);
}

void heaps_count_taker(struct heap *h, u64 n)
{
    unsigned cpu = cpu_id();
    bool local = cpu_node(cpu) == h->node;
    fetch_add(local ? &cpu_scrubs[cpu].takers_local : &cpu_scrubs[cpu].takers_remote, n);
    fetch_add(local ? &h->scrubbed_takers_local : &h->scrubbed_takers_remote, n);
}

void heaps_cpu_info(unsigned cpu, struct mm_cpu_info *out)
{
    ASSERT(cpu < nr_cpus);
    *out = (struct mm_cpu_info){
        .scrubbed_idle_local = load_relaxed(&cpu_scrubs[cpu].idle_local),
        .scrubbed_idle_remote = load_relaxed(&cpu_scrubs[cpu].idle_remote),
        .scrubbed_takers_local = load_relaxed(&cpu_scrubs[cpu].takers_local),
        .scrubbed_takers_remote = load_relaxed(&cpu_scrubs[cpu].takers_remote),
    };
}

unsigned heaps_nr_zones(void)
{
    return classic_nr_heaps;
}

/* A pageblock at a time; the counts may run behind the records while somebody scrubs. */
static u64 oldest_dirt_locked(const struct heap *h)
{
    u32 now = heap_now_ms(), oldest = 0;
    if (load_relaxed(&h->nr_dirty) == 0)
        return 0;
    for (u64 i = h->first; i < h->end; i = ALIGN_DOWN(i, 512u) + 512) {
        const struct dirt_note *n = note_of(h, (u32)i);
        if (load_relaxed(&n->nr_dirty))
            oldest = MAX(oldest, now - n->since);
    }
    return oldest;
}

void heaps_zone_info(unsigned zone, struct mm_zone_info *out)
{
    struct heap *h = &classic_heaps[zone];
    ASSERT(zone < classic_nr_heaps);
    *out = (struct mm_zone_info){
        .node = h->node, .start = h->base + h->first, .end = h->base + h->end};
    heap_lock();
    /* What was cleared aside counts as dirty until it comes back. */
    u64 out_dirty = h->nr_out ? h->busy_dirt : 0, dirty = load_relaxed(&h->nr_dirty);
    /* Under overlap and walk a frame may be scrubbed between its flag and its count (free.c). */
    if ((s64)dirty < (s64)out_dirty)
        dirty = out_dirty;
    out->frames = h->total;
    out->dirty = MIN(dirty - out_dirty, h->nr_free);
    out->clean = h->nr_free - out->dirty;
    out->in_flight = h->nr_out;
    out->allocated = h->allocated;
    out->retired = h->retired;
    out->metadata_bytes = h->metadata_bytes;
    out->scrubbed_idle_local = load_relaxed(&h->scrubbed_idle_local);
    out->scrubbed_idle_remote = load_relaxed(&h->scrubbed_idle_remote);
    out->scrubbed_takers_local = load_relaxed(&h->scrubbed_takers_local);
    out->scrubbed_takers_remote = load_relaxed(&h->scrubbed_takers_remote);
    out->scrubbed_at_free = load_relaxed(&h->scrubbed_at_free);
    out->waits = h->waits;
    out->max_clears_waited = h->max_clears_waited;
    out->oldest_dirt_ms = oldest_dirt_locked(h);
    out->oldest_scrubbed_ms = load_relaxed(&h->oldest_scrubbed_ms);
    heap_unlock();
}

void heaps_costs(struct mm_costs *out, bool reset)
{
    *out = (struct mm_costs){0};
    heap_lock();
    for (unsigned n = 0; n < classic_nr_heaps; n++) {
        struct heap *h = &classic_heaps[n];
        out->cleared +=
            load_relaxed(&h->scrubbed_idle_local) + load_relaxed(&h->scrubbed_idle_remote) +
            load_relaxed(&h->scrubbed_takers_local) + load_relaxed(&h->scrubbed_takers_remote) +
            load_relaxed(&h->scrubbed_at_free);
        out->cleared_twice += load_relaxed(&h->cleared_twice);
        out->waits += h->waits;
        out->clears_waited += h->clears_waited;
        out->max_clears_waited = MAX(out->max_clears_waited, h->max_clears_waited);
        out->failed += h->failed;
        out->failed_detained += h->failed_detained;
        out->detained += h->nr_out;
        /* All that is free and zero, less what stands in blocks that count as clean. */
        u64 clean = h->nr_free + h->nr_out - load_relaxed(&h->nr_dirty);
        out->spoilt += clean > h->whole_clean ? clean - h->whole_clean : 0;
        if (reset)
            h->max_clears_waited = 0;
    }
    out->max_hold_steps = heap_max_hold();
    if (reset)
        heap_costs_reset();
    heap_unlock();
}
