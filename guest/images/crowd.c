/*
 * Several threads that share the guest's memory: each gets pieces, touches them here and there
 * and at the same time as the others, and gives them back, in parts. What it finds at a first touch
 * must be zero, what it has written must stay.
 *
 * secret=THREADSxROUNDSxSEED (each may be left out from the right; 4x40x1), `linger`: the rounds
 * never end. Ends with code 0 if nothing was wrong.
 */
#include "guest/images/lib/guest.h"

#define PIECES 4

static uint64_t rounds, seed, mem_base, mem_pages;
static volatile uint64_t leaks, lost, failed, no_memory, ended, started;
static char stack[GUEST_THREADS_MAX][8192] __attribute__((aligned(16)));

struct piece {
    uint64_t address, pages;
};

static void count(volatile uint64_t *n, uint64_t by)
{
    __atomic_fetch_add(n, by, __ATOMIC_RELAXED);
}

static volatile uint64_t *page_at(uint64_t address, uint64_t i)
{
    return (volatile uint64_t *)(address + i * GUEST_PAGE);
}

/* Some pages, the first time: read, or written at once. */
static void touch(const struct piece *p, uint64_t *random, uint64_t mark)
{
    for (uint64_t i = random_below(random, 3); i < p->pages; i += 1 + random_below(random, 9)) {
        volatile uint64_t *page = page_at(p->address, i);
        if (random_below(random, 2))
            count(&leaks, page[1] != 0 || page[511] != 0);
        page[0] = mark;
        if (page[0] != mark)
            count(&lost, 1);
    }
}

static void give(uint64_t address, uint64_t pages)
{
    int64_t result = pages ? hypercall(HC_MEM_GIVE, address, pages, 0) : 0;
    if (result == E_NOMEM) /* a 2 MiB page could not be split: later, with the rest */
        count(&no_memory, 1);
    else
        count(&failed, result != 0);
}

static void live(uint64_t number)
{
    uint64_t random = seed * 1000 + number, mark = 0x63726f77640000ULL | number;
    struct piece piece[PIECES] = {{0, 0}};

    for (uint64_t round = 0; rounds == 0 || round < rounds; round++) {
        struct piece *p = &piece[random_below(&random, PIECES)];
        if (p->pages) {
            for (uint64_t i = 0; i < p->pages; i++) {
                uint64_t found = *page_at(p->address, i);
                count(&lost, found != 0 && found != mark);
            }
            uint64_t first = random_below(&random, p->pages);
            give(p->address, first);
            give(p->address + first * GUEST_PAGE, p->pages - first);
            p->pages = 0;
            continue;
        }
        uint64_t pages = random_below(&random, 8) ? 1 + random_below(&random, 60) : 512;
        int64_t got = hypercall(HC_MEM_GET, pages, 0, 0);
        if (got == E_NOMEM) {
            count(&no_memory, 1);
            continue;
        }
        if (got <= 0) {
            count(&failed, 1);
            continue;
        }
        *p = (struct piece){(uint64_t)got, pages};
        touch(p, &random, mark);
        /* All of them come here, the first time mostly at once. */
        uint64_t common = random_below(&random, mem_pages);
        count(&leaks, *page_at(mem_base, common) != 0);
    }
    count(&ended, 1);
}

int main(const struct guest_info *info)
{
    const char *text = word(info, "secret");
    text = text ? text : "";
    uint64_t threads = number_word(&text, 4);
    rounds = number_word(&text, 40);
    seed = number_word(&text, 1);
    if (word(info, "linger"))
        rounds = 0;
    threads = threads > GUEST_THREADS_MAX ? GUEST_THREADS_MAX : threads;
    mem_base = info->mem_base;
    mem_pages = info->mem_bytes / GUEST_PAGE;

    for (uint64_t i = 1; i < threads; i++) {
        int64_t thread = thread_run(live, i, stack[i] + sizeof(stack[i]));
        if (thread > 0)
            count(&started, 1);
        else
            count(thread == E_NOMEM ? &no_memory : &failed, 1);
    }
    live(0);
    while (ended < started + 1)
        hypercall(HC_SLEEP, 1000000, 0, 0);
    say("crowd: %u threads, %u leaks, %u words lost, %u times out of memory, %u failed",
        started + 1, leaks, lost, no_memory, failed);
    return leaks || lost || failed;
}
