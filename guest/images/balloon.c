/*
 * Gets memory and gives it back in waves, as much as it may have, in pieces of all sizes: what a
 * guest does that shares a machine with others. Each piece must be zero when it comes, and is
 * filled before it goes.
 *
 * secret=PAGESxWAVESxSEED (each may be left out from the right; 512x4x1): the largest piece, how
 * many waves, and where the sequence of sizes begins. With `linger` the waves never end.
 *
 * A machine without memory for it is nothing wrong: it says how often. Ends with code 0 if all
 * was zero and nothing else failed.
 */
#include "guest/images/lib/guest.h"

#define PIECES_MAX 512

static struct piece {
    uint64_t address, pages;
} piece[PIECES_MAX];
static unsigned pieces;

static uint64_t random_state, held, limit, leaks, got, no_memory, not_split, failed;

static void fill(uint64_t address, uint64_t pages)
{
    for (uint64_t *p = (uint64_t *)address; p < (uint64_t *)(address + pages * GUEST_PAGE); p++)
        *p = 0x6e6f6f6c6c616221ULL;
}

/* False: there is no more to be had now. */
static bool inflate(uint64_t pages_max)
{
    uint64_t room = limit - held, pages = 1 + random_below(&random_state, pages_max);
    if (!room || pieces == PIECES_MAX)
        return false;
    pages = pages < room ? pages : room;
    int64_t address = hypercall(HC_MEM_GET, pages, 0, 0);
    if (address == E_NOMEM) {
        no_memory++;
        return false;
    }
    if (address <= 0) {
        failed++;
        return false;
    }
    leaks += count_nonzero_frames((const void *)address, pages * GUEST_PAGE);
    fill((uint64_t)address, pages);
    piece[pieces++] = (struct piece){(uint64_t)address, pages};
    held += pages;
    got += pages;
    return true;
}

static void give(uint64_t address, uint64_t pages)
{
    int64_t result = hypercall(HC_MEM_GIVE, address, pages, 0);
    failed += result != 0;
    held -= result == 0 ? pages : 0;
}

/* One piece, whichever; mostly in two parts, which may have to cut a 2 MiB page. */
static void deflate(void)
{
    unsigned i = (unsigned)random_below(&random_state, pieces);
    struct piece p = piece[i];
    piece[i] = piece[--pieces];
    uint64_t tail = random_below(&random_state, p.pages);
    if (tail) {
        int64_t result = hypercall(HC_MEM_GIVE, p.address + (p.pages - tail) * GUEST_PAGE, tail, 0);
        if (result == 0) {
            held -= tail;
            p.pages -= tail;
        } else if (result == E_NOMEM) { /* no frame for a table: all as it was */
            not_split++;
        } else {
            failed++;
        }
    }
    give(p.address, p.pages);
}

int main(const struct guest_info *info)
{
    const char *text = word(info, "secret");
    struct guest_whoami who;
    text = text ? text : "";
    uint64_t pages_max = number_word(&text, 512), waves = number_word(&text, 4), wave = 0;
    random_state = number_word(&text, 1);
    bool for_ever = word(info, "linger") != NULL;

    failed += hypercall(HC_WHOAMI, (uint64_t)&who, 0, 0) != 0;
    limit = who.frames_limit;
    held = who.frames_held;
    if (info->mem_bytes) {
        fill(info->mem_base, info->mem_bytes / GUEST_PAGE);
        give(info->mem_base, info->mem_bytes / GUEST_PAGE);
    }
    uint64_t least = held;
    for (; for_ever || wave < waves; wave++) {
        while (inflate(pages_max))
            ;
        /* Half of it, some again, then all: so that what is free is in crumbs, too. */
        for (unsigned half = pieces / 2; pieces > half;)
            deflate();
        for (unsigned n = 0; n < 8 && inflate(pages_max); n++)
            ;
        hypercall(HC_YIELD, 0, 0, 0);
        while (pieces)
            deflate();
    }
    failed += hypercall(HC_WHOAMI, (uint64_t)&who, 0, 0) != 0;
    failed += who.frames_held != least || held != least;
    say("balloon: %u leaks in %u frames got in %u waves, %u times out of memory, %u pages not "
        "split, %u failed",
        leaks, got, waves, no_memory, not_split, failed);
    return leaks || failed;
}
