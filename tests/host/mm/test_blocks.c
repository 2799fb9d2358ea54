/*
 * Blocks: taking, giving back, merging, at every order, one CPU, against what must be true.
 */
#include "stage.h"
#include "mm/zone.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void case_boot_is_all_dirty(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    struct mm_zone_info i = total();
    CHECK_EQ(i.frames, 64 * 256 - i.metadata_bytes / FRAME_SIZE);
    CHECK_EQ(i.dirty, i.frames);
    CHECK_EQ(i.clean, 0);
    CHECK_EQ(mm_check(false, say), 0);
    CHECK(sizeof(struct pageblock) * 1000 / 512 + sizeof(struct gigablock) * 1000 / 262144 < 400);
}

static void case_every_order_comes_back(void)
{
    struct port_machine m = one_node(1, 1024, 2048);
    CHECK_EQ(port_boot(&m), 0);
    u64 dirty = total().dirty;
    for (unsigned order = 0; order <= ORDER_MAX; order++) {
        pfn_t pfn = mm_take(order, TAKE_ANY, 0);
        CHECK_MSG(pfn != PFN_NONE, "order %u", order);
        CHECK(IS_ALIGNED(pfn, 1ULL << order));
        CHECK_EQ(total().allocated, 1ULL << order);
        CHECK_EQ(mm_check(false, say), 0);
        mm_free(pfn, order);
        mm_stores_flush();
        CHECK_EQ(total().dirty, dirty);
        CHECK_EQ(mm_check(false, say), 0);
    }
}

static void case_single_frames_merge_to_a_gigablock(void)
{
    struct port_machine m = one_node(1, 1024, 1024 + 16);
    enum { N = 262144 };
    CHECK_EQ(port_boot(&m), 0);
    pfn_t all = mm_take(ORDER_MAX, TAKE_ANY, 0);
    CHECK(all != PFN_NONE);
    /* Given back in a scattered order: 104729 is odd, so every frame comes once. */
    for (u64 n = 0; n < N; n++)
        mm_free(all + n * 104729 % N, 0);
    mm_stores_flush();
    CHECK_EQ(mm_check(false, say), 0);
    CHECK(mm_take(ORDER_MAX, TAKE_ANY, 0) == all);
}

static void case_clean_is_zero_and_dirt_is_exact(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    soil_machine(&m);
    scrub_all();
    CHECK_EQ(total().dirty, 0);
    CHECK_EQ(mm_check(true, say), 0);
    /* One dirty frame in a clean pageblock: only that one is cleared by who takes them all. */
    pfn_t pb = mm_take(9, TAKE_CLEAN, 0);
    CHECK(pb != PFN_NONE && block_is_zero(pb, 9));
    struct map512 rest;
    map512_fill(&rest);
    map512_clear(&rest, 77);
    soil_block(pb, 9);
    mm_free_mask(pb, &rest);
    scrub_all();
    mm_free(pb + 77, 0);
    mm_stores_flush();
    CHECK_EQ(total().dirty, 1);
    CHECK_EQ(mm_check(true, say), 0);
    struct mm_zone_info before = total();
    u64 taken = 0;
    while (mm_take(9, TAKE_CLEAN, 0) != PFN_NONE)
        taken++;
    CHECK(taken >= 30);
    CHECK_EQ(total().scrubbed_takers_local - before.scrubbed_takers_local, 1);
}

static void case_one_dirty_frame_in_a_gigabyte(void)
{
    struct port_machine m = one_node(1, 1024, 1024 + 64);
    CHECK_EQ(port_boot(&m), 0);
    pfn_t giga = mm_take(ORDER_MAX, TAKE_CLEAN, 0);
    CHECK(giga != PFN_NONE);
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ; /* nothing but that GiB from here on */
    mm_free(giga, ORDER_MAX);
    scrub_all();
    CHECK_EQ(total().clean, 262144);
    pfn_t one = mm_take(0, TAKE_CLEAN, 0);
    mm_free(one, 0);
    mm_stores_flush();
    CHECK_EQ(total().dirty, 1);
    u64 cleared = total().scrubbed_takers_local, got = 0;
    while (got < 511 && mm_take(9, TAKE_CLEAN, 0) != PFN_NONE)
        got++;
    CHECK_EQ(got, 511);
    CHECK_EQ(total().scrubbed_takers_local, cleared);
    /* Big mixed blocks are cleared exactly too. */
    CHECK(mm_take(9, TAKE_CLEAN, 0) != PFN_NONE);
    CHECK_EQ(total().scrubbed_takers_local, cleared + 1);
}

static void case_mixed_large_blocks(void)
{
    struct port_machine m = one_node(1, 1024, 1024 + 64);
    CHECK_EQ(port_boot(&m), 0);
    pfn_t giga = mm_take(ORDER_MAX, TAKE_CLEAN, 0);
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
    mm_free(giga, ORDER_MAX);
    scrub_all();
    /* Soil a few scattered frames and one whole pageblock of a 16 MiB block. */
    static const unsigned scattered[] = {0, 5, 600, 1023, 4095};
    pfn_t block = mm_take(12, TAKE_CLEAN, 0);
    CHECK(block != PFN_NONE);
    for (unsigned n = 0; n < 4096; n++) {
        bool soil = n >= 2048 && n < 2560;
        for (unsigned s = 0; s < ARRAY_SIZE(scattered); s++)
            soil = soil || scattered[s] == n;
        if (!soil)
            mm_free(block + n, 0);
    }
    mm_stores_flush();
    scrub_all();
    for (unsigned s = 0; s < ARRAY_SIZE(scattered); s++) {
        port_soil(block + scattered[s]);
        mm_free(block + scattered[s], 0);
    }
    soil_block(block + 2048, 9);
    mm_free(block + 2048, 9);
    mm_stores_flush();
    CHECK_EQ(total().dirty, 512 + 5);
    CHECK_EQ(mm_check(true, say), 0);
    u64 cleared = total().scrubbed_takers_local;
    CHECK(mm_take(ORDER_MAX, TAKE_CLEAN, 0) == giga);
    CHECK_EQ(total().scrubbed_takers_local, cleared + 512 + 5);
    CHECK(block_is_zero(block, 12));
    CHECK_EQ(mm_check(false, say), 0);
}

static void case_fails_only_when_nothing_is_left(void)
{
    struct port_machine m = two_nodes(2, 16);
    CHECK_EQ(port_boot(&m), 0);
    u64 n = 0, frames = total().frames;
    while (mm_take(0, n % 2 ? TAKE_CLEAN : TAKE_ANY, (unsigned)(n % 3 == 0)) != PFN_NONE)
        n++;
    CHECK_EQ(n, frames);
    CHECK_EQ(mm_check(false, say), 0);
    CHECK_EQ(total().allocated, frames);
}

/*
 * A pageblock of which some frames are free in the maps, some in another CPU's store and some in
 * the buffer of a third can be had as a whole, however often they have gone to and fro.
 */
static void case_stored_frames_make_a_whole(void)
{
    struct port_machine m = one_node(3, 16, 4); /* its last pageblock has the records */
    pfn_t frame[1024], whole = 16 * 256;
    unsigned nr = 0;
    port_boot(&m);
    while ((frame[nr] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE)
        nr++;
    for (unsigned popped = 0; popped <= 12; popped++) {
        mm_free(whole, 9);
        port_be_cpu(1);
        for (unsigned n = 0; n < popped; n++) /* out of a store with all the others */
            CHECK((frame[n] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE);
        for (unsigned n = 0; n < popped; n++) {
            struct map512 one = map512_range((unsigned)(frame[n] % 512), 1);
            port_be_cpu(n % 3 == 0 ? 1 : 2);
            if (n % 3 == 2)
                mm_free_mask(whole, &one);
            else
                mm_free(frame[n], 0);
        }
        port_be_cpu(0);
        CHECK_EQ(mm_take(9, TAKE_ANY, 0), whole);
        CHECK_EQ(mm_take(9, TAKE_ANY, 0), PFN_NONE);
    }
}

/* So can one whose frames have come back to a store that they were never taken from. */
static void case_what_came_back_makes_a_whole(void)
{
    enum { MOST = 20 };
    struct port_machine m = one_node(2, 16, 4);
    pfn_t frame[MOST], whole = 16 * 256;
    port_boot(&m);
    while (mm_take(0, TAKE_ANY, 0) != PFN_NONE)
        ;
    for (unsigned nr = 1; nr <= MOST; nr++) {
        mm_free(whole, 9);
        for (unsigned n = 0; n < nr; n++)
            CHECK((frame[n] = mm_take(0, TAKE_ANY, 0)) != PFN_NONE);
        mm_stores_flush();
        port_be_cpu(1);
        mm_free(mm_take(0, TAKE_ANY, 0), 0); /* out of a store with all the others */
        for (unsigned n = 0; n < nr; n++)
            mm_free(frame[n], 0);
        CHECK_EQ(total().stored_dirty, 512);
        port_be_cpu(0);
        CHECK_EQ(mm_take(9, TAKE_ANY, 0), whole);
    }
}

/* Who takes and frees one frame again and again has the same one, at home in its pageblock. */
static void case_a_freed_frame_comes_back_home(void)
{
    struct port_machine m = one_node(1, 16, 4);
    CHECK_EQ(port_boot(&m), 0);
    pfn_t other = mm_take(0, TAKE_ANY, 0), pfn = mm_take(0, TAKE_ANY, 0);
    u64 stored = total().stored_dirty;
    mm_free(pfn, 0);
    for (unsigned n = 0; n < 2000; n++) {
        pfn_t again = mm_take(0, TAKE_ANY, 0);
        CHECK_EQ(again, pfn);
        mm_free(again, 0);
    }
    CHECK_EQ(mm_check(false, say), 0);
    CHECK_EQ(total().stored_dirty, stored + 1);
    mm_free(other, 0);
    CHECK_EQ(total().stored_dirty, stored + 2);
    CHECK_EQ(mm_take(0, TAKE_ANY, 0), other);
    mm_free(other, 0);
    mm_stores_flush();
    CHECK_EQ(total().stored_dirty, 0);
    CHECK_EQ(mm_check(false, say), 0);
}

/* Pops have gone on to the next word of the store when a frame of the word before is freed. */
static void case_a_frame_freed_behind_the_pops_comes_next(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    pfn_t first = mm_take(0, TAKE_ANY, 0), pfn = first;
    mm_free(first, 0); /* from now on the word is at hand for pushes */
    for (unsigned n = 0; n < 65; n++)
        pfn = mm_take(0, TAKE_ANY, 0);
    CHECK_EQ(pfn, first + 64);
    mm_free(first + 7, 0);
    mm_free(first + 3, 0);
    CHECK_EQ(mm_take(0, TAKE_ANY, 0), first + 3);
    CHECK_EQ(mm_take(0, TAKE_ANY, 0), first + 7);
    CHECK_EQ(mm_take(0, TAKE_ANY, 0), first + 65);
    CHECK_EQ(mm_check(false, say), 0);
}

static void case_this_node_means_this_node(void)
{
    struct port_machine m = two_nodes(2, 16);
    struct mm_zone_info i;
    CHECK_EQ(port_boot(&m), 0);
    mm_node_info(1, &i);
    u64 n = 0, of_node = i.frames;
    pfn_t pfn;
    while ((pfn = mm_take(0, TAKE_CLEAN | TAKE_THIS_NODE, 1)) != PFN_NONE) {
        CHECK_EQ(zone_of(pfn)->node, 1);
        n++;
    }
    CHECK_EQ(n, of_node);
    CHECK(mm_take(0, TAKE_CLEAN, 1) != PFN_NONE);
    CHECK(mm_take(4, TAKE_CLEAN, 7) == PFN_NONE);
    CHECK(mm_take(ORDER_MAX + 1, TAKE_CLEAN, 0) == PFN_NONE);
}

static void case_who_does_not_care_leaves_the_clean(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    for (unsigned n = 0; n < 8; n++)
        mm_scrub_step();
    u64 clean = total().clean;
    CHECK_EQ(clean, 8 * 512);
    for (unsigned n = 0; n < 2000; n++)
        CHECK(mm_take(0, TAKE_ANY, 0) != PFN_NONE);
    CHECK(mm_take(9, TAKE_ANY, 0) != PFN_NONE);
    struct mm_zone_info i = total();
    CHECK_EQ(i.clean + i.stored_clean, clean);
}

static void case_odd_ranges(void)
{
    /* No multiple of anything, nodes that meet inside a pageblock, a hole, a tiny piece. */
    struct port_machine m = {.cpus = 2, .nodes = 2, .nr_ranges = 5, .cpu_node = {0, 1}};
    m.range[0] = (struct mm_range){16, 0x9f, 0};
    m.range[1] = (struct mm_range){0x1003, 0x4321, 0};
    m.range[2] = (struct mm_range){0x4321, 0x8007, 1};
    m.range[3] = (struct mm_range){0x8100, 0x8101, 1};
    m.range[4] = (struct mm_range){0x100000, 0x104000, 0};
    CHECK_EQ(port_boot(&m), 0);
    CHECK_EQ(mm_check(false, say), 0);
    CHECK(!mm_owns(0x4320)); /* metadata */
    CHECK(!mm_owns(15) && mm_owns(16) && !mm_owns(0x9f) && mm_owns(0x4000) && mm_owns(0x4321));
    CHECK(!mm_owns(0x8050) && !mm_owns(0x200000) && mm_owns(0x100000));
    u64 frames = total().frames, n = 0;
    static pfn_t got[65536];
    while ((got[n] = mm_take(0, TAKE_CLEAN, n & 1)) != PFN_NONE)
        n++;
    CHECK_EQ(n, frames);
    for (u64 k = 0; k < n; k++)
        mm_free(got[k], 0);
    mm_stores_flush();
    scrub_all();
    CHECK_EQ(mm_check(true, say), 0);
    CHECK_EQ(total().clean + total().dirty, frames);
}

static void case_bad_configurations(void)
{
    struct port_machine m = one_node(1, 16, 64);
    m.range[1] = (struct mm_range){m.range[0].start + 1, m.range[0].end + 1, 0};
    m.nr_ranges = 2;
    CHECK_EQ(port_boot(&m), E_INVAL); /* overlap */
    m.range[1] = (struct mm_range){m.range[0].end, m.range[0].end + 1, 3};
    CHECK_EQ(port_boot(&m), E_INVAL); /* no such node */
    m.nr_ranges = 1;
    m.zone_gib = 65;
    CHECK_EQ(port_boot(&m), E_INVAL);
    struct port_machine tiny = one_node(1, 16, 1);
    tiny.range[0].end = tiny.range[0].start + 1;
    CHECK_EQ(port_boot(&tiny), E_NOMEM);
}

static void case_several_zones_a_node(void)
{
    struct port_machine m = one_node(1, 512, 4096);
    m.zone_gib = 1;
    CHECK_EQ(port_boot(&m), 0);
    CHECK_EQ(mm_nr_zones(), 5);
    CHECK_EQ(mm_check(false, say), 0);
    unsigned giant = 0;
    while (mm_take(ORDER_MAX, TAKE_ANY, 0) != PFN_NONE)
        giant++;
    /* Each zone's metadata stands at its end, so only what is larger can have a whole GiB. */
    CHECK_EQ(giant, 0);
    CHECK(mm_take(17, TAKE_ANY, 0) != PFN_NONE);
}

/* ---- what must panic ---- */

static void expect_panic(void (*fn)(void), const char *what)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK_MSG(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s did not panic", what);
}

static void free_twice(void)
{
    pfn_t pfn = mm_take(3, TAKE_ANY, 0);
    mm_free(pfn, 3);
    mm_free(pfn, 3);
}

static void free_frame_twice(void)
{
    pfn_t pfn = mm_take(0, TAKE_ANY, 0);
    mm_free(pfn, 0);
    mm_free(pfn, 0);
    mm_stores_flush();
}

/* Each of them alone is no repetition of what went before it. */
static void free_frame_twice_with_another_between(void)
{
    pfn_t pfn = mm_take(9, TAKE_ANY, 0);
    mm_free(pfn, 0);
    mm_free(pfn + 64, 0);
    mm_free(pfn, 0);
    mm_stores_flush();
}

static void free_big_twice(void)
{
    pfn_t pfn = mm_take(11, TAKE_ANY, 0);
    mm_free(pfn, 11);
    mm_free(pfn, 11);
}

static void free_half_of_free(void)
{
    pfn_t pfn = mm_take(11, TAKE_ANY, 0);
    mm_free(pfn + 512, 0);
    mm_stores_flush();
    mm_free(pfn, 11);
}

static void free_stored(void)
{
    pfn_t pfn = mm_take(0, TAKE_CLEAN, 0); /* its neighbours are in the store now */
    mm_free(pfn + 1, 0);
    mm_stores_flush();
}

static void free_retired(void)
{
    pfn_t pfn = mm_take(0, TAKE_ANY, 0);
    mm_retire(pfn);
    mm_free(pfn, 0);
    mm_stores_flush(); /* now it is retired, and nobody's */
    mm_free(pfn, 0);
    mm_stores_flush();
}

static void free_misaligned(void)
{
    mm_free(mm_take(4, TAKE_ANY, 0) + 1, 1);
}

static void free_no_memory(void)
{
    mm_free(3, 0);
}

static void case_misuse_panics(void)
{
    struct port_machine m = one_node(1, 16, 64);
    CHECK_EQ(port_boot(&m), 0);
    scrub_all();
    expect_panic(free_twice, "freeing a block twice");
    expect_panic(free_frame_twice, "freeing a frame twice");
    expect_panic(free_frame_twice_with_another_between,
                 "freeing a frame twice, another one of its pageblock between");
    expect_panic(free_big_twice, "freeing a large block twice");
    expect_panic(free_half_of_free, "freeing a block that is partly free");
    expect_panic(free_stored, "freeing a frame that a store holds");
    expect_panic(free_retired, "freeing a retired frame");
    expect_panic(free_misaligned, "freeing a misaligned block");
    expect_panic(free_no_memory, "freeing what is no memory");
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_boot_is_all_dirty);
    RUN(case_every_order_comes_back);
    RUN(case_single_frames_merge_to_a_gigablock);
    RUN(case_clean_is_zero_and_dirt_is_exact);
    RUN(case_one_dirty_frame_in_a_gigabyte);
    RUN(case_mixed_large_blocks);
    RUN(case_fails_only_when_nothing_is_left);
    RUN(case_stored_frames_make_a_whole);
    RUN(case_what_came_back_makes_a_whole);
    RUN(case_a_freed_frame_comes_back_home);
    RUN(case_a_frame_freed_behind_the_pops_comes_next);
    RUN(case_this_node_means_this_node);
    RUN(case_who_does_not_care_leaves_the_clean);
    RUN(case_odd_ranges);
    RUN(case_bad_configurations);
    RUN(case_several_zones_a_node);
    RUN(case_misuse_panics);
    return check_done();
}
