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
#include "mm/take.h"
#include "mm/limpid.h"

struct cpu_stores mm_stores[MAX_CPUS];
static struct spinlock sweep_lock; /* RANK_STORE: one sweeper at a time, and owners kept out */

void store_init(void)
{
    spin_init(&sweep_lock, "stores", RANK_STORE, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        mm_stores[cpu] = (struct cpu_stores){.home = mm_home_node(cpu_node(cpu))};
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            mm_stores[cpu].store[kind].at = &mm_stores[cpu].store[kind].frames.w[MAP512_WORDS - 1];
    }
}

/* ---- in and out ---- */

/* This CPU's stores, entered one way or the other: by who may take a lock if need be. */
static struct cpu_stores *store_enter_own(bool *slow)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    *slow = !store_enter(cs);
    if (*slow)
        spin_lock(&sweep_lock);
    return cs;
}

static void store_leave_own(struct cpu_stores *cs, bool slow)
{
    if (slow)
        spin_unlock(&sweep_lock);
    else
        store_leave(cs);
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
        if (cpu == cpu_id() || load_relaxed(&mm_stores[cpu].wanted) || is_empty(&mm_stores[cpu]))
            continue;
        store_relaxed(&mm_stores[cpu].wanted, 1);
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
            while (load_relaxed(&mm_stores[cpu].wanted) && load_acquire(&mm_stores[cpu].inside))
                cpu_relax();
}

static void owners_go(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (load_relaxed(&mm_stores[cpu].wanted))
            store_release(&mm_stores[cpu].wanted, 0); /* with what we changed */
    spin_unlock(&sweep_lock);
}

/* ---- without the zone lock ---- */

pfn_t store_pop_slowly(enum store_kind kind, unsigned node, bool *dirty)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    while (*s->at == 0 && s->at < &s->frames.w[MAP512_WORDS - 1]) {
        s->at++;
        s->first += 64;
    }
    if (*s->at && cs->home == node)
        pfn = store_pop_bit(s, dirty);
    store_leave_own(cs, slow);
    return pfn;
}

void store_push_slowly(const struct zone *z, pfn_t pfn)
{
    for (bool done = false;;) {
        bool slow;
        struct cpu_stores *cs = store_enter_own(&slow);
        struct behind *b = &cs->behind;
        b->mixed = b->nr && (b->mixed || cs->expected != z->start);
        cs->expected = z->start;
        cs->frames = z->end - z->start;
        if (b->nr == 0)
            store_relaxed(&b->since, now_ms()); /* read by store_holds_older_locked() */
        if (b->nr < BEHIND_MAX) {
            store_push_frame(b, pfn);
            done = true;
        }
        store_leave_own(cs, slow);
        if (done)
            return;
        store_flush_behind();
    }
}

struct zone *store_zone(enum store_kind kind)
{
    return load_relaxed(&mm_stores[cpu_id()].store[kind].zone);
}

/* ---- between a store and the maps: zone lock, and in ---- */

void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       bool clean, u32 since)
{
    bool slow;
    ASSERT(spin_held(&z->lock));
    pageblock_out_locked(z, i, 1);
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    ASSERT(s->zone == NULL);
    s->first = zone_pb_pfn(z, i);
    s->pb = i;
    s->since = since;
    s->clean = clean;
    s->frames = *frames;
    s->at = &s->frames.w[0];
    store_relaxed(&s->zone, z); /* read by store_holds_locked() of other zones */
    store_leave_own(cs, slow);
}

static void put_store(struct zone *z, const struct store *s)
{
    static const struct map512 none;
    struct part512 frames = part512_of(&s->frames);
    unsigned n = part512_count(&frames);
    pageblock_out_locked(z, s->pb, -1);
    z->outside -= n;
    if (n)
        pageblock_put_locked(z, s->pb, &frames, s->clean ? &none : &s->frames, s->since);
}

/*
 * From the n-th frame of the buffer on, those that follow each other in one pageblock; gives the
 * number of the one after them. Frames that were freed together lie mostly in one word.
 */
static unsigned behind_gather(const struct behind *b, unsigned n, struct part512 *frames)
{
    u32 pb = b->pfn[n] / 512;
    u64 twice = 0;
    frames->from = frames->to = 0;
    while (n < b->nr && b->pfn[n] / 512 == pb) {
        u32 word = b->pfn[n] / 64;
        u64 bits = 0;
        do {
            u64 bit = 1ULL << (b->pfn[n] % 64);
            twice |= bits & bit;
            bits |= bit;
        } while (++n < b->nr && b->pfn[n] / 64 == word);
        if (word % 8 >= frames->from && word % 8 < frames->to)
            twice |= frames->map.w[word % 8] & bits;
        part512_or_word(frames, word % 8, bits);
    }
    if (unlikely(twice))
        panic("P2 one owner: double free in the pageblock at pfn 0x%x", pb * 512);
    return n;
}

static void put_behind(struct zone *z, const struct behind *b)
{
    struct part512 frames;
    for (unsigned n = 0, next; n < b->nr; n = next) {
        u32 i = zone_pb(z, b->pfn[n]);
        next = behind_gather(b, n, &frames);
        pageblock_check_owned_locked(z, i, &frames);
        z->outside -= next - n;
        pageblock_put_locked(z, i, &frames, &frames.map, b->since);
    }
}

/* Takes the frames of z out of the buffer into `mine`. */
static void split_behind(const struct zone *z, struct behind *b, struct behind *mine)
{
    unsigned kept = 0;
    if (!b->mixed && b->nr && zone_has(z, b->pfn[0])) {
        *mine = *b;
        b->nr = 0;
        return;
    }
    mine->nr = 0;
    mine->since = b->since;
    for (unsigned n = 0; n < b->nr; n++) {
        if (zone_has(z, b->pfn[n]))
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

/* Gives up the store if it is one of z; out->zone is NULL if it is not. */
static void empty_store(struct store *s, const struct zone *z, struct store *out)
{
    out->zone = NULL;
    if (s->zone != z)
        return;
    *out = *s;
    map512_zero(&s->frames);
    store_relaxed(&s->zone, NULL);
}

static void empty_into(struct cpu_stores *cs, const struct zone *z, struct swept *out)
{
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        empty_store(&cs->store[kind], z, &out->store[kind]);
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

void store_give_up_locked(struct zone *z, enum store_kind kind)
{
    bool slow;
    ASSERT(spin_held(&z->lock));
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    bool mine = s->zone == z;
    ASSERT(!mine || map512_empty(&s->frames));
    if (mine)
        store_relaxed(&s->zone, NULL);
    store_leave_own(cs, slow);
    if (mine)
        pageblock_out_locked(z, s->pb, -1);
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
        if (cpu != cpu_id() && !load_relaxed(&mm_stores[cpu].wanted))
            continue; /* empty when we stopped the others: its owner may be in */
        empty_into(&mm_stores[cpu], z, &found);
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

/* The zone of the first frame in this CPU's buffer, or NULL. */
static struct zone *behind_zone(void)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    struct zone *z = cs->behind.nr ? zone_of(cs->behind.pfn[0]) : NULL;
    store_leave_own(cs, slow);
    return z;
}

void store_flush_behind(void)
{
    struct zone *z;
    while ((z = behind_zone()) != NULL) {
        struct behind found;
        bool slow;
        spin_lock(&z->lock);
        struct cpu_stores *cs = store_enter_own(&slow);
        split_behind(z, &cs->behind, &found);
        store_leave_own(cs, slow);
        put_behind(z, &found);
        spin_unlock_keep_preempt_off(&z->lock);
        bell_ring(z);
        preempt_enable();
    }
}

/* One of this CPU's take stores, if it has one. */
static void store_flush(enum store_kind kind)
{
    struct zone *z = store_zone(kind);
    struct store found;
    bool slow;
    if (!z)
        return;
    spin_lock(&z->lock);
    struct cpu_stores *cs = store_enter_own(&slow);
    empty_store(&cs->store[kind], z, &found);
    store_leave_own(cs, slow);
    if (found.zone)
        put_store(z, &found);
    spin_unlock_keep_preempt_off(&z->lock);
    bell_ring(z);
    preempt_enable();
}

void limpid_stores_flush(void)
{
    preempt_disable();
    store_flush(STORE_ANY);
    store_flush(STORE_CLEAN);
    store_flush_behind();
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
        struct cpu_stores *cs = &mm_stores[cpu];
        if (cpu != cpu_id() && !load_relaxed(&cs->wanted))
            continue;
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone == z)
                fn(z, cs->store[kind].pb, &cs->store[kind].frames, cs->store[kind].clean, ctx);
        for (unsigned n = 0; n < cs->behind.nr; n++) {
            pfn_t pfn = cs->behind.pfn[n];
            if (!zone_has(z, pfn))
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
        const struct cpu_stores *cs = &mm_stores[cpu];
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
bool store_holds_locked(const struct zone *z, u32 i, const struct part512 *frames)
{
    u64 held = 0;
    ASSERT(spin_held(&z->lock));
    for (unsigned n = 0; n < nr_cpus * NR_STORES; n++) {
        const struct store *s = &mm_stores[n / NR_STORES].store[n % NR_STORES];
        if (load_relaxed(&s->zone) != z || s->pb != i)
            continue;
        for (unsigned w = frames->from; w < frames->to; w++)
            held |= load_relaxed(&s->frames.w[w]) & frames->map.w[w];
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
    const struct cpu_stores *cs = &mm_stores[cpu];
    *clean = *dirty = 0;
    owners_stop();
    if (cpu == cpu_id() || load_relaxed(&cs->wanted)) {
        *dirty = cs->behind.nr;
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone)
                *(cs->store[kind].clean ? clean : dirty) += map512_count(&cs->store[kind].frames);
    }
    owners_go();
}
