/*
 * Runs on threads that each end after a short while and start the next: whoever counts only the
 * threads that are alive, or each by itself, lets it run for ever.
 */
#include "guest/images/lib/guest.h"

static char stack[2][2048] __attribute__((aligned(16)));

static void run(uint64_t leg)
{
    for (volatile uint64_t n = 0; n < 100000; n++)
        ;
    while (thread_run(run, leg + 1, stack[leg % 2] + sizeof(stack[0])) < 0)
        hypercall(HC_YIELD, 0, 0, 0);
}

int main(const struct guest_info *info)
{
    (void)info;
    run(0);
    hypercall(HC_THREAD_EXIT, 0, 0, 0);
    return 1;
}
