/*
 * Operations: each reads what it needs from the input, calls mm/ and tells the oracle.
 *
 * One thread plays all CPUs. A call of mm/ is open while it clears frames, or spins at a gate;
 * the operation that follows in the input may then run in the midst of it, on another CPU. A CPU
 * whose call is open, or whose claim is held, does nothing else: preemption is off there. Who
 * would wait for a claim whose call is open below it on this one stack is not begun.
 * Next: fuzz_mm.c.
 */
#include "fuzz_mm.h"
#include "mm/bell.h"

#include <setjmp.h>

enum { DEPTH_MAX = 4, HELD_MAX = 6000, OPS_MAX = 400 };

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

/* ---- CPUs, and calls that are open ---- */

enum cpu_state cpu_states[FUZZ_CPUS];
static unsigned kicks_seen[FUZZ_CPUS];
static bool claim_open[FUZZ_CPUS]; /* held by hand: see op_claim_open() */

enum call { CALL_OTHER, CALL_TAKE, CALL_CLEARING_TAKE, CALL_SCRUB };
static struct open_call {
    enum call call;
    unsigned cpu;
    unsigned nest_after; /* at this event from now another CPU goes on; 0: at none */
    unsigned clears;
    /* CALL_TAKE: */
    unsigned order, node, asked;
    bool spun;
} open_call[DEPTH_MAX + 1];
static unsigned depth; /* calls open; the running one is open_call[depth - 1] */

static bool cpu_is_free(unsigned cpu)
{
    bool busy = claim_open[cpu];
    for (unsigned d = 0; d < depth; d++)
        busy = busy || open_call[d].cpu == cpu;
    return !busy;
}

static unsigned calls_open(enum call call)
{
    unsigned n = 0;
    for (unsigned d = 0; d < depth; d++)
        n += open_call[d].call == call;
    return n;
}

/* Sleepers that were kicked meanwhile are awake. */
static void see_kicks(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (port_kicks(cpu) == kicks_seen[cpu])
            continue;
        FUZZ_CHECK(port_kicks(cpu) == kicks_seen[cpu] + 1 && cpu_states[cpu] == CPU_ASLEEP,
                   "CPU %u is kicked and does not sleep", cpu);
        kicks_seen[cpu]++;
        cpu_states[cpu] = CPU_AWAKE;
    }
}

static void set_state(enum cpu_state state)
{
    see_kicks();
    cpu_states[cpu_id()] = state;
    mm_cpu_state_set(state);
}

/* What the idle loop does when a thread takes over, and the other way round. */
static void be_thread(void)
{
    if (cpu_states[cpu_id()] == CPU_BUSY)
        return;
    set_state(CPU_BUSY);
    mm_bell_pass_on();
}

static void be_idle(void)
{
    if (cpu_states[cpu_id()] != CPU_AWAKE)
        set_state(CPU_AWAKE);
}

static bool eager(void)
{
    return strcmp(mm_strategy_name(), "eager") == 0;
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

static bool take(unsigned order, unsigned flags, unsigned node)
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

static void op_take(void)
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
static void op_take_many(void)
{
    unsigned b = input_byte(), node = input_below(nr_nodes), n = 1 + input_word() % 600;
    be_thread();
    while (n-- && take(b >> 2 & 7, b & 3, node))
        ;
}

/* ---- giving back ---- */

static void free_block(pfn_t pfn, unsigned order)
{
    bool dirty = !eager();
    oracle_hold(pfn, 1ULL << order, true);
    TRACE("  free 0x%llx order %u\n", (unsigned long long)pfn, order);
    mm_free(pfn, order);
    oracle_freed(pfn, 1ULL << order, dirty);
}

static void op_free(void)
{
    unsigned n = input_word();
    if (nr_held == 0)
        return;
    struct held h = let_go(n % nr_held);
    be_thread();
    free_block(h.pfn, h.order);
}

static void op_free_many(void)
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
static void op_free_part(void)
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
static void op_free_mask(void)
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

/* Any pfn: of a range, held, claimed or stored, or of nobody. */
static pfn_t input_pfn(void)
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

static void op_retire(void)
{
    pfn_t pfn = input_pfn();
    be_thread();
    retire(pfn);
}

static void op_retire_many(void)
{
    pfn_t pfn = input_pfn();
    be_thread();
    for (unsigned n = input_byte(); n > 0; n--)
        retire(pfn++);
}

/* ---- scrubbing ---- */

static void op_scrub(void)
{
    struct open_call *me = &open_call[depth - 1];
    unsigned n = 1 + input_below(8);
    be_idle();
    while (n-- > 0) {
        bool alone = me->nest_after == 0, may = mm_scrub_may(), hurry = need_resched();
        me->call = CALL_SCRUB;
        me->clears = 0;
        u64 before = mm_cpu_scrubbed(cpu_id());
        bool did = mm_scrub_step();
        me->call = CALL_OTHER;
        FUZZ_CHECK(mm_cpu_scrubbed(cpu_id()) - before == me->clears, "%u clears", me->clears);
        TRACE("  scrub: %d, %u clears\n", did, me->clears);
        FUZZ_CHECK(did == (me->clears > 0), "%u clears", me->clears);
        if (!alone)
            return;
        FUZZ_CHECK(did == may, "may %d, did %d: idle would spin, or forget dirt", may, did);
        FUZZ_CHECK(!hurry || me->clears <= 1, "P8: %u clears", me->clears);
        u64 at = mm_scrub_may_at();
        FUZZ_CHECK(at == 0 || at > time_ns(), "%llu", (unsigned long long)at);
        FUZZ_CHECK(mm_clear_ns() < 1ULL << 50, "a frame takes days");
    }
}

/* A claim as a scrub step makes it; it stays open until op_claim_close() or who waits for it. */
static void op_claim_open(void)
{
    struct zone *z = &mm_zones[input_below(mm_nr_zones())];
    unsigned cpu = cpu_id();
    be_idle();
    spin_lock(&z->lock);
    claim_open[cpu] = mm_scrub_enabled() && claim_take_locked(z);
    FUZZ_CHECK(!claim_open[cpu] || z->waiters == 0, "rule 6: a claim behind a shut gate");
    spin_unlock(&z->lock);
    TRACE("  claim in zone %u: %d\n", z->index, claim_open[cpu]);
    if (!claim_open[cpu])
        return;
    const struct claim *c = claim_of_cpu(cpu);
    map512_for_each(bit, &c->mask)
    {
        u8 f = frames[zone_pb_pfn(z, c->pb) + bit];
        FUZZ_CHECK((f & (F_OURS | F_HELD | F_DIRTY | F_BAD)) == (F_OURS | F_DIRTY),
                   "a claim on a frame that is 0x%x", f);
    }
}

/* This CPU clears so many frames of its claim and gives it back. */
static void claim_close(unsigned clears)
{
    struct claim *c = claim_own();
    struct zone *z = c->zone;
    struct map512 cleared = {{0}};
    u32 n = 0;
    claim_open[cpu_id()] = false;
    map512_for_each(bit, &c->mask)
    {
        if (n == clears)
            break;
        store_relaxed(&c->begun, ++n);
        clear_frame_stream(frame_va(zone_pb_pfn(z, c->pb) + bit));
        map512_set(&cleared, bit);
    }
    spin_lock(&z->lock);
    bool handed = claim_return_locked(z, &cleared);
    spin_unlock_keep_preempt_off(&z->lock);
    if (handed)
        bell_ring(z);
    preempt_enable();
    TRACE("  claim of CPU %u is back, %u clears\n", cpu_id(), n);
}

static unsigned claim_find(bool (*fits)(const struct zone *z))
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (claim_open[cpu] && (!fits || fits(claim_of_cpu(cpu)->zone)))
            return cpu;
    return NONE_CPU;
}

/* It looks at the gate after each clear. What else it leaves dirty it leaves for a thread. */
static void close_of_cpu(unsigned cpu, unsigned clears)
{
    bool shut = claim_of_cpu(cpu)->zone->waiters != 0;
    if (shut)
        clears = MIN(clears, 1u);
    struct port_cpu mine = port_self;
    memset(&port_self, 0, sizeof(port_self));
    port_be_cpu(cpu);
    struct open_call *me = &open_call[depth++];
    *me = (struct open_call){.cpu = cpu};
    claim_close(clears);
    if (!shut)
        be_thread();
    depth--;
    port_self = mine;
}

static void op_claim_close(void)
{
    unsigned clears = input_word() % 520, cpu = claim_find(NULL);
    if (cpu != NONE_CPU)
        close_of_cpu(cpu, clears);
}

static void op_aged(void)
{
    struct open_call *me = &open_call[depth - 1];
    unsigned node = input_below(nr_nodes), n = 1 + input_below(16);
    struct mm_policy p;
    mm_policy_get(&p);
    be_thread();
    while (n-- > 0) {
        bool alone = me->nest_after == 0;
        me->call = CALL_SCRUB;
        me->clears = 0;
        u64 ns = mm_aged_step(node);
        me->call = CALL_OTHER;
        TRACE("  aged step: %llu ns, %u clears\n", (unsigned long long)ns, me->clears);
        if (!alone)
            return;
        FUZZ_CHECK((ns == 0) == (me->clears > 0), "%llu ns, %u clears", (unsigned long long)ns,
                   me->clears);
        FUZZ_CHECK(p.age_ms ? ns <= mm_aged_sleep_ms(p.age_ms) * 1000000ULL : ns == ~0ULL, "%llu",
                   (unsigned long long)ns);
        if (ns == 0 || !mm_scrub_enabled() || !mm_strategy_scrubs_free() || p.age_ms == 0 ||
            depth > 1)
            continue;
        struct mm_zone_info i;
        mm_node_info(node, &i);
        FUZZ_CHECK(i.oldest_dirt_ms < p.age_ms || i.dirty == 0, "P9: %llu ms old dirt is left",
                   (unsigned long long)i.oldest_dirt_ms);
        return;
    }
}

/* ---- what happens around it ---- */

static void op_flush(void)
{
    struct mm_cpu_info i;
    mm_stores_flush();
    mm_cpu_info(cpu_id(), &i);
    FUZZ_CHECK(i.stored_clean + i.stored_dirty == 0, "after a flush");
}

/* As the idle loop goes to sleep: protocol, "The idle loop". */
static void op_sleep(void)
{
    be_idle();
    mm_stores_flush();
    set_state(CPU_ASLEEP);
    if (mm_scrub_may())
        set_state(CPU_AWAKE);
}

/* Every CPU that has time scrubs what it may and goes to sleep: from now on bells must ring. */
static void op_rest(void)
{
    unsigned self = cpu_id();
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
            if (cpu != self && !cpu_is_free(cpu))
                continue;
            open_call[depth - 1].cpu = cpu;
            port_be_cpu(cpu);
            be_idle();
            open_call[depth - 1].call = CALL_SCRUB;
            do {
                open_call[depth - 1].clears = 0;
                port_set_resched(cpu, false);
            } while (mm_scrub_step());
            open_call[depth - 1].call = CALL_OTHER;
            if (round == 1)
                op_sleep();
        }
    }
}

static void op_clock(void)
{
    unsigned b = input_byte();
    port_set_clock(time_ns() + ((u64)(1 + (b & 15)) << (b >> 4) * 2 << 10));
}

static void op_policy(void)
{
    unsigned b = input_byte(), c = input_byte();
    static const u32 ages[] = {0, 1, 10, 1000, MM_AGE_MS, MM_AGE_MS_MAX, MM_AGE_MS_MAX + 1, 2};
    static const u32 rates[] = {0, 0, 0, 1, 16, 1000, MM_RATE_MIB_MAX, MM_RATE_MIB_MAX + 1};
    static const u32 limits[] = {0, 0, 1, 2};
    struct mm_policy p = {.age_ms = ages[b & 7],
                          .rate_mib = rates[b >> 3 & 7],
                          .scrubbers = limits[b >> 6]},
                     was, is;
    if (c == 255)
        p.scrubbers = MAX_CPUS + 1;
    mm_policy_get(&was);
    int error = mm_policy_set(&p);
    bool valid = p.age_ms <= MM_AGE_MS_MAX && p.rate_mib <= MM_RATE_MIB_MAX && c != 255;
    FUZZ_CHECK(error == (valid ? 0 : E_INVAL), "%d", error);
    mm_policy_get(&is);
    FUZZ_CHECK(memcmp(&is, valid ? &p : &was, sizeof(p)) == 0, "the policy");
}

static void op_strategy(void)
{
    static const char *const names[] = {"claim", "eager", "onmap",    "none",
                                        "claim", "eager", "readonly", "batch"};
    unsigned n = input_below(8);
    if (depth > 1) /* a free that is open asks more than once which one is in force */
        return;
    /* One that nobody has, one that the other backend has. */
    int want = n == 3 ? E_NOENT : n == 7 ? E_INVAL : 0;
    FUZZ_CHECK(mm_strategy_set(names[n]) == want, "%s", names[n]);
    FUZZ_CHECK(n % 4 == 3 || strcmp(mm_strategy_name(), names[n]) == 0, "%s", names[n]);
    FUZZ_CHECK((mm_strategy_warning() != NULL) == (strcmp(mm_strategy_name(), "readonly") == 0),
               "%s warns", mm_strategy_name());
    bool named = false;
    for (unsigned i = 0; mm_strategy_nth(i); i++)
        named = named || strcmp(mm_strategy_nth(i), mm_strategy_name()) == 0;
    FUZZ_CHECK(named, "%s is not in the list", mm_strategy_name());
}

static void op_enable(void)
{
    bool on = input_byte() & 3;
    mm_scrub_enable(on);
    FUZZ_CHECK(mm_scrub_enabled() == on, "scrubbing");
    if (!on)
        FUZZ_CHECK(!mm_scrub_may() && mm_scrub_may_at() == 0, "scrubbing is off");
}

static void op_resched(void)
{
    unsigned b = input_byte();
    unsigned cpu = b % nr_cpus;
    if (depth > 1 && (b & 64)) /* the one in whose midst we are */
        cpu = open_call[depth - 2].cpu;
    port_set_resched(cpu, b & 128);
}

static void op_audit(void)
{
    bool contents = input_byte() & 1;
    if (depth == 1)
        oracle_audit(contents);
    else
        oracle_walk(contents);
}

/* ---- misuse: must panic, and ends the input ---- */

static bool misusing;
static jmp_buf after_panic;

static void on_panic(const char *line)
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

/* True if it was one. */
static bool op_misuse(void)
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

/* ---- the order of things ---- */

static const struct {
    const char *name;
    void (*run)(void);
    unsigned weight;
} ops[] = {
    {"take", op_take, 24},          {"take many", op_take_many, 4},
    {"free", op_free, 16},          {"free many", op_free_many, 5},
    {"free part", op_free_part, 8}, {"free mask", op_free_mask, 8},
    {"retire", op_retire, 4},       {"retire many", op_retire_many, 2},
    {"scrub", op_scrub, 12},        {"claim", op_claim_open, 8},
    {"return", op_claim_close, 4},  {"aged step", op_aged, 4},
    {"flush", op_flush, 3},         {"sleep", op_sleep, 3},
    {"rest", op_rest, 3},           {"thread", be_thread, 2},
    {"clock", op_clock, 4},         {"policy", op_policy, 3},
    {"strategy", op_strategy, 2},   {"enable", op_enable, 2},
    {"resched", op_resched, 3},     {"audit", op_audit, 3},
};
enum { MISUSE = 127 };

/* One operation on a CPU that has time. False: the input is at its end. */
static bool run_op(void)
{
    unsigned b = input_byte(), c = input_byte(), cpu = c & 7, n = b & 127;
    unsigned tries = 0, op = 0;
    for (cpu %= nr_cpus; !cpu_is_free(cpu); cpu = (cpu + 1) % nr_cpus)
        if (++tries == nr_cpus) {
            op_claim_close(); /* all stand somewhere in mm/ */
            return true;
        }
    memset(&port_self, 0, sizeof(port_self));
    port_be_cpu(cpu);
    if (depth == 0 && n == MISUSE && op_misuse())
        return false;
    while (n >= ops[op].weight) {
        n -= ops[op].weight;
        op = (op + 1) % ARRAY_SIZE(ops);
    }
    TRACE("%*sCPU %u: %s%s\n", (int)depth * 4, "", cpu, ops[op].name, b & 128 ? ", nested" : "");
    struct open_call *me = &open_call[depth++];
    *me = (struct open_call){.cpu = cpu, .nest_after = b & 128 ? 1u + (c >> 3) : 0};
    ops[op].run();
    FUZZ_CHECK(port_self.nr_locks == 0 && port_self.preempt_count == 0,
               "%s left %u locks, preemption off %u times", ops[op].name, port_self.nr_locks,
               port_self.preempt_count);
    depth--;
    see_kicks();
    return true;
}

/* A moment in a call of mm/ at which other CPUs may do anything. */
static void event(void)
{
    struct open_call *me = &open_call[depth - 1];
    if (me->nest_after == 0 || --me->nest_after || depth == DEPTH_MAX || input.left == 0)
        return;
    struct port_cpu mine = port_self;
    run_op();
    port_self = mine;
}

static bool on_clear(void *p, size_t bytes, bool stream)
{
    (void)stream;
    if (misusing)
        return true;
    struct open_call *me = &open_call[depth - 1];
    bool done = oracle_clear(p, bytes);
    FUZZ_CHECK(me->call != CALL_SCRUB || me->clears == 0 || !need_resched(),
               "P8: another clear, and a thread wants to run");
    FUZZ_CHECK(me->call != CALL_SCRUB || port_self.preempt_count > 0,
               "rule 10: preemption is on, and a claim is held");
    me->clears++;
    if (me->call == CALL_TAKE)
        me->call = CALL_CLEARING_TAKE;
    event();
    return done;
}

static bool gate_is_shut(const struct zone *z)
{
    return z->waiters != 0;
}

/* A taker waits at a gate: a claim comes back, as it does within one clear. */
static void on_relax(void)
{
    struct open_call *me = &open_call[depth - 1];
    FUZZ_CHECK(me->call == CALL_TAKE, "who waits here?");
    FUZZ_CHECK(port_self.preempt_count > 0, "rule 11: preemption is on, and the gate is shut");
    if (!me->spun && !calls_open(CALL_CLEARING_TAKE)) {
        FUZZ_CHECK(oracle_would_serve(me->order, me->node, false),
                   "rule 7: claims do not help an order %u", me->order);
        oracle_mark_away(AWAY_CLAIMS, true);
        FUZZ_CHECK(!oracle_would_serve(me->order, me->node, false),
                   "an order %u is free and its taker waits", me->order);
        oracle_mark_away(AWAY_CLAIMS, false);
    }
    me->spun = true;
    FUZZ_CHECK(claim_find(gate_is_shut) != NONE_CPU, "a taker waits, and nobody has a claim");
    event();
    unsigned cpu = claim_find(gate_is_shut); /* the last one may have come back just now */
    if (cpu != NONE_CPU)
        close_of_cpu(cpu, input_byte() & 1);
}

/* All goes home: what was given back must be there, clean, and in one piece. */
static void wind_up(void)
{
    static const struct mm_policy none = {.age_ms = MM_AGE_MS};
    struct mm_zone_info i;
    unsigned cpu;
    u64 all = 0;
    while ((cpu = claim_find(NULL)) != NONE_CPU)
        close_of_cpu(cpu, 1);
    memset(&port_self, 0, sizeof(port_self));
    struct open_call *me = &open_call[depth++];
    *me = (struct open_call){.cpu = 0};
    mm_policy_set(&none);
    mm_strategy_set("claim");
    mm_scrub_enable(true);
    for (cpu = 0; cpu < nr_cpus; cpu++) {
        port_be_cpu(cpu);
        port_set_resched(cpu, false);
        set_state(CPU_BUSY);
        mm_stores_flush();
    }
    while (nr_held) {
        struct held h = let_go(nr_held - 1);
        free_block(h.pfn, h.order);
    }
    mm_stores_flush();
    mm_node_info(MM_ALL_NODES, &i);
    all = i.frames;
    FUZZ_CHECK(i.dirty + i.clean + i.retired == all, "something is missing");
    if (i.dirty > 100000)
        return;
    while (mm_scrub_step()) /* all are busy: it helps everywhere */
        ;
    mm_node_info(MM_ALL_NODES, &i);
    FUZZ_CHECK(i.dirty == 0 && i.clean + i.retired == all, "%llu dirty",
               (unsigned long long)i.dirty);
    for (unsigned order = 0; order <= ORDER_MAX; order += 3)
        take(order, TAKE_CLEAN, 0);
    oracle_audit(true);
}

void ops_run(void)
{
    static const struct port_hooks hooks = {.log = fuzz_log,
                                            .clear = on_clear,
                                            .is_zero = oracle_is_zero,
                                            .relax = on_relax,
                                            .panic = on_panic};
    depth = nr_held = 0;
    memset(claim_open, 0, sizeof(claim_open));
    memset(kicks_seen, 0, sizeof(kicks_seen));
    for (unsigned cpu = 0; cpu < FUZZ_CPUS; cpu++)
        cpu_states[cpu] = CPU_BUSY;
    port_set_hooks(&hooks);
    oracle_begin();
    for (unsigned n = 0; n < OPS_MAX && input.left; n++) {
        if (!run_op())
            return;
        oracle_check_bells();
    }
    wind_up();
}
