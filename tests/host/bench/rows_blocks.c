/*
 * Rows: takes and frees of one order, on one CPU and on two; requests that must fail.
 */
#include "sides.h"

#include <math.h>
#include <stdlib.h>

/* ---- take and free, again and again ---- */

struct pairs {
    unsigned order, rounds;
};

BODY pairs_body(enum which w, void *arg)
{
    struct pairs *p = arg;
    for (unsigned n = 0; n < p->rounds; n++)
        side_free(w, side_take(w, p->order), p->order);
}
FOR_EACH_SIDE(pairs, pairs_body);

/* So many at a time: a stack of recently freed frames alone does not do it. */
enum { BATCH = 512 };
BODY batches_body(enum which w, void *arg)
{
    struct pairs *p = arg;
    pfn_t held[BATCH];
    for (unsigned n = 0; n < p->rounds; n += BATCH) {
        for (unsigned i = 0; i < BATCH; i++)
            held[i] = side_take(w, p->order);
        for (unsigned i = 0; i < BATCH; i++)
            side_free(w, held[i], p->order);
    }
}
FOR_EACH_SIDE(batches, batches_body);

static double per_round(double ns, const struct pairs *p)
{
    return ns < 0 ? -1 : ns / p->rounds;
}

#define ONE_CPU(name, work)                             \
    static double name(void *arg)                       \
    {                                                   \
        return per_round(bench_sample(work, arg), arg); \
    }
#define TWO_CPUS(name, work)                                      \
    static double name(void *arg)                                 \
    {                                                             \
        return per_round(bench_sample_both(work, arg, arg), arg); \
    }
ONE_CPU(limpid_one, pairs[LIMPID])
ONE_CPU(classic_one, pairs[CLASSIC])
ONE_CPU(pcp_one, pairs[PCP])
TWO_CPUS(limpid_two, pairs[LIMPID])
TWO_CPUS(classic_two, pairs[CLASSIC])
TWO_CPUS(pcp_two, pairs[PCP])
ONE_CPU(limpid_batches, batches[LIMPID])
ONE_CPU(pcp_batches, batches[PCP])

static void rows_pairs(void)
{
    struct pairs p = {0, 16384};
    struct bench_pair m;
    boot_limpid(2048);
    boot_classic(2048);

    m = bench_abba(limpid_one, pcp_one, &p, 30, 3);
    row_add((struct row){"order 0, take and free, 1 CPU", m.a, "ns", m.b, "with per-CPU stacks",
                         BAR_AT_MOST, 1.0});
    m = bench_abba(limpid_batches, pcp_batches, &p, 30, 3);
    row_add((struct row){"order 0, 512 taken then freed, 1 CPU", m.a, "ns", m.b,
                         "with per-CPU stacks", BAR_AT_MOST, 1.0});
    p.rounds = 2048; /* with a lock in the way that is a millisecond */
    m = bench_abba(limpid_two, limpid_one, &p, 30, 4);
    row_add((struct row){"order 0, take and free, 2 CPUs at once", m.a, "ns", m.b, "itself, 1 CPU",
                         BAR_AT_MOST, 1.2});
    m = bench_abba(classic_two, classic_one, &p, 20, 3);
    row_add((struct row){"  the textbook: order 0, 2 CPUs at once", m.a, "ns", m.b, "itself, 1 CPU",
                         BAR_NONE, 0});
    m = bench_abba(pcp_two, pcp_one, &p, 20, 3);
    row_add((struct row){"  with per-CPU stacks: order 0, 2 CPUs at once", m.a, "ns", m.b,
                         "itself, 1 CPU", BAR_NONE, 0});
    p = (struct pairs){9, 4096};
    m = bench_abba(limpid_one, classic_one, &p, 30, 3);
    row_add((struct row){"order 9, take and free, 1 CPU", m.a, "ns", m.b, "the textbook",
                         BAR_AT_MOST, 1.0});
    p.order = 10;
    m = bench_abba(limpid_one, classic_one, &p, 30, 3);
    row_add((struct row){"order 10, take and free, 1 CPU", m.a, "ns", m.b, "the textbook",
                         BAR_AT_MOST, 1.0});
}

/* ---- all of it taken, freed in random order ---- */

enum { FRAMES = 512 * 1024, CHUNK = 2048 };

struct random_order {
    u32 *pfn; /* of one CPU */
    unsigned from;
};

BODY take_chunk_body(enum which w, void *arg)
{
    struct random_order *r = arg;
    for (unsigned i = r->from; i < r->from + CHUNK; i++)
        r->pfn[i] = (u32)side_take(w, 0);
}
FOR_EACH_SIDE(take_chunk, take_chunk_body);

BODY free_chunk_body(enum which w, void *arg)
{
    struct random_order *r = arg;
    for (unsigned i = r->from; i < r->from + CHUNK; i++)
        side_free(w, r->pfn[i], 0);
}
FOR_EACH_SIDE(free_chunk, free_chunk_body);

static void shuffle(u32 *v, unsigned n, u64 *random)
{
    for (unsigned i = n - 1; i > 0; i--) {
        unsigned j = (unsigned)(bench_random(random) % (i + 1));
        u32 t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

/* One chunk of each CPU, by a side; nanoseconds a frame, each CPU's own, or -1. */
static double chunk(bench_work work, struct random_order *r, unsigned cpus)
{
    double ns = cpus == 1 ? bench_sample(work, &r[0]) : bench_sample_both(work, &r[0], &r[1]);
    return ns < 0 ? -1 : ns / CHUNK;
}

/*
 * A run goes from full to empty and its chunks differ, so what counts is their mean. Without the
 * slowest tenth, which are those that the host disturbed in ways that no clock of it tells.
 */
static double mean_of_most(struct bench_values *v)
{
    double sum = 0;
    unsigned n = v->nr - v->nr / 10;
    if (v->nr == 0)
        return NAN;
    values_quantile(v, 0.5); /* sorts */
    for (unsigned i = 0; i < n; i++)
        sum += v->v[i];
    return sum / n;
}

static void random_order(unsigned cpus, double *take, double *free_)
{
    static const enum which sides[2] = {LIMPID, CLASSIC};
    struct random_order r[2][2];
    struct bench_values taken[2] = {{0}}, freed[2] = {{0}};
    unsigned each = FRAMES / cpus;
    u64 random = 88172645463325252ULL;
    for (unsigned s = 0; s < 2; s++)
        for (unsigned c = 0; c < cpus; c++)
            r[s][c].pfn = malloc(each * sizeof(u32));
    boot_limpid(2048 + 64);
    boot_classic(2048 + 64);
    for (unsigned round = 0; round < (bench_quick ? 1 : 3); round++) {
        for (unsigned phase = 0; phase < 2; phase++) {
            for (unsigned n = 0; n < 2 * each / CHUNK; n++) {
                unsigned s = (n & 3) == 0 || (n & 3) == 3 ? 0 : 1; /* A B B A */
                enum which w = sides[s];
                for (unsigned c = 0; c < cpus; c++)
                    r[s][c].from = n / 2 * CHUNK;
                if (bench_quick && n / 4 % 4) { /* done, but not measured */
                    for (unsigned c = 0; c < cpus; c++)
                        (phase ? free_chunk[w] : take_chunk[w])(&r[s][c]);
                    continue;
                }
                double ns = chunk(phase ? free_chunk[w] : take_chunk[w], r[s], cpus);
                if (ns >= 0)
                    values_add(phase ? &freed[s] : &taken[s], ns);
            }
            for (unsigned s = 0; s < 2; s++)
                for (unsigned c = 0; c < cpus && phase == 0; c++)
                    shuffle(r[s][c].pfn, each, &random);
        }
    }
    for (unsigned s = 0; s < 2; s++) {
        take[s] = mean_of_most(&taken[s]);
        free_[s] = mean_of_most(&freed[s]);
        values_free(&taken[s]);
        values_free(&freed[s]);
        for (unsigned c = 0; c < cpus; c++)
            free(r[s][c].pfn);
    }
}

static void rows_random_order(void)
{
    double t[2], f[2];
    random_order(1, t, f);
    row_add((struct row){"512K frames: freed in random order, 1 CPU", f[0], "ns", f[1],
                         "the textbook", BAR_AT_MOST, 1.0});
    row_add((struct row){"512K frames: taken and freed so, 1 CPU", t[0] + f[0], "ns", t[1] + f[1],
                         "the textbook", BAR_AT_MOST, 1.0});
    random_order(2, t, f);
    row_add((struct row){"512K frames: freed in random order, 2 CPUs", f[0], "ns", f[1],
                         "the textbook", BAR_AT_MOST, 1.0 / 6});
    row_add((struct row){"512K frames: taken and freed so, 2 CPUs", t[0] + f[0], "ns", t[1] + f[1],
                         "the textbook", BAR_AT_MOST, 1.0 / 6});
}

/* ---- requests that must fail ---- */

enum { WHOLE = 64 };

struct requests {
    pfn_t block[WHOLE];
    double success, failure;
    bool stored; /* the other CPU stores frames each time */
    unsigned wrong;
};

/* What another CPU would do now and then; here it is this thread, so nothing runs meanwhile. */
static void other_cpu_stores(void)
{
    bench_self.id = 1;
    mm_free(mm_take(0, TAKE_ANY, 0), 0);
    bench_self.id = 0;
}

static double requests_success(void *arg)
{
    struct requests *r = arg;
    return r->success;
}

static void requests_work(void *arg)
{
    struct requests *r = arg;
    u64 t = 0, u = 0;
    for (unsigned n = 0; n < WHOLE; n++)
        mm_free(r->block[n], 9);
    for (unsigned n = 0; n < WHOLE; n++) {
        if (r->stored)
            other_cpu_stores();
        u64 begin = rdtsc();
        r->block[n] = mm_take(9, TAKE_ANY, 0);
        t += rdtsc() - begin;
        r->wrong += r->block[n] == PFN_NONE;
    }
    for (unsigned n = 0; n < WHOLE; n++) {
        if (r->stored)
            other_cpu_stores();
        u64 begin = rdtsc();
        r->wrong += mm_take(9, TAKE_ANY, 0) != PFN_NONE;
        u += rdtsc() - begin;
    }
    r->success = (double)(t * bench_ns_per_tick_32 >> 32) / WHOLE;
    r->failure = (double)(u * bench_ns_per_tick_32 >> 32) / WHOLE;
}

/* One sample gives both; A measures, B hands out what A saw beside it. */
static double requests_failure(void *arg)
{
    struct requests *r = arg;
    if (bench_sample(requests_work, r) < 0)
        return r->success = -1;
    return r->failure;
}

/* Half of a GiB free, every other frame, and WHOLE pageblocks more in hand. */
static void requests_stage(struct requests *r)
{
    boot_limpid(1024);
    for (unsigned n = 0; n < WHOLE; n++)
        r->block[n] = mm_take(9, TAKE_ANY, 0);
    unsigned nr = 0;
    pfn_t *all = malloc(sizeof(pfn_t) << 19);
    while ((all[nr] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        nr++;
    for (unsigned n = 0; n < nr; n++)
        if (all[n] & 1)
            mm_free(all[n], 0);
    mm_stores_flush();
    free(all);
}

/* One pageblock whose frames lie free in the maps and in both CPUs' stores: it must be found. */
static double false_failures(void)
{
    unsigned wrong = 0;
    u64 random = 424242;
    boot_limpid(4);
    pfn_t frame[4096];
    unsigned nr = 0;
    while ((frame[nr] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        nr++;
    for (unsigned trial = 0; trial < (bench_quick ? 500 : 5000); trial++) {
        pfn_t first = LIMPID_BASE + 512 * (bench_random(&random) % 2);
        for (unsigned bit = 0; bit < 512; bit++) {
            bench_self.id = bench_random(&random) & 1;
            mm_free(first + bit, 0);
            if (bench_random(&random) % 16 == 0) { /* fills a store; whatever it took comes back */
                pfn_t pfn = mm_take(0, TAKE_ANY, 0);
                mm_free(pfn, 0);
            }
        }
        bench_self.id = bench_random(&random) & 1;
        pfn_t got = mm_take(9, TAKE_ANY, 0);
        wrong += got != first;
        if (got == PFN_NONE)
            for (unsigned bit = 0; bit < 512; bit++)
                mm_take(0, TAKE_ANY, 0);
    }
    bench_self.id = 0;
    return wrong;
}

static void rows_requests(void)
{
    struct requests r = {.wrong = 0};
    struct bench_pair m;
    requests_stage(&r);
    m = bench_abba(requests_failure, requests_success, &r, 40, 2);
    row_add((struct row){"order 9, failing, half of memory free", m.a, "ns", m.b, "a success",
                         BAR_AT_MOST, 2.0});
    r.stored = true;
    m = bench_abba(requests_failure, requests_success, &r, 40, 2);
    row_add((struct row){"order 9, failing, another CPU stores frames each time", m.a, "ns", m.b,
                         "a success", BAR_AT_MOST, 2.0});
    row_add((struct row){"order 9, failures that were false", r.wrong + false_failures(), "", NAN,
                         NULL, BAR_AT_MOST, 0});
}

void rows_blocks(void)
{
    rows_pairs();
    rows_random_order();
    rows_requests();
}
