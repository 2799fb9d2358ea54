/*
 * What idle CPUs do on classic: which heap, whether the policy lets them, one step of the strategy
 * in force, and what came of it. A CPU scrubs its own node, and nodes that have no CPUs, as in
 * Xen; a node whose CPUs are all busy stays dirty, and nothing is scrubbed because of its age.
 *
 * Next: strategy/strategy.h, and there inplace.c.
 */
#include "mm/bell.h"
#include "mm/classic/classic_backend.h"
#include "mm/classic/info.h"
#include "mm/classic/scrub.h"
#include "mm/classic/strategy/strategy.h"
#include "mm/policy.h"
#include "mm/scrub.h"

static bool has_work(const struct heap *h, const struct classic_strategy *s)
{
    if (!s->step || load_relaxed(&h->nr_dirty) == 0)
        return false;
    return s->may ? s->may(h) : load_relaxed(&h->nr_dirty) > load_relaxed(&h->busy_dirt);
}

/* How far a heap's bell is heard: home, or everywhere if nobody is at home ever. */
static unsigned reach_of(const struct heap *h)
{
    return bell_node_cpus(h->node) ? 1 : nr_nodes;
}

/* Home, or the nearest node without CPUs that has dirt. */
static struct heap *heap_to_scrub(const struct classic_strategy *s)
{
    unsigned home = cpu_node(cpu_id());
    for (unsigned i = 0; i < nr_nodes; i++) {
        struct heap *h = heap_of_node(mm_node_near(home, i));
        if (h && (i == 0 || bell_node_cpus(h->node) == 0) && has_work(h, s) &&
            policy_claim_may(h->node))
            return h;
    }
    return NULL;
}

bool heaps_scrub_may(void)
{
    return !strategies_stopped() && heap_to_scrub(load_acquire(&classic_strategy)) != NULL;
}

u64 heaps_scrub_may_at(void)
{
    unsigned home = cpu_node(cpu_id());
    u64 first = 0;
    for (unsigned n = 0; n < classic_nr_heaps; n++) {
        const struct heap *h = &classic_heaps[n];
        if (!has_work(h, load_acquire(&classic_strategy)) ||
            (h->node != home && bell_node_cpus(h->node)))
            continue;
        u64 at = policy_rate_free_at(h->node);
        if (at && (first == 0 || at < first))
            first = at;
    }
    return first;
}

void scrub_ring(const struct heap *h)
{
    if (mm_scrub_enabled() && has_work(h, load_acquire(&classic_strategy)))
        bell_ring_node(h->node, reach_of(h));
}

void heaps_bell_pass_on(void)
{
    for (unsigned n = 0; n < classic_nr_heaps; n++)
        scrub_ring(&classic_heaps[n]);
}

/* ---- one step ---- */

bool scrub_must_stop(const struct scrub *s)
{
    return need_resched() || strategies_stopped() || !mm_scrub_enabled() || s->cleared >= s->limit;
}

void scrub_clear(struct scrub *s, u32 i)
{
    scrub_count_clear();
    clear_frame_stream(frame_va(heap_pfn(s->h, i)));
    clear_fence(); /* zero before anybody is told that it is */
    s->cleared++;
}

/* Others of the node come in one by one while there is more than one step's work. */
static void wake_next(const struct heap *h, const struct classic_strategy *s)
{
    enum { STEP = 512 };
    if (!s->alone && load_relaxed(&h->nr_dirty) > load_relaxed(&h->busy_dirt) + STEP)
        bell_wake_next_node(h->node, reach_of(h));
}

static bool step_in(struct heap *h, const struct classic_strategy *s)
{
    enum { STEP_LIMITED = 512 }; /* a rate is kept from step to step, so steps have to be short */
    struct mm_policy p;
    mm_policy_get(&p);
    struct scrub run = {
        .h = h, .drop = {.h = h}, .began = time_ns(), .limit = p.rate_mib ? STEP_LIMITED : ~0u};
    wake_next(h, s);
    bool did = s->step(&run);
    dirt_drop_end(&run.drop);
    if (run.cleared) {
        scrub_note_time(time_ns() - run.began, run.cleared);
        heaps_count_idle(h, run.cleared);
    }
    if (run.twice)
        fetch_add(&h->cleared_twice, run.twice);
    policy_claim_end(h->node, run.cleared);
    return did;
}

bool heaps_scrub_step(void)
{
    bool did = false;
    preempt_disable(); /* a taker may wait for us, so nobody takes our CPU */
    if (strategy_step_begin()) {
        const struct classic_strategy *s = load_acquire(&classic_strategy);
        struct heap *h = heap_to_scrub(s);
        if (h && policy_claim_begin(h->node))
            did = step_in(h, s);
        strategy_step_end();
    }
    preempt_enable();
    return did;
}
