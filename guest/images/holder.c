/*
 * The attack on giving back: a thread on another CPU goes on using pages that this one gives back.
 * Its CPU knows how to reach them, and the kernel has to make it forget that before anybody gets
 * them: then the thread faults, and the guest is killed for it.
 *
 * secret=PAGES (256): how many. What reaches the end has used what was not its own: code 3 if it
 * read something that it had not written, 2 if it did not even notice.
 */
#include "guest/images/lib/guest.h"

#define MARK 0x6d696e65ULL << 32 /* in the upper half of what we write; the lower half counts */

static volatile uint64_t *pages;
static uint64_t nr_pages;
static volatile uint64_t rounds, foreign;
static char stack[4096] __attribute__((aligned(16)));

static void hold(uint64_t unused)
{
    (void)unused;
    for (uint64_t n = 1;; n++) {
        for (uint64_t i = 0; i < nr_pages; i++) {
            volatile uint64_t *word = pages + i * (GUEST_PAGE / 8);
            uint64_t was = *word;
            if (was >> 32 != MARK >> 32)
                foreign++;
            *word = MARK | (uint32_t)n;
        }
        rounds = n;
    }
}

int main(const struct guest_info *info)
{
    const char *text = word(info, "secret");
    text = text ? text : "";
    nr_pages = number_word(&text, 256);
    int64_t got = hypercall(HC_MEM_GET, nr_pages, 0, 0);
    if (got <= 0)
        return 1;
    pages = (volatile uint64_t *)got;
    for (uint64_t i = 0; i < nr_pages; i++)
        pages[i * (GUEST_PAGE / 8)] = MARK;

    int64_t thread = thread_run(hold, 0, stack + sizeof(stack));
    while (thread > 0 && rounds < 3)
        hypercall(HC_YIELD, 0, 0, 0);
    int64_t gave = hypercall(HC_MEM_GIVE, (uint64_t)got, nr_pages, 0);
    uint64_t then = rounds;

    /* Whoever could still use them shows it now. */
    for (int i = 0; i < 200; i++)
        hypercall(HC_SLEEP, 1000000, 0, 0);
    say("holder: thread %d, gave %d, still alive: %u rounds more, %u words of others read", thread,
        gave, rounds - then, foreign);
    return foreign ? 3 : 2;
}
