/*
 * Steps under a zone lock, counted: mm/ is compiled with a call at every basic block
 * (-fsanitize-coverage=trace-pc), and while a lock is held each call counts one. No clock: what
 * the host does with our threads changes nothing. Everything at once for as many seconds as the
 * first argument says: takers and freers of all orders, guests that go, scrubbers, retiring, the
 * aged step, statistics, failing requests. Prints the largest number and where it was.
 *
 * A step is a basic block: a handful of instructions. The counting code itself is not counted.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static __thread struct {
    u64 steps, outermost, relaxed;
    unsigned held;
} here;

enum { TAKE, FREE, MASK, SCRUB, AGED, INFO, RETIRE, FAIL };
static const char *const call_names[8] = {"take",      "free", "free by mask", "scrub step",
                                          "aged step", "info", "retire",       "failing request"};
static __thread unsigned call; /* what this thread is about */
static u64 most[8];            /* (a) steps in one hold, by call */

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    here.steps++;
}

void steps_relax(void)
{
    enum { TURN = 16 }; /* blocks of one turn of the longest such loop */
    if (here.steps - here.relaxed <= TURN)
        here.steps = here.relaxed;
    here.relaxed = here.steps;
    __asm__ volatile("pause" ::: "memory");
}

void steps_locked(void)
{
    if (here.held++ == 0)
        here.outermost = here.steps;
}

void steps_unlocked(void)
{
    if (--here.held)
        return;
    u64 n = here.steps - here.outermost, old;
    do
        old = load_relaxed(&most[call]);
    while (n > old && !cas(&most[call], old, n));
}

/* ---- everything at once, on a small memory that is full now and then ---- */

#define LIMPID_FIRST ((pfn_t)1 << 18)
enum { MIB_ALL = 96, HELD_MAX = 8192, THREADS = STEPS_CPUS };

static u32 stop; /* (a) */

static void take_one(u64 *random, pfn_t *pfn, u8 *order, unsigned *nr)
{
    unsigned o = (unsigned)(bench_random(random) >> 20) % 8;
    o = o < 4 ? 0 : o == 7 ? (unsigned)(bench_random(random) >> 30) % 15 : o;
    if (*nr == HELD_MAX)
        return;
    call = TAKE;
    pfn_t p = mm_take(o, bench_random(random) & 4096 ? TAKE_CLEAN : TAKE_ANY, 0);
    if (p == PFN_NONE)
        return;
    pfn[*nr] = p;
    order[(*nr)++] = (u8)o;
}

static void free_one(u64 *random, pfn_t *pfn, u8 *order, unsigned *nr)
{
    unsigned i = (unsigned)((bench_random(random) >> 20) % *nr);
    if (order[i] == 9 && bench_random(random) & 4096) {
        struct map512 all, part;
        map512_fill(&all);
        for (unsigned w = 0; w < MAP512_WORDS; w++)
            part.w[w] = bench_random(random);
        map512_andnot(&all, &part);
        call = MASK;
        mm_free_mask(pfn[i], &part);
        mm_free_mask(pfn[i], &all);
    } else {
        call = FREE;
        mm_free(pfn[i], order[i]);
    }
    --*nr;
    pfn[i] = pfn[*nr];
    order[i] = order[*nr];
}

static void *user(void *arg)
{
    u64 random = 77 + (uintptr_t)arg;
    unsigned nr = 0;
    pfn_t *pfn = malloc(HELD_MAX * sizeof(*pfn));
    u8 *order = malloc(HELD_MAX);
    bench_be_cpu((unsigned)(uintptr_t)arg);
    while (!load_relaxed(&stop)) {
        u64 r = bench_random(&random) >> 24;
        if (r % 8192 == 0) { /* a guest goes */
            while (nr)
                free_one(&random, pfn, order, &nr);
        } else if (r % 512 == 1) {
            call = FAIL;
            if (mm_take(ORDER_MAX, TAKE_ANY, 0) != PFN_NONE)
                panic("a GiB out of %d MiB", MIB_ALL);
        } else if (r % 512 == 2) {
            struct mm_zone_info z;
            call = INFO;
            mm_zone_info(0, &z);
        } else if (r % 1024 == 3) {
            call = RETIRE;
            mm_retire(LIMPID_FIRST + (r >> 20) % (MIB_ALL * 256));
        } else if (nr && r % 16 < 7) {
            free_one(&random, pfn, order, &nr);
        } else {
            take_one(&random, pfn, order, &nr);
        }
    }
    return NULL;
}

static void *scrubber(void *arg)
{
    bench_be_cpu((unsigned)(uintptr_t)arg);
    mm_cpu_state_set(CPU_AWAKE);
    while (!load_relaxed(&stop)) {
        call = SCRUB;
        mm_scrub_step();
        call = AGED;
        mm_aged_step(0);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 5;
    pthread_t thread[THREADS];
    struct mm_policy p;
    nr_cpus = THREADS;
    bench_machine_init(2);
    bench_boot(LIMPID_FIRST, LIMPID_FIRST + MIB_ALL * 256);
    mm_policy_get(&p);
    p.age_ms = 1;
    mm_policy_set(&p);
    memset(most, 0, sizeof(most)); /* the boot is no part of it */
    for (uintptr_t n = 0; n < THREADS; n++)
        if (pthread_create(&thread[n], NULL, n == THREADS - 1 ? scrubber : user, (void *)n) != 0)
            panic("no thread");
    for (u64 end = time_ns() + (u64)(seconds * 1e9); time_ns() < end;)
        bench_rest(10);
    store_release(&stop, 1);
    for (unsigned n = 0; n < THREADS; n++)
        pthread_join(thread[n], NULL);
    for (unsigned n = 0; n < ARRAY_SIZE(most); n++)
        printf("%llu %s\n", (unsigned long long)most[n], call_names[n]);
    return 0;
}
