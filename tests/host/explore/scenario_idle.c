/*
 * Scenarios with the idle loop, which is sched/idle.c as it stands: bells, gates that open,
 * leaving idle, help, dozing under a rate limit; and the aged step. Rules 13, 14, 15 and 17.
 *
 * At rest every CPU is halted or runs a thread for ever. Then nobody may sleep who could scrub.
 */
#include "scenarios.h"
#include "sched/thread.h"

static void idle(void)
{
    idle_loop(NULL);
}

/* ---- the bell ---- */

static void owned_setup(void)
{
    do_take(1, TAKE_ANY, 0);
}

static void free_pair(void)
{
    do_free(8, 1);
}

const struct scenario scenario_bell = {
    .name = "bell",
    .about = "a free, and a CPU about to sleep",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"frees", "idle loop"},
    .setup = owned_setup,
    .script = {free_pair, idle},
    .at_end = check_no_dirt,
};

static void free_singles(void)
{
    free_one(8);
    do_free(9, 0);
    do_take(0, TAKE_ANY, 0);
}

const struct scenario scenario_bell_twice = {
    .name = "bell_twice",
    .about = "two frees, one of them into a buffer, a take, and a CPU about to sleep",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"frees", "idle loop"},
    .setup = owned_setup,
    .script = {free_singles, idle},
};

static void free_pair_again(void)
{
    do_free(8, 1);
    if (do_take(1, TAKE_ANY, 0) != PFN_NONE)
        do_free(8, 1);
}

const struct scenario scenario_bell_again = {
    .name = "bell_again",
    .about = "who rang takes its dirt back and frees again; the kick was taken before cli",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"frees twice", "idle loop"},
    .setup = owned_setup,
    .script = {free_pair_again, idle},
    .at_end = check_no_dirt,
};

const struct scenario scenario_sleepers = {
    .name = "sleepers",
    .about = "one free and two CPUs about to sleep",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"frees", "idle loop", "idle loop"},
    .setup = owned_setup,
    .script = {free_pair, idle, idle},
    .at_end = check_no_dirt,
};

/* ---- the gate opens ---- */

static void take_two(void)
{
    do_take(1, TAKE_CLEAN, 0);
}

const struct scenario scenario_gate_bell = {
    .name = "gate_bell",
    .about = "a claim comes back dirty behind the gate; who opens it rings (rule 13)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"taker", "idle loop"},
    .script = {take_two, idle},
    .at_end = check_no_dirt,
};

/* ---- leaving idle ---- */

static void wake_and_free(void)
{
    do_wake(1);
    do_free(8, 1);
}

static void run_for_ever(void)
{
    engine_block(VCPU_DONE);
}

const struct scenario scenario_leave = {
    .name = "leave",
    .about = "memory is freed while the CPU that would look leaves for a thread (rule 14)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"frees", "idle, leaves for a thread", "idle loop"},
    .setup = owned_setup,
    .script = {wake_and_free, idle, idle},
    .threads = {[1] = run_for_ever},
    .at_end = check_no_dirt,
};

/* A thread that comes and goes. */
const struct scenario scenario_wake = {
    .name = "wake",
    .about = "a thread is readied on a CPU that scrubs or is about to sleep (P8)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"readies a thread", "idle loop"},
    .setup = owned_setup,
    .script = {wake_and_free, idle},
    .at_end = check_no_dirt,
};

/* ---- retiring ---- */

static void retire_setup(void)
{
    do_take(1, TAKE_ANY, 0);
    do_free(8, 0); /* dirty, and in the buffer of CPU 0 */
}

static void retire_ninth(void)
{
    do_retire(9);
}

const struct scenario scenario_retire_bell = {
    .name = "retire_bell",
    .about = "a retire sweeps a store: its dirt is rung for",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"retires frame 9", "idle loop"},
    .setup = retire_setup,
    .script = {retire_ninth, idle},
    .at_end = check_no_dirt,
};

/* ---- help ---- */

const struct scenario scenario_far_bell = {
    .name = "far_bell",
    .about = "a node without an idle CPU: the neighbour's sleeper is rung and helps (rule 15)",
    .cpus = 2,
    .nodes = 2,
    .cpu_node = {0, 1},
    .range = {{8, 11, 0}, {512, 514, 1}},
    .role = {"frees on node 0", "idle loop on node 1"},
    .setup = owned_setup,
    .script = {free_pair, idle},
    .at_end = check_no_dirt,
};

const struct scenario scenario_far_leave = {
    .name = "far_leave",
    .about = "the last idle CPU of a node leaves for a thread; the neighbour has to help",
    .cpus = 3,
    .nodes = 2,
    .cpu_node = {0, 0, 1},
    .range = {{8, 11, 0}, {512, 514, 1}},
    .role = {"frees on node 0", "idle on node 0, leaves", "idle loop on node 1"},
    .setup = owned_setup,
    .script = {wake_and_free, idle, idle},
    .threads = {[1] = run_for_ever},
    .at_end = check_no_dirt,
};

/* ---- dozing ---- */

static void doze_setup(void)
{
    struct mm_policy p = {.rate_mib = 1};
    mm_policy_set(&p);
    do_take(1, TAKE_ANY, 0);
}

static void free_one_by_one(void)
{
    free_one(8);
    free_one(9);
}

const struct scenario scenario_doze = {
    .name = "doze",
    .about = "an idle CPU that the rate limit holds back sleeps by its timer",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 12, 0}},
    .role = {"frees", "idle loop"},
    .setup = doze_setup,
    .script = {free_one_by_one, idle},
    .at_end = check_no_dirt,
};

/* ---- the aged step ---- */

static void aged_setup(void)
{
    struct mm_policy p = {.age_ms = 5};
    mm_policy_set(&p);
    scrub_everything();
    do_take(1, TAKE_ANY, 0);
    own(8, 2, 1);
    play_cpu(1);
    do_free(8, 0); /* old dirt in the buffer of CPU 1 */
    world.now += 20000000;
}

static void aged(void)
{
    for (unsigned n = 0; n < 4 && do_aged_step(0) == 0; n++)
        ;
}

static void free_ninth(void)
{
    free_one(9);
}

const struct scenario scenario_aged = {
    .name = "aged",
    .about = "the aged step finds old dirt in a store and in the maps (rule 17)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"aged step", "frees", "taker"},
    .setup = aged_setup,
    .script = {aged, free_ninth, take_two},
};

static void hand_bell_setup(void)
{
    struct mm_policy p = {.age_ms = 5};
    mm_policy_set(&p);
    world.now += 20000000;
}

static void aged_once(void)
{
    do_aged_step(0);
}

static void take_one(void)
{
    do_take(0, TAKE_CLEAN, 0);
}

const struct scenario scenario_hand_bell = {
    .name = "hand_bell",
    .about = "an aged step hands a frame over and leaves dirt; who slept behind the gate is rung "
             "for (rule 13)",
    .cpus = 3,
    .nodes = 1,
    .range = {{8, 11, 0}},
    .role = {"taker", "aged step", "idle loop"},
    .setup = hand_bell_setup,
    .script = {take_one, aged_once, idle},
    .at_end = check_no_dirt,
};

/* ---- age ---- */

static void age_setup(void)
{
    world.now += 20000000; /* all there is became dirty at boot, 20 ms ago */
}

static void scrub_once(void)
{
    do_scrub_step();
}

static void check_age(void)
{
    struct mm_zone_info info;
    mm_zone_info(0, &info);
    if (info.dirty && info.oldest_dirt_ms < 20)
        broke("P9: dirt of 20 ms ago counts as %llu ms old: it will be forgotten again and again",
              (unsigned long long)info.oldest_dirt_ms);
}

const struct scenario scenario_age_kept = {
    .name = "age_kept",
    .about = "a claim is called back: what it returns dirty is as old as before (rule 17)",
    .cpus = 2,
    .nodes = 1,
    .range = {{8, 13, 0}},
    .role = {"taker", "idle scrub"},
    .setup = age_setup,
    .script = {take_two, scrub_once},
    .at_end = check_age,
};
