/*
 * `eager`, on classic: who frees zeroes, at free. Xen before 2014, Linux with init_on_free.
 *
 * Nothing free is ever dirty, nobody waits for memory, no idle CPU has anything to do, and no race
 * can be thought of. It fails by what it costs:
 *
 *     A: destroys a guest of 1 TB            B: whoever
 *     clears frame 1                         wants memory: there is none yet
 *     clears frame 2                         waits, or goes without
 *     ... 9 minutes
 *     gives all of it back                   has it
 *
 * It uses the machine's fastest clear and one fence a block. Dirt from before the switch (at boot
 * all memory) is cleared by idle CPUs as `inplace` does it.
 */
#include "mm/classic/strategy/strategy.h"

static bool eager_before_free(struct heap *h, u32 i, u32 frames)
{
    for (u32 n = 0; n < frames; n++) {
        clear_frame_stream(frame_va(heap_pfn(h, i + n)));
        store_relaxed(&rec(h, i + n)->flags, (u8)0);
    }
    clear_fence(); /* before the heap lock makes them anybody's */
    fetch_add(&h->scrubbed_at_free, frames);
    return true;
}

const struct classic_strategy strategy_classic_eager = {
    .common = {.name = "eager"},
    .before_free = eager_before_free,
    .step = inplace_step,
    .may = inplace_may,
    .stops = true,
    .alone = true,
};
