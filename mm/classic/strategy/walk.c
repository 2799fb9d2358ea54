/*
 * `walk`: the naive ancestor of all of them; the label is ours. Idle CPUs walk the free lists, as
 * `locked` does, but without the lock, for the lock is what hurts there. Nobody in the thread
 * proposes it: it is what Bob is kept from ("The hardest part is iterating the heap free list
 * without holding heap_lock"), and what all the others are cures for.
 *
 * Two races, and either breaks memory:
 *
 *     A: takes, heap lock held               B: idle, no lock
 *                                            stands on the block at p
 *     takes p off its list                   clears the frames of p
 *                                            p = next of p        <- a stale link: wild pointer
 *
 *     A: takes, heap lock held               B: idle, no lock
 *                                            frame f of p is dirty: about to clear it
 *     takes p, clears f, hands it out
 *     its owner writes into f
 *                                            clears f             <- the owner's data is gone
 *
 * A block that leaves its list gets poisoned links, so the first ends in a panic that names it,
 * in place of a wild pointer. The second ends in whatever the owner does with zeroes. For tests
 * that act these schedules there are turn gates; no default boot comes here.
 */
#include "mm/classic/strategy/strategy.h"

static void panic_stale(const struct heap *h, const char *who, u32 i, unsigned k, u32 link)
    __attribute__((noreturn));
static void panic_stale(const struct heap *h, const char *who, u32 i, unsigned k, u32 link)
{
    panic("P2 one owner: %s: stale link: the block at pfn 0x%llx left the free list of order %u "
          "while CPU %u stood on it; its next link is 0x%x",
          who, (unsigned long long)heap_pfn(h, i), k, cpu_id(), link);
}

bool walk_lists(struct scrub *s, const char *who, bool (*visit)(struct scrub *s, u32 i, unsigned k))
{
    struct heap *h = s->h;
    bool did = false;
    /* Who lists dirt from now on sets it again, and somebody walks once more. */
    if (!xchg(&h->need_scrub, 0u))
        return false;
    for (unsigned k = ORDER_MAX + 1; k-- > 0;) {
        for (u32 i = load_relaxed(&h->head[k]), next; i != LINK_NONE; i = next) {
            gate("walk: on a block", h, i);
            did = visit(s, i, k) || did;
            gate("walk: before the next link", h, i);
            next = load_relaxed(&rec(h, i)->next);
            if (next != LINK_NONE && (next < h->first || next >= h->end))
                panic_stale(h, who, i, k, next);
            if (scrub_must_stop(s)) {
                store_relaxed(&h->need_scrub, 1u);
                return true;
            }
        }
    }
    return did;
}

bool walk_may(const struct heap *h)
{
    return load_relaxed(&h->need_scrub) != 0;
}

static bool walk_visit(struct scrub *s, u32 i, unsigned k)
{
    struct heap *h = s->h;
    bool did = false;
    if (!(load_relaxed(&rec(h, i)->flags) & BK_DIRT))
        return false;
    for (u32 n = 0; n < 1u << k && i + n < h->end; n++) {
        if (!(load_relaxed(&rec(h, i + n)->flags) & FR_DIRTY))
            continue;
        gate("walk: before a clear", h, i + n);
        scrub_clear(s, i + n);
        if (!dirt_drop_one(&s->drop, i + n, 0))
            s->twice++; /* somebody else has cleared it too, or worse: owns it */
        did = true;
        if (scrub_must_stop(s))
            break;
    }
    return did;
}

static bool walk_step(struct scrub *s)
{
    return walk_lists(s, "walk", walk_visit);
}

const struct classic_strategy strategy_walk = {
    .common = {.name = "walk",
               .warning = "breaks memory, on purpose: it walks lists that others change"},
    .step = walk_step,
    .may = walk_may,
};
