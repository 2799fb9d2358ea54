/*
 * Clearing frames. Two ways, for two cases (design section 5):
 *  - streaming, cache-bypassing (CLZERO or movnti; no FPU state): what a scrubber does, and takers
 *    above 256 KiB. Weakly ordered: clear_fence() on the same CPU before anybody may be told.
 *  - ordinary (rep stos): for who touches the memory at once.
 */
#ifndef ARCH_CLEAR_H
#define ARCH_CLEAR_H

#include "lib/base.h"

/*
 * Clears one frame with cache-bypassing stores. NOT ordered: clear_fence() before it is published.
 * What was stored before the call is visible to all when it returns: by a fence, or because it is
 * more stores than a store buffer holds. mm/scrub.c counts on that.
 */
void clear_frame_stream(void *frame);

extern bool clear_by_lines; /* (c) CLZERO is there; set before the first clear */
/* Of CPUID leaf 0x80000008 (APM3 appendix E): CLZERO. */
#define CPUID_80000008_EBX_CLZERO (1u << 0)

/* Orders this CPU's streaming clears before its later stores (sfence, SDM3 9.2.5). */
static inline void clear_fence(void)
{
    __asm__ volatile("sfence" ::: "memory");
}

/* Clears bytes (a multiple of 8) with ordinary stores; ordered like any store. */
void clear_ordinary(void *p, size_t bytes);

/* True if the frame holds only zeroes. Reads all of it. */
bool frame_is_zero(const void *frame);

/* Called before each frame is cleared, whoever clears it. NULL: nobody looks (the hosted build). */
extern void (*clear_witness)(const void *frame);

/*
 * What a CPU has cleared since boot, whoever asked for it: the kernel's own witness of what the
 * allocators say of themselves (kernel/measure.c). Frames.
 */
struct clear_counts {
    u64 frames;
    u64 locked; /* while it held the lock of a zone (P5: none) */
    u64 again;  /* while watched: whose first word was zero before */
};
void clear_counts_get(unsigned cpu, struct clear_counts *out);
/*
 * Whether `again` is counted: who watches leaves no frame dirty whose first word is zero, so what
 * is counted was clean already, or is cleared twice. Costs a load for each clear.
 */
void clear_watch(bool on);

#endif
