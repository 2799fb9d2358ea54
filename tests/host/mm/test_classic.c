/*
 * mm/classic/: the textbook allocator against a picture of who owns each frame.
 */
#include "stage.h"
#include "mm/classic/classic.h"
#include "mm/classic/classic_pcp.h"

#include <setjmp.h>

enum { FIRST = 3 * 256 * 1024 + 37, FRAMES = 6000 }; /* neither end aligned */

static struct mm_range range = {FIRST, FIRST + FRAMES, 0};
static bool owned[FRAMES];
static struct {
    pfn_t pfn;
    unsigned order;
} held[FRAMES];
static unsigned nr_held;
static jmp_buf out;

static void on_panic(const char *line)
{
    (void)line;
    longjmp(out, 1);
}

static void start(void)
{
    /* The stage maps memory; what mm/ makes of its own range is of no matter here. */
    struct port_machine m = one_node(1, 16, 16);
    m.range[1] = (struct mm_range){range.start, range.end, 0};
    m.nr_ranges = 2;
    CHECK_EQ(port_boot(&m), 0);
    CHECK_EQ(classic_init(&range), 0);
    classic_pcp_init();
    memset(owned, 0, sizeof(owned));
    nr_held = 0;
}

static u64 nr_free(void)
{
    struct classic_info i;
    classic_info(&i);
    return i.nr_free;
}

static void own(pfn_t pfn, unsigned order, bool now)
{
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        REQUIRE(p >= range.start && p < range.end);
        CHECK_EQ(owned[p - FIRST], !now);
        owned[p - FIRST] = now;
    }
}

/* All that can be had of one order; then it is given back. */
static unsigned count_blocks(unsigned order)
{
    static pfn_t block[FRAMES];
    unsigned n = 0;
    while ((block[n] = classic_take(order)) != PFN_NONE)
        n++;
    for (unsigned i = 0; i < n; i++)
        classic_free(block[i], order);
    return n;
}

static void case_every_frame_once(void)
{
    struct classic_info i;
    start();
    classic_info(&i);
    CHECK_EQ(i.frames + i.metadata_bytes / FRAME_SIZE, FRAMES);
    CHECK_EQ(i.nr_free, i.frames);
    CHECK_EQ(count_blocks(0), i.frames);
    CHECK_EQ(classic_check(say), 0);
    CHECK_EQ(nr_free(), i.frames);
    CHECK_EQ(classic_take(ORDER_MAX + 1), PFN_NONE);
    CHECK_EQ(classic_take(ORDER_MAX), PFN_NONE);
}

static void case_random_orders(void)
{
    start();
    u64 all = nr_free(), mine = 0;
    for (unsigned n = 0; n < 20000; n++) {
        if (nr_held && check_random() % 2) {
            unsigned i = (unsigned)(check_random() % nr_held);
            own(held[i].pfn, held[i].order, false);
            classic_free(held[i].pfn, held[i].order);
            mine -= 1ULL << held[i].order;
            held[i] = held[--nr_held];
        } else {
            unsigned order = (unsigned)(check_random() % 10);
            pfn_t pfn = classic_take(order);
            if (pfn == PFN_NONE)
                continue;
            CHECK(IS_ALIGNED(pfn, 1ULL << order));
            own(pfn, order, true);
            held[nr_held].pfn = pfn;
            held[nr_held++].order = order;
            mine += 1ULL << order;
        }
        CHECK_EQ(nr_free() + mine, all);
        if (n % 500 == 0)
            CHECK_EQ(classic_check(say), 0);
    }
    while (nr_held) {
        nr_held--;
        classic_free(held[nr_held].pfn, held[nr_held].order);
    }
    CHECK_EQ(classic_check(say), 0);
    CHECK_EQ(nr_free(), all);
}

static void case_merges_to_the_top(void)
{
    start();
    unsigned whole = count_blocks(ORDER_PAGEBLOCK);
    pfn_t f[FRAMES];
    unsigned n = 0;
    CHECK(whole >= 9);
    while ((f[n] = classic_take(0)) != PFN_NONE)
        n++;
    CHECK_EQ(count_blocks(ORDER_PAGEBLOCK), 0);
    for (unsigned i = 0; i < n; i++) { /* shuffled, so that halves come home in any order */
        unsigned j = i + (unsigned)(check_random() % (n - i));
        pfn_t t = f[i];
        f[i] = f[j];
        f[j] = t;
        classic_free(f[i], 0);
    }
    CHECK_EQ(count_blocks(ORDER_PAGEBLOCK), whole);
    CHECK_EQ(classic_check(say), 0);
}

static void case_part_of_a_block(void)
{
    start();
    u64 all = nr_free();
    pfn_t pfn = classic_take(3);
    classic_free(pfn + 4, 2);
    classic_free(pfn, 1);
    CHECK_EQ(classic_check(say), 0);
    classic_free(pfn + 2, 1);
    CHECK_EQ(classic_check(say), 0);
    CHECK_EQ(nr_free(), all);
}

static void case_what_is_no_block(void)
{
    struct port_hooks hooks = {.panic = on_panic};
    const struct {
        pfn_t pfn;
        unsigned order;
    } bad[] = {{FIRST - 1, 0},
               {FIRST, 1},              /* not aligned */
               {FIRST + FRAMES - 1, 0}, /* a record stands there */
               {0, ORDER_MAX},
               {FIRST, ORDER_MAX + 1}};
    start();
    port_set_hooks(&hooks);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        if (setjmp(out) == 0) {
            classic_free(bad[i].pfn, bad[i].order);
            CHECK_MSG(false, "free of pfn 0x%llx, order %u went through",
                      (unsigned long long)bad[i].pfn, bad[i].order);
        }
    }
    CHECK_EQ(classic_check(say), 0);
    /* Last: it leaves the lock held. */
    pfn_t pfn = classic_take(0), other = classic_take(0);
    classic_free(pfn, 0);
    if (setjmp(out) == 0) {
        classic_free(pfn, 0);
        CHECK_MSG(false, "a double free went through");
    }
    port_self.nr_locks = port_self.preempt_count = 0;
    (void)other;
    port_set_hooks(&(struct port_hooks){0});
}

static void case_bad_ranges(void)
{
    start();
    CHECK_EQ(classic_init(&(struct mm_range){FIRST, FIRST, 0}), E_INVAL);
    CHECK_EQ(classic_init(&(struct mm_range){FIRST, FIRST + 1, 0}), E_NOMEM);
}

static void case_walker_sees(void)
{
    struct classic_info i;
    start();
    classic_info(&i);
    CHECK_EQ(classic_check(NULL), 0);
    /* The record of an odd frame in the midst says that a block begins there, of order 0. */
    u8 *records = frame_va(range.start + i.frames);
    records[12 * 1000 + 8] = 0;
    CHECK(classic_check(NULL) != 0);
}

static void case_stacks(void)
{
    static pfn_t f[FRAMES];
    start();
    u64 all = nr_free();
    unsigned n = 0;
    while ((f[n] = classic_pcp_take(0)) != PFN_NONE)
        own(f[n++], 0, true);
    CHECK_EQ(n, all);
    pfn_t none = classic_pcp_take(3);
    CHECK_EQ(none, PFN_NONE);
    for (unsigned i = 0; i < n; i++) {
        own(f[i], 0, false);
        classic_pcp_free(f[i], 0);
    }
    CHECK(nr_free() < all);
    classic_pcp_flush();
    CHECK_EQ(nr_free(), all);
    CHECK_EQ(classic_check(say), 0);
    pfn_t block = classic_pcp_take(9);
    classic_pcp_free(block, 9);
    CHECK_EQ(nr_free(), all);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_every_frame_once);
    RUN(case_random_orders);
    RUN(case_merges_to_the_top);
    RUN(case_part_of_a_block);
    RUN(case_what_is_no_block);
    RUN(case_bad_ranges);
    RUN(case_walker_sees);
    RUN(case_stacks);
    return check_done();
}
