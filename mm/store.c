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
 *     waits for inside == 0                  pops, pushes, or gives its buffer back
 *     takes what is there                    inside = 0            release
 *     wanted = 0           release           wanted? yes: inside = 0, takes sweep_lock instead
 *
 * B's fence comes either before its look at wanted, which then sees 1, or after its inside = 1,
 * which A then sees. So they are never both in (protocol rules 2 and 3); and A, who holds the
 * zone lock all along, sees every frame that B has not popped. A waits for B's few instructions,
 * or for the end of its flush, which is bounded; B never takes a lock while it is inside.
 */
#include "mm/store.h"
#include "lib/string.h"
#include "mm/bell.h"
#include "mm/claim.h"
#include "mm/take.h"
#include "mm/limpid.h"

struct cpu_stores mm_stores[MAX_CPUS];
static struct spinlock sweep_lock; /* RANK_STORE: one sweeper at a time, and owners kept out */

void store_init(void)
{
    spin_init(&sweep_lock, "stores", RANK_STORE, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        memset(&mm_stores[cpu], 0, sizeof(mm_stores[cpu]));
        mm_stores[cpu].home = mm_home_node(cpu_node(cpu));
        mm_stores[cpu].own = mm_stores[cpu].home == cpu_node(cpu) ? cpu_node(cpu) : MAX_NODES;
        mm_stores[cpu].behind.word = ~0ULL;
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            struct store *s = &mm_stores[cpu].store[kind];
            s->at = &s->frames.w[MAP512_WORDS - 1];
            s->block = ~0ULL;
        }
    }
}

/* ---- in and out ---- */

/* This CPU's stores, entered one way or the other: by who may take a lock if need be. */
static inline struct cpu_stores *store_enter_own(bool *slow)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    *slow = !store_enter(cs);
    if (*slow)
        spin_lock(&sweep_lock);
    return cs;
}

static inline void store_leave_own(struct cpu_stores *cs, bool slow)
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

/* Into the last group of the buffer, or into a new one. False: no room. In. */
static bool push(struct behind *b, struct zone *z, pfn_t pfn)
{
    unsigned w = pfn / 64 % MAP512_WORDS;
    u32 i = zone_pb(z, pfn);
    u64 bit = 1ULL << (pfn % 64);
    struct behind_group *group = b->nr_groups ? &b->group[b->nr_groups - 1] : NULL;
    if (b->nr == BEHIND_MAX)
        return false;
    if (group && group->pb == i && group->zone == z) {
        if (part512_test(&group->frames, (unsigned)(pfn % 512)))
            panic("P2 one owner: double free of pfn 0x%llx", (unsigned long long)pfn);
        part512_or_word(&group->frames, w, bit);
    } else {
        if (b->nr_groups == BEHIND_GROUPS)
            return false;
        group = &b->group[b->nr_groups++];
        group->zone = z;
        group->pb = i;
        group->frames.from = w;
        group->frames.to = w + 1;
        group->frames.map.w[w] = bit;
    }
    b->at = &group->frames.map.w[w];
    b->word = zone_has_word(z, pfn) ? pfn / 64 : ~0ULL;
    if (b->nr == 0)
        store_relaxed(&b->since, now_ms()); /* read by store_holds_older_locked() */
    store_release(&b->nr, b->nr + 1);
    return true;
}

/* So many frames came back that what the store was given says little any more: counts again. */
static void count_again(struct zone *z, struct store *s)
{
    bool slow;
    spin_lock(&z->lock);
    struct cpu_stores *cs = store_enter_own(&slow);
    if (s->zone == z) {
        s->filled = (u16)map512_count(&s->frames);
        s->back = 0;
    }
    store_leave_own(cs, slow);
    spin_unlock(&z->lock);
}

void store_push_slowly(struct zone *z, pfn_t pfn)
{
    for (;;) {
        bool slow;
        struct cpu_stores *cs = store_enter_own(&slow);
        struct store *s = &cs->store[STORE_ANY];
        bool home = pfn / 512 == s->block, uncounted = home && s->back == BACK_MAX;
        bool done = !uncounted && ((home && store_put_back(s, pfn)) || push(&cs->behind, z, pfn));
        store_leave_own(cs, slow);
        if (done)
            return;
        if (uncounted)
            count_again(z, s);
        else
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
    s->filled = (u16)map512_count(frames);
    s->back = 0;
    /* What is freed is dirty, and a pageblock in which two zones meet is not all ours. */
    bool whole = zone_has(z, s->first) && zone_has(z, s->first + 511);
    s->block = kind == STORE_ANY && !clean && whole ? s->first / 512 : ~0ULL;
    s->frames = *frames;
    s->at = &s->frames.w[0];
    store_relaxed(&s->zone, z); /* read by store_holds_locked() of other zones */
    store_leave_own(cs, slow);
}

/* An empty store names no pageblock any more. In. */
static void give_up(struct store *s)
{
    s->block = ~0ULL;
    store_relaxed(&s->zone, NULL);
}

/* Gives back what the store has of z, if anything. In. */
static void put_store(struct zone *z, struct store *s)
{
    static const struct map512 none;
    if (s->zone != z)
        return;
    struct part512 frames = part512_of(&s->frames);
    unsigned n = part512_count(&frames);
    pageblock_out_locked(z, s->pb, -1);
    z->outside -= n;
    if (n)
        pageblock_put_locked(z, s->pb, &frames, s->clean ? &none : &s->frames, s->since);
    map512_zero(&s->frames);
    give_up(s);
}

/*
 * Frames freed in no order are each of another pageblock, whose record may be far away: so it is
 * on its way while the groups before it are given back.
 */
static void behind_fetch(const struct behind *b, unsigned n)
{
    if (n >= b->nr_groups)
        return;
    const struct behind_group *group = &b->group[n];
    const struct pageblock *pb = &group->zone->pb[group->pb];
    prefetch_write(&pb->free.w[group->frames.from]);
    prefetch_write(&pb->dirty.w[group->frames.from]);
    prefetch_write(&pb->nr_free);
}

/* Gives back what the buffer has of z. In. */
static void put_behind(struct zone *z, struct behind *b)
{
    enum { AHEAD = 5 };
    unsigned kept = 0;
    for (unsigned n = 0; n < AHEAD; n++)
        behind_fetch(b, n);
    for (unsigned n = 0; n < b->nr_groups; n++) {
        struct behind_group *group = &b->group[n];
        behind_fetch(b, n + AHEAD);
        if (group->zone != z) {
            b->group[kept++] = *group;
            continue;
        }
        unsigned count = part512_count(&group->frames);
        pageblock_check_owned_locked(z, group->pb, &group->frames);
        z->outside -= count;
        pageblock_put_locked(z, group->pb, &group->frames, &group->frames.map, b->since);
        b->nr -= count;
    }
    b->nr_groups = kept;
    b->word = ~0ULL;
}

static void put_all(struct zone *z, struct cpu_stores *cs)
{
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        put_store(z, &cs->store[kind]);
    put_behind(z, &cs->behind);
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
        give_up(s);
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
        if (cpu != cpu_id() && !load_relaxed(&mm_stores[cpu].wanted))
            continue; /* empty when we stopped the others: its owner may be in */
        put_all(z, &mm_stores[cpu]);
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

/* The zone of the oldest frame in this CPU's buffer, or NULL. */
static struct zone *behind_zone(void)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    struct zone *z = cs->behind.nr_groups ? cs->behind.group[0].zone : NULL;
    store_leave_own(cs, slow);
    return z;
}

void store_flush_behind(void)
{
    struct zone *z;
    while ((z = behind_zone()) != NULL) {
        bool slow;
        spin_lock(&z->lock);
        struct cpu_stores *cs = store_enter_own(&slow);
        put_behind(z, &cs->behind);
        store_leave_own(cs, slow);
        spin_unlock_keep_preempt_off(&z->lock);
        bell_ring(z);
        preempt_enable();
    }
}

/* One of this CPU's take stores, if it has one. */
static void store_flush(enum store_kind kind)
{
    struct zone *z = store_zone(kind);
    bool slow;
    if (!z)
        return;
    spin_lock(&z->lock);
    struct cpu_stores *cs = store_enter_own(&slow);
    put_store(z, &cs->store[kind]);
    store_leave_own(cs, slow);
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
        for (unsigned n = 0; n < cs->behind.nr_groups; n++) {
            const struct behind_group *group = &cs->behind.group[n];
            struct map512 frames = part512_map(&group->frames);
            if (group->zone == z)
                fn(z, group->pb, &frames, false, ctx);
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
 * A store of z is filled and emptied under z's lock, so its owner can only pop from it now, or put
 * back what is its own and so none of these; and a frame that was popped before it was freed is
 * seen to be gone.
 */
bool store_holds_locked(const struct zone *z, u32 i, const struct part512 *frames, unsigned *out)
{
    unsigned cpu = cpu_id();
    u64 held = 0;
    ASSERT(spin_held(&z->lock));
    /* Our own first: who frees took from there. */
    for (unsigned n = 0; n < nr_cpus && *out; n++, cpu = cpu + 1 < nr_cpus ? cpu + 1 : 0) {
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            const struct store *s = &mm_stores[cpu].store[kind];
            if (load_relaxed(&s->zone) != z || s->pb != i)
                continue;
            for (unsigned w = frames->from; w < frames->to; w++)
                held |= load_relaxed(&s->frames.w[w]) & frames->map.w[w];
            --*out;
        }
    }
    return held != 0;
}

/*
 * With what this store, all others and all claims have of its pageblock back in it; but for what
 * came back to them, of which store_frames_freed() tells. What was popped from a store and freed
 * since counts twice: then less may be missing than is.
 */
static unsigned missing_with_stores(const struct zone *z, const struct store *mine)
{
    const struct pageblock *pb = &z->pb[mine->pb];
    unsigned there = pb->nr_free;
    if (likely(pb->out == 1)) { /* it is the only one */
        there += mine->filled;
    } else {
        there += claim_frames_locked(z, mine->pb);
        for (unsigned n = 0; n < nr_cpus * NR_STORES; n++) {
            const struct store *s = &mm_stores[n / NR_STORES].store[n % NR_STORES];
            if (load_relaxed(&s->zone) == z && s->pb == mine->pb)
                there += s->filled;
        }
    }
    return 512 - MIN(there, 512u);
}

unsigned store_least_missing_locked(const struct zone *z)
{
    unsigned least = 512;
    ASSERT(spin_held(&z->lock));
    for (unsigned n = 0; n < nr_cpus * NR_STORES; n++) {
        const struct store *s = &mm_stores[n / NR_STORES].store[n % NR_STORES];
        if (load_relaxed(&s->zone) == z)
            least = MIN(least, missing_with_stores(z, s));
    }
    return least;
}

u64 store_frames_freed(void)
{
    u64 n = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        /* Acquire: pairs with the releases of a push. */
        n += load_acquire(&mm_stores[cpu].behind.nr);
        n += load_acquire(&mm_stores[cpu].store[STORE_ANY].back);
    }
    return n;
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
