/*
 * The bell: dirt wakes a CPU that may scrub it (promise P9).
 */
#ifndef MM_BELL_H
#define MM_BELL_H

#include "mm/zone.h"

/*
 * There may be new dirt in z, published under its lock, which has been dropped: sees to it that
 * somebody will look. Preemption has been off since the unlock (rule 14 would not see us leave).
 */
void bell_ring(const struct zone *z);

/*
 * A claimer has seen that z holds more dirt than it took: wakes one more sleeper of its own node
 * (or, helping, of the nearest that has one), who will do the same. So CPUs come in one by one
 * while there is work, and one free does not wake a whole machine.
 */
void bell_wake_next(const struct zone *z);

/* The same for whoever keeps no zones: of the `reach` nearest nodes, itself first. A full fence. */
void bell_ring_node(unsigned node, unsigned reach);
void bell_wake_next_node(unsigned node, unsigned reach);
/* How many CPUs a node has. */
unsigned bell_node_cpus(unsigned node);

/* True if every CPU of the node runs a thread: it needs help. A node without CPUs always does. */
bool bell_node_busy(unsigned node);

void bell_init(void);

#endif
