/*
 * Stores: see mm/store.h. Owns the per-CPU stores.
 *
 * The owner comes millions of times, a sweeper hardly ever; so the owner pays for no lock and no
 * fence, and the sweeper for both. The owner says that it is inside with a plain store and looks
 * whether it is wanted; a sweeper says that it wants the store and then makes the owner's CPU
 * pass a full fence (cpus_serialize()):
 *
 *     A: sweeper, sweep_lock held            B: owner, preemption off
 *     wanted = 1                             inside = 1            plain, may be seen late
 *     cpus_serialize(): B passes a fence     wanted? no: goes on
 *     waits for inside == 0                  pops or pushes
 *     takes what is there                    inside = 0            release
 *     wanted = 0           release           wanted? yes: inside = 0, takes sweep_lock instead
 *
 * B's fence comes either before its look at wanted, which then sees 1, or after its inside = 1,
 * which A then sees. So they are never both in (protocol rules 2 and 3); and A, who holds the
 * zone lock all along, sees every frame that B has not popped. A waits for B's few instructions;
 * B never takes a lock while it is inside.
 */
#include "mm/store.h"
#include "mm/bell.h"
#include "mm/limpid.h"

struct store {
    struct zone *zone; /* NULL: given up. Changes under that zone's lock only */
    pfn_t first;       /* of its pageblock */
    u32 pb;
    u32 since;
    bool clean;
    unsigned nr;
    unsigned word; /* no frame is left in the words of `frames` below this one */
    struct map512 frames;
};

struct behind {
    unsigned nr;
    u32 since; /* ms: the oldest push */
    pfn_t pfn[BEHIND_MAX];
};

static struct cpu_stores {
    u32 inside;                    /* (a) by the owner */
    u32 wanted;                    /* (a) by a sweeper, under sweep_lock */
    struct store store[NR_STORES]; /* whoever is in, see above */
    struct behind behind;
} __attribute__((aligned(64))) stores[MAX_CPUS];

static struct spinlock sweep_lock; /* RANK_STORE: one sweeper at a time, and owners kept out */

void store_init(void)
{
    spin_init(&sweep_lock, "stores", RANK_STORE, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        stores[cpu] = (struct cpu_stores){.behind.nr = 0};
}

/* ---- in and out ---- */

/* This CPU's stores, entered. Preemption off; no lock is taken before store_leave(). */
static struct cpu_stores *store_enter(bool *slow)
{
    struct cpu_stores *cs = &stores[cpu_id()];
    store_relaxed(&cs->inside, 1);
    compiler_barrier(); /* the CPU's half of the order is the sweeper's business */
    *slow = unlikely(load_acquire(&cs->wanted)); /* acquire: what a sweeper left is seen */
    if (*slow) {
        store_release(&cs->inside, 0);
        spin_lock(&sweep_lock);
    }
    return cs;
}

static void store_leave(struct cpu_stores *cs, bool slow)
{
    if (unlikely(slow))
        spin_unlock(&sweep_lock);
    else
        store_release(&cs->inside, 0); /* pairs with the sweeper's acquire */
}

/* There is nothing to sweep: no IPI for a CPU that is idle, or was never here. */
static bool is_empty(const struct cpu_stores *cs)
{
    return load_acquire(&cs->behind.nr) == 0 && !load_relaxed(&cs->store[STORE_ANY].zone) &&
           !load_relaxed(&cs->store[STORE_CLEAN].zone);
}

/* Marks whoever stores something and is not marked yet, and makes those pass a fence. */
static bool owners_mark(void)
{
    bool any = false;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (cpu == cpu_id() || load_relaxed(&stores[cpu].wanted) || is_empty(&stores[cpu]))
            continue;
        store_relaxed(&stores[cpu].wanted, 1);
        any = true;
    }
    if (any)
        cpus_serialize();
    return any;
}

/*
 * Keeps the owners of all stores that hold anything out of them. It looks again until it finds
 * nobody new: while those that were found are stopped, an owner that was passed by as empty may
 * push what it frees, and another, not yet stopped, then pop its last; the taker would fail though
 * there was always a frame. A store becomes empty only under its zone's lock, which a taker holds:
 * so when the last look began, all that were not stopped were empty.
 */
static void owners_stop(void)
{
    spin_lock(&sweep_lock);
    while (owners_mark())
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            while (load_relaxed(&stores[cpu].wanted) && load_acquire(&stores[cpu].inside))
                cpu_relax();
}

static void owners_go(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (load_relaxed(&stores[cpu].wanted))
            store_release(&stores[cpu].wanted, 0); /* with what we changed */
    spin_unlock(&sweep_lock);
}

/* ---- without the zone lock ---- */

pfn_t store_pop(enum store_kind kind, bool *dirty)
{
    bool slow;
    struct cpu_stores *cs = store_enter(&slow);
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    if (likely(s->nr)) {
        unsigned i = s->word;
        while (s->frames.w[i] == 0)
            i++;
        u64 w = s->frames.w[i];
        s->word = i;
        s->nr--;
        store_relaxed(&s->frames.w[i], w & (w - 1)); /* read by store_holds_locked() */
        *dirty = !s->clean;
        pfn = s->first + i * 64 + (unsigned)__builtin_ctzll(w);
    }
    store_leave(cs, slow);
    return pfn;
}

bool store_push(pfn_t pfn)
{
    bool slow;
    struct cpu_stores *cs = store_enter(&slow);
    struct behind *b = &cs->behind;
    unsigned nr = b->nr;
    if (likely(nr < BEHIND_MAX)) {
        if (nr == 0)
            store_relaxed(&b->since, now_ms()); /* read by store_holds_older_locked() */
        b->pfn[nr] = pfn;
        store_release(&b->nr, nr + 1);
    }
    store_leave(cs, slow);
    return nr < BEHIND_MAX;
}

struct zone *store_zone(enum store_kind kind)
{
    return load_relaxed(&stores[cpu_id()].store[kind].zone);
}

/* ---- between a store and the maps: zone lock, and in ---- */

void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       bool clean, u32 since)
{
    bool slow;
    ASSERT(spin_held(&z->lock));
    pageblock_out_locked(z, i, 1);
    struct cpu_stores *cs = store_enter(&slow);
    struct store *s = &cs->store[kind];
    ASSERT(s->zone == NULL);
    s->first = zone_pb_pfn(z, i);
    s->pb = i;
    s->since = since;
    s->clean = clean;
    s->nr = map512_count(frames);
    s->word = 0;
    s->frames = *frames;
    store_relaxed(&s->zone, z); /* read by store_holds_locked() of other zones */
    store_leave(cs, slow);
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

/* What a sweep of one CPU's stores has found of one zone, on its way into the maps. */
struct swept {
    struct store store[NR_STORES];
    struct behind behind;
};

static void empty_into(struct cpu_stores *cs, const struct zone *z, struct swept *out)
{
    for (unsigned kind = 0; kind < NR_STORES; kind++) {
        struct store *s = &cs->store[kind];
        out->store[kind].zone = NULL;
        if (s->zone != z)
            continue;
        out->store[kind] = *s;
        s->nr = 0;
        store_relaxed(&s->zone, NULL);
    }
    split_behind(z, &cs->behind, &out->behind);
}

/*
 * The owner is let in again before this: who looks for frames holds the zone lock, as we do, so
 * nobody sees them in neither place.
 */
static void put_swept(struct zone *z, const struct swept *s)
{
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        if (s->store[kind].zone)
            put_store(z, &s->store[kind]);
    put_behind(z, &s->behind);
}

void store_sweep_own_locked(struct zone *z)
{
    struct swept found;
    bool slow;
    ASSERT(spin_held(&z->lock));
    struct cpu_stores *cs = store_enter(&slow);
    empty_into(cs, z, &found);
    store_leave(cs, slow);
    put_swept(z, &found);
}

void store_sweep_begin(void)
{
    owners_stop();
}

void store_sweep_zone_locked(struct zone *z)
{
    ASSERT(spin_held(&z->lock) && spin_held(&sweep_lock));
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct swept found;
        if (cpu != cpu_id() && !load_relaxed(&stores[cpu].wanted))
            continue; /* empty when we stopped the others: its owner may be in */
        empty_into(&stores[cpu], z, &found);
        put_swept(z, &found);
    }
}

void store_sweep_end(void)
{
    owners_go();
}

void store_sweep_locked(struct zone *z)
{
    store_sweep_begin();
    store_sweep_zone_locked(z);
    store_sweep_end();
}

/* A zone that this CPU's stores still hold something of, or NULL. */
static struct zone *any_stored_zone(void)
{
    bool slow;
    struct cpu_stores *cs = store_enter(&slow);
    struct zone *z = cs->store[STORE_ANY].zone;
    if (!z)
        z = cs->store[STORE_CLEAN].zone;
    if (!z && cs->behind.nr)
        z = zone_of(cs->behind.pfn[0]);
    store_leave(cs, slow);
    return z;
}

void store_flush(void)
{
    struct zone *z;
    while ((z = any_stored_zone()) != NULL) {
        spin_lock(&z->lock);
        store_sweep_own_locked(z);
        spin_unlock_keep_preempt_off(&z->lock);
        bell_ring(z);
        preempt_enable();
    }
}

void limpid_stores_flush(void)
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
    owners_stop();
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct cpu_stores *cs = &stores[cpu];
        if (cpu != cpu_id() && !load_relaxed(&cs->wanted))
            continue;
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
    }
    owners_go();
}

/*
 * Without stopping the owners, for every aged scrubber asks once a second. A store of z is filled
 * and emptied under z's lock, so what it says of itself holds still. The buffer's age is that of
 * its oldest frame, of whichever zone, and may be of the filling before: early is no harm.
 */
bool store_holds_older_locked(const struct zone *z, u32 age_ms)
{
    u32 now = now_ms();
    ASSERT(spin_held(&z->lock));
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct cpu_stores *cs = &stores[cpu];
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            const struct store *s = &cs->store[kind];
            if (load_relaxed(&s->zone) == z && !s->clean && now - s->since >= age_ms)
                return true;
        }
        /* Acquire: pairs with the release in store_push(). */
        if (load_acquire(&cs->behind.nr) && now - load_relaxed(&cs->behind.since) >= age_ms)
            return true;
    }
    return false;
}

/*
 * Without stopping the owners, for it is asked at every free into a pageblock that a store names.
 * A store of z is filled and emptied under z's lock, so its owner can only pop from it now; and a
 * frame that was popped before it was freed is seen to be gone.
 */
bool store_holds_locked(const struct zone *z, u32 i, const struct map512 *frames)
{
    u64 held = 0;
    ASSERT(spin_held(&z->lock));
    for (unsigned n = 0; n < nr_cpus * NR_STORES; n++) {
        const struct store *s = &stores[n / NR_STORES].store[n % NR_STORES];
        if (load_relaxed(&s->zone) != z || s->pb != i)
            continue;
        for (unsigned w = 0; w < MAP512_WORDS; w++)
            held |= load_relaxed(&s->frames.w[w]) & frames->w[w];
    }
    return held != 0;
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
    const struct cpu_stores *cs = &stores[cpu];
    *clean = *dirty = 0;
    owners_stop();
    if (cpu == cpu_id() || load_relaxed(&cs->wanted)) {
        *dirty = cs->behind.nr;
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone)
                *(cs->store[kind].clean ? clean : dirty) += cs->store[kind].nr;
    }
    owners_go();
}
