/*
 * Random sequences of every operation, one thread that plays three CPUs on two nodes, against a
 * naive oracle: one record a frame that says who has it and what it holds. seed=N repeats a run.
 */
#include "stage.h"
#include "mm/zone.h"

enum { NODE_MIB = 24, CPUS = 3, STEPS = 40000, HELD_MAX = 3000 };

struct held {
    pfn_t pfn;
    unsigned order;
};

static struct held held[HELD_MAX];
static unsigned nr_held;
static u8 *owned; /* the oracle: 1 if this test holds the frame, 2 if it retired it */
static u64 frames_held, frames_retired;

static bool of(unsigned n)
{
    return check_random() % n == 0;
}

static void take_one(void)
{
    if (nr_held == HELD_MAX)
        return;
    unsigned order = of(8) ? (unsigned)(check_random() % 12) : (unsigned)(check_random() % 4);
    unsigned node = (unsigned)(check_random() % 2);
    enum take_flags flags = of(2) ? TAKE_CLEAN : TAKE_ANY;
    if (of(4))
        flags |= TAKE_THIS_NODE;
    pfn_t pfn = mm_take(order, flags, node);
    if (pfn == PFN_NONE) {
        struct mm_zone_info i;
        mm_node_info(flags & TAKE_THIS_NODE ? node : MM_ALL_NODES, &i);
        if (order == 0) /* nothing is in flight here: a failure means that nothing is left */
            CHECK_EQ(i.clean + i.dirty + i.stored_clean + i.stored_dirty, 0);
        return;
    }
    CHECK(IS_ALIGNED(pfn, 1ULL << order));
    CHECK(!(flags & TAKE_THIS_NODE) || zone_of(pfn)->node == node);
    if (flags & TAKE_CLEAN)
        CHECK(block_is_zero(pfn, order));
    for (pfn_t p = pfn; p < pfn + (1ULL << order); p++) {
        CHECK_EQ(owned[p], 0);
        owned[p] = 1;
    }
    soil_block(pfn, order);
    held[nr_held++] = (struct held){pfn, order};
    frames_held += 1ULL << order;
}

static void disown(pfn_t pfn)
{
    CHECK_EQ(owned[pfn], 1);
    owned[pfn] = 0;
    frames_held--;
}

/* Gives back whole, in two halves, or frame by frame in one mask. */
static void free_one(void)
{
    if (nr_held == 0)
        return;
    unsigned n = (unsigned)(check_random() % nr_held);
    struct held h = held[n];
    held[n] = held[--nr_held];
    for (pfn_t p = h.pfn; p < h.pfn + (1ULL << h.order); p++)
        disown(p);
    if (h.order > 0 && h.order <= 9 && of(3)) {
        struct map512 m = map512_range((unsigned)(h.pfn % 512), 1u << h.order);
        mm_free_mask(ALIGN_DOWN(h.pfn, 512), &m);
    } else if (h.order > 0 && of(3)) {
        mm_free(h.pfn + (1ULL << (h.order - 1)), h.order - 1);
        mm_free(h.pfn, h.order - 1);
    } else {
        mm_free(h.pfn, h.order);
    }
}

static void retire_one(void)
{
    if (nr_held == 0 || frames_retired >= 100)
        return;
    /* One of a held single frame: the oracle must not see it again. */
    unsigned n = (unsigned)(check_random() % nr_held);
    if (held[n].order != 0)
        return;
    pfn_t pfn = held[n].pfn;
    CHECK_EQ(mm_retire(pfn), 0);
    held[n] = held[--nr_held];
    disown(pfn);
    owned[pfn] = 2;
    mm_free(pfn, 0);
    frames_retired++;
}

static void audit(u64 all, bool contents)
{
    struct mm_zone_info i = total();
    CHECK_EQ(i.allocated, frames_held);
    CHECK_EQ(i.clean + i.dirty + i.stored_clean + i.stored_dirty + i.allocated + i.retired, all);
    CHECK_EQ(mm_check(contents, say), 0);
}

static void run(unsigned zone_gib)
{
    struct port_machine m = two_nodes(CPUS, NODE_MIB);
    m.range[0].end -= 37; /* a hole between the nodes, and a ragged end */
    m.range[1].end -= 3;
    m.zone_gib = zone_gib;
    CHECK_EQ(port_boot(&m), 0);
    soil_machine(&m);
    owned = calloc(m.range[1].end, 1);
    nr_held = 0;
    frames_held = frames_retired = 0;
    u64 all = total().frames;
    for (unsigned step = 0; step < STEPS && check_.failures == 0; step++) {
        port_be_cpu((unsigned)(check_random() % CPUS));
        /* Phases, so that memory is now nearly empty and now nearly full. */
        unsigned bias = step / 4000 % 2 ? 6 : 3;
        unsigned dice = (unsigned)(check_random() % 10);
        port_set_resched(port_self.id, of(5));
        if (dice < bias)
            take_one();
        else if (dice < 8)
            free_one();
        else if (dice < 9)
            mm_scrub_step();
        else if (of(4))
            mm_stores_flush();
        else if (of(50))
            retire_one();
        else if (of(30))
            CHECK_EQ(mm_strategy_set(of(2) ? "eager" : "claim"), 0);
        if (step % 500 == 0)
            audit(all, step % 4000 == 0);
    }
    while (nr_held)
        free_one();
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        port_be_cpu(cpu);
        port_set_resched(cpu, false);
        mm_stores_flush();
    }
    scrub_all();
    port_be_cpu(1);
    scrub_all();
    audit(all, true);
    CHECK_EQ(total().dirty, 0);
    CHECK_EQ(total().clean, all - frames_retired);
    CHECK_EQ(mm_strategy_set("claim"), 0);
    free(owned);
}

static void case_random_operations(void)
{
    run(0);
}

static void case_random_operations_again(void)
{
    for (unsigned n = 0; n < 3; n++)
        run(1);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_random_operations);
    RUN(case_random_operations_again);
    return check_done();
}
