/*
 * Hands the kernel a pointer to what is not its own; secret= says which (without: `kernel`). It
 * should be killed for it, so reaching the end is the failure: code 1.
 */
#include "guest/images/lib/guest.h"

int main(const struct guest_info *info)
{
    const char *what = word(info, "secret");
    uint64_t end = info->mem_base + info->mem_bytes;
    int64_t result = 0;
    what = what ? what : "kernel";
    say("badptr: %s", what);

    if (text_equal(what, "kernel"))
        result = hypercall(HC_CONSOLE_WRITE, 0xffffffff81000000, 16, 0);
    else if (text_equal(what, "direct"))
        result = hypercall(HC_WHOAMI, 0xffff800000100000, 0, 0);
    else if (text_equal(what, "null"))
        result = hypercall(HC_CONSOLE_WRITE, 0, 1, 0);
    else if (text_equal(what, "wrap"))
        result = hypercall(HC_CONSOLE_WRITE, ~0ULL - 7, 16, 0);
    else if (text_equal(what, "top"))
        result = hypercall(HC_CONSOLE_WRITE, 0x00007ffffffffff8, 16, 0);
    else if (text_equal(what, "cross"))
        result = hypercall(HC_CONSOLE_WRITE, end - 8, 16, 0); /* half of it is ours */
    else if (text_equal(what, "readonly"))
        result = hypercall(HC_WHOAMI, (uint64_t)info, 0, 0);
    else if (text_equal(what, "code"))
        result = hypercall(HC_WHOAMI, (uint64_t)main, 0, 0);
    else if (text_equal(what, "giveimage"))
        result = hypercall(HC_MEM_GIVE, GUEST_IMAGE_BASE, 1, 0);
    else if (text_equal(what, "givestack"))
        result = hypercall(HC_MEM_GIVE, info->stack_base, 1, 0);
    else if (text_equal(what, "givekernel"))
        result = hypercall(HC_MEM_GIVE, 0xffff800000100000, 1, 0);
    else if (text_equal(what, "givecross"))
        result = hypercall(HC_MEM_GIVE, end - GUEST_PAGE, 2, 0);
    else if (text_equal(what, "givetwice")) {
        result = hypercall(HC_MEM_GIVE, end - GUEST_PAGE, 1, 0);
        result = hypercall(HC_MEM_GIVE, end - GUEST_PAGE, 1, 0);
    } else if (text_equal(what, "threadkernel"))
        result = hypercall(HC_THREAD_START, 0xffffffff81000000, end, 0);
    else if (text_equal(what, "threaddata"))
        result = hypercall(HC_THREAD_START, info->mem_base, end, 0); /* not executable */
    else if (text_equal(what, "threadhigh"))
        result = hypercall(HC_THREAD_START, 0x0000800000000000, end, 0); /* not canonical */
    else if (text_equal(what, "threadstack"))
        result = hypercall(HC_THREAD_START, (uint64_t)main, end + GUEST_PAGE, 0);
    else if (text_equal(what, "threadnostack"))
        result = hypercall(HC_THREAD_START, (uint64_t)main, 0, 0);
    else if (text_equal(what, "threadcode"))
        result = hypercall(HC_THREAD_START, (uint64_t)main, GUEST_IMAGE_BASE + 64, 0);
    else
        say("badptr: what is secret=%s?", what);
    say("badptr: still alive, got %d", result);
    return 1;
}
