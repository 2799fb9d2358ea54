/*
 * Looking into stores, for the walker, the tables and the checks: either with their owners kept
 * out, or beside them, where what they do meanwhile can do no harm. Next: mm/wait.c, which decides
 * by it.
 */
#include "mm/claim.h"
#include "mm/store.h"

void store_for_each_locked(const struct zone *z,
                           void (*fn)(const struct zone *z, u32 i, const struct map512 *frames,
                                      bool clean, void *ctx),
                           void *ctx)
{
    ASSERT(spin_held(&z->lock));
    store_sweep_begin();
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct cpu_stores *cs = &mm_stores[cpu];
        if (cpu != cpu_id() && !store_is_stopped(cs))
            continue;
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone == z)
                fn(z, cs->store[kind].pb, &cs->store[kind].frames, cs->store[kind].clean, ctx);
        for (unsigned n = 0; n < cs->behind.nr_words; n++) {
            const struct behind_word *word = &cs->behind.word[n];
            struct map512 frames = {{0}};
            frames.w[word->word % MAP512_WORDS] = word->frames;
            if (word->zone == z->index)
                fn(z, word->word / MAP512_WORDS, &frames, false, ctx);
        }
    }
    store_sweep_end();
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
        /* Acquire: pairs with the release in push_behind(). */
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
 * With all that this store, all others and all claims were given of its pageblock back in it; but for
 * what came back to them besides, of which store_frames_freed() tells. What was popped from a store
 * and freed into the maps since counts twice: then less may be missing than is.
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
        if (load_relaxed(&s->zone) != z)
            continue;
        unsigned missing = missing_with_stores(z, s);
        least = MIN(least, missing);
    }
    return least;
}

u64 store_frames_freed(void)
{
    u64 n = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        /* Acquire: pairs with the releases of a slow push; a short one was counted by one. */
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

static u64 behind_count(const struct behind *b)
{
    u64 n = 0;
    for (unsigned i = 0; i < b->nr_words; i++)
        n += word512_count(b->word[i].frames);
    return n;
}

void store_count_cpu(unsigned cpu, u64 *clean, u64 *dirty)
{
    const struct cpu_stores *cs = &mm_stores[cpu];
    *clean = *dirty = 0;
    store_sweep_begin();
    if (cpu == cpu_id() || store_is_stopped(cs)) {
        *dirty = behind_count(&cs->behind);
        for (unsigned kind = 0; kind < NR_STORES; kind++)
            if (cs->store[kind].zone)
                *(cs->store[kind].clean ? clean : dirty) += map512_count(&cs->store[kind].frames);
    }
    store_sweep_end();
}
