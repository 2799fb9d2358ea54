/*
 * Between a CPU's stores and the maps: a take store is filled, frames just freed go back into their
 * pageblocks, and a taker in need sweeps what others store. All under the zone's lock and in, so
 * who holds the lock sees each frame either here or there (protocol rule 2).
 * Next: mm/pageblock.c, where the frames go.
 */
#include "mm/bell.h"
#include "mm/limpid.h"
#include "mm/store_own.h"

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
    /*
     * What is freed is dirty; a pageblock in which two zones meet is not all ours; and a bad frame is
     * dropped at the door of the maps, so it has to come there (rule 9). If one goes bad after this,
     * its retire sweeps the store.
     */
    bool whole = zone_has(z, first) && zone_has(z, first + 511);
    bool home = kind == STORE_ANY && !clean && whole && !z->pb[i].has_bad;
    s->block = home ? first / 512 : ~0ULL;
    s->frames = s->counted = *frames;
    s->words = 0;
    for (unsigned w = 0; w < MAP512_WORDS; w++)
        s->words |= (u8)((frames->w[w] != 0) << w);
    store_relaxed(&s->zone, z); /* read by store_holds_locked() of other zones */
    store_pop_from(cs, kind, store_pop_word(s));
    store_leave_own(cs, slow);
}

/* An empty store names no pageblock any more. In. */
static void give_up(struct cpu_stores *cs, enum store_kind kind)
{
    struct store *s = &cs->store[kind];
    if (kind == STORE_ANY && !cs->behind_at_hand)
        store_push_nowhere(cs);
    cs->pop_at[kind] = &store_no_frames;
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
    if (n >= b->nr_words || b->word[n].zone != z->index)
        return;
    const struct behind_word *word = &b->word[n];
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
        store_push_nowhere(cs);
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

void store_sweep_zone_locked(struct zone *z)
{
    ASSERT(spin_held(&z->lock) && spin_held(&store_sweep_lock));
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (cpu != cpu_id() && !store_is_stopped(&mm_stores[cpu]))
            continue; /* empty when we stopped the others: its owner may be in */
        put_all(z, &mm_stores[cpu]);
    }
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
