/*
 * Tables for people: where memory is, what the guests have, what was counted.
 */
#ifndef KERNEL_TABLES_H
#define KERNEL_TABLES_H

#include "lib/base.h"
#include "lib/acpi.h"

/* "%lu.%lu MiB": the two arguments for a number of frames. */
#define MIB_OF(frames)   ((u64)(frames) >> 8)
#define TENTH_OF(frames) ((((u64)(frames)&255) * 10) >> 8)

/* "%lu.%03lu ms": the two arguments for a time in nanoseconds. */
#define MS_OF(ns)     ((u64)(ns) / 1000000)
#define MS_MICROS(ns) ((u64)(ns) / 1000 % 1000)

/* Before the first table: the topology is read when one asks. */
void tables_init(const struct topology *topo);

void table_topology(void);
void table_zones(void);
void table_guests(void);
void table_stats(void);
void table_cpus(void);
/* What idle CPUs and takers scrubbed, local and remote, and how old the oldest dirt got. */
void table_scrubbed(void);

#endif
