/*
 * What the mm tests share: small machines, and an owner that knows what it holds. Garbage is
 * written into everything that is held, so that a lost dirty bit shows in P1 or P3.
 */
#ifndef TESTS_HOST_MM_STAGE_H
#define TESTS_HOST_MM_STAGE_H

#include "port.h"
#include "../check.h"

__attribute__((unused)) static void say(const char *line)
{
    fprintf(stderr, "%s\n", line);
}

/* One node, `mib` MiB from `base` MiB on. */
__attribute__((unused)) static struct port_machine one_node(unsigned cpus, unsigned base,
                                                            unsigned mib)
{
    struct port_machine m = {.cpus = cpus, .nodes = 1, .nr_ranges = 1};
    m.range[0] = (struct mm_range){(pfn_t)base * 256, (pfn_t)(base + mib) * 256, 0};
    return m;
}

/* Two nodes of `mib` MiB each, CPUs alternating. */
__attribute__((unused)) static struct port_machine two_nodes(unsigned cpus, unsigned mib)
{
    struct port_machine m = {.cpus = cpus, .nodes = 2, .nr_ranges = 2};
    for (unsigned n = 0; n < 2; n++)
        m.range[n] =
            (struct mm_range){(pfn_t)(16 + n * mib) * 256, (pfn_t)(16 + (n + 1) * mib) * 256, n};
    for (unsigned cpu = 0; cpu < cpus; cpu++)
        m.cpu_node[cpu] = cpu % 2;
    return m;
}

__attribute__((unused)) static struct mm_zone_info total(void)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    return i;
}

/* Every scrub step that CPU 0 may do. */
__attribute__((unused)) static void scrub_all(void)
{
    while (mm_scrub_step())
        ;
}

__attribute__((unused)) static bool block_is_zero(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
        if (!frame_is_zero(frame_va(p)))
            return false;
    return true;
}

__attribute__((unused)) static void soil_block(pfn_t pfn, unsigned order)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
        port_soil(p);
}

/* Soils all free memory: as after a warm start, when RAM keeps what was there. */
__attribute__((unused)) static void soil_machine(const struct port_machine *m)
{
    unsigned zone = 0;
    for (unsigned n = 0; n < m->nr_ranges; n++) {
        pfn_t end = m->range[n].end;
        /* The metadata of a zone of one range stands at its end: not to be soiled. */
        struct mm_zone_info z;
        mm_zone_info(zone++, &z);
        end -= z.metadata_bytes / FRAME_SIZE;
        for (pfn_t p = m->range[n].start; p < end; p++)
            port_soil(p);
    }
}

#endif
