/*
 * What hosted tests use to set the stage: a machine with CPUs, nodes and memory.
 */
#ifndef TESTS_HOST_PORT_H
#define TESTS_HOST_PORT_H

#include "arch.h"
#include "mm/mm.h"

#define PORT_RANGES_MAX 256

struct port_machine {
    unsigned cpus, nodes;
    unsigned cpu_node[MAX_CPUS]; /* 0 for all unless set */
    struct mm_range range[PORT_RANGES_MAX];
    unsigned nr_ranges;
    const u8 *distance; /* as in struct mm_config */
    unsigned zone_gib;
    bool scrub_off;
    bool keep_memory; /* frames keep what the machine before left in them, if there are enough */
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

/* time_ns() stands at `ns` from now on; 0: it is the host's clock again. */
void port_set_clock(u64 ns);

/*
 * What one thread that plays all CPUs hooks into the machine; each may be NULL. Contents of
 * frames may be kept by the test instead of in memory: so a GiB of them costs nothing.
 */
struct port_hooks {
    bool (*clear)(void *p, size_t bytes, bool stream); /* before a clear; true: it is done */
    bool (*is_zero)(const void *frame);                /* instead of a look at the frame */
    void (*relax)(void);                               /* in every spin outside of locks */
    void (*panic)(const char *line);                   /* may leave by longjmp() */
    void (*log)(const char *line);                     /* instead of stderr */
    bool clears_under_locks;                           /* is what a strategy is there to show */
};
void port_set_hooks(const struct port_hooks *hooks);

/* How often cpu_kick() was called for this CPU since boot. */
unsigned port_kicks(unsigned cpu);

#endif
