/*
 * `ondemand`: the taker zeroes, at allocation. Linux with init_on_alloc.
 *
 * A free is as cheap as can be, the memory is warm in the taker's cache when it begins to use it,
 * and only what is used is ever cleared. Idle CPUs sleep. It fails when somebody wants much:
 *
 *     A: creates a guest of 1 TB             B, C, D: idle CPUs
 *     takes a block, all of it dirty         asleep
 *     clears it, frame after frame
 *     takes the next                         asleep, for an hour before and now
 *     ... 9 minutes, and the guest starts
 *
 * What was cleared once and came back untouched is not known to be clean: it counts as dirty, as
 * all that is freed does. Frames that another strategy left clean are not cleared again.
 */
#include "mm/classic/strategy/strategy.h"

const struct classic_strategy strategy_ondemand = {
    /* The rest is what heaps_take() does anyway. */
    .common = {.name = "ondemand", .leaves_free_dirty = true},
};
