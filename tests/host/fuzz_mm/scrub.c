/*
 * Who scrubs: scrub steps, claims held open, dirt that has aged; and what happens around it: CPUs go
 * to sleep, time passes, policies and strategies change.
 * Next: misuse.c.
 */
#include "ops.h"
#include "mm/bell.h"

/* ---- scrub steps ---- */

void op_scrub(void)
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

/* ---- claims held open ---- */

static bool claim_open[FUZZ_CPUS];

void claims_begin(void)
{
    memset(claim_open, 0, sizeof(claim_open));
}

bool claim_is_open(unsigned cpu)
{
    return claim_open[cpu];
}

/* A claim as a scrub step makes it; it stays open until op_claim_close() or who waits for it. */
void op_claim_open(void)
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

unsigned claim_find(bool (*fits)(const struct zone *z))
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (claim_open[cpu] && (!fits || fits(claim_of_cpu(cpu)->zone)))
            return cpu;
    return NONE_CPU;
}

/* It looks at the gate after each clear. What else it leaves dirty it leaves for a thread. */
void close_of_cpu(unsigned cpu, unsigned clears)
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

void op_claim_close(void)
{
    unsigned clears = input_word() % 520, cpu = claim_find(NULL);
    if (cpu != NONE_CPU)
        close_of_cpu(cpu, clears);
}

/* ---- dirt that has aged ---- */

void op_aged(void)
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

void op_flush(void)
{
    struct mm_cpu_info i;
    mm_stores_flush();
    mm_cpu_info(cpu_id(), &i);
    FUZZ_CHECK(i.stored_clean + i.stored_dirty == 0, "after a flush");
}

/* As the idle loop goes to sleep: protocol, "The idle loop". */
void op_sleep(void)
{
    be_idle();
    mm_stores_flush();
    set_state(CPU_ASLEEP);
    if (mm_scrub_may())
        set_state(CPU_AWAKE);
}

/* Every CPU that has time scrubs what it may and goes to sleep: from now on bells must ring. */
void op_rest(void)
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

void op_clock(void)
{
    unsigned b = input_byte();
    port_set_clock(time_ns() + ((u64)(1 + (b & 15)) << (b >> 4) * 2 << 10));
}

void op_policy(void)
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

void op_strategy(void)
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

void op_enable(void)
{
    bool on = input_byte() & 3;
    mm_scrub_enable(on);
    FUZZ_CHECK(mm_scrub_enabled() == on, "scrubbing");
    if (!on)
        FUZZ_CHECK(!mm_scrub_may() && mm_scrub_may_at() == 0, "scrubbing is off");
}

void op_resched(void)
{
    unsigned b = input_byte();
    unsigned cpu = b % nr_cpus;
    if (depth > 1 && (b & 64)) /* the one in whose midst we are */
        cpu = open_call[depth - 2].cpu;
    port_set_resched(cpu, b & 128);
}

void op_audit(void)
{
    bool contents = input_byte() & 1;
    if (depth == 1)
        oracle_audit(contents);
    else
        oracle_walk(contents);
}
