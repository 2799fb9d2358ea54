/*
 * The list of scenarios, and what they share. Next: scenario_mm.c, scenario_idle.c.
 */
#include "scenarios.h"

const struct scenario *const scenarios[] = {
    &scenario_take_scrub,  &scenario_two_takers,
    &scenario_two_scrubs,  &scenario_merge,
    &scenario_merge_scrub, &scenario_stores,
    &scenario_refill,      &scenario_behind,
    &scenario_three_ones,  &scenario_two_zones,
    &scenario_zones_scrub, &scenario_two_hands,
    &scenario_hand_late,   &scenario_help,
    &scenario_far_store,   &scenario_retire,
    &scenario_retire_wait, &scenario_retire_owned,
    &scenario_whole,       &scenario_bell,
    &scenario_bell_twice,  &scenario_bell_again,
    &scenario_sleepers,    &scenario_gate_bell,
    &scenario_hand_bell,   &scenario_retire_bell,
    &scenario_leave,       &scenario_wake,
    &scenario_far_bell,    &scenario_far_leave,
    &scenario_doze,        &scenario_aged,
    &scenario_age_kept,    &scenario_push_pop,
    &scenario_whole_moves, &scenario_behind_gate,
    &scenario_walk,        &scenario_walk_owner,
    &scenario_mark,        &scenario_mark_huge,
    &scenario_batch,       &scenario_locked,
    &scenario_overlap,     &scenario_overlap_any,
    &scenario_eager,       &scenario_inplace,
    &scenario_ondemand,    &scenario_thread_claim,
    &scenario_thread_pair, NULL,
};

void own(pfn_t pfn, u64 frames, unsigned cpu)
{
    for (u64 n = 0; n < frames; n++) {
        struct frame *f = oracle_frame(pfn + n);
        if (f->owner == NOBODY)
            broke("the setup gives away frame %llu, which nobody has taken",
                  (unsigned long long)(pfn + n));
        f->owner = (u8)cpu;
    }
}

void free_one(pfn_t pfn)
{
    struct map512 frame = map512_range((unsigned)(pfn % 512), 1);
    do_free_mask(ALIGN_DOWN(pfn, 512), &frame);
}

void free_one_of(unsigned cpu, pfn_t pfn)
{
    play_cpu(cpu);
    free_one(pfn);
    play_cpu(0);
}

void check_no_dirt(void)
{
    for (unsigned n = 0; n < mm_zone_count; n++)
        if (mm_zones[n].nr_dirty)
            broke(
                "P9: zone %u rests with %llu dirty frames, and a CPU that could scrub them sleeps",
                n, (unsigned long long)mm_zones[n].nr_dirty);
}

void check_ninth_retired(void)
{
    const struct frame *f = oracle_frame(9);
    struct mm_zone_info info;
    for (unsigned n = 0; n < scenario->cpus; n++) {
        play_cpu(n);
        mm_stores_flush();
    }
    mm_zone_info(0, &info);
    if (!f->noted)
        broke("P2: frame 9 could not be retired");
    if (f->owner == NOBODY && info.retired != 1)
        broke("P2: frame 9 was retired and is nobody's, and %llu frames count as retired",
              (unsigned long long)info.retired);
}
