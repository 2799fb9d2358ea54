/*
 * The aged scrubber: one thread for each node that has memory, on a CPU of that node or of the
 * nearest that has one. It is a thread like any other, so on a CPU full of others it still has
 * its turn (protocol rule 17): no dirt waits for an idle CPU for ever. Between its turns it
 * sleeps for as long as mm_aged_step() says, or until the bound is changed.
 *
 * Owns the list of these threads, constant after aged_start(). Next: mm/aged.c.
 */
#include "sched/thread.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "mm/mm.h"

static struct thread *aged_threads[MAX_NODES]; /* (c) NULL: no memory, or no thread for it */

static void aged_thread(void *arg)
{
    unsigned node = (unsigned)(u64)arg;
    for (;;) {
        u64 ns = mm_aged_step(node);
        if (ns)
            thread_sleep(ns);
    }
}

/* The first online CPU of the nearest node that has one. */
unsigned aged_cpu(unsigned node)
{
    for (unsigned i = 0; i < nr_nodes; i++)
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            if (cpu_node(cpu) == mm_node_near(node, i) && cpu_by_id(cpu)->online)
                return cpu;
    return 0;
}

void aged_start(void)
{
    for (unsigned node = 0; node < nr_nodes; node++) {
        struct mm_zone_info info;
        mm_node_info(node, &info);
        if (info.frames == 0)
            continue;
        char name[THREAD_NAME_MAX];
        snprintf(name, sizeof(name), "aged/%u", node);
        struct thread *t =
            thread_create(name, aged_thread, (void *)(u64)node, aged_cpu(node), ANY_NODE);
        if (!t) {
            log_line("sched: no memory for %s: dirt of node %u has no age bound", name, node);
            continue;
        }
        aged_threads[node] = t;
        thread_start(t);
    }
}

void aged_look_again(void)
{
    for (unsigned node = 0; node < nr_nodes; node++)
        if (aged_threads[node])
            thread_interrupt(aged_threads[node]);
}
