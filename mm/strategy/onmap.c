/*
 * `onmap`: scrub a frame at the point where it is mapped for a guest, and nowhere else.
 *
 * Source: Bob Liu's closing idea in "use idle vcpus to scrub pages" (xen-devel, July 2014), as he
 * makes it plain against Konrad Wilk's reading of it, which is `readonly`.
 *
 * The idea, in its author's sense. Only guests need zeroes; the hypervisor may use what it takes
 * as it is. So free sets the flag; allocation neither scrubs nor clears it, it travels with the
 * frame; and when the guest first touches a page, and its entry is set, it is scrubbed if the
 * flag is there. What the guest never uses is never scrubbed, what it does use is spread over
 * time, and there is nothing to iterate over, hence no lock and no race: the owner scrubs what it
 * owns. Destroying costs nothing, and creating costs nothing either.
 *
 * Where it is: mm_take_carrying() hands out frames with their flags, the guest's map keeps a flag
 * a page, guest/touch.c scrubs before it maps. A clean frame is still preferred, and a block of
 * 2 MiB is scrubbed as it is mapped, in one. What the kernel takes for itself (page tables,
 * stacks) it takes clean, and clears by itself.
 *
 * Idle CPUs do nothing here: the idea came in the place of idle scrubbing, which had not got
 * past its race. They sleep, and no age bound makes anybody scrub. `scrub=claim` at any moment
 * brings them back to work; dirt that is carried by then is still scrubbed where it is mapped.
 *
 * What it shows: the first touch pays, and P9 is gone.
 *
 *     guest                                   idle CPU
 *     touches a page: fault                   halted, all the time
 *     scrubs 4 KiB, or 2 MiB of a block       halted
 *       while a guest waits for it
 *     touches the next: fault, scrubs ...     halted
 *     (the same work under `claim`: done before, by the right column)
 *
 *     a guest with a secret dies
 *     ... nobody takes its frames:            halted: the secret stays in memory for good
 */
#include "mm/strategy/strategy.h"

const struct strategy strategy_onmap = {
    .name = "onmap",
    .leaves_free_dirty = true,
    .carry = CARRY_UNTIL_MAP,
};
