/*
 * `eager`: who frees zeroes, at free, as Xen did before 2014 and Linux does with init_on_free.
 * Nothing is ever dirty, and destroying a guest costs its size: `bench destroy` measures that
 * against `claim` in one boot. It uses the fastest clear of the machine and one fence for the
 * whole run, so that what is measured is the design and not a slow memset.
 *
 * Dirt from before the switch (all memory at boot) is still scrubbed by idle CPUs.
 */
#include "mm/strategy/strategy.h"
#include "mm/zone.h"

static bool eager_before_free(pfn_t first, u64 frames)
{
    for (u64 n = 0; n < frames; n++)
        clear_frame_stream(frame_va(first + n));
    clear_fence(); /* before the zone lock makes them anybody's */
    fetch_add(&zone_of(first)->scrubbed_at_free, frames);
    return true;
}

const struct strategy strategy_eager = {
    .name = "eager",
    .before_free = eager_before_free,
    .idle_step = scrub_claim_step,
    .idle_may = scrub_claim_may,
};
