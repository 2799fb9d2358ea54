/*
 * The tables of the story and of the prompt. Owns nothing: each asks the layer that knows, and a
 * sum is the sum of the lines above it. What has to add up is in KiB, which is exact.
 *
 * Next: commands.c and story.c, which print them.
 */
#include "kernel/tables.h"
#include "kernel/accounting.h"
#include "guest/guest.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "mm/mm.h"
#include "sched/sched.h"

/* The CPUs of a node as ranges: "0-3,8". "none" for memory without CPUs. */
static void node_cpus(unsigned node, char *buf, size_t size)
{
    size_t n = 0;
    buf[0] = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (cpu_node(cpu) != node)
            continue;
        unsigned last = cpu;
        while (last + 1 < nr_cpus && cpu_node(last + 1) == node)
            last++;
        int len =
            snprintf(buf + n, size - n, last > cpu ? "%s%u-%u" : "%s%u", n ? "," : "", cpu, last);
        if (len < 0 || (size_t)len >= size - n) {
            snprintf(buf + size - 4, 4, "...");
            return;
        }
        n += (size_t)len;
        cpu = last;
    }
    if (n == 0)
        snprintf(buf, size, "none");
}

static const struct topology *topo; /* (c) */

void tables_init(const struct topology *topology)
{
    topo = topology;
}

/* Distances from a node to `n` others, from `first` on. */
static void distances(unsigned from, unsigned first, unsigned n, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (unsigned to = first; to < MIN(first + n, nr_nodes) && at + 5 <= size; to++)
        at += (size_t)snprintf(buf + at, size - at, " %u", topo->distance[from][to]);
}

#define DISTANCES_A_LINE 32u

void table_topology(void)
{
    log_line("topology: %u CPU%s, %u node%s%s", nr_cpus, nr_cpus == 1 ? "" : "s", nr_nodes,
             nr_nodes == 1 ? "" : "s", topo->have_srat ? "" : " (no SRAT)");
    for (unsigned node = 0; node < nr_nodes; node++) {
        struct mm_zone_info info;
        char cpus[80], dist[DISTANCES_A_LINE * 4 + 1];

        mm_node_info(node, &info);
        node_cpus(node, cpus, sizeof(cpus));
        distances(node, 0, DISTANCES_A_LINE, dist, sizeof(dist));
        log_line("  node %u: CPUs %s, %lu.%lu MiB, distances%s", node, cpus, MIB_OF(info.frames),
                 TENTH_OF(info.frames), dist);
        for (unsigned to = DISTANCES_A_LINE; to < nr_nodes; to += DISTANCES_A_LINE) {
            distances(node, to, DISTANCES_A_LINE, dist, sizeof(dist));
            log_line("    and from node %u on%s", to, dist);
        }
    }
}

#define KIB_OF(frames) ((u64)(frames)*4)

/* Exact, so that every line adds up: the first number is the sum of the other six. */
static void zone_line(const char *name, const struct mm_zone_info *i)
{
    log_line("%-9s %10lu %10lu %10lu %8lu %9lu %10lu %8lu", name, KIB_OF(i->frames),
             KIB_OF(i->clean), KIB_OF(i->dirty), KIB_OF(i->stored_clean + i->stored_dirty),
             KIB_OF(i->in_flight), KIB_OF(i->allocated), KIB_OF(i->retired));
}

static void zone_add(struct mm_zone_info *sum, const struct mm_zone_info *i)
{
    sum->frames += i->frames;
    sum->clean += i->clean;
    sum->dirty += i->dirty;
    sum->stored_clean += i->stored_clean;
    sum->stored_dirty += i->stored_dirty;
    sum->in_flight += i->in_flight;
    sum->allocated += i->allocated;
    sum->retired += i->retired;
}

void table_zones(void)
{
    struct mm_zone_info info, all = {0};
    char name[24];

    log_line("zone:node %10s %10s %10s %8s %9s %10s %8s", "KiB", "clean", "dirty", "stored",
             "in flight", "allocated", "retired");
    for (unsigned zone = 0; zone < mm_nr_zones(); zone++) {
        mm_zone_info(zone, &info);
        snprintf(name, sizeof(name), "%u:%u", zone, info.node);
        zone_line(name, &info);
        zone_add(&all, &info); /* not asked for once more: the sum of the lines above it */
    }
    zone_line("all", &all);
    log_line("(dirty: free and not yet scrubbed; stored: free, kept at hand by a CPU)");
}

static void guest_line(const char *id, const struct guest_stat *g, const char *end)
{
    log_line("%4s %-12s %-8s %4u %3u %3u %9lu %9lu %9lu %9lu %7lu %9lu %9lu %9lu %9lu %7lu  %s", id,
             g->name, guest_state_name(g->state), g->node, g->cpu, g->threads,
             KIB_OF(g->frames_held), KIB_OF(g->frames_mapped), KIB_OF(g->frames_got),
             KIB_OF(g->frames_back), KIB_OF(g->frames_own), KIB_OF(g->taken_clean),
             KIB_OF(g->taken_cleared), KIB_OF(g->taken_dirty), KIB_OF(g->cleared_at_touch),
             MS_OF(g->cpu_ns), end);
}

void table_guests(void)
{
    struct guest_stat g, all = {0};
    char text[12];
    unsigned nr = 0;

    for (unsigned id = guest_next(0); id; id = guest_next(id)) {
        if (guest_stat_get(id, &g) != 0)
            continue;
        if (nr++ == 0)
            log_line(
                "  id name         state    node cpu thr  held KiB    mapped       got      gave"
                "     own     clean   cleared     dirty  at touch  CPU ms  end");
        snprintf(text, sizeof(text), "%u", id);
        guest_line(text, &g, g.state == GUEST_DEAD ? g.end : "");
        all.threads += g.threads;
        all.frames_held += g.frames_held;
        all.frames_mapped += g.frames_mapped;
        all.frames_got += g.frames_got;
        all.frames_back += g.frames_back;
        all.frames_own += g.frames_own;
        all.taken_clean += g.taken_clean;
        all.taken_cleared += g.taken_cleared;
        all.taken_dirty += g.taken_dirty;
        all.cleared_at_touch += g.cleared_at_touch;
        all.cpu_ns += g.cpu_ns;
    }
    if (nr == 0)
        log_line("no guests");
    else
        log_line("%4s %-30s %3u %9lu %9lu %9lu %9lu %7lu %9lu %9lu %9lu %9lu %7lu", "all", "",
                 all.threads, KIB_OF(all.frames_held), KIB_OF(all.frames_mapped),
                 KIB_OF(all.frames_got), KIB_OF(all.frames_back), KIB_OF(all.frames_own),
                 KIB_OF(all.taken_clean), KIB_OF(all.taken_cleared), KIB_OF(all.taken_dirty),
                 KIB_OF(all.cleared_at_touch), MS_OF(all.cpu_ns));
    if (nr)
        log_line("(taken clean, cleared by the taker, or dirty; at touch: scrubbed when first "
                 "touched)");
}

void table_scrubbed(void)
{
    log_line("scrubbed      idle CPUs (MiB)      takers (MiB)         at free   aged      oldest "
             "dirt (ms)");
    log_line("node          local     remote     local     remote     (MiB)     (MiB)     scrubbed"
             "   now");
    for (unsigned node = 0; node <= nr_nodes; node++) {
        struct mm_zone_info i;
        char name[12];
        bool sum = node == nr_nodes;

        if (sum && nr_nodes == 1)
            return;
        mm_node_info(sum ? MM_ALL_NODES : node, &i);
        snprintf(name, sizeof(name), "%u", node);
        log_line("%-8s %8lu.%lu %8lu.%lu %7lu.%lu %8lu.%lu %7lu.%lu %7lu.%lu %12lu %5lu",
                 sum ? "all" : name, MIB_OF(i.scrubbed_idle_local), TENTH_OF(i.scrubbed_idle_local),
                 MIB_OF(i.scrubbed_idle_remote), TENTH_OF(i.scrubbed_idle_remote),
                 MIB_OF(i.scrubbed_takers_local), TENTH_OF(i.scrubbed_takers_local),
                 MIB_OF(i.scrubbed_takers_remote), TENTH_OF(i.scrubbed_takers_remote),
                 MIB_OF(i.scrubbed_at_free), TENTH_OF(i.scrubbed_at_free), MIB_OF(i.scrubbed_aged),
                 TENTH_OF(i.scrubbed_aged), i.oldest_scrubbed_ms, i.oldest_dirt_ms);
    }
}

/* Who holds what is allocated. The first number is the sum of the others. */
static void table_holders(void)
{
    struct accounting a;

    accounting_take(&a);
    log_line("allocated: %lu frames: guests %lu, their tables %lu, thread stacks %lu, thread "
             "records %lu, refused and kept %lu, nobody's %ld%s",
             a.all.allocated, a.guests, a.guest_own, a.stacks, a.records, a.guests_kept,
             a.unaccounted, a.steady ? "" : " (not of one moment: frames are moving)");
}

void table_stats(void)
{
    struct mm_zone_info i;

    log_line("strategy %s, idle scrubbing %s", mm_strategy_name(),
             mm_scrub_enabled() ? "on" : "off");
    table_scrubbed();
    mm_node_info(MM_ALL_NODES, &i);
    log_line("takes that waited for claims: %lu; most clears that one waited for: %lu", i.waits,
             i.max_clears_waited);
    log_line("in stores: %lu clean, %lu dirty frames; metadata %lu KiB", i.stored_clean,
             i.stored_dirty, (u64)(i.metadata_bytes / KIB));
    if (i.scrubbed_at_map)
        log_line("scrubbed at the first touch of guests: %lu.%lu MiB", MIB_OF(i.scrubbed_at_map),
                 TENTH_OF(i.scrubbed_at_map));
    log_line("leaks found by the check before mapping: %lu", guests_leak_count());
    if (guests_shown_count())
        log_line("LEAKED: %lu frames were mapped dirty, as the strategy asked",
                 guests_shown_count());
    table_holders();
}

static void cpu_line(const char *name, const struct mm_cpu_info *i)
{
    log_line("%4s %12lu %10lu %10lu %13lu %10lu %14lu %8lu", name, KIB_OF(i->scrubbed_idle_local),
             KIB_OF(i->scrubbed_idle_remote), KIB_OF(i->scrubbed_aged),
             KIB_OF(i->scrubbed_takers_local), KIB_OF(i->scrubbed_takers_remote),
             KIB_OF(i->stored_clean), KIB_OF(i->stored_dirty));
}

void table_cpus(void)
{
    struct sched_stats all = {0};
    struct accounting a;

    log_line(" cpu node threads ready tick   switches    busy ms  wakes when idle"
             "  clears before run: last most");
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct sched_stats s;
        sched_cpu_stats(cpu, &s);
        log_line("%4u %4u %7u %5u %4s %10lu %10lu %16lu %24lu %4lu", cpu, cpu_node(cpu), s.threads,
                 s.ready, s.tick_on ? "on" : "off", s.switches, MS_OF(s.busy_ns), s.idle_wakes,
                 s.clears_before_run, s.clears_before_run_max);
        all.threads += s.threads;
        all.ready += s.ready;
        all.switches += s.switches;
        all.busy_ns += s.busy_ns;
        all.idle_wakes += s.idle_wakes;
        all.clears_before_run_max = MAX(all.clears_before_run_max, s.clears_before_run_max);
    }
    log_line("%4s %12u %5u %4s %10lu %10lu %16lu %24s %4lu", "all", all.threads, all.ready, "",
             all.switches, MS_OF(all.busy_ns), all.idle_wakes, "", all.clears_before_run_max);

    log_line(" KiB  idle: local     remote       aged  taker: local     remote  stored: clean"
             "    dirty");
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct mm_cpu_info i;
        char name[12];
        mm_cpu_info(cpu, &i);
        snprintf(name, sizeof(name), "%u", cpu);
        cpu_line(name, &i);
    }
    accounting_take(&a);
    cpu_line("all", &a.cpus);
    log_line("the zones say %lu %lu %lu, %lu %lu, %lu %lu%s", KIB_OF(a.all.scrubbed_idle_local),
             KIB_OF(a.all.scrubbed_idle_remote), KIB_OF(a.all.scrubbed_aged),
             KIB_OF(a.all.scrubbed_takers_local), KIB_OF(a.all.scrubbed_takers_remote),
             KIB_OF(a.all.stored_clean), KIB_OF(a.all.stored_dirty),
             a.steady ? "" : " (not of one moment: CPUs are scrubbing)");
}
