/*
 * The limits on idle scrubbing, per node: how many CPUs, how many MiB a second. Lock-free.
 */
#ifndef MM_POLICY_H
#define MM_POLICY_H

#include "mm/mm.h"

/* A claim on memory of `node` would be granted by the limits. Any context. */
bool policy_claim_may(unsigned node);
/* The same, and counts the claim; true must be followed by policy_claim_end(). Zone lock. */
bool policy_claim_begin(unsigned node);
/* The claim is over, with `frames` cleared: charges them to the rate. Zone lock. */
void policy_claim_end(unsigned node, u64 frames);

/* When the rate limit lets the node go on, time_ns(); 0: it does not stand in the way now. */
u64 policy_rate_free_at(unsigned node);

void policy_init(void);

#endif
