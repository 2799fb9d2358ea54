/*
 * The allocators that run against each other, and the loops of which samples are made. A loop is
 * written once and compiled for each, with direct calls: an indirect one, as mm_take() makes it to
 * whichever backend the boot has chosen, would cost each the same and hide part of the difference.
 */
#ifndef TESTS_HOST_BENCH_SIDES_H
#define TESTS_HOST_BENCH_SIDES_H

#include "bench.h"
#include "mm/classic/classic.h"
#include "mm/classic/classic_pcp.h"
#include "mm/limpid.h"

enum which { LIMPID, CLASSIC, PCP, NR_SIDES };

static inline __attribute__((always_inline)) pfn_t side_take(enum which w, unsigned order)
{
    u64 cleared = 0;
    return w == LIMPID    ? limpid_take(order, TAKE_ANY, 0, &cleared)
           : w == CLASSIC ? classic_take(order)
                          : classic_pcp_take(order);
}

static inline __attribute__((always_inline)) void side_free(enum which w, pfn_t pfn, unsigned order)
{
    if (w == LIMPID)
        limpid_free(pfn, order);
    else if (w == CLASSIC)
        classic_free(pfn, order);
    else
        classic_pcp_free(pfn, order);
}

/* Nothing is at hand on this CPU any more: what is free is free for all. */
static inline void side_flush(enum which w)
{
    if (w == LIMPID)
        mm_stores_flush();
    else if (w == PCP)
        classic_pcp_flush();
}

/* void name_LIMPID(void *arg) and so on, of an always-inline body(which, arg). */
#define FOR_EACH_SIDE(name, body)         \
    static void name##_limpid(void *arg)  \
    {                                     \
        body(LIMPID, arg);                \
    }                                     \
    static void name##_classic(void *arg) \
    {                                     \
        body(CLASSIC, arg);               \
    }                                     \
    static void name##_pcp(void *arg)     \
    {                                     \
        body(PCP, arg);                   \
    }                                     \
    static const bench_work name[NR_SIDES] = {name##_limpid, name##_classic, name##_pcp}

#define BODY static inline __attribute__((always_inline)) void

/* Where each has its memory: `mib` MiB from a GiB boundary on, and a little for its records. */
#define LIMPID_BASE  ((pfn_t)1 << 18)
#define CLASSIC_BASE ((pfn_t)12 << 18)

static inline pfn_t records_for(pfn_t frames, unsigned bytes)
{
    return ALIGN_UP(frames * bytes / FRAME_SIZE + 16, 512);
}

static inline void boot_limpid(unsigned mib)
{
    pfn_t frames = (pfn_t)mib << 8;
    bench_boot(LIMPID_BASE, LIMPID_BASE + frames + records_for(frames, 1));
}

static inline void boot_classic(unsigned mib)
{
    pfn_t frames = (pfn_t)mib << 8;
    struct mm_range r = {CLASSIC_BASE, CLASSIC_BASE + frames + records_for(frames, 13), 0};
    int error = classic_init(&r);
    if (error)
        panic("classic_init: %d", error);
    classic_pcp_init();
}

#endif
