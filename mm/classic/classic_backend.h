/*
 * The backend `classic`: what stands behind each call of mm/mm.h, and where. Contracts are there.
 */
#ifndef MM_CLASSIC_BACKEND_H
#define MM_CLASSIC_BACKEND_H

#include "mm/mm.h"

int heaps_init(const struct mm_config *cfg); /* heap.c */
bool heaps_own(pfn_t pfn);

pfn_t heaps_take(unsigned order, enum take_flags flags, unsigned node, u64 *cleared); /* take.c */
void heaps_free(pfn_t pfn, unsigned order);                                           /* free.c */
void heaps_free_mask(pfn_t first, const struct map512 *frames);
int heaps_retire(pfn_t pfn);

bool heaps_scrub_step(void); /* scrub.c */
bool heaps_scrub_may(void);
u64 heaps_scrub_may_at(void);
void heaps_bell_pass_on(void);
int heaps_strategy_set(const char *name); /* strategy.c */
const char *heaps_strategy_name(void);
const char *heaps_strategy_nth(unsigned i);
const struct strategy *heaps_strategy_now(void);
bool heaps_scrub_at_work(void);

unsigned heaps_nr_zones(void); /* info.c */
void heaps_zone_info(unsigned zone, struct mm_zone_info *out);
void heaps_cpu_info(unsigned cpu, struct mm_cpu_info *out);
void heaps_costs(struct mm_costs *out, bool reset);
unsigned heaps_check(bool contents, void (*say)(const char *line)); /* check.c */

#endif
