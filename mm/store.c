/*
 * Stores: see mm/store.h. Owns the per-CPU stores. Next: mm/store_look.c.
 *
 * The owner comes millions of times, a sweeper hardly ever; so the owner pays for no lock and no
 * fence, and the sweeper for both. The owner says that it is inside with a plain store and looks
 * whom its stores serve; a sweeper says that they serve nobody and then makes the owner's CPU
 * pass a full fence (cpus_serialize()):
 *
 *     A: sweeper, sweep_lock held            B: owner, preemption off
 *     serves = nobody                        inside = 1            plain, may be seen late
 *     cpus_serialize(): B passes a fence     serves somebody? goes on
 *     waits for inside == 0                  pops, pushes, or gives its buffer back
 *     takes what is there                    inside = 0            release
 *     serves = own         release           nobody? inside = 0, takes sweep_lock instead
 *
 * B's fence comes either before its look at serves, which then sees nobody, or after its inside = 1,
 * which A then sees. So they are never both in (protocol rules 2 and 3); and A, who holds the
 * zone lock all along, sees every frame that B has not popped. A waits for B's few instructions,
 * or for the end of its flush, which is bounded; B never takes a lock while it is inside.
 */
#include "mm/store.h"
#include "lib/string.h"
#include "mm/bell.h"
#include "mm/limpid.h"
#include "mm/take.h"

struct cpu_stores mm_stores[MAX_CPUS];
static u64 no_frames;              /* a word at hand that is empty: who pops goes the slow way */
static struct spinlock sweep_lock; /* RANK_STORE: one sweeper at a time, and owners kept out */

void store_init(void)
{
    spin_init(&sweep_lock, "stores", RANK_STORE, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        memset(&mm_stores[cpu], 0, sizeof(mm_stores[cpu]));
        mm_stores[cpu].home = mm_home_node(cpu_node(cpu));
        mm_stores[cpu].own = mm_stores[cpu].home == cpu_node(cpu) ? cpu_node(cpu) : SERVES_NO_NODE;
        mm_stores[cpu].serves = mm_stores[cpu].own;
        mm_stores[cpu].push.word = ~0ULL;
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            mm_stores[cpu].store[kind].block = ~0ULL;
            mm_stores[cpu].pop_at[kind] = &no_frames;
        }
    }
}

/* ---- in and out ---- */

/* This CPU's stores, entered one way or the other: by who may take a lock if need be. */
static inline struct cpu_stores *store_enter_own(bool *slow)
{
    struct cpu_stores *cs = &mm_stores[cpu_id()];
    *slow = store_enter(cs) == SERVES_NOBODY;
    if (*slow) {
        store_leave(cs);
        spin_lock(&sweep_lock);
    }
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
        if (cpu == cpu_id() || store_is_stopped(&mm_stores[cpu]) || is_empty(&mm_stores[cpu]))
            continue;
        store_relaxed(&mm_stores[cpu].serves, SERVES_NOBODY);
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
            while (store_is_stopped(&mm_stores[cpu]) && load_acquire(&mm_stores[cpu].inside))
                cpu_relax();
}

static void owners_go(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (store_is_stopped(&mm_stores[cpu]))
            store_release(&mm_stores[cpu].serves, mm_stores[cpu].own); /* with what we changed */
    spin_unlock(&sweep_lock);
}

/* ---- without the zone lock ---- */

/* The word that pops come from: the lowest; any, if there is none. */
static unsigned pop_word(const struct store *s)
{
    return (unsigned)__builtin_ctz(s->words | 1u << (MAP512_WORDS - 1));
}

/* Pops by the short way come from there now. In. */
static void pop_from(struct cpu_stores *cs, enum store_kind kind, unsigned word)
{
    struct store *s = &cs->store[kind];
    cs->pop_first[kind] = zone_pb_pfn(s->zone, s->pb) + 64 * word;
    /* What a taker of clean frames has to clear first is not for the short way. */
    cs->pop_at[kind] = kind == STORE_CLEAN && !s->clean ? &no_frames : &s->frames.w[word];
}

/* No word is at hand for pushes: from now on the buffer's count is exact. In. */
static inline void push_nowhere(struct cpu_stores *cs)
{
    struct push_hand *hand = &cs->push;
    if (hand->word == ~0ULL)
        return;
    hand->word = ~0ULL;
    if (cs->behind_at_hand) {
        unsigned unused = word512_count(hand->may & ~*hand->at);
        store_release(&cs->behind.nr, cs->behind.nr - unused);
    }
}

/* The word that pops come from is empty: to the next one that is not, if there is one. In. */
static void pop_from_next(struct cpu_stores *cs, enum store_kind kind)
{
    struct store *s = &cs->store[kind];
    unsigned word;
    do {
        s->words &= (u8)(s->words - 1);
        word = pop_word(s);
    } while (s->frames.w[word] == 0 && s->words);
    /* What comes back into an empty one has to come the slow way, which notes it. */
    if (kind == STORE_ANY && !cs->behind_at_hand)
        push_nowhere(cs);
    pop_from(cs, kind, word);
}

pfn_t store_pop_slowly(enum store_kind kind, unsigned node, bool *dirty)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    if (s->words && cs->home == node) {
        if (s->frames.w[pop_word(s)] == 0)
            pop_from_next(cs, kind);
        u64 *at = &s->frames.w[pop_word(s)], w = *at;
        if (w) {
            store_relaxed(at, w & (w - 1)); /* read by store_holds_locked() */
            pfn = cs->pop_first[kind] + (u64)__builtin_ctzll(w);
            *dirty = !s->clean;
            if (!(w & (w - 1))) /* so that the short way finds something next time */
                pop_from_next(cs, kind);
        }
    }
    store_leave_own(cs, slow);
    return pfn;
}

/* Back into the take store of its pageblock. False: it is there already. In. */
static __attribute__((noinline)) bool push_back(struct cpu_stores *cs, pfn_t pfn)
{
    struct store *s = &cs->store[STORE_ANY];
    unsigned w = pfn / 64 % MAP512_WORDS;
    u64 bit = 1ULL << (pfn % 64);
    if (s->frames.w[w] & bit)
        return false;
    if (!(s->counted.w[w] & bit)) {
        s->counted.w[w] |= bit;
        store_release(&s->back, s->back + 1); /* read by store_frames_freed() */
    }
    s->words |= (u8)(1u << w);
    if (pop_word(s) == w)
        pop_from(cs, STORE_ANY, w);
    store_relaxed(&s->frames.w[w], s->frames.w[w] | bit); /* read by store_holds_locked() */
    push_nowhere(cs);
    cs->push = (struct push_hand){pfn / 64, &s->frames.w[w], s->counted.w[w]};
    cs->behind_at_hand = false;
    return true;
}

/*
 * Into the last word of the buffer, or into a new one. The second one in a row into a pageblock has
 * its word at hand for what follows. False: no room. In.
 */
static inline __attribute__((always_inline)) bool push_behind(struct cpu_stores *cs, struct zone *z,
                                                              pfn_t pfn)
{
    struct behind *b = &cs->behind;
    struct behind_word *last = &b->word[b->nr_words ? b->nr_words - 1 : 0];
    u32 word = zone_pb(z, pfn) * MAP512_WORDS + (u32)(pfn / 64 % MAP512_WORDS);
    u64 bit = 1ULL << (pfn % 64);
    push_nowhere(cs);
    bool near = b->nr_words && (last->word ^ word) < MAP512_WORDS && last->zone == z->index;
    if (b->nr > BEHIND_MAX - 64)
        return false;
    if (!near || last->word != word) {
        if (b->nr_words == BEHIND_WORDS)
            return false;
        if (b->nr_words == 0)
            store_relaxed(&b->since, now_ms()); /* read by store_holds_older_locked() */
        last = &b->word[b->nr_words++];
        *last = (struct behind_word){z->index, word, 0};
    }
    if (last->frames & bit)
        panic("P2 one owner: double free of pfn 0x%llx", (unsigned long long)pfn);
    last->frames |= bit;
    if (near && zone_has_word(z, pfn)) {
        cs->push = (struct push_hand){pfn / 64, &last->frames, ~last->frames};
        cs->behind_at_hand = true;
        store_release(&b->nr, b->nr + 1 + word512_count(~last->frames));
    } else {
        store_release(&b->nr, b->nr + 1);
    }
    return true;
}

/* False: the buffer has to be given back first. */
static inline __attribute__((always_inline)) bool push(struct zone *z, pfn_t pfn)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    bool home = pfn / 512 == cs->store[STORE_ANY].block;
    bool done = (home && push_back(cs, pfn)) || push_behind(cs, z, pfn);
    store_leave_own(cs, slow);
    return done;
}

void store_push_slowly(struct zone *z, pfn_t pfn)
{
    while (unlikely(!push(z, pfn))) /* once: only this CPU fills it, and preemption is off */
        store_flush_behind();
}

struct zone *store_zone(enum store_kind kind)
{
    return load_relaxed(&mm_stores[cpu_id()].store[kind].zone);
}

/* ---- between a store and the maps: zone lock, and in ---- */

void store_fill_locked(struct zone *z, enum store_kind kind, u32 i, const struct map512 *frames,
                       unsigned n, bool clean, u32 since)
{
    bool slow;
    ASSERT(spin_held(&z->lock));
    pageblock_out_locked(z, i, 1);
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    ASSERT(s->zone == NULL);
    pfn_t first = zone_pb_pfn(z, i);
    s->pb = i;
    s->since = since;
    s->clean = clean;
    s->filled = (u16)n;
    s->back = 0;
    /* What is freed is dirty, and a pageblock in which two zones meet is not all ours. */
    bool whole = zone_has(z, first) && zone_has(z, first + 511);
    s->block = kind == STORE_ANY && !clean && whole ? first / 512 : ~0ULL;
    s->frames = s->counted = *frames;
    s->words = 0;
    for (unsigned w = 0; w < MAP512_WORDS; w++)
        s->words |= (u8)((frames->w[w] != 0) << w);
    store_relaxed(&s->zone, z); /* read by store_holds_locked() of other zones */
    pop_from(cs, kind, pop_word(s));
    store_leave_own(cs, slow);
}

/* An empty store names no pageblock any more. In. */
static void give_up(struct cpu_stores *cs, enum store_kind kind)
{
    struct store *s = &cs->store[kind];
    if (kind == STORE_ANY && !cs->behind_at_hand)
        push_nowhere(cs);
    cs->pop_at[kind] = &no_frames;
    s->words = 0;
    s->block = ~0ULL;
    store_relaxed(&s->zone, NULL);
}

/* Gives back what the store has of z, if anything. In. */
static void put_store(struct zone *z, struct cpu_stores *cs, enum store_kind kind)
{
    static const struct map512 none;
    struct store *s = &cs->store[kind];
    if (s->zone != z)
        return;
    struct part512 frames = part512_of(&s->frames);
    unsigned n = part512_count(&frames);
    pageblock_out_locked(z, s->pb, -1);
    z->outside -= n;
    if (n)
        pageblock_put_locked(z, s->pb, &frames, s->clean ? &none : &s->frames, s->since);
    map512_zero(&s->frames);
    give_up(cs, kind);
}

/*
 * Frames freed in no order are each of another pageblock, whose record may be far away: so it is
 * on its way while those before it are given back.
 */
static inline void behind_fetch(const struct zone *z, const struct behind *b, unsigned n)
{
    const struct behind_word *word = &b->word[n];
    if (n >= b->nr_words || word->zone != z->index)
        return;
    const struct pageblock *pb = &z->pb[word->word / MAP512_WORDS];
    prefetch_write(&pb->free.w[word->word % MAP512_WORDS]);
    prefetch_write(&pb->dirty.w[word->word % MAP512_WORDS]);
    prefetch_write(&pb->nr_free);
}

static inline bool same_pageblock(const struct behind_word *a, const struct behind_word *b)
{
    return (a->word ^ b->word) < MAP512_WORDS && a->zone == b->zone;
}

/* Adds to the frames of a pageblock those of a further word of it. */
static __attribute__((noinline)) void
behind_gather(const struct zone *z, const struct behind_word *word, struct part512 *frames)
{
    struct map512 more = {{0}};
    more.w[word->word % MAP512_WORDS] = word->frames;
    if (part512_meets(frames, &more))
        panic("P2 one owner: double free in the pageblock at pfn 0x%llx (node %u)",
              (unsigned long long)zone_pb_pfn(z, word->word / MAP512_WORDS), z->node);
    part512_or_word(frames, word->word % MAP512_WORDS, word->frames);
}

/* Gives back what the buffer has of z. In. */
static void put_behind(struct zone *z, struct cpu_stores *cs)
{
    enum { AHEAD = 5 };
    struct behind *b = &cs->behind;
    struct part512 frames;
    unsigned kept = 0;
    if (cs->behind_at_hand)
        push_nowhere(cs);
    for (unsigned n = 0; n < AHEAD; n++)
        behind_fetch(z, b, n);
    for (unsigned n = 0; n < b->nr_words; n++) {
        const struct behind_word *word = &b->word[n];
        u32 i = word->word / MAP512_WORDS;
        behind_fetch(z, b, n + AHEAD);
        if (word->zone != z->index) {
            b->word[kept++] = *word;
            continue;
        }
        frames.from = word->word % MAP512_WORDS;
        frames.to = frames.from + 1;
        frames.map.w[frames.from] = word->frames;
        unsigned count = word512_count(word->frames);
        for (; n + 1 < b->nr_words && same_pageblock(word, &b->word[n + 1]); n++) {
            behind_gather(z, &b->word[n + 1], &frames);
            count += word512_count(b->word[n + 1].frames);
        }
        pageblock_check_owned_locked(z, i, &frames);
        z->outside -= count;
        pageblock_put_locked(z, i, &frames, &frames.map, b->since);
        b->nr -= count;
    }
    b->nr_words = kept;
}

static void put_all(struct zone *z, struct cpu_stores *cs)
{
    for (unsigned kind = 0; kind < NR_STORES; kind++)
        put_store(z, cs, kind);
    put_behind(z, cs);
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
        give_up(cs, kind);
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
        if (cpu != cpu_id() && !store_is_stopped(&mm_stores[cpu]))
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
    struct zone *z = cs->behind.nr_words ? &mm_zones[cs->behind.word[0].zone] : NULL;
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
        put_behind(z, cs);
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
    put_store(z, cs, kind);
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
