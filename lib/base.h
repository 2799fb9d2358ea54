/*
 * The handful of types and macros that every file uses. Includes nothing of Limpid.
 * Next: lib/errors.h, lib/map512.h.
 */
#ifndef LIB_BASE_H
#define LIB_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

/* A frame is 4 KiB of physical memory; its number is its pfn (docs/glossary.md). */
typedef u64 pfn_t;
#define FRAME_SHIFT 12
#define FRAME_SIZE  (1ULL << FRAME_SHIFT)
#define PFN_NONE    (~(pfn_t)0)

/* Orders: a block is 2^order frames, naturally aligned. */
#define ORDER_PAGEBLOCK 9  /* 2 MiB: a map of 512 frames */
#define ORDER_GIGABLOCK 18 /* 1 GiB: a map of 512 pageblocks; the largest block */
#define ORDER_MAX       ORDER_GIGABLOCK

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define ARRAY_SIZE(a)         (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)      ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a)        ALIGN_DOWN((x) + (__typeof__(x))(a)-1, a)
#define IS_ALIGNED(x, a)      (((x) & ((__typeof__(x))(a)-1)) == 0)
#define container_of(p, T, m) ((T *)((char *)(p)-offsetof(T, m)))
#define likely(x)             __builtin_expect(!!(x), 1)
#define unlikely(x)           __builtin_expect(!!(x), 0)
/* Fetches the line of p to be written soon. A hint: any address will do (SDM2, PREFETCHW). */
#define prefetch_write(p)   __asm__ volatile("prefetchw %0" ::"m"(*(const char *)(p)))
#define __printf_like(f, a) __attribute__((format(printf, f, a)))

/*
 * The end of the road: says what promise broke and stops everything. kernel/panic.c in the
 * kernel, tests/host/port/port.c on the host. Any context.
 */
void panic(const char *fmt, ...) __printf_like(1, 2) __attribute__((noreturn, cold));

/* A condition that only a bug in Limpid can break. Always compiled in: the price is a branch. */
#define ASSERT(cond)                                                         \
    do {                                                                     \
        if (unlikely(!(cond)))                                               \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #cond); \
    } while (0)

#endif
