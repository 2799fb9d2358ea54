#include "explore.h"
#include "sched/thread.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
unsigned cpu_node(unsigned cpu)
{
    return scenario->cpu_node[cpu];
}
u64 time_ns(void)
{
    return world.now;
}
unsigned cpu_id(void)
{
    return self->id;
}
void preempt_disable(void)
{
    self->preempt++;
}
void preempt_enable(void)
{
    self->preempt--;
}
void preempt_enable_no_resched(void)
{
    self->preempt--;
}
unsigned preempt_count(void)
{
    return self->preempt;
}
void runq_schedule(void)
{
    do {
        store_relaxed(&world.resched[self->id], 0);
        if (scenario->threads[self->id])
            scenario->threads[self->id]();
    } while (need_resched());
}
void sleep_arm_idle(u64 when)
{
    self->timer = when;
}
int main(int argc, char **argv)
{
    struct limits l = {.bound = 3, .seconds = 10, .executions = 100000, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "bound=", 6))
            l.bound = atoi(argv[i] + 6);
        if (!strncmp(argv[i], "schedule=", 9))
            l.schedule = argv[i] + 9;
        if (!strcmp(argv[i], "all"))
            l.all_loads = true;
        if (!strncmp(argv[i], "seconds=", 8))
            l.seconds = atof(argv[i] + 8);
    }
    for (unsigned i = 0; scenarios[i]; i++) {
        const char *only = NULL;
        for (int k = 1; k < argc; k++)
            if (!strchr(argv[k], '=') && strcmp(argv[k], "all"))
                only = argv[k];
        if (only && strcmp(only, scenarios[i]->name))
            continue;
        search_scenario(scenarios[i], &l);
    }
}
