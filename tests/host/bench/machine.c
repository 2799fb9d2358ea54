/*
 * The machine of the benchmarks (tests/host/bench/arch.h), its two threads, and what a sample is.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "lib/log.h"

#include <cpuid.h>
#include <linux/membarrier.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

unsigned nr_cpus = 2, nr_nodes = 1;
char *bench_memory;
u64 bench_ns_per_tick_32;
u32 bench_resched;
__thread struct bench_cpu bench_self;
bool bench_quick;

void panic(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "panic: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

void log_line(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
}

/* ---- arch.h ---- */

u64 time_ns(void)
{
    return (u64)((unsigned __int128)rdtsc() * bench_ns_per_tick_32 >> 32);
}

void cpu_kick(unsigned cpu)
{
    (void)cpu; /* the scrubber of a row is always awake */
}

void cpus_serialize(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        panic("membarrier(2) does not work on this host");
}

void spin_wait(struct spinlock *l, u32 ticket)
{
    for (unsigned n = 1; load_acquire(&l->serving) != ticket; n++) {
        cpu_relax();
        if (n % 4096 == 0)
            sched_yield(); /* the holder has lost its core; the sample is lost in any case */
    }
}

/* The kernel's own clears: they do all their work in plain instructions. */
#include "arch/x86_64/clear.c"

static u64 host_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static void clock_init(void)
{
    u64 ns = host_ns(CLOCK_MONOTONIC), tsc = rdtsc();
    usleep(20000);
    ns = host_ns(CLOCK_MONOTONIC) - ns;
    tsc = rdtsc() - tsc;
    bench_ns_per_tick_32 = (u64)(((unsigned __int128)ns << 32) / tsc);
}

/* ---- samples ---- */

struct stint {
    u64 wall, cpu;
    long switches;
};

static void stint_begin(struct stint *s)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    s->switches = u.ru_nivcsw + u.ru_nvcsw;
    s->cpu = host_ns(CLOCK_THREAD_CPUTIME_ID);
    s->wall = time_ns();
}

/* The nanoseconds since, or -1: somebody else had the core for a while. */
static double stint_end(const struct stint *s)
{
    struct rusage u;
    u64 wall = time_ns() - s->wall;
    u64 cpu = host_ns(CLOCK_THREAD_CPUTIME_ID) - s->cpu;
    getrusage(RUSAGE_THREAD, &u);
    /* 5% and 5 us: what the two clocks themselves cost, and interrupts. */
    if (u.ru_nivcsw + u.ru_nvcsw != s->switches || wall > cpu + cpu / 20 + 5000)
        return -1;
    return (double)wall;
}

/* Who has slept is let run at once, and for a few milliseconds. */
static void rest_until(u64 host_time)
{
    struct timespec t = {.tv_sec = (time_t)(host_time / 1000000000),
                         .tv_nsec = (long)(host_time % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

void bench_rest(unsigned ms)
{
    rest_until(host_ns(CLOCK_MONOTONIC) + ms * 1000000ULL);
}

double bench_sample(bench_work work, void *arg)
{
    struct stint s;
    rest_until(host_ns(CLOCK_MONOTONIC) + 100000);
    stint_begin(&s);
    work(arg);
    return stint_end(&s);
}

/* ---- the other thread ---- */

static struct {
    sem_t post, done;
    bench_work work;
    void *arg;
    u64 begin;   /* host time of a start together; 0: at once */
    u32 there;   /* (a) threads at the line */
    u32 stop;    /* (a) */
    u32 running; /* (a) */
    double ns;
    u64 from, to; /* when it worked */
} other;

static void line_up(void)
{
    u64 give_up;
    rest_until(other.begin);
    give_up = host_ns(CLOCK_MONOTONIC) + 3000000;
    fetch_add(&other.there, 1);
    /* Whoever waits too long here goes on alone: its sample differs and is thrown away. */
    while (load_acquire(&other.there) < 2 && host_ns(CLOCK_MONOTONIC) < give_up)
        cpu_relax();
}

static void *other_main(void *unused)
{
    (void)unused;
    bench_be_cpu(1);
    for (;;) {
        struct stint s;
        sem_wait(&other.post);
        line_up();
        stint_begin(&s);
        other.work(other.arg);
        other.ns = stint_end(&s);
        other.from = s.wall;
        other.to = s.wall + (u64)MAX(other.ns, 0);
        sem_post(&other.done);
    }
    return NULL;
}

/* Both at the line, then off; false if one did not come or lost its core meanwhile. */
static bool run_both(bench_work work, void *a, bench_work work_b, void *b, struct stint *s,
                     double *ns)
{
    other.work = work_b;
    other.arg = b;
    other.begin = host_ns(CLOCK_MONOTONIC) + 300000;
    store_relaxed(&other.there, 0);
    store_relaxed(&other.stop, 0);
    sem_post(&other.post);
    line_up();
    bool together = load_acquire(&other.there) == 2;
    stint_begin(s);
    work(a);
    *ns = stint_end(s);
    store_release(&other.stop, 1);
    store_relaxed(&bench_resched, work != work_b);
    while (sem_wait(&other.done) != 0)
        ;
    store_relaxed(&bench_resched, 0);
    return together && *ns >= 0 && other.ns >= 0;
}

double bench_sample_both(bench_work work, void *a, void *b)
{
    struct stint s;
    double ns;
    if (!run_both(work, a, work, b, &s, &ns))
        return -1;
    /* Side by side nearly all the time, or the one was not in the other's way. */
    u64 from = MAX(s.wall, other.from), to = MIN(s.wall + (u64)ns, other.to);
    double longer = MAX(ns, other.ns);
    return to < from || (double)(to - from) < 0.8 * longer ? -1 : longer;
}

double bench_sample_beside(bench_work work, void *arg, bench_work beside)
{
    struct stint s;
    double ns;
    return run_both(work, arg, beside, NULL, &s, &ns) ? ns : -1;
}

bool bench_stop(void)
{
    return load_relaxed(&other.stop);
}

/* ---- the stage ---- */

void bench_be_cpu(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu % 2, &set);
    sched_setaffinity(0, sizeof(set), &set); /* fails on a host with one core: noted in main() */
    bench_self.id = cpu;
}

void bench_machine_init(unsigned gib)
{
    pthread_t thread;
    clock_init();
    word512_popcnt = __builtin_cpu_supports("popcnt");
    unsigned a, b, c, d;
    clear_by_lines = __get_cpuid(0x80000008, &a, &b, &c, &d) && b & CPUID_80000008_EBX_CLZERO;
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    size_t bytes = (gib + 1) * GIB;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    /* Large pages, as in the kernel's direct map; so a pageblock is a page of the host. */
    bench_memory = (char *)ALIGN_UP((uintptr_t)p, GIB);
    madvise(p, bytes, MADV_HUGEPAGE);
    sem_init(&other.post, 0, 0);
    sem_init(&other.done, 0, 0);
    bench_be_cpu(0);
    if (pthread_create(&thread, NULL, other_main, NULL) != 0) {
        perror("pthread_create");
        exit(2);
    }
}

void bench_boot(pfn_t start, pfn_t end)
{
    struct mm_range range = {start, end, 0};
    struct mm_config cfg = {.range = &range, .nr_ranges = 1, .nr_nodes = 1, .scrub_off = false};
    int error = mm_init(&cfg);
    if (error)
        panic("mm_init: %d", error);
    /* As in the kernel an aged thread has noted what time it is; what is dirty stays so. */
    mm_scrub_enable(false);
    mm_aged_step(0);
    mm_scrub_enable(true);
}

/* ---- numbers ---- */

void values_add(struct bench_values *s, double v)
{
    if (s->nr == s->max) {
        s->max = s->max ? 2 * s->max : 64;
        s->v = realloc(s->v, s->max * sizeof(*s->v));
        if (!s->v)
            panic("out of memory");
    }
    s->v[s->nr++] = v;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double values_quantile(struct bench_values *s, double p)
{
    if (s->nr == 0)
        return NAN;
    qsort(s->v, s->nr, sizeof(*s->v), by_size);
    return s->v[MIN((unsigned)(p * s->nr), s->nr - 1)];
}

void values_free(struct bench_values *s)
{
    free(s->v);
    *s = (struct bench_values){0};
}

struct bench_pair bench_abba(bench_side a, bench_side b, void *arg, unsigned want, double seconds)
{
    struct bench_values va = {0}, vb = {0};
    u64 end = time_ns() + (u64)(seconds * 1e9 * (bench_quick ? 0.2 : 1));
    if (bench_quick)
        want = want / 4 + 2;
    for (unsigned turn = 0; (va.nr < want || vb.nr < want) && time_ns() < end; turn++) {
        bool is_a = (turn & 3) == 0 || (turn & 3) == 3;
        double v = is_a ? a(arg) : b(arg);
        if (v >= 0)
            values_add(is_a ? &va : &vb, v);
    }
    struct bench_pair p = {values_quantile(&va, 0.5), values_quantile(&vb, 0.5)};
    values_free(&va);
    values_free(&vb);
    return p;
}
