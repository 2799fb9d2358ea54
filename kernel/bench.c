/*
 * bench destroy: what destroying a guest costs when nothing is cleared at free, against clearing
 * everything there by the fastest clear that the machine has.
 *
 * Both in one boot and interleaved A B B A, so that a slow spell of the host hits both; medians,
 * because a deschedule hits one round. Idle scrubbing is off meanwhile: it would compete for the
 * memory bus, and for the zone lock.
 *
 * Owns the list of blocks (one bench at a time, thread "main").
 */
#include "kernel/bench.h"
#include "kernel/tables.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define BENCH_BLOCKS 128 /* of 2 MiB: 256 MiB */
#define BENCH_ROUNDS 4   /* of A B B A: eight samples of each */
#define BENCH_TIMES  (2 * BENCH_ROUNDS)

static pfn_t bench_block[BENCH_BLOCKS];

struct bench_side {
    const char *strategy;
    u64 ns[BENCH_TIMES];
    unsigned nr;
};

static unsigned bench_take(unsigned want, unsigned node)
{
    unsigned got = 0;
    while (got < want) {
        pfn_t pfn = mm_take(ORDER_PAGEBLOCK, TAKE_ANY | TAKE_THIS_NODE, node);
        if (pfn == PFN_NONE)
            break;
        bench_block[got++] = pfn;
    }
    return got;
}

/* One destruction: blocks, given back under `strategy`; its time. 0: could not take them. */
static u64 bench_once(const char *strategy, unsigned blocks, unsigned node)
{
    unsigned got = bench_take(blocks, node);
    u64 ns = 0;

    if (got == blocks && mm_strategy_set(strategy) == 0) {
        u64 began = time_ns();
        for (unsigned i = 0; i < blocks; i++)
            mm_free(bench_block[i], ORDER_PAGEBLOCK);
        ns = MAX(time_ns() - began, 1);
        return ns;
    }
    for (unsigned i = 0; i < got; i++)
        mm_free(bench_block[i], ORDER_PAGEBLOCK);
    return ns;
}

static u64 bench_median(u64 *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) /* insertion sort: eight values */
        for (unsigned j = i; j > 0 && v[j - 1] > v[j]; j--) {
            u64 t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

/* How many blocks: 256 MiB, or what half of the node's free memory has. */
static unsigned bench_size(unsigned node)
{
    struct mm_zone_info i;
    mm_node_info(node, &i);
    u64 half = (i.clean + i.dirty + i.stored_clean + i.stored_dirty) / 2;
    u64 blocks = half >> ORDER_PAGEBLOCK;
    if (blocks >= BENCH_BLOCKS)
        return BENCH_BLOCKS;
    log_line("bench destroy: half of node %u's free memory is less than 256 MiB, so %lu MiB", node,
             blocks * 2);
    return (unsigned)blocks;
}

void bench_destroy(void)
{
    struct bench_side claim = {.strategy = "claim"}, eager = {.strategy = "eager"};
    unsigned node = cpu_node(cpu_id());
    unsigned blocks = bench_size(node);
    bool scrub_was_on = mm_scrub_enabled();
    char strategy_was[16];
    bool ok = blocks > 0;

    str_copy(strategy_was, mm_strategy_name(), sizeof(strategy_was));
    mm_scrub_enable(false);
    /* Once without counting: the host gives the memory behind the frames at their first touch. */
    ok = ok && bench_once(eager.strategy, blocks, node) != 0;
    for (unsigned round = 0; ok && round < BENCH_ROUNDS; round++) {
        struct bench_side *order[] = {&claim, &eager, &eager, &claim};
        for (unsigned i = 0; ok && i < ARRAY_SIZE(order); i++) {
            u64 ns = bench_once(order[i]->strategy, blocks, node);
            order[i]->ns[order[i]->nr++] = ns;
            ok = ns != 0;
        }
    }
    mm_strategy_set(strategy_was);
    mm_scrub_enable(scrub_was_on);
    if (!ok) {
        log_line("bench destroy: node %u has not %u free blocks of 2 MiB", node, MAX(blocks, 1u));
        return;
    }
    u64 a = bench_median(claim.ns, claim.nr), b = bench_median(eager.ns, eager.nr);
    log_line("bench destroy: %u MiB in %u blocks of 2 MiB, medians of %u rounds each", blocks * 2,
             blocks, claim.nr);
    log_line("bench destroy: claim %lu.%03lu ms, eager %lu.%03lu ms, ratio %lu", MS_OF(a),
             MS_MICROS(a), MS_OF(b), MS_MICROS(b), b / a);
}
