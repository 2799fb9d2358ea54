/*
 * The limits on idle scrubbing. Owns, for each node, how many claims are out and the moment from
 * which its rate is free again: every cleared frame moves that moment on by what a frame costs
 * at the rate, and a claim is granted once it has come. A claim is at most 512 frames, so the
 * rate is never exceeded by more than one claim a scrubber in any interval.
 */
#include "mm/policy.h"
#include "arch.h"

static struct mm_policy policy = {.age_ms = MM_AGE_MS}; /* (a) each field by itself */

static struct {
    u32 claims;  /* (a) out now */
    u64 free_at; /* (a) time_ns() from which the rate allows a claim */
} __attribute__((aligned(64))) nodes[MAX_NODES];

void policy_init(void)
{
    for (unsigned n = 0; n < MAX_NODES; n++) {
        store_relaxed(&nodes[n].claims, 0);
        store_relaxed(&nodes[n].free_at, 0);
    }
}

void mm_policy_get(struct mm_policy *out)
{
    out->age_ms = load_relaxed(&policy.age_ms);
    out->rate_mib = load_relaxed(&policy.rate_mib);
    out->scrubbers = load_relaxed(&policy.scrubbers);
    out->batch = load_relaxed(&policy.batch);
}

int mm_policy_set(const struct mm_policy *p)
{
    if (p->age_ms > MM_AGE_MS_MAX || p->rate_mib > MM_RATE_MIB_MAX || p->scrubbers > MAX_CPUS ||
        p->batch > ORDER_MAX)
        return E_INVAL;
    store_relaxed(&policy.age_ms, p->age_ms);
    store_relaxed(&policy.rate_mib, p->rate_mib);
    store_relaxed(&policy.scrubbers, p->scrubbers);
    store_relaxed(&policy.batch, p->batch);
    for (unsigned n = 0; n < MAX_NODES; n++)
        store_relaxed(&nodes[n].free_at, 0); /* an old rate's debt is forgotten */
    mm_bell_pass_on(); /* orders the new limits before its look at dirt and sleepers */
    return 0;
}

u64 policy_rate_free_at(unsigned node)
{
    u64 at = load_relaxed(&nodes[node].free_at);
    return load_relaxed(&policy.rate_mib) && at > time_ns() ? at : 0;
}

static bool below_scrubbers(u32 claims)
{
    u32 limit = load_relaxed(&policy.scrubbers);
    return limit == 0 || claims < limit;
}

bool policy_claim_may(unsigned node)
{
    return below_scrubbers(load_relaxed(&nodes[node].claims)) && policy_rate_free_at(node) == 0;
}

bool policy_claim_begin(unsigned node)
{
    if (policy_rate_free_at(node))
        return false;
    /* Counted first: of two zones of the node at once only one gets the last place. */
    if (below_scrubbers(fetch_add(&nodes[node].claims, 1)))
        return true;
    fetch_add(&nodes[node].claims, -1u);
    return false;
}

void policy_claim_end(unsigned node, u64 frames)
{
    u32 rate = load_relaxed(&policy.rate_mib);
    fetch_add(&nodes[node].claims, -1u);
    if (rate == 0)
        return;
    u64 cost = frames * (1000000000 / 256) / rate, now = time_ns(), at, next;
    do {
        at = load_relaxed(&nodes[node].free_at);
        next = MAX(at, now) + cost;
    } while (!cas(&nodes[node].free_at, at, next));
}
