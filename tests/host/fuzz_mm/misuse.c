/*
 * Misuse: a free that no owner may make. mm/ must panic, and that ends the input.
 * Next: fuzz_mm.c.
 */
#include "ops.h"

#include <setjmp.h>

bool misusing;
static jmp_buf after_panic;

void on_panic(const char *line)
{
    TRACE("  panic: %s\n", line);
    if (misusing)
        longjmp(after_panic, 1);
}

/* One frame of the block at least is free: mm/ has to see it, at the latest when stores go back. */
static bool has_free_frame(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
        if ((frames[p] & (F_OURS | F_HELD | F_BAD)) == F_OURS)
            return true;
    return false;
}

/* A claim or a CPU's store holds one of them: mm/ has to see it when its own CPU gives it back. */
static bool is_held_elsewhere(pfn_t pfn, const struct map512 *map)
{
    struct zone *z = zone_of(pfn);
    spin_lock(&z->lock);
    u32 i = zone_pb(z, pfn);
    struct part512 part = part512_of(map);
    unsigned out = 2 * nr_cpus;
    bool is = claim_holds_locked(z, i, &part, &out) || store_holds_locked(z, i, &part, &out);
    spin_unlock(&z->lock);
    return is;
}

static void misuse(unsigned how, pfn_t pfn, unsigned order)
{
    unsigned at = (unsigned)(pfn % 512);
    struct map512 map = map512_range(at, MIN(4u, 512u - at)), one = map512_range(at, 1);
    bool at_once = how < 2 && (frames[pfn] & F_OURS) && is_held_elsewhere(pfn, &one);
    if (how == 0)
        mm_free(pfn, order);
    else if (how == 6)
        mm_free(pfn, 0), mm_free(pfn, 0);
    else if (how == 1)
        mm_free_mask(ALIGN_DOWN(pfn, 512), &map);
    else if (how == 2)
        mm_free_mask(pfn | 1, &map);
    else if (how == 3)
        mm_free((pfn & ~3ULL) + 1, 1);
    else if (how == 4)
        mm_free(pfn, ORDER_MAX + 1);
    else
        mm_free(15, 0); /* below every range */
    mm_stores_flush();
    if (at_once)
        return;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        memset(&port_self, 0, sizeof(port_self));
        port_be_cpu(cpu);
        mm_stores_flush();
    }
}

/* It panics, or mm/ has taken a free that it must not. */
static void must_panic(unsigned how, pfn_t pfn, unsigned order)
{
    misusing = true;
    if (setjmp(after_panic) == 0) {
        misuse(how, pfn, order);
        misusing = false;
        FUZZ_CHECK(false, "misuse %u: pfn 0x%llx, order %u: no panic", how, (unsigned long long)pfn,
                   order);
    }
    misusing = false;
}

bool op_misuse(void)
{
    unsigned b = input_byte(), how = b % 7, order = b >> 3;
    pfn_t pfn = input_pfn();
    order = order > ORDER_MAX ? 0 : order;
    if (how == 0) {
        pfn = ALIGN_DOWN(pfn, 1ULL << order);
        const struct zone *z = zone_of(pfn);
        if (!z || pfn + (1ULL << order) > z->end || !has_free_frame(pfn, order))
            return false;
    } else if (how == 1 &&
               !(frames[pfn] & F_OURS ? has_free_frame(pfn, 0) : zone_of(pfn) == NULL)) {
        return false;
    }
    TRACE("  misuse %u: pfn 0x%llx, order %u\n", how, (unsigned long long)pfn, order);
    must_panic(how, pfn, order);
    return true;
}
