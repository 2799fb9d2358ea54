/*
 * What hosted tests use to set the stage: a machine with CPUs, nodes and memory.
 */
#ifndef TESTS_HOST_PORT_H
#define TESTS_HOST_PORT_H

#include "arch.h"
#include "mm/mm.h"

#define PORT_RANGES_MAX 16

struct port_machine {
    unsigned cpus, nodes;
    unsigned cpu_node[MAX_CPUS]; /* 0 for all unless set */
    struct mm_range range[PORT_RANGES_MAX];
    unsigned nr_ranges;
    unsigned zone_gib;
    bool scrub_off;
};

/*
 * Maps memory for the ranges (sparse, filled with garbage where it is touched first: see
 * port_soil()) and runs mm_init(). The calling thread becomes CPU 0. May be called again and
 * again; the memory of the machine before is gone. The value of mm_init().
 */
int port_boot(const struct port_machine *m);

/* The calling thread plays this CPU from now on. No lock held, preemption on. */
void port_be_cpu(unsigned cpu);

/* Publishes a state for this CPU (see mm_cpu_state_set()); the caller plays its own CPU after. */
void port_be_cpu_state(unsigned cpu, enum cpu_state state);

/* Fills a frame with bytes that are not zero and name it. */
void port_soil(pfn_t pfn);

/* A CPU's need_resched(); cleared by the test. */
void port_set_resched(unsigned cpu, bool on);

/* How often cpu_kick() was called for this CPU since boot. */
unsigned port_kicks(unsigned cpu);

#endif
