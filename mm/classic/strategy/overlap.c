/*
 * `overlap`: Jan Beulich's way out, in the thread: "You should really drop the idea of removing
 * pages temporarily. All you need to do is make sure a page being allocated and getting
 * simultaneously scrubbed by another CPU won't get passed to the caller until the scrubbing
 * finished. In particular it's no problem if the allocating CPU occasionally ends up scrubbing a
 * page already being scrubbed elsewhere."
 *
 * So blocks stay on their lists, and nobody marks them. An idle CPU notes which frame it is about
 * to clear, looks once more whether it is to be cleared, and clears. A taker takes what it likes,
 * clears what is dirty of it, and hands it out when no idle CPU is at one of its frames.
 *
 *     A: takes                               B: idle
 *     lock; FR_DIRTY becomes FR_MINE         at = f        full fence
 *     (a locked instruction: a fence)        FR_DIRTY? yes: clears f; no: leaves it alone
 *     unlock; clears f as well               FR_DIRTY off, if it is there yet
 *     waits while B's `at` is f              at = none
 *     hands f out
 *
 * Either B sees that f is not free any more, or A sees that B is at it. B walks addresses, not
 * links: a record is always there. It fails softly: A waits for a clear that does it no good, one
 * that wants no zeroes as well, and frames are cleared twice; both are counted.
 */
#include "mm/classic/strategy/strategy.h"

enum { CHUNK = 512, TRIES = 16 };

static struct slot {
    const struct heap *heap; /* (L) NULL: nothing taken on */
    u32 first, end;          /* (L) the chunk */
    u32 dirty;               /* (L) frames of it that were dirty */
    u64 at;                  /* (a) the pfn that is being cleared, plus 1; 0: none */
} __attribute__((aligned(64))) slots[MAX_CPUS];

void overlap_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++)
        slots[cpu] = (struct slot){.heap = NULL};
}

/* Where the next CPU's chunk may begin: behind those that others are at. */
static u32 behind_others_locked(const struct heap *h, u32 from)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        const struct slot *o = &slots[cpu];
        if (o->heap == h && from >= o->first && from < o->end) {
            from = o->end;
            cpu = ~0u; /* from the first one again */
        }
    }
    return from;
}

enum found { NOTHING, CLEAN_ONES, CHUNK_FOUND };

/* A chunk of the block at i with dirt that nobody is at; clean ones at its start are passed for good. */
static enum found chunk_in_block_locked(struct heap *h, u32 i, struct slot *mine)
{
    struct record *r = rec(h, i);
    u32 end = i + (1u << r->order), from = i + r->first_dirty;
    enum found found = NOTHING;
    for (unsigned look = 0; look < TRIES; look++) {
        u32 begin = behind_others_locked(h, from);
        if (begin >= end)
            break;
        mine->first = begin;
        mine->end = MIN(end, ALIGN_DOWN(begin, (u32)CHUNK) + CHUNK);
        mine->dirty = 0;
        for (u32 at = begin; at < mine->end; at++)
            mine->dirty += (load_relaxed(&rec(h, at)->flags) & FR_DIRTY) != 0;
        heap_steps_locked(mine->end - begin);
        if (mine->dirty) {
            mine->heap = h;
            store_relaxed(&h->busy_dirt, h->busy_dirt + mine->dirty);
            return CHUNK_FOUND;
        }
        if (begin == i + r->first_dirty) {
            store_relaxed(&r->first_dirty, mine->end - i);
            found = CLEAN_ONES;
        }
        from = mine->end;
    }
    heap_settle_locked(h, i);
    return found;
}

/* In the first block that has one: each of the other CPUs may be busy with one before it. */
static enum found chunk_take_locked(struct heap *h, struct slot *mine)
{
    for (unsigned skip = 0; skip <= nr_cpus; skip++) {
        u32 i = heap_find_dirty_locked(h, skip);
        if (i == LINK_NONE)
            break;
        enum found found = chunk_in_block_locked(h, i, mine);
        if (found != NOTHING)
            return found;
    }
    return NOTHING;
}

/* The chunk is over. Its block, if there is one yet, has no dirt before where we came to. */
static void chunk_return_locked(struct heap *h, struct slot *mine, u32 reached)
{
    store_relaxed(&h->busy_dirt, h->busy_dirt - mine->dirty);
    mine->heap = NULL;
    u32 i = heap_block_of(h, mine->first);
    if (i == LINK_NONE || !(load_relaxed(&rec(h, i)->flags) & BK_DIRT))
        return;
    struct record *r = rec(h, i);
    u32 size = 1u << r->order, from = r->first_dirty, to = MIN(reached - i, size);
    if (i + from >= mine->first && from < to) { /* dirt begins in what we have gone through */
        /* Freed behind our back: a frame that we have passed may be dirty again. */
        u32 dirt = from;
        while (dirt < to && !(load_relaxed(&rec(h, i + dirt)->flags) & FR_DIRTY))
            dirt++;
        heap_steps_locked(dirt - from);
        store_relaxed(&r->first_dirty, dirt);
        heap_settle_locked(h, i);
    }
}

static u32 chunk_clear(struct scrub *s, struct slot *mine)
{
    for (u32 f = mine->first; f < mine->end; f++) {
        struct record *r = rec(s->h, f);
        if (!(load_relaxed(&r->flags) & FR_DIRTY))
            continue;
        store_relaxed(&mine->at, heap_pfn(s->h, f) + 1);
        full_fence(); /* pairs with the locked instruction in dirt_drop_one() of the taker */
        gate("overlap: at a frame", s->h, f);
        if (load_relaxed(&r->flags) & FR_DIRTY) {
            scrub_clear(s, f);
            if (!dirt_drop_one(&s->drop, f, 0))
                s->twice++; /* a taker has it, and clears it */
        }
        store_release(&mine->at, 0ULL); /* the clear before this: scrub_clear() ends with a fence */
        if (scrub_must_stop(s))
            return f + 1;
    }
    return mine->end;
}

static bool overlap_step(struct scrub *s)
{
    struct heap *h = s->h;
    struct slot *mine = &slots[cpu_id()];
    heap_lock();
    enum found found = chunk_take_locked(h, mine);
    heap_unlock();
    if (found != CHUNK_FOUND)
        return found == CLEAN_ONES;
    u32 reached = chunk_clear(s, mine);
    dirt_drop_end(&s->drop);
    heap_lock();
    chunk_return_locked(h, mine, reached);
    heap_unlock();
    return true;
}

/* Before the block is the caller's: no idle CPU is at one of its frames. */
static void overlap_taken(struct heap *h, u32 i, unsigned order)
{
    pfn_t pfn = heap_pfn(h, i);
    u64 waited = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        u64 at = load_acquire(&slots[cpu].at);
        if (at <= pfn || at > pfn + (1ULL << order))
            continue;
        waited = 1; /* several at once are waited for at once */
        while (load_acquire(&slots[cpu].at) == at)
            cpu_relax();
    }
    if (!waited)
        return;
    heap_lock();
    h->waits++;
    h->clears_waited++;
    h->max_clears_waited = MAX(h->max_clears_waited, waited);
    heap_unlock();
}

const struct classic_strategy strategy_overlap = {
    .common = {.name = "overlap"},
    .taken = overlap_taken,
    .step = overlap_step,
};
