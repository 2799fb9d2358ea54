/*
 * Gives memory back and gets some, again and again, in sizes that make and split 2 MiB pages.
 * What it gets must be zero each time; what it gives it has filled. Ends with code 0 if all was
 * zero and every call did what it should.
 */
#include "guest/images/lib/guest.h"

#define ROUNDS 8

static void soil(uint64_t address, uint64_t pages)
{
    for (uint64_t *p = (uint64_t *)address; p < (uint64_t *)(address + pages * GUEST_PAGE); p++)
        *p = 0x7466656c2074726fULL;
}

int main(const struct guest_info *info)
{
    static const uint64_t size[] = {1, 3, 511, 512, 513, 1024, 1500};
    uint64_t leaks = 0, frames = 0, total = info->mem_bytes / GUEST_PAGE, failed = 0;
    struct guest_whoami who;

    /* A hole in the middle of the area: in most guests it cuts 2 MiB pages on both sides. */
    uint64_t hole = info->mem_base + total / 4 * GUEST_PAGE;
    soil(info->mem_base, total);
    failed += hypercall(HC_MEM_GIVE, hole, total / 2, 0) != 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
            if (size[i] > total / 2)
                continue;
            int64_t got = hypercall(HC_MEM_GET, size[i], 0, 0);
            if (got <= 0) {
                say("getgive: mem_get(%u) gave %d", size[i], got);
                failed++;
                continue;
            }
            leaks += count_nonzero_frames((const void *)got, size[i] * GUEST_PAGE);
            frames += size[i];
            soil((uint64_t)got, size[i]);
            /* In two parts, the second first. */
            uint64_t part = size[i] / 3;
            failed +=
                hypercall(HC_MEM_GIVE, (uint64_t)got + part * GUEST_PAGE, size[i] - part, 0) != 0;
            if (part)
                failed += hypercall(HC_MEM_GIVE, (uint64_t)got, part, 0) != 0;
        }
    }
    failed += hypercall(HC_WHOAMI, (uint64_t)&who, 0, 0) != 0;
    if (who.frames_held != info->frames - total / 2) {
        say("getgive: holds %u frames, not %u", who.frames_held, info->frames - total / 2);
        failed++;
    }
    /* What it kept is still what it wrote. */
    for (const uint64_t *p = (const uint64_t *)info->mem_base; p < (const uint64_t *)hole; p++)
        failed += *p != 0x7466656c2074726fULL;
    say("getgive: %u leaks in %u frames, %u calls failed", leaks, frames, failed);
    return leaks || failed;
}
