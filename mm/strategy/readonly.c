/*
 * `readonly`: map dirty frames read-only, scrub at the first write. It leaks, and is here to show
 * that it does.
 *
 * Source: Konrad Wilk's reading of Bob Liu's idea (xen-devel, July 2014), which he refutes
 * himself in the same paragraph: reads do not trap, so the guest gets to see what pages of other
 * guests hold. Bob Liu meant something else: `onmap`.
 *
 * The idea, in its author's sense. As `onmap`, but the trap that scrubs is the one that hardware
 * gives for nothing: set all entries of frames that need scrubbing to read-only when the guest is
 * built, and its first write to each comes to us. A page that is only read costs no fault at all
 * after it is mapped, and a guest that writes what it reads pays as under `onmap`.
 *
 * Another strategy at any moment: nothing more is shown. What was mapped dirty by then stays so
 * until it is written to, is given back, or its guest ends.
 *
 * Where it is: guest/touch.c maps a dirty page without PROT_WRITE if all the guest does is read,
 * and lets it pass by the check; this strategy alone may do that, because `carry` says so. The
 * first write scrubs, checks and allows writing.
 *
 * What it shows: `start prober` prints the leaks.
 *
 *     the guest before                        the guest now
 *     writes a secret; dies
 *       its frames: free, need_scrub
 *                                             is given one of them, mapped read-only
 *                                             reads: no trap. It has the secret
 *                                             writes: trap, scrubbed; too late
 */
#include "mm/strategy/strategy.h"

const struct strategy strategy_readonly = {
    .name = "readonly",
    .leaves_free_dirty = true,
    .carry = CARRY_UNTIL_WRITE,
    .warning = "scrub=readonly LEAKS: guests read what other guests have left in their memory, "
               "and the check before mapping lets it pass. For demonstration only",
};
