/*
 * The tables of the story and of the prompt. Owns nothing: each asks the layer that knows.
 *
 * Frames in CPUs' stores are free memory; the tables count them with the clean and the dirty,
 * so that a line adds up to the zone.
 *
 * Next: commands.c and story.c, which print them.
 */
#include "kernel/tables.h"
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

void table_topology(const struct topology *topo)
{
    log_line("topology: %u CPU%s, %u node%s%s", nr_cpus, nr_cpus == 1 ? "" : "s", nr_nodes,
             nr_nodes == 1 ? "" : "s", topo->have_srat ? "" : " (no SRAT)");
    for (unsigned node = 0; node < nr_nodes; node++) {
        struct mm_zone_info info;
        char cpus[48], dist[64];
        size_t n = 0;

        mm_node_info(node, &info);
        node_cpus(node, cpus, sizeof(cpus));
        dist[0] = 0;
        for (unsigned to = 0; to < nr_nodes && n + 5 < sizeof(dist); to++)
            n += (size_t)snprintf(dist + n, sizeof(dist) - n, " %u", topo->distance[node][to]);
        log_line("  node %u: CPUs %s, %lu.%lu MiB, distances%s", node, cpus, MIB_OF(info.frames),
                 TENTH_OF(info.frames), dist);
    }
}

static void zone_line(const char *name, const struct mm_zone_info *i)
{
    u64 clean = i->clean + i->stored_clean, dirty = i->dirty + i->stored_dirty;
    u64 frees = clean + dirty;
    log_line("%-8s %8lu.%lu %8lu.%lu %8lu.%lu %8lu.%lu %8lu.%lu %8lu", name, MIB_OF(frees),
             TENTH_OF(frees), MIB_OF(clean), TENTH_OF(clean), MIB_OF(dirty), TENTH_OF(dirty),
             MIB_OF(i->in_flight), TENTH_OF(i->in_flight), MIB_OF(i->allocated),
             TENTH_OF(i->allocated), i->retired);
}

void table_zones(void)
{
    struct mm_zone_info info, all = {0};
    char name[24];

    log_line("zone:node%*s%*s%*s%*s%*s%*s", 9, "free", 11, "clean", 11, "dirty", 11, "in flight",
             11, "allocated", 9, "retired");
    for (unsigned zone = 0; zone < mm_nr_zones(); zone++) {
        mm_zone_info(zone, &info);
        snprintf(name, sizeof(name), "%u:%u", zone, info.node);
        zone_line(name, &info);
        /* Not asked for once more: the sum should be that of the lines above it. */
        all.clean += info.clean + info.stored_clean;
        all.dirty += info.dirty + info.stored_dirty;
        all.in_flight += info.in_flight;
        all.allocated += info.allocated;
        all.retired += info.retired;
    }
    zone_line("all", &all);
    log_line("(MiB; retired in frames; dirty means free and not yet scrubbed)");
}

void table_guests(void)
{
    struct guest_stat g;
    unsigned nr = 0;

    for (unsigned id = guest_next(0); id; id = guest_next(id)) {
        if (guest_stat_get(id, &g) != 0)
            continue;
        if (nr++ == 0)
            log_line("  id name         kind     state    node cpu      MiB  end");
        log_line("%4u %-12s %-8s %-8s %4u %3u %6lu.%lu  %s", g.id, g.name, g.kind,
                 guest_state_name(g.state), g.node, g.cpu, MIB_OF(g.frames_held),
                 TENTH_OF(g.frames_held), g.state == GUEST_DEAD ? g.end : "");
    }
    if (nr == 0)
        log_line("no guests");
}

void table_scrubbed(void)
{
    log_line("scrubbed      idle CPUs (MiB)      takers (MiB)         at free   oldest dirt (ms)");
    log_line("node          local     remote     local     remote     (MiB)     scrubbed   now");
    for (unsigned node = 0; node <= nr_nodes; node++) {
        struct mm_zone_info i;
        char name[12];
        bool sum = node == nr_nodes;

        if (sum && nr_nodes == 1)
            return;
        mm_node_info(sum ? MM_ALL_NODES : node, &i);
        snprintf(name, sizeof(name), "%u", node);
        log_line("%-8s %8lu.%lu %8lu.%lu %7lu.%lu %8lu.%lu %7lu.%lu %12lu %5lu", sum ? "all" : name,
                 MIB_OF(i.scrubbed_idle_local), TENTH_OF(i.scrubbed_idle_local),
                 MIB_OF(i.scrubbed_idle_remote), TENTH_OF(i.scrubbed_idle_remote),
                 MIB_OF(i.scrubbed_takers_local), TENTH_OF(i.scrubbed_takers_local),
                 MIB_OF(i.scrubbed_takers_remote), TENTH_OF(i.scrubbed_takers_remote),
                 MIB_OF(i.scrubbed_at_free), TENTH_OF(i.scrubbed_at_free), i.oldest_scrubbed_ms,
                 i.oldest_dirt_ms);
    }
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
    log_line("leaks found by the check before mapping: %lu", guests_leak_count());
    log_line(" cpu node threads ready tick   switches  scrubbed MiB  wakes when idle"
             "  clears before run: last most");
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct sched_stats s;
        u64 frames = mm_cpu_scrubbed(cpu);
        sched_cpu_stats(cpu, &s);
        log_line("%4u %4u %7u %5u %4s %10lu %11lu.%lu %16lu %24lu %4lu", cpu, cpu_node(cpu),
                 s.threads, s.ready, s.tick_on ? "on" : "off", s.switches, MIB_OF(frames),
                 TENTH_OF(frames), s.idle_wakes, s.clears_before_run, s.clears_before_run_max);
    }
}
