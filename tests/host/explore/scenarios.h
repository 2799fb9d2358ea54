/*
 * What the scenarios share: small moves, and checks at rest.
 */
#ifndef TESTS_HOST_SCENARIOS_H
#define TESTS_HOST_SCENARIOS_H

#include "explore.h"

/* In setups: frames that CPU 0 has taken are CPU `cpu`'s from now on. */
void own(pfn_t pfn, u64 frames, unsigned cpu);
/* Gives one frame straight back into the maps. */
void free_one(pfn_t pfn);
/* In setups: CPU `cpu` does. */
void free_one_of(unsigned cpu, pfn_t pfn);

/* At rest: where somebody idle could scrub, all is clean. */
void check_no_dirt(void);
/* Frame 9 was retired: it is gone, or still its owner's, or stored on its way out. */
void check_ninth_retired(void);

extern const struct scenario scenario_take_scrub, scenario_two_takers, scenario_two_scrubs,
    scenario_merge, scenario_merge_scrub, scenario_stores, scenario_refill, scenario_behind,
    scenario_three_ones, scenario_two_zones, scenario_zones_scrub, scenario_two_hands,
    scenario_hand_late, scenario_help, scenario_far_store, scenario_retire, scenario_retire_wait,
    scenario_retire_owned, scenario_whole, scenario_push_pop, scenario_behind_gate,
    scenario_whole_moves;
extern const struct scenario scenario_bell, scenario_bell_twice, scenario_bell_again,
    scenario_sleepers, scenario_gate_bell, scenario_hand_bell, scenario_retire_bell, scenario_leave,
    scenario_wake, scenario_far_bell, scenario_far_leave, scenario_doze, scenario_aged,
    scenario_age_kept;
extern const struct scenario scenario_walk, scenario_walk_owner, scenario_mark, scenario_mark_huge,
    scenario_batch, scenario_locked, scenario_overlap, scenario_overlap_any, scenario_eager,
    scenario_inplace, scenario_ondemand, scenario_thread_claim, scenario_thread_pair;

#endif
