/*
 * What owners do: they take blocks, give them back whole or in parts, and retire frames. Each
 * operation reads what it needs from the input, calls mm/ and tells the oracle.
 * Next: scrub.c.
 */
#include "ops.h"

enum { HELD_MAX = 6000 };

/* ---- what the owners hold ---- */

static struct held {
    pfn_t pfn;
    unsigned order;
} held[HELD_MAX];
static unsigned nr_held;

static void hold(pfn_t pfn, unsigned order)
{
    held[nr_held++] = (struct held){pfn, order};
}

static struct held let_go(unsigned n)
{
    struct held h = held[n];
    held[n] = held[--nr_held];
    return h;
}

void owners_begin(void)
{
    nr_held = 0;
}

/* ---- taking ---- */

static unsigned nr_retires;
enum { TAKE_CARRYING = 1 << 7 }; /* of this file: mm_take_carrying() */

/* Nobody else can go on while this one thread spins for what is below it on its own stack. */
static bool could_hang(unsigned order, unsigned node)
{
    if (calls_open(CALL_SCRUB) == 0)
        return false;
    if (calls_open(CALL_CLEARING_TAKE))
        return true; /* the oracle does not know yet what that one has taken */
    oracle_mark_away(AWAY_CLAIMS, true);
    bool serves = oracle_would_serve(order, node, false);
    oracle_mark_away(AWAY_CLAIMS, false);
    return !serves;
}

/* It was served from a node or in a state that is not the first choice: there was none better. */
static void check_preference(pfn_t pfn, unsigned order, bool clean, unsigned node)
{
    struct open_call *me = &open_call[depth - 1];
    unsigned got = zone_of(pfn)->node;
    for (unsigned i = 0; i < nr_nodes && !oracle_node_has_memory(node); i++)
        node = mm_node_near(open_call[depth - 1].asked, i); /* that one is home, then */
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, true);
    for (unsigned i = 0; mm_node_near(node, i) != got; i++)
        FUZZ_CHECK(!oracle_would_serve(order, mm_node_near(node, i), false),
                   "order %u for node %u came from node %u", order, node, got);
    if (clean && order > 0 && me->clears)
        FUZZ_CHECK(!oracle_would_serve(order, got, true),
                   "order %u: %u frames cleared, a clean block is free", order, me->clears);
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, false);
}

/*
 * Frames with their flags, and whoever maps some of them scrubs those. Between them others go on;
 * the oracle has them held only when all this is over, as with a take that clears.
 */
static pfn_t take_carrying(unsigned order, unsigned flags, unsigned node, u64 *cleared)
{
    struct map512 dirt;
    enum mm_carry carry = mm_carry();
    pfn_t pfn = mm_take_carrying(order, flags, node, &dirt, cleared);
    if (carry == CARRY_NONE || pfn == PFN_NONE) {
        FUZZ_CHECK(map512_empty(&dirt), "dirt is carried and should not be");
        return pfn;
    }
    FUZZ_CHECK(order <= ORDER_PAGEBLOCK, "order %u: more than a map of flags can say", order);
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        FUZZ_CHECK(map512_test(&dirt, (unsigned)(p % 512)) == !!(frames[p] & F_DIRTY),
                   "P6: pfn 0x%llx is 0x%x", (unsigned long long)p, frames[p]);
        map512_clear(&dirt, (unsigned)(p % 512));
    }
    FUZZ_CHECK(map512_empty(&dirt), "flags of other frames");
    unsigned part = input_byte();
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p += 1ULL << MIN(order, part % 16)) {
        unsigned run = 1u << MIN(order, part % 16), n = 0;
        while (n < run && (frames[p + n] & F_DIRTY))
            n++;
        if (n == run && p * (part | 1) % 3)
            mm_scrub_carried(p, run);
    }
    *cleared = open_call[depth - 1].clears;
    return pfn;
}

bool take(unsigned order, unsigned flags, unsigned node)
{
    struct open_call *me = &open_call[depth - 1];
    unsigned allowed = flags & TAKE_THIS_NODE ? node : NODE_ANY;
    bool carrying = flags & TAKE_CARRYING, carried = carrying && mm_carry() != CARRY_NONE;
    unsigned most = carried ? ORDER_PAGEBLOCK : ORDER_MAX;
    bool valid = order <= most && node < nr_nodes, quiet = !calls_open(CALL_CLEARING_TAKE);
    u64 cleared = 0;
    if (nr_held >= HELD_MAX - 600 || (valid && could_hang(order, allowed)))
        return false;
    me->call = CALL_TAKE;
    me->order = order;
    me->node = allowed;
    me->asked = node;
    me->clears = 0;
    me->spun = false;
    bool alone = me->nest_after == 0;
    unsigned retires_before = nr_retires;
    pfn_t pfn = PFN_NONE;
    flags &= ~(unsigned)TAKE_CARRYING;
    if (carrying) {
        pfn = take_carrying(order, flags, node, &cleared);
        flags = carried ? flags & ~(unsigned)TAKE_CLEAN : flags | TAKE_CLEAN;
    } else if (order % 8 == 7) { /* the call that does not say */
        pfn = mm_take(order, flags, node);
        cleared = me->clears;
    } else {
        pfn = mm_take_counted(order, flags, node, &cleared);
    }
    TRACE("  take order %u flags %u node %u: 0x%llx\n", order, flags, node,
          (unsigned long long)pfn);
    me->call = CALL_OTHER;
    FUZZ_CHECK(cleared == me->clears, "%llu, not %u", (unsigned long long)cleared, me->clears);
    if (pfn == PFN_NONE) {
        FUZZ_CHECK(!valid || !quiet || !oracle_would_serve(order, allowed, false),
                   "P4: order %u, flags %u, node %u fails", order, flags, node);
        return false;
    }
    FUZZ_CHECK(valid && (!(flags & TAKE_THIS_NODE) || zone_of(pfn)->node == node), "the node");
    FUZZ_CHECK((flags & TAKE_CLEAN) || carried || me->clears == 0, "nobody asked for zeroes");
    oracle_taken(pfn, order, flags & TAKE_CLEAN, nr_retires != retires_before);
    if (quiet && alone && !me->spun && !carried)
        check_preference(pfn, order, flags & TAKE_CLEAN, node);
    hold(pfn, order);
    return true;
}

void op_take(void)
{
    unsigned b = input_byte(), c = input_byte();
    static const u8 orders[16] = {0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xff};
    unsigned order = orders[b & 15];
    if (order == 0xff)
        order = c >> 3;
    unsigned node = (c & 7) == 7 ? nr_nodes : c % nr_nodes;
    be_thread();
    take(order, (b >> 4 & 3) | (b >> 6 == 3 ? TAKE_CARRYING : 0), node);
}

/* Until it fails, or so many times. */
void op_take_many(void)
{
    unsigned b = input_byte(), node = input_below(nr_nodes), n = 1 + input_word() % 600;
    be_thread();
    while (n-- && take(b >> 2 & 7, b & 3, node))
        ;
}

/* ---- giving back ---- */

static bool eager(void)
{
    return strcmp(mm_strategy_name(), "eager") == 0;
}

static void free_block(pfn_t pfn, unsigned order)
{
    bool dirty = !eager();
    oracle_hold(pfn, 1ULL << order, true);
    TRACE("  free 0x%llx order %u\n", (unsigned long long)pfn, order);
    mm_free(pfn, order);
    oracle_freed(pfn, 1ULL << order, dirty);
}

void owners_free_all(void)
{
    while (nr_held) {
        struct held h = let_go(nr_held - 1);
        free_block(h.pfn, h.order);
    }
}

void op_free(void)
{
    unsigned n = input_word();
    if (nr_held == 0)
        return;
    struct held h = let_go(n % nr_held);
    be_thread();
    free_block(h.pfn, h.order);
}

void op_free_many(void)
{
    unsigned step = input_byte() | 1, n = input_word() % 600, at = 0;
    be_thread();
    while (n-- && nr_held) {
        at = (at + step) % nr_held;
        struct held h = let_go(at);
        free_block(h.pfn, h.order);
    }
}

/* An aligned part of a block; its buddies up to the block stay. */
void op_free_part(void)
{
    unsigned n = input_word(), path = input_word();
    if (nr_held == 0 || nr_held > HELD_MAX - 600)
        return;
    struct held h = let_go(n % nr_held);
    be_thread();
    for (unsigned down = path >> 12; h.order > 0 && down > 0; down--, path >>= 1) {
        h.order--;
        pfn_t other = h.pfn + (1ULL << h.order);
        hold(path & 1 ? h.pfn : other, h.order);
        if (path & 1)
            h.pfn = other;
    }
    free_block(h.pfn, h.order);
}

static void free_mask(pfn_t first, const struct map512 *map)
{
    bool dirty = !eager();
    TRACE("  free %u frames of the pageblock at 0x%llx\n", map512_count(map),
          (unsigned long long)first);
    map512_for_each(bit, map) oracle_hold(first + bit, 1, true);
    mm_free_mask(first, map);
    map512_for_each(bit, map) oracle_freed(first + bit, 1, dirty);
}

/* Some frames of one block, or all that are held of one pageblock. */
void op_free_mask(void)
{
    unsigned n = input_word(), pattern = input_byte();
    struct map512 map = {{0}};
    if (nr_held == 0)
        return;
    n %= nr_held;
    pfn_t first = ALIGN_DOWN(held[n].pfn, 512);
    if (held[n].order > ORDER_PAGEBLOCK)
        return;
    be_thread();
    if (pattern < 64 || nr_held > HELD_MAX - 600) {
        for (unsigned k = nr_held; k-- > 0;) {
            if (ALIGN_DOWN(held[k].pfn, 512) != first || held[k].order > ORDER_PAGEBLOCK)
                continue;
            struct held h = let_go(k);
            struct map512 block = map512_range((unsigned)(h.pfn - first), 1u << h.order);
            map512_or(&map, &block);
        }
    } else {
        struct held h = let_go(n);
        for (pfn_t p = h.pfn; p < h.pfn + (1ULL << h.order); p++) {
            if ((p * (pattern | 1) >> 2) % 4 < pattern % 4 + 1u)
                map512_set(&map, (unsigned)(p - first));
            else
                hold(p, 0);
        }
    }
    free_mask(first, &map);
}

/* ---- retiring ---- */

static void retire(pfn_t pfn)
{
    const struct zone *z = zone_of(pfn);
    u8 f = frames[pfn];
    unsigned nr_bad = z ? z->nr_bad : 0;
    int want = !(f & F_OURS) ? E_INVAL : f & F_BAD ? E_EXIST : nr_bad == ZONE_BAD_MAX ? E_NOSPC : 0;
    int error = mm_retire(pfn);
    TRACE("  retire 0x%llx: %d\n", (unsigned long long)pfn, error);
    FUZZ_CHECK(error == want, "retire of pfn 0x%llx: %d, not %d", (unsigned long long)pfn, error,
               want);
    if (error == 0) {
        frames[pfn] |= F_BAD;
        nr_retires++;
    }
}

/* The next frame at or after `pfn`, in some range, that a claim or a store holds. */
static pfn_t next_away(pfn_t pfn)
{
    pfn_t found = pfn;
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, true);
    for (unsigned r = 0; r < machine.nr_ranges; r++)
        for (pfn_t p = machine.range[r].start; p < machine.range[r].end && found == pfn; p++)
            if (p > pfn && (frames[p] & F_AWAY))
                found = p;
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, false);
    return found;
}

pfn_t input_pfn(void)
{
    unsigned how = input_byte(), n = input_word();
    const struct mm_range *r = &machine.range[how / 4 % machine.nr_ranges];
    if (how % 8 == 2)
        return next_away(r->start + n % (r->end - r->start));
    if (how % 4 == 0 && nr_held) {
        const struct held *h = &held[n % nr_held];
        return h->pfn + (n >> 4) % (1ULL << h->order);
    }
    if (how % 4 == 1)
        return MAX(r->end, 256ULL) - n % 256;
    return r->start + n % (r->end - r->start);
}

void op_retire(void)
{
    pfn_t pfn = input_pfn();
    be_thread();
    retire(pfn);
}

void op_retire_many(void)
{
    pfn_t pfn = input_pfn();
    be_thread();
    for (unsigned n = input_byte(); n > 0; n--)
        retire(pfn++);
}
