/*
 * The designs of the thread, each on its own ground, all in the thread's own situation: A takes,
 * B is idle and scrubs, and all that there is has just been freed. What each breaks by a schedule
 * (`breaks`), the search has to find by itself: in `walk` and `mark` the panic of Bob's two
 * columns, for a block that leaves its list has poisoned links. Under `claim` the same search has
 * to find nothing. The others keep memory whole, whatever else they cost, and are searched, too.
 * Next: mm/classic/strategy/strategy.h.
 */
#include "scenarios.h"

static void take_four(void)
{
    do_take(2, TAKE_CLEAN, 0); /* all there is */
}

static void take_four_and_free(void)
{
    do_free(do_take(2, TAKE_CLEAN, 0), 2);
}

static void take_pair_and_free(void)
{
    do_free(do_take(1, TAKE_CLEAN, 0), 1);
}

static void take_any_and_free(void)
{
    do_free(do_take(1, TAKE_ANY, 0), 1);
}

static void scrub_once(void)
{
    do_scrub_step();
}

static void scrub_twice(void)
{
    do_scrub_step();
    do_scrub_step();
}

/* Frames 8 to 11 are free and dirty, one block of four. */
#define IN_THE_THREAD(its_alloc, its_strategy)                               \
    .alloc = (its_alloc), .strategy = (its_strategy), .cpus = 2, .nodes = 1, \
    .range = {{8, 13, 0}}, .role = {"alloc path", "idle scrub path"}

const struct scenario scenario_walk = {
    IN_THE_THREAD("classic", "walk"),
    .name = "walk",
    .about = "the naive ancestor: lists are walked without the lock",
    .breaks = "panic: P2 one owner: walk: stale link",
    .script = {take_four, scrub_once},
};

const struct scenario scenario_walk_owner = {
    IN_THE_THREAD("classic", "walk"),
    .name = "walk_owner",
    .about = "and what it walks over has an owner by now",
    .breaks = "P2: frame",
    .script = {take_four, scrub_once},
};

const struct scenario scenario_mark = {
    IN_THE_THREAD("classic", "mark"),
    .name = "mark",
    .about = "Konrad's two flags, and Bob's two columns",
    .breaks = "panic: P2 one owner: mark: stale link",
    .script = {take_four, scrub_once},
};

const struct scenario scenario_mark_huge = {
    IN_THE_THREAD("classic", "mark"),
    .name = "mark_huge",
    .about = "Jan's objection: all is one block, it is marked, and nothing is to be had",
    .breaks = "P4: CPU 0's take",
    .script = {take_pair_and_free, scrub_once},
};

const struct scenario scenario_batch = {
    IN_THE_THREAD("classic", "batch"),
    .name = "batch",
    .about = "Bob's batches: memory is there, on a private list, and a request fails",
    .breaks = "P4: CPU 0's take",
    .script = {take_pair_and_free, scrub_once},
};

const struct scenario scenario_locked = {
    IN_THE_THREAD("classic", "locked"),
    .name = "locked",
    .about = "iterating with the heap lock held: it is held across clears",
    .breaks = "P5: frame",
    .script = {take_pair_and_free, scrub_once},
};

const struct scenario scenario_overlap = {
    IN_THE_THREAD("classic", "overlap"),
    .name = "overlap",
    .about = "Jan's: in place, and the taker clears what is being cleared",
    .breaks = "P6: frame",
    .script = {take_pair_and_free, scrub_once},
};

const struct scenario scenario_overlap_any = {
    IN_THE_THREAD("classic", "overlap"),
    .name = "overlap_any",
    .about = "the same for who wants no zeroes: nothing is cleared twice, and no late clear hits",
    .script = {take_any_and_free, scrub_twice},
};

const struct scenario scenario_eager = {
    IN_THE_THREAD("classic", "eager"),
    .name = "eager",
    .about = "who frees, clears",
    .breaks = "P7: a free",
    .script = {take_pair_and_free, scrub_once},
};

const struct scenario scenario_inplace = {
    IN_THE_THREAD("classic", "inplace"),
    .name = "inplace",
    .about = "Xen since 2017: in place, a taker stops who scrubs and waits for one clear",
    .script = {take_four_and_free, scrub_twice},
};

const struct scenario scenario_ondemand = {
    IN_THE_THREAD("classic", "ondemand"),
    .name = "ondemand",
    .about = "who takes, clears: no schedule breaks that",
    .script = {take_four_and_free, scrub_twice},
};

const struct scenario scenario_thread_claim = {
    IN_THE_THREAD(NULL, "claim"),
    .name = "thread_claim",
    .about = "the same situation, and claims: nothing is to be found",
    .script = {take_four_and_free, scrub_twice},
};

const struct scenario scenario_thread_pair = {
    IN_THE_THREAD(NULL, "claim"),
    .name = "thread_pair",
    .about = "and with a request that leaves a half",
    .script = {take_pair_and_free, scrub_twice},
};
