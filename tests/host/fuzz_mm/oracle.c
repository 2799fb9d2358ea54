/*
 * The oracle: one byte a frame, and every promise checked against it in the most naive way.
 * It learns what was given and given back from ops.c, and each clear from the clear itself: so it
 * knows which free frames must count as clean, and that no clean one is ever cleared (P6).
 * Next: calls.c.
 */
#include "fuzz_mm.h"

u8 *frames;
u32 *freed_ms;
unsigned oracle_clears;
u64 oracle_held;

static u64 all_frames;
static bool real; /* the frames themselves are written and read, too */
static struct mm_cpu_info cpu_before;
static u64 clears_before; /* of mm/, all kinds, when the input began */

static u32 clock_ms(void)
{
    return (u32)(time_ns() / 1000000);
}

/* ---- the machine as it was given, and what mm/ says about it ---- */

static u64 info_clears(const struct mm_zone_info *i)
{
    return i->scrubbed_idle_local + i->scrubbed_idle_remote + i->scrubbed_takers_local +
           i->scrubbed_takers_remote + i->scrubbed_aged + i->scrubbed_at_map;
}

static void cpu_sums(struct mm_cpu_info *sum)
{
    *sum = (struct mm_cpu_info){.stored_clean = 0};
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct mm_cpu_info i;
        mm_cpu_info(cpu, &i);
        sum->scrubbed_idle_local += i.scrubbed_idle_local;
        sum->scrubbed_idle_remote += i.scrubbed_idle_remote;
        sum->scrubbed_aged += i.scrubbed_aged;
        sum->scrubbed_takers_local += i.scrubbed_takers_local;
        sum->scrubbed_takers_remote += i.scrubbed_takers_remote;
        sum->stored_clean += i.stored_clean;
        sum->stored_dirty += i.stored_dirty;
    }
}

static void check_nodes(void)
{
    for (unsigned node = 0; node < nr_nodes; node++) {
        for (unsigned i = 0; i + 1 < nr_nodes; i++) {
            unsigned a = mm_node_near(node, i), b = mm_node_near(node, i + 1);
            const u8 *d = machine.distance ? machine.distance + node * nr_nodes : NULL;
            unsigned da = a == node ? 0 : d ? d[a] : 20, db = d ? d[b] : 20;
            FUZZ_CHECK(a != b && b != node && (da < db || (da == db && a < b)),
                       "node %u: %u is as near as %u", node, a, b);
        }
        FUZZ_CHECK(mm_node_near(node, 0) == node, "node %u is not next to itself", node);
    }
}

static void check_names(void)
{
    bool named = false;
    FUZZ_CHECK(mm_backend_set("none") == E_NOENT && mm_backend_set("limpid") == 0, "a backend");
    for (unsigned i = 0; mm_backend_nth(i); i++)
        named = named || strcmp(mm_backend_nth(i), mm_backend_name()) == 0;
    FUZZ_CHECK(named && strcmp(mm_backend_name(), "limpid") == 0, "%s", mm_backend_name());
}

/* Marks what the zone manages of one range, all but the metadata at an end; how many frames. */
static u64 note_piece(const struct mm_zone_info *z, pfn_t start, pfn_t end)
{
    while (end > start && !mm_owns(end - 1))
        end--;
    for (pfn_t p = start; p < end; p++) {
        if ((p - start) % 61 == 0)
            FUZZ_CHECK(mm_owns(p) && zone_of(p) && zone_of(p)->start == z->start, "pfn 0x%llx",
                       (unsigned long long)p);
        frames[p] = F_OURS | F_DIRTY | F_SOILED;
        freed_ms[p] = 0;
        if (real)
            port_soil(p);
    }
    return end - start;
}

void oracle_begin(void)
{
    struct mm_zone_info sum;
    all_frames = oracle_held = oracle_clears = 0;
    u64 in_ranges = 0;
    for (unsigned n = 0; n < machine.nr_ranges; n++)
        in_ranges += machine.range[n].end - machine.range[n].start;
    real = in_ranges <= 2048;
    check_nodes();
    check_names();
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        struct mm_zone_info z;
        u64 given = 0, managed = 0, gibs;
        mm_zone_info(n, &z);
        for (unsigned r = 0; r < machine.nr_ranges; r++) {
            pfn_t start = MAX(machine.range[r].start, z.start);
            pfn_t end = MIN(machine.range[r].end, z.end);
            if (start >= end || machine.range[r].node != z.node)
                continue;
            given += end - start;
            managed += note_piece(&z, start, end);
        }
        gibs = ((z.end - 1) >> ORDER_GIGABLOCK) - (z.start >> ORDER_GIGABLOCK) + 1;
        FUZZ_CHECK(gibs <= (machine.zone_gib ? machine.zone_gib : MM_ZONE_GIB_MAX), "zone %u", n);
        FUZZ_CHECK(managed == z.frames && z.dirty == z.frames, "zone %u", n);
        FUZZ_CHECK(given == z.frames + z.metadata_bytes / FRAME_SIZE, "zone %u", n);
        all_frames += managed;
    }
    mm_node_info(MM_ALL_NODES, &sum);
    clears_before = info_clears(&sum);
    cpu_sums(&cpu_before);
    oracle_walk(false);
}

/* The records of this machine are forgotten. */
void oracle_end(void)
{
    for (unsigned r = 0; r < machine.nr_ranges; r++)
        memset(frames + machine.range[r].start, 0, machine.range[r].end - machine.range[r].start);
}

bool oracle_node_has_memory(unsigned node)
{
    bool has = false;
    for (unsigned n = 0; n < mm_nr_zones(); n++)
        has |= mm_zones[n].node == node;
    return has;
}

/* ---- contents ---- */

static pfn_t frame_at(const void *p)
{
    return (pfn_t)((const char *)p - port_memory) >> FRAME_SHIFT;
}

static void soil(pfn_t pfn)
{
    frames[pfn] |= F_SOILED;
    if (real) {
        u64 *w = frame_va(pfn);
        w[0] = w[pfn % 512] = w[511] = pfn | 1;
    }
}

bool oracle_clear(void *p, size_t bytes)
{
    pfn_t pfn = frame_at(p);
    u8 *f = &frames[pfn];
    FUZZ_CHECK(bytes == FRAME_SIZE && (*f & F_OURS), "pfn 0x%llx", (unsigned long long)pfn);
    if (*f & F_HELD)
        FUZZ_CHECK(*f & F_FREEING, "P2: pfn 0x%llx has an owner and is cleared",
                   (unsigned long long)pfn);
    else
        FUZZ_CHECK(*f & F_DIRTY, "P6: pfn 0x%llx is clean and is cleared", (unsigned long long)pfn);
    if (!(*f & F_HELD))
        oracle_clears++;
    *f &= (u8) ~(F_DIRTY | F_SOILED);
    return !real;
}

bool oracle_is_zero(const void *frame)
{
    const u64 *w = frame;
    bool zero = true;
    if (!real)
        return !(frames[frame_at(frame)] & F_SOILED);
    for (unsigned i = 0; i < FRAME_SIZE / 8; i++)
        zero = zero && w[i] == 0;
    return zero;
}

/* ---- who has what ---- */

void oracle_hold(pfn_t pfn, u64 count, bool freeing)
{
    for (pfn_t p = pfn; p < pfn + count; p++)
        frames[p] = (u8)(freeing ? frames[p] | F_FREEING : frames[p] & ~F_FREEING);
}

void oracle_taken(pfn_t pfn, unsigned order, bool clean, bool may_be_bad)
{
    u8 mask = F_OURS | F_HELD | (may_be_bad ? 0 : F_BAD);
    FUZZ_CHECK(IS_ALIGNED(pfn, 1ULL << order), "pfn 0x%llx, order %u", (unsigned long long)pfn,
               order);
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        u8 *f = &frames[p];
        FUZZ_CHECK((*f & mask) == F_OURS, "P2: pfn 0x%llx was given and is 0x%x",
                   (unsigned long long)p, *f);
        if (clean) {
            FUZZ_CHECK(!(*f & F_DIRTY), "P1: pfn 0x%llx is dirty", (unsigned long long)p);
            FUZZ_CHECK(oracle_is_zero(frame_va(p)), "P1: pfn 0x%llx", (unsigned long long)p);
        }
        *f = (u8)((*f & ~F_DIRTY) | F_HELD);
        soil(p);
    }
    oracle_held += 1ULL << order;
}

void oracle_freed(pfn_t pfn, u64 count, bool dirty)
{
    for (pfn_t p = pfn; p < pfn + count; p++) {
        FUZZ_CHECK(frames[p] & F_HELD, "pfn 0x%llx", (unsigned long long)p);
        FUZZ_CHECK(dirty || !(frames[p] & F_SOILED), "pfn 0x%llx is freed clean and is not",
                   (unsigned long long)p);
        frames[p] &= (u8) ~(F_HELD | F_FREEING);
        if (dirty)
            frames[p] |= F_DIRTY;
        freed_ms[p] = clock_ms();
    }
    oracle_held -= count;
}

/* ---- what could be served ---- */

static bool block_serves(pfn_t base, u64 count, bool clean)
{
    u8 mask = F_OURS | F_HELD | F_BAD | F_AWAY;
    if (clean)
        mask |= F_DIRTY;
    for (pfn_t p = base; p < base + count; p++)
        if ((frames[p] & mask) != F_OURS)
            return false;
    return true;
}

bool oracle_would_serve(unsigned order, unsigned node, bool clean)
{
    u64 count = 1ULL << order;
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        const struct zone *z = &mm_zones[n];
        if (node != NODE_ANY && z->node != node)
            continue;
        for (pfn_t p = ALIGN_UP(z->start, count); p + count <= z->end; p += count)
            if (block_serves(p, count, clean))
                return true;
    }
    return false;
}

static void mark(const struct zone *z, u32 i, const struct map512 *map, bool on)
{
    map512_for_each(bit, map)
    {
        u8 *f = &frames[zone_pb_pfn(z, i) + bit];
        *f = (u8)(on ? *f | F_AWAY : *f & ~F_AWAY);
    }
}

static void mark_store(const struct zone *z, u32 i, const struct map512 *map, bool clean, void *on)
{
    (void)clean;
    mark(z, i, map, *(bool *)on);
}

void oracle_mark_away(unsigned which, bool on)
{
    for (unsigned cpu = 0; cpu < nr_cpus && (which & AWAY_CLAIMS); cpu++) {
        const struct claim *c = claim_of_cpu(cpu);
        if (c->zone)
            mark(c->zone, c->pb, &c->mask, on);
    }
    for (unsigned n = 0; n < mm_nr_zones() && (which & AWAY_STORES); n++) {
        spin_lock(&mm_zones[n].lock);
        store_for_each_locked(&mm_zones[n], mark_store, &on);
        spin_unlock(&mm_zones[n].lock);
    }
}

/* ---- everything adds up ---- */

static void say(const char *line)
{
    fprintf(stderr, "%s\n", line);
}

void oracle_walk(bool contents)
{
    FUZZ_CHECK(mm_check(contents, say) == 0, "the walker");
}

/* Only a free stamps dirt with an age, and the stamp of a pageblock is its oldest dirt's. */
static void check_ages(void)
{
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, true);
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        struct mm_zone_info z;
        u32 oldest = 0;
        mm_zone_info(n, &z);
        for (pfn_t p = z.start; p < z.end; p++)
            if ((frames[p] & (F_OURS | F_HELD | F_BAD | F_AWAY | F_DIRTY)) == (F_OURS | F_DIRTY))
                oldest = MAX(oldest, clock_ms() - freed_ms[p]);
        FUZZ_CHECK(z.oldest_dirt_ms >= oldest, "rule 17: zone %u: %llu ms, but %u", n,
                   (unsigned long long)z.oldest_dirt_ms, oldest);
        FUZZ_CHECK(z.max_clears_waited <= 1, "P4: %llu", (unsigned long long)z.max_clears_waited);
        FUZZ_CHECK(mm_zones[n].waiters == 0, "zone %u: a gate is shut", n);
    }
    oracle_mark_away(AWAY_CLAIMS | AWAY_STORES, false);
}

static void check_costs(const struct mm_zone_info *all)
{
    struct mm_costs c;
    mm_costs_get(&c);
    FUZZ_CHECK(c.cleared == info_clears(all) + all->scrubbed_at_free, "%llu cleared, not %llu",
               (unsigned long long)c.cleared, (unsigned long long)info_clears(all));
    FUZZ_CHECK(c.max_clears_waited <= 1 && c.cleared_twice == 0, "P4, P6: %llu, %llu",
               (unsigned long long)c.max_clears_waited, (unsigned long long)c.cleared_twice);
    FUZZ_CHECK(c.detained == all->in_flight && c.waits == all->waits, "%llu detained, %llu waits",
               (unsigned long long)c.detained, (unsigned long long)c.waits);
    mm_costs_reset();
    mm_costs_get(&c);
    FUZZ_CHECK(c.max_clears_waited == 0, "reset");
    FUZZ_CHECK(mm_has_age_bound() && !mm_scrub_at_work(), "this is limpid");
}

void oracle_audit(bool contents)
{
    struct mm_zone_info i;
    struct mm_cpu_info cpus;
    u64 clean = 0, dirty = 0, bad = 0, held = 0;
    for (unsigned r = 0; r < machine.nr_ranges; r++) {
        for (pfn_t p = machine.range[r].start; p < machine.range[r].end; p++) {
            u8 f = frames[p];
            held += (f & F_HELD) != 0;
            bad += (f & (F_HELD | F_BAD)) == F_BAD;
            dirty += (f & (F_HELD | F_BAD | F_DIRTY)) == F_DIRTY;
            clean += (f & (F_OURS | F_HELD | F_BAD | F_DIRTY)) == F_OURS;
        }
    }
    mm_node_info(MM_ALL_NODES, &i);
    FUZZ_CHECK(held == oracle_held && i.allocated == held, "%llu allocated, not %llu",
               (unsigned long long)i.allocated, (unsigned long long)held);
    FUZZ_CHECK(i.clean + i.stored_clean == clean, "P6: %llu + %llu clean, not %llu",
               (unsigned long long)i.clean, (unsigned long long)i.stored_clean,
               (unsigned long long)clean);
    /* A bad frame counts as dirty while it is in a store or a claim. */
    FUZZ_CHECK(i.dirty + i.stored_dirty + i.in_flight + i.retired == dirty + bad,
               "%llu dirty, %llu stored, %llu in flight, %llu retired, not %llu and %llu",
               (unsigned long long)i.dirty, (unsigned long long)i.stored_dirty,
               (unsigned long long)i.in_flight, (unsigned long long)i.retired,
               (unsigned long long)dirty, (unsigned long long)bad);
    FUZZ_CHECK(i.retired <= bad, "%llu retired", (unsigned long long)i.retired);
    if (i.stored_dirty + i.in_flight == 0)
        FUZZ_CHECK(i.retired == bad, "%llu retired", (unsigned long long)i.retired);
    FUZZ_CHECK(i.frames == all_frames, "%llu frames", (unsigned long long)i.frames);

    FUZZ_CHECK(info_clears(&i) - clears_before == oracle_clears, "%llu clears, not %u",
               (unsigned long long)(info_clears(&i) - clears_before), oracle_clears);
    check_costs(&i);
    cpu_sums(&cpus);
    FUZZ_CHECK(cpus.stored_clean == i.stored_clean && cpus.stored_dirty == i.stored_dirty,
               "stores of CPUs and of zones");
    FUZZ_CHECK(cpus.scrubbed_idle_local - cpu_before.scrubbed_idle_local == i.scrubbed_idle_local &&
                   cpus.scrubbed_idle_remote - cpu_before.scrubbed_idle_remote ==
                       i.scrubbed_idle_remote &&
                   cpus.scrubbed_aged - cpu_before.scrubbed_aged == i.scrubbed_aged &&
                   cpus.scrubbed_takers_local - cpu_before.scrubbed_takers_local ==
                       i.scrubbed_takers_local &&
                   cpus.scrubbed_takers_remote - cpu_before.scrubbed_takers_remote ==
                       i.scrubbed_takers_remote,
               "clears of CPUs and of zones");
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        FUZZ_CHECK(mm_cpu_state(cpu) == cpu_states[cpu], "the state of CPU %u", cpu);
    check_ages();
    oracle_walk(contents);
}

/* ---- bells ---- */

void oracle_check_bells(void)
{
    struct mm_policy p;
    mm_policy_get(&p);
    if (!mm_scrub_enabled() || !mm_strategy_scrubs_free() || p.rate_mib || p.scrubbers)
        return;
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        const struct zone *z = &mm_zones[n];
        bool home_awake = false, home_asleep = false, awake = false, asleep = false;
        if (z->nr_dirty == 0)
            continue;
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
            bool home = cpu_node(cpu) == z->node;
            awake |= cpu_states[cpu] == CPU_AWAKE;
            asleep |= cpu_states[cpu] == CPU_ASLEEP;
            home_awake |= home && cpu_states[cpu] == CPU_AWAKE;
            home_asleep |= home && cpu_states[cpu] == CPU_ASLEEP;
        }
        FUZZ_CHECK(home_awake || !home_asleep, "P9: zone %u is dirty and its CPUs sleep", n);
        FUZZ_CHECK(home_asleep || awake || !asleep, "P9: zone %u is dirty, helpers sleep", n);
    }
}
