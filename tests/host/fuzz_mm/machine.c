/*
 * The machine of an input. Most are small and crooked: ranges that begin and end anywhere, nodes
 * that meet inside a pageblock, nodes without CPUs or without memory. Some have a whole GiB, some
 * more zones than there may be, some memory where it is not used any more; some are refused.
 * Next: calls.c.
 */
#include "fuzz_mm.h"

#include <sys/mman.h>

struct port_machine machine;
static u8 distances[FUZZ_NODES * FUZZ_NODES];

#define PFN_FAR ((pfn_t)4096 << ORDER_GIGABLOCK) /* memory from here on is not used */

/* Where the records of frames end: a little above what mm/ uses. */
#define PFN_MAX (PFN_FAR + (2 << ORDER_GIGABLOCK))

enum shape { SHAPE_PLAIN = 0, SHAPE_BIG = 5, SHAPE_MANY = 6, SHAPE_FAR = 7 };
enum wrong { WRONG_OVERLAP = 250, WRONG_NODE, WRONG_EMPTY, WRONG_GIB, WRONG_NODES, WRONG_RANGES };

/* 0 to some thousands, now fine and now coarse. */
static pfn_t input_size(void)
{
    unsigned b = input_byte(), v = b & 63;
    switch (b >> 6) {
    case 0:
        return v;
    case 1:
        return v * 16 + v % 8;
    case 2:
        return 512 * (v & 15) + (v >> 4);
    default:
        return v * 64;
    }
}

static pfn_t range_add(pfn_t start, pfn_t size)
{
    machine.range[machine.nr_ranges++] =
        (struct mm_range){start, start + size, input_below(machine.nodes)};
    return start + size;
}

static void lay_ranges(enum shape shape)
{
    pfn_t at = 16;
    unsigned n = 1 + input_below(6);
    if (shape == SHAPE_MANY) { /* each is a zone of its own: its node differs from the last one's */
        for (unsigned i = 0; i < 100 + 10 * n; i++, at += 9) {
            range_add(at, 8);
            machine.range[i].node = i % machine.nodes;
        }
        return;
    }
    if (shape == SHAPE_FAR)
        at = PFN_FAR - 256;
    if (shape == SHAPE_BIG) {
        at = range_add((1 << ORDER_GIGABLOCK) - input_size(), (1 << ORDER_GIGABLOCK) + 8192);
        at = range_add(at, input_size() + 1);
        n = n % 2;
    }
    for (unsigned i = 0; i < n; i++) {
        at += input_size();
        at = range_add(at, input_size() + 1);
    }
    /* The first one is never so small that nothing is left. */
    if (machine.nr_ranges == 1)
        machine.range[0].end += 64;
}

/* What mm_init() must refuse. */
static void make_wrong(enum wrong wrong)
{
    struct mm_range *r = machine.range;
    if (wrong == WRONG_OVERLAP && machine.nr_ranges > 1)
        r[1].start = r[0].end - 1;
    else if (wrong == WRONG_NODE)
        r[machine.nr_ranges - 1].node = machine.nodes;
    else if (wrong == WRONG_EMPTY)
        r[0].end = r[0].start;
    else
        machine.zone_gib = MM_ZONE_GIB_MAX + 1;
}

/* What an earlier input left in mm/ must not show: slots are emptied, cursors stand at one place. */
static void reset_cpus(void)
{
    static const struct mm_policy none = {.age_ms = MM_AGE_MS};
    static const struct map512 nothing;
    struct port_machine tiny = {.cpus = FUZZ_CPUS, .nodes = 1, .nr_ranges = 1, .keep_memory = true};
    tiny.range[0] = (struct mm_range){512, 1024, 0};
    memset(&port_self, 0, sizeof(port_self));
    FUZZ_CHECK(port_boot(&tiny) == 0, "the smallest machine");
    mm_policy_set(&none);
    mm_strategy_set("claim");
    for (unsigned cpu = 0; cpu < FUZZ_CPUS; cpu++) {
        port_be_cpu(cpu);
        *claim_own() = (struct claim){.zone = NULL};
        spin_lock(&mm_zones[0].lock);
        FUZZ_CHECK(claim_take_locked(&mm_zones[0]), "dirt, and no claim");
        claim_return_locked(&mm_zones[0], &nothing);
        spin_unlock(&mm_zones[0].lock);
    }
}

/* mm_init() itself, with what a struct port_machine cannot say. */
static void refuse_directly(enum wrong wrong)
{
    struct mm_config cfg = {.range = machine.range,
                            .nr_ranges = machine.nr_ranges,
                            .nr_nodes = nr_nodes + (wrong == WRONG_NODES)};
    if (wrong == WRONG_RANGES)
        cfg.nr_ranges = MM_RANGES_MAX + 1;
    FUZZ_CHECK(mm_init(&cfg) == E_INVAL, "a configuration that is none");
}

static void reserve_records(void)
{
    if (frames)
        return;
    frames = mmap(NULL, PFN_MAX, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    freed_ms = mmap(NULL, PFN_MAX * sizeof(u32), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (frames == MAP_FAILED || freed_ms == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
}

bool machine_boot(void)
{
    reserve_records();
    reset_cpus();
    unsigned b = input_byte(), shape = input_below(8), flags = input_byte(), wrong = input_byte();
    static const u8 gibs[] = {0, 1, 2, 64};
    machine = (struct port_machine){.cpus = 1 + b % FUZZ_CPUS,
                                    .nodes = 1 + b / FUZZ_CPUS % FUZZ_NODES,
                                    .scrub_off = flags & 1,
                                    .zone_gib = gibs[flags >> 1 & 3],
                                    .keep_memory = true};
    for (unsigned cpu = 0; cpu < machine.cpus; cpu++)
        machine.cpu_node[cpu] = input_below(machine.nodes);
    if (flags & 8) {
        for (unsigned n = 0; n < machine.nodes * machine.nodes; n++)
            distances[n] = (u8)(10 + input_below(246));
        machine.distance = distances;
    }
    lay_ranges(shape < SHAPE_BIG ? SHAPE_PLAIN : (enum shape)shape);
    if (wrong >= WRONG_NODES) {
        refuse_directly((enum wrong)wrong);
        return false;
    }
    if (wrong >= WRONG_OVERLAP)
        make_wrong((enum wrong)wrong);
    int error = port_boot(&machine);
    FUZZ_CHECK((error == E_INVAL) == (wrong >= WRONG_OVERLAP), "%d", error);
    FUZZ_CHECK(error == 0 || error == E_INVAL || error == E_NOMEM, "%d", error);
    return error == 0;
}
