/*
 * The sampler: what somebody else on the machine feels. A thread on the node takes clean frames
 * and frees them, soiled, a few at a time, with a pause between; now and then 2 MiB. Where a scenario
 * needs the node for itself it takes nothing, and only looks how old dirt gets.
 *
 * Owns its own record (o), read after it has ended.
 */
#include "kernel/work/work.h"
#include "sched/sched.h"

#define FRAMES   16 /* taken at a time */
#define PAUSE_NS (NS_PER_MS)
#define SLICE_NS (NS_PER_MS / 20) /* nobody else's turn is over in less */
#define BIG_EACH 32               /* rounds: 2 MiB; about 60 MiB a second, little beside S */

static struct {
    struct helper helper;
    unsigned node;
    bool stop; /* (a) */
    bool runs;
    bool looks_only;
    u64 failed, oldest_ms;
    struct hist take, take9;
} sampler;

/*
 * What a take costs who asks. If others had the CPU in between, that is theirs: a long one counts
 * with the time that this thread ran, which includes all waiting for locks and for scrubbers.
 */
static void sample(unsigned order, struct hist *hist, pfn_t *pfn)
{
    u64 ran = thread_cpu_ns(thread_self()), began = time_ns();
    *pfn = mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, sampler.node);
    u64 took = time_ns() - began;
    if (took > SLICE_NS)
        took = MIN(took, thread_cpu_ns(thread_self()) - ran);
    hist_add(hist, took);
    if (*pfn == PFN_NONE)
        sampler.failed++;
    else
        measure_soil(*pfn, order);
}

static void look(void)
{
    struct mm_zone_info info;
    mm_node_info(MM_ALL_NODES, &info);
    sampler.oldest_ms = MAX(sampler.oldest_ms, info.oldest_dirt_ms);
}

static void sampler_main(void *unused)
{
    (void)unused;
    while (sampler.looks_only && !load_acquire(&sampler.stop)) {
        look();
        thread_sleep(PAUSE_NS);
    }
    for (unsigned round = 0; !load_acquire(&sampler.stop); round++) {
        pfn_t pfn[FRAMES];
        for (unsigned i = 0; i < FRAMES; i++)
            sample(0, &sampler.take, &pfn[i]);
        for (unsigned i = 0; i < FRAMES; i++)
            if (pfn[i] != PFN_NONE)
                mm_free(pfn[i], 0);
        if (round % BIG_EACH == 0) {
            sample(ORDER_PAGEBLOCK, &sampler.take9, &pfn[0]);
            if (pfn[0] != PFN_NONE)
                mm_free(pfn[0], ORDER_PAGEBLOCK);
            look();
        }
        thread_sleep(PAUSE_NS);
    }
}

void sampler_start(unsigned node, bool looks_only)
{
    sampler.looks_only = looks_only;
    sampler.node = node;
    sampler.failed = sampler.oldest_ms = 0;
    hist_reset(&sampler.take);
    hist_reset(&sampler.take9);
    store_release(&sampler.stop, false);
    sampler.runs = helper_start(&sampler.helper, measure_cpu(node, 1), sampler_main, NULL);
}

u64 sampler_stop(struct hist *take, struct hist *take9, u64 *failed)
{
    store_release(&sampler.stop, true);
    helper_join(&sampler.helper);
    hist_merge(take, &sampler.take);
    hist_merge(take9, &sampler.take9);
    *failed += sampler.failed;
    return sampler.oldest_ms;
}
