/*
 * The backend `limpid`: what stands behind each call of mm/mm.h, and where. Contracts are there.
 */
#ifndef MM_LIMPID_H
#define MM_LIMPID_H

#include "mm/mm.h"

int limpid_init(const struct mm_config *cfg); /* mm/zone.c */
bool limpid_owns(pfn_t pfn);

pfn_t limpid_take(unsigned order, enum take_flags flags, unsigned node, u64 *cleared); /* take.c */
/* As limpid_take() with TAKE_CLEAN, but clears nothing; the dirty ones into *dirt. */
pfn_t limpid_take_dirty(unsigned order, enum take_flags flags, unsigned node, struct map512 *dirt);
void limpid_scrub_carried(pfn_t pfn, unsigned frames);
void limpid_free(pfn_t pfn, unsigned order); /* free.c */
void limpid_free_mask(pfn_t first, const struct map512 *frames);
int limpid_retire(pfn_t pfn); /* retire.c */

bool limpid_scrub_step(void); /* scrub.c */
bool limpid_scrub_may(void);
u64 limpid_scrub_may_at(void);
void limpid_stores_flush(void);         /* store_move.c */
void limpid_bell_pass_on(void);         /* bell.c */
u64 limpid_aged_step(unsigned node);    /* aged.c */
int limpid_strategy_set(const char *s); /* strategy/strategy.c */
const char *limpid_strategy_name(void);
const struct strategy *limpid_strategy_now(void);
const char *limpid_strategy_nth(unsigned i);

unsigned limpid_nr_zones(void); /* info.c */
void limpid_zone_info(unsigned zone, struct mm_zone_info *out);
void limpid_cpu_info(unsigned cpu, struct mm_cpu_info *out);
void limpid_costs(struct mm_costs *out, bool reset);
unsigned limpid_check(bool contents, void (*say)(const char *line)); /* check.c */

#endif
