/*
 * Writes a word into each page of its memory area and ends: what a new guest has to do before all
 * of its memory is its own, whenever the kernel hands it over. `work` and `make compare` time it.
 * With `linger` it then sleeps until it is killed. Ends with code 0.
 */
#include "guest/images/lib/guest.h"

int main(const struct guest_info *info)
{
    for (uint64_t at = 0; at < info->mem_bytes; at += GUEST_PAGE)
        *(volatile uint64_t *)(info->mem_base + at) = at + 1;
    while (word(info, "linger"))
        hypercall(HC_SLEEP, 3600ULL * 1000 * 1000 * 1000, 0, 0);
    return 0;
}
