/*
 * Which node is near which: common to both backends. Owns the order, constant after mm_init().
 */
#include "mm/nodes.h"
#include "arch.h"

static u8 near_nodes[MAX_NODES][MAX_NODES]; /* (c) see mm_node_near() */

unsigned mm_node_near(unsigned node, unsigned i)
{
    return near_nodes[node][i];
}

/* Selection sort by distance, then by number; 64 nodes at most. */
void nodes_init(const struct mm_config *cfg)
{
    for (unsigned node = 0; node < nr_nodes; node++) {
        const u8 *d = cfg->distance ? cfg->distance + node * cfg->nr_nodes : NULL;
        u64 done = 0;
        for (unsigned i = 0; i < nr_nodes; i++) {
            unsigned best = MAX_NODES, best_distance = ~0u;
            for (unsigned other = 0; other < nr_nodes; other++) {
                unsigned distance = other == node ? 0 : d ? d[other] : 20;
                if (!(done >> other & 1) && distance < best_distance) {
                    best = other;
                    best_distance = distance;
                }
            }
            near_nodes[node][i] = (u8)best;
            done |= 1ULL << best;
        }
    }
}
