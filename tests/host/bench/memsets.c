/*
 * The memsets of the machine: the best cache-bypassing one and the best of all are what scrubbing
 * and freeing are compared with. The kernel may not use most of them (they need FPU state).
 */
#include "bench.h"

#include <immintrin.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void fill_movnti(void *p, size_t bytes)
{
    for (char *c = p, *end = c + bytes; c < end; c += 64)
        for (unsigned i = 0; i < 64; i += 8)
            _mm_stream_si64((long long *)(c + i), 0);
}

/* The line that rAX points into (AMD): what the kernel's own streaming clear is, where it is there. */
static void fill_clzero(void *p, size_t bytes)
{
    for (char *c = p, *end = c + bytes; c < end; c += 64)
        __asm__ volatile(".byte 0x0f, 0x01, 0xfc" ::"a"(c) : "memory");
}

static void fill_stosq(void *p, size_t bytes)
{
    clear_ordinary(p, bytes);
}

static void fill_stosb(void *p, size_t bytes)
{
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(bytes) : "a"(0) : "memory");
}

static void fill_libc(void *p, size_t bytes)
{
    memset(p, 0, bytes);
    __asm__ volatile("" ::"r"(p) : "memory");
}

static void fill_sse2(void *p, size_t bytes)
{
    __m128i zero = _mm_setzero_si128();
    for (char *c = p, *end = c + bytes; c < end; c += 64) {
        _mm_stream_si128((__m128i *)c, zero);
        _mm_stream_si128((__m128i *)(c + 16), zero);
        _mm_stream_si128((__m128i *)(c + 32), zero);
        _mm_stream_si128((__m128i *)(c + 48), zero);
    }
}

__attribute__((target("avx"))) static void fill_avx(void *p, size_t bytes)
{
    __m256i zero = _mm256_setzero_si256();
    for (char *c = p, *end = c + bytes; c < end; c += 64) {
        _mm256_stream_si256((__m256i *)c, zero);
        _mm256_stream_si256((__m256i *)(c + 32), zero);
    }
}

__attribute__((target("avx512f"))) static void fill_avx512(void *p, size_t bytes)
{
    __m512i zero = _mm512_setzero_si512();
    for (char *c = p, *end = c + bytes; c < end; c += 64)
        _mm512_stream_si512((__m512i *)c, zero);
}

static const struct memset_way {
    const char *name;
    bool bypass;
    void (*fill)(void *p, size_t bytes);
} ways[] = {
    {"movnti", true, fill_movnti},           {"CLZERO", true, fill_clzero},
    {"SSE2 movntdq", true, fill_sse2},       {"AVX vmovntdq", true, fill_avx},
    {"AVX-512 vmovntdq", true, fill_avx512}, {"rep stosq", false, fill_stosq},
    {"rep stosb", false, fill_stosb},        {"libc's memset", false, fill_libc},
};

static bool works(const struct memset_way *w)
{
    return w->fill == fill_clzero   ? clear_by_lines
           : w->fill == fill_avx    ? __builtin_cpu_supports("avx")
           : w->fill == fill_avx512 ? __builtin_cpu_supports("avx512f")
                                    : true;
}

static const struct memset_way *bypass, *best;
static double bypass_mib_ns, best_mib_ns;

/* The same number of pieces everywhere, each a pageblock, far apart from the one before. */
enum { PIECE = 2 * MIB, PIECES = 4 };

struct fill {
    const struct memset_way *way;
    pfn_t start, next, end;
};

static void fill_work(void *arg)
{
    struct fill *f = arg;
    for (unsigned n = 0; n < PIECES; n++) {
        f->way->fill(frame_va(f->next), PIECE);
        f->next += 512;
        if (f->next >= f->end)
            f->next = f->start;
    }
    clear_fence();
}

static double fill_sample(struct fill *f)
{
    double ns = bench_sample(fill_work, f);
    return ns < 0 ? -1 : ns / PIECES / (PIECE / MIB);
}

void memset_choose(pfn_t start, pfn_t end)
{
    struct bench_values v[ARRAY_SIZE(ways)] = {{0}};
    struct fill f = {.start = start, .next = start, .end = end};
    for (f.way = &ways[0]; f.next < end;) /* touched once before anything is timed */
        fill_stosq(frame_va(f.next), PIECE), f.next += 512;
    f.next = start;
    for (unsigned n = 0; n < (bench_quick ? 12 : 60); n++)
        for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
            f.way = &ways[w];
            double ns = works(f.way) ? fill_sample(&f) : -1;
            if (ns >= 0)
                values_add(&v[w], ns);
        }
    bypass_mib_ns = best_mib_ns = INFINITY;
    for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
        double ns = values_quantile(&v[w], 0.5);
        fprintf(stderr, "  %-18s %6.2f GB/s\n", ways[w].name, MIB / ns);
        if (ways[w].bypass && ns < bypass_mib_ns) {
            bypass_mib_ns = ns;
            bypass = &ways[w];
        }
        if (ns < best_mib_ns) {
            best_mib_ns = ns;
            best = &ways[w];
        }
        values_free(&v[w]);
    }
    if (!bypass)
        panic("no memset could be measured: the machine is too busy");
}

double memset_best_ns(void)
{
    return best_mib_ns;
}
const char *memset_best_name(void)
{
    return best->name;
}
const char *memset_bypass_name(void)
{
    return bypass->name;
}

double memset_bypass_sample(pfn_t start, pfn_t end)
{
    static struct fill f;
    if (f.start != start || f.end != end)
        f = (struct fill){.start = start, .next = start, .end = end};
    f.way = bypass;
    return fill_sample(&f);
}

double memset_bypass_sample_both(pfn_t start, pfn_t end)
{
    static struct fill f[2];
    pfn_t middle = (start + end) / 2;
    if (f[0].start != start || f[1].end != end) {
        f[0] = (struct fill){.start = start, .next = start, .end = middle};
        f[1] = (struct fill){.start = middle, .next = middle, .end = end};
    }
    f[0].way = f[1].way = bypass;
    double ns = bench_sample_both(fill_work, &f[0], &f[1]);
    return ns < 0 ? -1 : ns / 2 / PIECES / (PIECE / MIB);
}
