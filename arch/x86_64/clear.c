/*
 * Clearing frames, and looking whether they are clear. Owns the witness, and the choice between two
 * streaming clears. See clear.h for which is for whom; the rates under TCG (QEMU 7.2) are: movnti
 * 5.3 GB/s, rep stosq 3.9, rep stosb 0.7. TCG has no CLZERO.
 */
#include "arch.h"

void (*clear_witness)(const void *frame);
bool clear_by_lines;

/*
 * CLZERO clears the line that rAX points into, as cache-bypassing stores would (APM3 CLZERO); where it
 * is there, a frame takes half the time of movnti. But it is one store, not eight: the 64 of a frame
 * might all be in the store buffer at once (104 entries in Zen 5), and what was stored before them,
 * too. So that leaves by a fence. Beside movnti on Intel a locked instruction costs 20 clears; here
 * it is a fifth of one.
 */
static void clear_lines(void *frame)
{
    full_fence();
    for (char *p = frame, *end = p + FRAME_SIZE; p < end; p += 64)
        __asm__ volatile(".byte 0x0f, 0x01, 0xfc" /* clzero */ ::"a"(p) : "memory");
}

void clear_frame_stream(void *frame)
{
    if (clear_witness)
        clear_witness(frame);
    if (clear_by_lines) {
        clear_lines(frame);
        return;
    }
    u64 *p = frame, *end = p + FRAME_SIZE / sizeof(u64);
    /* Eight stores a turn: one line of the write-combining buffers (SDM3 12.3.1). */
    for (; p < end; p += 8)
        __asm__ volatile("movnti %1, 0(%0)\n\t"
                         "movnti %1, 8(%0)\n\t"
                         "movnti %1, 16(%0)\n\t"
                         "movnti %1, 24(%0)\n\t"
                         "movnti %1, 32(%0)\n\t"
                         "movnti %1, 40(%0)\n\t"
                         "movnti %1, 48(%0)\n\t"
                         "movnti %1, 56(%0)" ::"r"(p),
                         "r"(0UL)
                         : "memory");
}

void clear_ordinary(void *p, size_t bytes)
{
    size_t words = bytes / sizeof(u64);
    for (size_t at = 0; clear_witness && at + FRAME_SIZE <= bytes; at += FRAME_SIZE)
        clear_witness((const char *)p + at);
    __asm__ volatile("rep stosq" : "+D"(p), "+c"(words) : "a"(0UL) : "memory");
}

bool frame_is_zero(const void *frame)
{
    const u64 *p = frame, *end = p + FRAME_SIZE / sizeof(u64);
    for (; p < end; p += 8)
        if (p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7])
            return false;
    return true;
}
