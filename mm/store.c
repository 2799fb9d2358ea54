/*
 * Stores: see mm/store.h. Owns the per-CPU stores; what comes and goes here does so without
 * the zone lock. Next: mm/store_move.c.
 *
 * The owner comes millions of times, a sweeper hardly ever; so the owner pays for no lock and no
 * fence, and the sweeper for both. The owner says that it is inside with a plain store and looks
 * whom its stores serve; a sweeper says that they serve nobody and then makes the owner's CPU
 * pass a full fence (cpus_serialize()):
 *
 *     A: sweeper, sweep lock held            B: owner, preemption off
 *     serves = nobody                        inside = 1            plain, may be seen late
 *     cpus_serialize(): B passes a fence     serves somebody? goes on
 *     waits for inside == 0                  pops, pushes, or gives its buffer back
 *     takes what is there                    inside = 0            release
 *     serves = own         release           nobody? inside = 0, takes the sweep lock instead
 *
 * B's fence comes either before its look at serves, which then sees nobody, or after its inside = 1,
 * which A then sees. So they are never both in (protocol rules 2 and 3); and A, who holds the
 * zone lock all along, sees every frame that B has not popped. A waits for B's few instructions,
 * or for the end of its flush, which is bounded; B never takes a lock while it is inside.
 */
#include "mm/store_own.h"
#include "lib/string.h"
#include "mm/take.h"

struct cpu_stores mm_stores[MAX_CPUS];
u64 store_no_frames;
struct spinlock store_sweep_lock;

void store_init(void)
{
    spin_init(&store_sweep_lock, "stores", RANK_STORE, 0);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        memset(&mm_stores[cpu], 0, sizeof(mm_stores[cpu]));
        mm_stores[cpu].home = mm_home_node(cpu_node(cpu));
        mm_stores[cpu].own = mm_stores[cpu].home == cpu_node(cpu) ? cpu_node(cpu) : SERVES_NO_NODE;
        mm_stores[cpu].serves = mm_stores[cpu].own;
        mm_stores[cpu].push.word = ~0ULL;
        for (unsigned kind = 0; kind < NR_STORES; kind++) {
            mm_stores[cpu].store[kind].block = ~0ULL;
            mm_stores[cpu].pop_at[kind] = &store_no_frames;
        }
    }
}

/* ---- in and out ---- */

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
    spin_lock(&store_sweep_lock);
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
    spin_unlock(&store_sweep_lock);
}

void store_sweep_begin(void)
{
    owners_stop();
}

void store_sweep_end(void)
{
    owners_go();
}

/* ---- pops and pushes ---- */

/* The word that pops come from is empty: to the next one that is not, if there is one. In. */
static void pop_from_next(struct cpu_stores *cs, enum store_kind kind)
{
    struct store *s = &cs->store[kind];
    unsigned word;
    do {
        s->words &= (u8)(s->words - 1);
        word = store_pop_word(s);
    } while (s->frames.w[word] == 0 && s->words);
    /* What comes back into an empty one has to come the slow way, which notes it. */
    if (kind == STORE_ANY && !cs->behind_at_hand)
        store_push_nowhere(cs);
    store_pop_from(cs, kind, word);
}

pfn_t store_pop_slowly(enum store_kind kind, unsigned node, bool *dirty)
{
    bool slow;
    struct cpu_stores *cs = store_enter_own(&slow);
    struct store *s = &cs->store[kind];
    pfn_t pfn = PFN_NONE;
    if (s->words && cs->home == node) {
        if (s->frames.w[store_pop_word(s)] == 0)
            pop_from_next(cs, kind);
        u64 *at = &s->frames.w[store_pop_word(s)], w = *at;
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
    if (store_pop_word(s) == w)
        store_pop_from(cs, STORE_ANY, w);
    store_relaxed(&s->frames.w[w], s->frames.w[w] | bit); /* read by store_holds_locked() */
    store_push_nowhere(cs);
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
    store_push_nowhere(cs);
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
