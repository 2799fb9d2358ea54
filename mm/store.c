/*
 * Stores: see mm/store.h. Owns the per-CPU stores, each under its store lock, which ranks below
 * (is taken after) a zone lock.
 *
 * A sweep and a pop at once (protocol rules 2 and 3):
 *
 *     A: taker in need, zone lock held       B: owner
 *                                            store lock; pop frame f; unlock: f is allocated
 *     store lock; what is left goes
 *     back into the maps; unlock
 *     looks: sees all that was not popped    store lock; empty; unlock -> refill waits for the
 *                                            zone lock, which A holds until it has decided
 */
#include "mm/store.h"
#include "mm/bell.h"

struct store {
    struct zone *zone; /* NULL: given up */
    u32 pb;
    u32 since;
    bool clean;
    unsigned nr;
    struct map512 frames;
};

struct behind {
    unsigned nr;
    u32 since; /* ms: the oldest push */
    pfn_t pfn[BEHIND_MAX];
};

static struct cpu_stores {
    struct spinlock lock; /* guards all below; store.zone also needs the zone's lock to change */
    struct store store[NR_STORES];
    struct behind behind;
} __attribute__((aligned(64))) stores[MAX_CPUS];

void store_init(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        stores[cpu] = (struct cpu_stores){.behind.nr = 0};
        spin_init(&stores[cpu].lock, "store", RANK_STORE, cpu);
    }
}

/* ---- without the zone lock ---- */

pfn_t store_pop(enum store_kind kind, bool *dirty)
{
    struct cpu_stores *cs = &stores[cpu_id()];
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    spin_lock(&cs->lock);
    if (s->zone && s->nr) {
        unsigned bit = map512_next(&s->frames, 0);
        map512_clear(&s->frames, bit);
        s->nr--;
        *dirty = !s->clean;
        pfn = zone_pb_pfn(s->zone, s->pb) + bit;
    }
    spin_unlock(&cs->lock);
    return pfn;
}

bool store_push(pfn_t pfn)
{
    struct cpu_stores *cs = &stores[cpu_id()];
    struct behind *b = &cs->behind;
    bool fits;
    spin_lock(&cs->lock);
    fits = b->nr < BEHIND_MAX;
    if (fits) {
        if (b->nr == 0)
            b->since = now_ms();
        b->pfn[b->nr++] = pfn;
    }
    spin_unlock(&cs->lock);
    return fits;
}

struct zone *store_zone(enum store_kind kind)
{
    struct cpu_stores *cs = &stores[cpu_id()];
    spin_lock(&cs->lock);
    struct zone *z = cs->store[kind].zone;
    spin_unlock(&cs->lock);
    return z;
}

/* ---- between a store and the maps: zone lock and store lock ---- */

void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       bool clean, u32 since)
{
    struct cpu_stores *cs = &stores[cpu_id()];
    struct store *s = &cs->store[kind];
    ASSERT(spin_held(&z->lock));
    spin_lock(&cs->lock);
    ASSERT(s->zone == NULL);
    *s = (struct store){.zone = z,
                        .pb = i,
                        .since = since,
                        .clean = clean,
                        .nr = map512_count(frames),
                        .frames = *frames};
    pageblock_out_locked(z, i, 1);
    spin_unlock(&cs->lock);
}

static void put_store(struct zone *z, const struct store *s)
{
    static const struct map512 none;
    pageblock_out_locked(z, s->pb, -1);
    z->outside -= s->nr;
    if (s->nr)
        pageblock_put_locked(z, s->pb, s->frames, s->clean ? &none : &s->frames, s->since);
}

/* Frames of one pageblock that follow each other in the buffer go back together. */
static void put_behind(struct zone *z, const struct behind *b)
{
    for (unsigned n = 0; n < b->nr;) {
        u32 i = zone_pb(z, b->pfn[n]);
        struct map512 frames = {{0}};
        unsigned count = 0;
        for (; n < b->nr && zone_pb(z, b->pfn[n]) == i; n++, count++) {
            if (map512_test(&frames, (unsigned)(b->pfn[n] % 512)))
                panic("P2 one owner: double free of pfn 0x%llx", (unsigned long long)b->pfn[n]);
            map512_set(&frames, (unsigned)(b->pfn[n] % 512));
        }
        pageblock_check_owned_locked(z, i, &frames);
        z->outside -= count;
        pageblock_put_locked(z, i, frames, &frames, b->since);
    }
}

/* Takes the frames of z out of the buffer into `mine`. */
static void split_behind(const struct zone *z, struct behind *b, struct behind *mine)
{
    unsigned kept = 0;
    mine->nr = 0;
    mine->since = b->since;
    for (unsigned n = 0; n < b->nr; n++) {
        if (b->pfn[n] >= z->start && b->pfn[n] < z->end)
            mine->pfn[mine->nr++] = b->pfn[n];
        else
            b->pfn[kept++] = b->pfn[n];
    }
    b->nr = kept;
}

/*
 * Emptied under both locks, put back under the zone lock alone: who looks for frames holds the
 * zone lock too, so nobody sees them in neither place.
 */
void store_sweep_cpu_locked(struct zone *z, unsigned cpu)
{
    struct cpu_stores *cs = &stores[cpu];
    struct store swept[NR_STORES];
    struct behind behind;
    ASSERT(spin_held(&z->lock));
    spin_lock(&cs->lock);
    for (unsigned kind = 0; kind < NR_STORES; kind++) {
        swept[kind] = cs->store[kind];
        if (swept[kind].zone == z)
            cs->store[kind].zone = NULL;
    }
    split_behind(z, &cs->behind, &behind);
    spin_unlock(&cs->lock);
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        if (swept[kind].zone == z)
            put_store(z, &swept[kind]);
    put_behind(z, &behind);
}

void store_sweep_locked(struct zone *z)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        store_sweep_cpu_locked(z, cpu);
}

/* A zone that this CPU's stores still hold something of, or NULL. */
static struct zone *any_stored_zone(struct cpu_stores *cs)
{
    struct zone *z = NULL;
    spin_lock(&cs->lock);
    for (unsigned kind = 0; kind < NR_STORES && !z; kind++)
        z = cs->store[kind].zone;
    if (!z && cs->behind.nr)
        z = zone_of(cs->behind.pfn[0]);
    spin_unlock(&cs->lock);
    return z;
}

void store_flush(void)
{
    unsigned cpu = cpu_id();
    struct zone *z;
    while ((z = any_stored_zone(&stores[cpu])) != NULL) {
        spin_lock(&z->lock);
        store_sweep_cpu_locked(z, cpu);
        spin_unlock_keep_preempt_off(&z->lock);
        bell_ring(z);
        preempt_enable();
    }
}

void mm_stores_flush(void)
{
    preempt_disable();
    store_flush();
    preempt_enable();
}

/* ---- looking: zone lock ---- */

void store_for_each_locked(const struct zone *z,
                           void (*fn)(const struct zone *z, u32 i, const struct map512 *frames,
                                      bool clean, void *ctx),
                           void *ctx)
{
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct cpu_stores *cs = &stores[cpu];
        spin_lock(&cs->lock);
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone == z)
                fn(z, cs->store[kind].pb, &cs->store[kind].frames, cs->store[kind].clean, ctx);
        for (unsigned n = 0; n < cs->behind.nr; n++) {
            pfn_t pfn = cs->behind.pfn[n];
            if (pfn < z->start || pfn >= z->end)
                continue;
            struct map512 frame = map512_range((unsigned)(pfn % 512), 1);
            fn(z, zone_pb(z, pfn), &frame, false, ctx);
        }
        spin_unlock(&cs->lock);
    }
}

bool store_holds_older_locked(const struct zone *z, u32 age_ms)
{
    u32 now = now_ms();
    bool found = false;
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus && !found; cpu++) {
        struct cpu_stores *cs = &stores[cpu];
        spin_lock(&cs->lock);
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            const struct store *s = &cs->store[kind];
            found = found || (s->zone == z && s->nr && !s->clean && now - s->since >= age_ms);
        }
        /* The buffer's age is that of its oldest frame, of whichever zone: early is no harm. */
        found = found || (cs->behind.nr && now - cs->behind.since >= age_ms);
        spin_unlock(&cs->lock);
    }
    return found;
}

struct holds_query {
    u32 pb;
    const struct map512 *frames;
    bool found;
};

static void holds_one(const struct zone *z, u32 i, const struct map512 *frames, bool clean,
                      void *ctx)
{
    struct holds_query *q = ctx;
    (void)z;
    (void)clean;
    if (i == q->pb && map512_meets(frames, q->frames))
        q->found = true;
}

bool store_holds_locked(const struct zone *z, u32 i, const struct map512 *frames)
{
    struct holds_query q = {.pb = i, .frames = frames};
    store_for_each_locked(z, holds_one, &q);
    return q.found;
}

struct count_query {
    u64 *clean, *dirty;
};

static void count_one(const struct zone *z, u32 i, const struct map512 *frames, bool clean,
                      void *ctx)
{
    struct count_query *q = ctx;
    (void)z;
    (void)i;
    *(clean ? q->clean : q->dirty) += map512_count(frames);
}

void store_count_locked(const struct zone *z, u64 *clean, u64 *dirty)
{
    struct count_query q = {clean, dirty};
    *clean = *dirty = 0;
    store_for_each_locked(z, count_one, &q);
}

void store_count_cpu(unsigned cpu, u64 *clean, u64 *dirty)
{
    struct cpu_stores *cs = &stores[cpu];
    *clean = 0;
    spin_lock(&cs->lock);
    *dirty = cs->behind.nr;
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        if (cs->store[kind].zone)
            *(cs->store[kind].clean ? clean : dirty) += cs->store[kind].nr;
    spin_unlock(&cs->lock);
}
