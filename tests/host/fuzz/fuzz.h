/*
 * What the fuzz targets share. A target is one function over bytes that checks promises:
 *
 *     FUZZ_TARGET(cpio) { ... FUZZ_CHECK(entry.size <= len, "..."); return 0; }
 *
 * Built with -DFUZZ_ALONE it is what libFuzzer calls (make fuzz); without, it is a function that
 * test_corpus.c calls with every file of corpus/cpio/ (make test). A promise that is broken ends
 * the program: libFuzzer keeps the input, test_corpus.c says the file's name.
 *
 * Everything that a parser may read lies in an allocation of just that size, so that the
 * sanitizer sees one byte too many. Next: bootinfo.h, fuzz_cpio.c (the shortest).
 */
#ifndef TESTS_HOST_FUZZ_FUZZ_H
#define TESTS_HOST_FUZZ_FUZZ_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "lib/bytes.h"

#ifdef FUZZ_ALONE
#define FUZZ_TARGET(name)                                    \
    int LLVMFuzzerTestOneInput(const u8 *data, size_t size); \
    int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
#else
#define FUZZ_TARGET(name)                         \
    int fuzz_##name(const u8 *data, size_t size); \
    int fuzz_##name(const u8 *data, size_t size)
#endif

#define FUZZ_CHECK(cond, ...)                                                          \
    do {                                                                               \
        if (!(cond)) {                                                                 \
            fprintf(stderr, "%s:%d: promise broken: %s: ", __FILE__, __LINE__, #cond); \
            fprintf(stderr, __VA_ARGS__);                                              \
            fprintf(stderr, "\n");                                                     \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* ---- the input, read from its front ---- */

struct input {
    const u8 *at;
    size_t left;
};

/* A number of 1 to 8 bytes; what is not there reads as zeroes. */
__attribute__((unused)) static u64 input_number(struct input *in, size_t bytes)
{
    u64 v = 0;
    for (size_t i = 0; i < bytes && in->left; i++) {
        v |= (u64)*in->at++ << (8 * i);
        in->left--;
    }
    return v;
}

/* A copy in an allocation of its own, of just that size, that begins `skew` bytes off. */
__attribute__((unused)) static u8 *fuzz_copy(const void *data, size_t size, size_t skew,
                                             void **allocation)
{
    u8 *copy = calloc(1, size + skew + (size + skew == 0));
    if (size)
        memcpy(copy + skew, data, size);
    *allocation = copy;
    return copy + skew;
}

/* ---- warnings ---- */

static unsigned fuzz_warnings;
static char fuzz_warning[256]; /* the last */

#define FUZZ_LINE_MAX 199 /* machine_warn() in arch/x86_64/boot_info.c has that much room */

__attribute__((unused, format(printf, 2, 3))) static void fuzz_warn(void *ctx, const char *fmt, ...)
{
    (void)ctx;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(fuzz_warning, sizeof(fuzz_warning), fmt, ap);
    va_end(ap);
    fuzz_warnings++;
    FUZZ_CHECK(len > 0 && len <= FUZZ_LINE_MAX, "%d bytes: %s", len, fuzz_warning);
}

/* ---- a physical memory of one piece ---- */

#define PHYS_BASE     0x3000000ULL /* BASE in tools/broken_tables.py */
#define PHYS_MAPS_MAX 8192

static struct {
    const u8 *bytes;
    size_t len;
    struct phys_map {
        u64 phys, len;
        u8 *copy;
    } map[PHYS_MAPS_MAX];
    unsigned nr_maps;
} phys;

__attribute__((unused)) static void phys_begin(const u8 *bytes, size_t len)
{
    phys.bytes = bytes;
    phys.len = len;
    phys.nr_maps = 0;
}

/* A phys_map_fn. Each call gives a copy of just what was asked for; what was given stays. */
__attribute__((unused)) static const void *phys_read(void *ctx, u64 at, u64 len)
{
    (void)ctx;
    u64 off = at - PHYS_BASE;
    if (at < PHYS_BASE || !len || off > phys.len || len > phys.len - off)
        return NULL;
    FUZZ_CHECK(phys.nr_maps < PHYS_MAPS_MAX, "a parser that maps for ever");
    void *allocation;
    u8 *copy = fuzz_copy(phys.bytes + off, (size_t)len, 0, &allocation);
    phys.map[phys.nr_maps++] = (struct phys_map){at, len, copy};
    return copy;
}

__attribute__((unused)) static void phys_end(void)
{
    while (phys.nr_maps)
        free(phys.map[--phys.nr_maps].copy);
}

#endif
