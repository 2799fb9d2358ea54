/*
 * bench destroy: what destroying a guest costs when nothing is cleared at free, against clearing
 * everything there by the fastest clear that the machine has. Idle scrubbing is off meanwhile: it
 * would compete for the memory bus, and for the zone lock.
 *
 * Owns nothing: the blocks are chained through themselves.
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "kernel/tables.h"
#include "lib/log.h"
#include "lib/string.h"
#include "sched/sched.h"

#define BLOCKS_MAX 128 /* of 2 MiB: 256 MiB */

/* One destruction: blocks, given back under the side's strategy; its time. */
static u64 destroy_once(const struct bench_side *side)
{
    struct pile pile = PILE_EMPTY;
    u64 ns = 0;

    if (pile_take(&pile, ORDER_PAGEBLOCK, TAKE_ANY, side->node, side->arg) == side->arg &&
        mm_strategy_set(side->strategy) == 0) {
        u64 began = time_ns();
        pile_free(&pile, ORDER_PAGEBLOCK);
        ns = MAX(time_ns() - began, 1);
    }
    pile_free(&pile, ORDER_PAGEBLOCK);
    return ns;
}

/* How many blocks: 256 MiB, or what half of the node's free memory has. */
static unsigned destroy_size(unsigned node)
{
    u64 blocks = measure_free(node) / 2 >> ORDER_PAGEBLOCK;
    if (blocks >= BLOCKS_MAX)
        return BLOCKS_MAX;
    log_line("bench destroy: half of node %u's free memory is less than 256 MiB, so %lu MiB", node,
             blocks * 2);
    return (unsigned)blocks;
}

void bench_destroy(void)
{
    unsigned node = cpu_node(cpu_id()), blocks = destroy_size(node);
    const char *strategy_was = mm_strategy_name();
    struct bench_side lazy = {.sample = destroy_once, .node = node, .arg = blocks};
    struct bench_side eager = lazy;
    bool scrub_was_on = mm_scrub_enabled();

    lazy.name = lazy.strategy = measure_lazy_strategy();
    eager.name = eager.strategy = "eager";
    if (strcmp(lazy.strategy, "eager") == 0) {
        bench_none("destroy", "the allocator has no strategy but eager");
        return;
    }
    mm_scrub_enable(false);
    bool ok = blocks > 0 && bench_race(&lazy, &eager);
    mm_strategy_set(strategy_was);
    mm_scrub_enable(scrub_was_on);
    if (!ok) {
        log_line("bench destroy: node %u has not %u free blocks of 2 MiB", node, MAX(blocks, 1u));
        return;
    }
    u64 a = lazy.median, b = eager.median;
    log_line("bench destroy: %u MiB in %u blocks of 2 MiB, medians of %u rounds each", blocks * 2,
             blocks, 2 * BENCH_ROUNDS);
    log_line("bench destroy: %s %lu.%03lu ms, eager %lu.%03lu ms, ratio %lu", lazy.name, MS_OF(a),
             MS_MICROS(a), MS_OF(b), MS_MICROS(b), b / a);
    bench_row("destroy", a, "ns", b, "eager");
}
