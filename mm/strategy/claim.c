/*
 * `claim`, the default: a scrub is an allocation by an idle CPU that anyone may call back. Who
 * frees marks dirt and rings; idle CPUs claim the dirty frames of one pageblock, clear them
 * without a lock and return them; a taker in need shuts the gate and has them back within one
 * clear. The mechanism is mm/claim.c and mm/scrub.c; docs/locking.md tells why it is safe.
 */
#include "mm/strategy/strategy.h"

const struct strategy strategy_claim = {
    .name = "claim",
    .idle_step = scrub_claim_step,
    .idle_may = scrub_claim_may,
};
