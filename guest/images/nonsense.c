/*
 * Calls with whatever comes: numbers, addresses and lengths from the edges of what makes sense, on
 * several threads. It will be killed for a bad pointer sooner or later; what the kernel may not do
 * is come to harm.
 *
 * secret=ROUNDSxSEED (300x1). Ends with code 0 if it got to the end.
 */
#include "guest/images/lib/guest.h"

static uint64_t rounds, seed, base, bytes;
static char stack[2][4096] __attribute__((aligned(16)));

/* A number that is interesting as an address or as a length. */
static uint64_t any(uint64_t *random)
{
    static const uint64_t edge[] = {0,
                                    1,
                                    15,
                                    16,
                                    4095,
                                    4096,
                                    4097,
                                    1ULL << 21,
                                    1ULL << 39,
                                    GUEST_IMAGE_BASE,
                                    GUEST_STACK_TOP,
                                    GUEST_INFO,
                                    GUEST_MEM_BASE,
                                    0x00007ffffffff000ULL,
                                    0x00007fffffffffffULL,
                                    0x0000800000000000ULL,
                                    0xffff800000000000ULL,
                                    0xffffffff81000000ULL,
                                    ~0ULL - 4095,
                                    ~0ULL};
    uint64_t pick = random_below(random, 60);
    if (pick == 0)
        return edge[random_below(random, sizeof(edge) / sizeof(edge[0]))];
    if (pick == 1)
        return random_below(random, 1ULL << 31) << random_below(random, 34);
    if (pick < 8)
        return random_below(random, 600);
    return base + random_below(random, bytes / 16) * 16; /* our own, mostly never touched */
}

static void babble(uint64_t number)
{
    uint64_t random = seed * 10 + number;
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t call = random_below(&random, 11), a = any(&random), b = any(&random);
        if (call == HC_EXIT || (call == HC_THREAD_EXIT && number == 0))
            continue; /* not by chance: there is more to be said */
        if (call == HC_SLEEP)
            a = random_below(&random, 100000);
        if (call == HC_MEM_GET)
            a = random_below(&random, 700);
        if (call == HC_MEM_GIVE && random_below(&random, 4)) {
            a &= ~(GUEST_PAGE - 1);
            b = random_below(&random, 20);
        }
        if (call == HC_CONSOLE_WRITE)
            b = random_below(&random, 2); /* a byte of what, mostly, is zero */
        hypercall(call, a, b, any(&random));
    }
}

int main(const struct guest_info *info)
{
    const char *text = word(info, "secret");
    text = text ? text : "";
    rounds = number_word(&text, 300);
    seed = number_word(&text, 1);
    base = info->mem_base;
    bytes = info->mem_bytes;
    for (uint64_t i = 0; i < 2; i++)
        thread_run(babble, i + 1, stack[i] + sizeof(stack[i]));
    babble(0);
    return 0;
}
