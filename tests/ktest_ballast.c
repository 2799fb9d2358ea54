/*
 * See ktest_ballast.h. Owns the list of blocks: one case at a time.
 */
#include "tests/ktest_ballast.h"
#include "arch.h"
#include "mm/mm.h"
#include "tests/ktest.h"

enum { BLOCKS_MAX = 4096 };
#define TOUCH_MAX (600 * MIB / FRAME_SIZE)

static struct {
    pfn_t pfn;
    unsigned order;
} block[BLOCKS_MAX];
static unsigned blocks;

u64 ktest_ballast_left(unsigned node)
{
    struct mm_zone_info i;
    mm_node_info(node, &i);
    return i.frames - i.allocated - i.retired;
}

bool ktest_ballast_node(unsigned *node)
{
    struct mm_zone_info i;
    u64 least = ~0ULL;
    for (unsigned n = 0; n < nr_nodes; n++) {
        mm_node_info(n, &i);
        if (i.frames && i.frames < least) {
            least = i.frames;
            *node = n;
        }
    }
    if (least > TOUCH_MAX)
        ktest_skip("every node has more than %lu MiB", (u64)(TOUCH_MAX >> 8));
    return least <= TOUCH_MAX;
}

void ktest_ballast_take(unsigned node, u64 leave)
{
    ASSERT(blocks == 0);
    for (unsigned order = ORDER_MAX + 1; order-- > 0;) {
        pfn_t pfn;
        while (blocks < BLOCKS_MAX && ktest_ballast_left(node) >= leave + (1ULL << order) &&
               (pfn = mm_take(order, TAKE_ANY | TAKE_THIS_NODE, node)) != PFN_NONE) {
            block[blocks].pfn = pfn;
            block[blocks++].order = order;
        }
    }
    CHECK_MSG(blocks < BLOCKS_MAX, "the memory of node %u is in crumbs", node);
}

void ktest_ballast_free(void)
{
    while (blocks > 0) {
        blocks--;
        mm_free(block[blocks].pfn, block[blocks].order);
    }
}
