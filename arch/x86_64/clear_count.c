/*
 * What each CPU clears, counted as it does it: the witness of clear.c. The allocators count, too;
 * this is how a measurement can say more than what they say of themselves.
 *
 * Owns the counts in struct cpu (o).
 */
#include "machine.h"

static bool watched; /* (a) relaxed: a measurement begins and ends in a quiet moment */

/* Few are held at a time: zone locks, and what is taken under them. */
static bool holds_zone_lock(const struct cpu *c)
{
    for (unsigned i = 0; i < c->nr_locks_held; i++)
        if (c->locks_held[i]->rank == RANK_ZONE)
            return true;
    return false;
}

/* One instruction, so that neither an interrupt nor a switch behind it splits it. */
static void count_one(u64 *count)
{
    __asm__ volatile("incq %0" : "+m"(*count) : : "cc");
}

static void clear_note(const void *frame)
{
    struct cpu *c = this_cpu();
    count_one(&c->clears.frames);
    if (unlikely(c->nr_locks_held) && holds_zone_lock(c))
        count_one(&c->clears.locked);
    if (unlikely(load_relaxed(&watched)) && *(const volatile u64 *)frame == 0)
        count_one(&c->clears.again);
}

void clear_watch(bool on)
{
    store_relaxed(&watched, on);
}

void clear_counts_get(unsigned cpu, struct clear_counts *out)
{
    const struct clear_counts *c = &cpu_by_id(cpu)->clears;
    *out = (struct clear_counts){
        .frames = load_relaxed(&c->frames),
        .locked = load_relaxed(&c->locked),
        .again = load_relaxed(&c->again),
    };
}

void clear_count_init(void)
{
    clear_witness = clear_note;
}
