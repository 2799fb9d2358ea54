/*
 * See mm/classic/classic_pcp.h. Owns the stacks, each touched by its own CPU only, with
 * preemption off: no lock, no fence.
 *
 * A frame that was freed last is handed out first: it is still in the cache. What it costs: a
 * frame on another CPU's stack is free and cannot be had, and the buddy of a stacked frame never
 * merges.
 */
#include "mm/classic/classic_pcp.h"
#include "arch.h"

#define STACK_MAX 128
#define BATCH     64 /* from and to the buddy allocator at a time */

static struct stack {
    unsigned nr;            /* (o) */
    pfn_t frame[STACK_MAX]; /* (o) */
} __attribute__((aligned(64))) stacks[MAX_CPUS];

void classic_pcp_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++)
        stacks[cpu].nr = 0;
}

pfn_t classic_pcp_take(unsigned order)
{
    if (order > 0)
        return classic_take(order);
    preempt_disable();
    struct stack *s = &stacks[cpu_id()];
    if (unlikely(s->nr == 0))
        s->nr = classic_take_frames(s->frame, BATCH);
    pfn_t pfn = s->nr ? s->frame[--s->nr] : PFN_NONE;
    preempt_enable();
    return pfn;
}

void classic_pcp_free(pfn_t pfn, unsigned order)
{
    if (order > 0) {
        classic_free(pfn, order);
        return;
    }
    preempt_disable();
    struct stack *s = &stacks[cpu_id()];
    if (unlikely(s->nr == STACK_MAX)) {
        /* The oldest go: the others are more likely to be in the cache. */
        classic_free_frames(s->frame, BATCH);
        s->nr -= BATCH;
        for (unsigned i = 0; i < s->nr; i++)
            s->frame[i] = s->frame[i + BATCH];
    }
    s->frame[s->nr++] = pfn;
    preempt_enable();
}

void classic_pcp_flush(void)
{
    preempt_disable();
    struct stack *s = &stacks[cpu_id()];
    classic_free_frames(s->frame, s->nr);
    s->nr = 0;
    preempt_enable();
}
