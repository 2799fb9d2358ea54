/*
 * Scenarios of takers, freeing CPUs and scrubbers: the claim protocol's rules 1 to 12 and 16.
 * Machines are as small as the race allows. The last frame of a node's largest range holds its
 * zones' records, so {8, 11, 0} is a node of frames 8 and 9 and 10 gone for the records.
 */
#include "scenarios.h"

/* Takes a block of clean memory and gives it back at once. */
static void take_and_free(unsigned order, unsigned flags)
{
    do_free(do_take(order, flags, 0), order);
}

static void take_pair(void)
{
    take_and_free(1, TAKE_CLEAN);
}

static void take_one(void)
{
    take_and_free(0, TAKE_CLEAN);
}

static void take_any(void)
{
    take_and_free(0, TAKE_ANY);
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

static void scrub_thrice(void)
{
    scrub_twice();
    do_scrub_step();
}

/* ---- the gate ---- */

const struct scenario scenario_take_scrub = {
    .name = "take_scrub",
    .about = "a taker wants a pair of which a scrubber may hold both (rules 4, 6, 7, 16)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker", "idle scrub"},
    .script = {take_pair, scrub_thrice},
};

const struct scenario scenario_two_takers = {
    .name = "two_takers",
    .about = "two takers at one gate: it is a count (rule 5)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker of a pair", "idle scrub", "taker of one"},
    .script = {take_pair, scrub_twice, take_one},
};

const struct scenario scenario_two_scrubs = {
    .name = "two_scrubs",
    .about = "a taker and two scrubbers, a claim in each of two pageblocks",
    .cpus = 3,
    .nodes = 1,
    .range = {{510, 515, 0}},
    .role = {"taker", "idle scrub", "idle scrub"},
    .script = {take_pair, scrub_once, scrub_once},
};

/* Only 8 and 9 are a pair: neither 513 nor 514 can help who wants one. */
const struct scenario scenario_behind_gate = {
    .name = "behind_gate",
    .about = "a scrubber has seen the gate open and claims when it is shut (rule 6)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 10, 0}, {513, 516, 0}},
    .role = {"taker of a pair", "idle scrub", "idle scrub"},
    .script = {take_pair, scrub_once, scrub_once},
};

/* ---- merging ---- */

static void merge_setup(void)
{
    scrub_everything();
    do_take(2, TAKE_CLEAN, 0); /* all there is */
    own(8, 2, 1);
    own(10, 2, 2);
}

static void free_pair_low(void)
{
    free_one(8);
    do_free(9, 0); /* through the buffer of its CPU */
}

static void free_pair_high(void)
{
    do_free(10, 1);
}

static void take_four(void)
{
    take_and_free(2, TAKE_CLEAN);
}

const struct scenario scenario_merge = {
    .name = "merge",
    .about = "halves come home while somebody wants the whole",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"taker of four", "frees two", "frees two"},
    .setup = merge_setup,
    .script = {take_four, free_pair_low, free_pair_high},
};

static void merge_scrub_setup(void)
{
    merge_setup();
    free_one_of(1, 8);
}

static void free_ninth(void)
{
    free_one(9);
    take_and_free(1, TAKE_CLEAN);
}

const struct scenario scenario_merge_scrub = {
    .name = "merge_scrub",
    .about = "a buddy comes home while the other is claimed, and both are wanted",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"idle scrub", "frees and takes"},
    .setup = merge_scrub_setup,
    .script = {scrub_thrice, free_ninth},
};

/* ---- stores ---- */

static void take_two_ones(void)
{
    pfn_t one = do_take(0, TAKE_CLEAN, 0), two = do_take(0, TAKE_CLEAN, 0);
    do_free(one, 0);
    do_free(two, 0);
}

const struct scenario scenario_stores = {
    .name = "stores",
    .about = "a store is swept while its owner pops (rules 1 and 3)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"taker of a pair", "takes from its store"},
    .setup = scrub_everything,
    .script = {take_pair, take_two_ones},
};

const struct scenario scenario_refill = {
    .name = "refill",
    .about = "the last frames go into a store while somebody looks for one (rule 2)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker", "takes, its store is filled"},
    .setup = scrub_everything,
    .script = {take_one, take_one},
};

static void push_pop_setup(void)
{
    scrub_everything();
    do_take(1, TAKE_CLEAN, 0); /* 8 and 9; 10 is left */
    own(8, 1, 1);
    own(9, 1, 2);
    free_one_of(2, 9);
    play_cpu(2);
    scrub_everything();
    do_take(0, TAKE_CLEAN, 0); /* one of 9 and 10; the other stays in the store of CPU 2 */
}

static void free_eighth(void)
{
    do_free(8, 0);
}

static void take_kept(void)
{
    do_take(0, TAKE_CLEAN, 0);
}

const struct scenario scenario_push_pop = {
    .name = "push_pop",
    .about = "a store is filled behind a sweep, one in front of it is emptied (rules 1, 3)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 12, 0}},
    .role = {"taker", "frees into its buffer", "pops its last"},
    .setup = push_pop_setup,
    .script = {take_kept, free_eighth, take_kept},
};

static void behind_setup(void)
{
    do_take(1, TAKE_ANY, 0);
    own(8, 2, 1);
}

static void free_behind(void)
{
    do_free(8, 0);
    do_free(9, 0);
}

const struct scenario scenario_behind = {
    .name = "behind",
    .about = "frames in a buffer of freed ones are free (rule 1), and scrubbed",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker of a pair", "frees one by one", "idle scrub"},
    .setup = behind_setup,
    .script = {take_pair, free_behind, scrub_once},
};

const struct scenario scenario_three_ones = {
    .name = "three_ones",
    .about = "who cares, who does not, and a scrubber, for single frames",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"takes clean", "takes any", "idle scrub"},
    .script = {take_one, take_any, scrub_once},
};

/* ---- two zones ---- */

static void zones_setup(void)
{
    scrub_everything();
    play_cpu(1);
    scrub_everything();
    do_take(0, TAKE_CLEAN | TAKE_THIS_NODE, 0);
}

/* Gives back at home and takes the neighbour's last. */
static void free_home_take_far(void)
{
    free_one(8);
    do_take(0, TAKE_CLEAN | TAKE_THIS_NODE, 1);
}

static void take_anywhere(void)
{
    do_take(0, TAKE_CLEAN, 0);
}

const struct scenario scenario_two_zones = {
    .name = "two_zones",
    .about = "failing is decided over all zones at once (rule 8)",
    .cpus = 2,
    .nodes = 2,
    .range = {{8, 10, 0}, {512, 514, 1}},
    .role = {"taker", "frees at home, takes the neighbour's"},
    .setup = zones_setup,
    .script = {take_anywhere, free_home_take_far},
};

const struct scenario scenario_zones_scrub = {
    .name = "zones_scrub",
    .about = "the same with a claim in the way",
    .cpus = 3,
    .nodes = 2,
    .cpu_node = {0, 0, 1},
    .range = {{8, 10, 0}, {512, 514, 1}},
    .role = {"taker", "frees at home, takes the neighbour's", "idle scrub of node 1"},
    .setup = zones_setup,
    .script = {take_anywhere, free_home_take_far, scrub_twice},
};

const struct scenario scenario_two_hands = {
    .name = "two_hands",
    .about = "a taker waits in two zones: both could hand a frame over, and one does",
    .cpus = 3,
    .nodes = 2,
    .cpu_node = {0, 0, 1},
    .range = {{8, 10, 0}, {512, 514, 1}},
    .role = {"taker", "idle scrub of node 0", "idle scrub of node 1"},
    .script = {take_anywhere, scrub_once, scrub_once},
};

static void hand_late_setup(void)
{
    do_retire(510);
}

const struct scenario scenario_hand_late = {
    .name = "hand_late",
    .about =
        "a return near a bad frame hands nothing over; one looks for it, and the other return does",
    .cpus = 3,
    .nodes = 1,
    .range = {{510, 514, 0}},
    .role = {"taker", "idle scrub", "idle scrub too"},
    .setup = hand_late_setup,
    .script = {take_one, scrub_once, scrub_once},
};

static void far_store_setup(void)
{
    scrub_everything();
    play_cpu(1);
    scrub_everything();
    do_take(0, TAKE_CLEAN | TAKE_THIS_NODE, 0); /* 8 */
    do_take(0, TAKE_CLEAN, 1);                  /* 512; 513 stays in the store of CPU 1 */
}

/* Gives back frame 8 of node 0, then pops frame 513 of its own. */
static void free_far_pop_home(void)
{
    free_one(8);
    do_take(0, TAKE_CLEAN, 1);
}

const struct scenario scenario_far_store = {
    .name = "far_store",
    .about = "the last frame is in a far store, then at home: there is always one (rules 1, 8)",
    .cpus = 2,
    .nodes = 2,
    .cpu_node = {0, 1},
    .range = {{8, 10, 0}, {512, 515, 1}},
    .role = {"taker on node 0", "frees on node 0, pops on node 1"},
    .setup = far_store_setup,
    .script = {take_anywhere, free_far_pop_home},
};

static void take_pair_twice(void)
{
    pfn_t one = do_take(1, TAKE_CLEAN, 0);
    do_take(1, TAKE_CLEAN, 0);
    do_free(one, 1);
}

const struct scenario scenario_help = {
    .name = "help",
    .about = "a CPU of node 1 helps node 0, whose taker wants both nodes' memory",
    .cpus = 2,
    .nodes = 2,
    .cpu_node = {0, 1},
    .range = {{8, 11, 0}, {512, 515, 1}},
    .role = {"taker on node 0", "idle scrub of node 1"},
    .script = {take_pair_twice, scrub_thrice},
};

/* ---- retiring ---- */

static void retire_ninth(void)
{
    do_retire(9);
}

static void retire_twice(void)
{
    do_retire(9);
    do_retire(9);
}

const struct scenario scenario_retire = {
    .name = "retire",
    .about = "a frame is retired while it may be free, claimed, stored or taken (rule 9)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"retires frame 9", "idle scrub", "takes and frees"},
    .script = {retire_twice, scrub_twice, take_two_ones},
    .at_end = check_ninth_retired,
};

const struct scenario scenario_retire_wait = {
    .name = "retire_wait",
    .about = "a frame of the awaited claim is retired: the taker must not wait for it (rule 7)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker of a pair", "idle scrub", "retires frame 9"},
    .script = {take_pair, scrub_twice, retire_ninth},
    .at_end = check_ninth_retired,
};

static void retire_owned_setup(void)
{
    do_take(1, TAKE_ANY, 0);
    own(8, 2, 1);
}

const struct scenario scenario_retire_owned = {
    .name = "retire_owned",
    .about = "an allocated frame is retired while its owner gives it back, one way or another",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"retires frame 9", "frees frames 8 and 9", "taker"},
    .setup = retire_owned_setup,
    .script = {retire_ninth, free_behind, take_one},
    .at_end = check_ninth_retired,
};

/* ---- the upper storey ---- */

static void whole_setup(void)
{
    scrub_everything();
    take_and_free(1, TAKE_CLEAN); /* a whole pageblock, two of whose frames are dirty */
}

static void take_pageblock(void)
{
    do_take(9, TAKE_CLEAN, 0);
}

const struct scenario scenario_whole = {
    .name = "whole",
    .about = "a whole pageblock is wanted and two of its frames are claimed",
    .cpus = 2,
    .nodes = 1,
    .range = {{512, 1025, 0}},
    .role = {"taker of 512 frames", "idle scrub"},
    .setup = whole_setup,
    .script = {take_pageblock, scrub_twice},
};

static pfn_t last_of_one; /* set by the setup */

static void free_last_of_one(void)
{
    do_free(last_of_one, 0);
}

/*
 * One pageblock is whole but for a frame that CPU 1 owns. The other is in the take store of
 * CPU 2, but for a frame that is in the maps.
 */
static void whole_moves_setup(void)
{
    scrub_everything();
    pfn_t one = do_take(9, TAKE_CLEAN, 0), other = do_take(9, TAKE_CLEAN, 0);
    do_free(other, 9);
    scrub_everything();
    play_cpu(2);
    free_one(do_take(0, TAKE_CLEAN, 0));
    play_cpu(0);
    last_of_one = one;
    own(one, 1, 1);
    for (unsigned order = 0; order < 9; order++)
        do_free(one + (1ULL << order), order);
    mm_stores_flush();
    scrub_everything();
}

const struct scenario scenario_whole_moves = {
    .name = "whole_moves",
    .about = "one pageblock becomes whole in a store while another is spoilt in one (rule 1)",
    .cpus = 3,
    .nodes = 1,
    .range = {{512, 1537, 0}},
    .role = {"taker of 512 frames", "frees the last of one", "pops from the other"},
    .setup = whole_moves_setup,
    .script = {take_pageblock, free_last_of_one, take_kept},
};
