/*
 * What the operations share: calls.c says who runs when, ops.c, scrub.c and misuse.c what is done.
 * Next: calls.c.
 */
#ifndef TESTS_HOST_FUZZ_MM_OPS_H
#define TESTS_HOST_FUZZ_MM_OPS_H

#include "fuzz_mm.h"

/* ---- calls.c ---- */

enum call { CALL_OTHER, CALL_TAKE, CALL_CLEARING_TAKE, CALL_SCRUB };
struct open_call {
    enum call call;
    unsigned cpu;
    unsigned nest_after; /* at this event from now another CPU goes on; 0: at none */
    unsigned clears;
    /* CALL_TAKE: */
    unsigned order, node, asked;
    bool spun;
};
extern struct open_call open_call[];
extern unsigned depth; /* calls open; the running one is open_call[depth - 1] */

unsigned calls_open(enum call call); /* how many of that kind */
bool cpu_is_free(unsigned cpu);      /* no call of it is open, nor a claim */

void set_state(enum cpu_state state);
/* What the idle loop does when a thread takes over, and the other way round. */
void be_thread(void);
void be_idle(void);

/* ---- ops.c ---- */

void owners_begin(void);    /* they hold nothing */
void owners_free_all(void); /* what they hold */
/* False: it failed, as it may, or was not begun. */
bool take(unsigned order, unsigned flags, unsigned node);
/* Any pfn: of a range, held, claimed or stored, or of nobody. */
pfn_t input_pfn(void);

void op_take(void);
void op_take_many(void);
void op_free(void);
void op_free_many(void);
void op_free_part(void);
void op_free_mask(void);
void op_retire(void);
void op_retire_many(void);

/* ---- scrub.c ---- */

void claims_begin(void);          /* none is held open */
bool claim_is_open(unsigned cpu); /* by op_claim_open() */
/* The first CPU whose claim is held open, in a zone that fits (NULL: in any); or NONE_CPU. */
unsigned claim_find(bool (*fits)(const struct zone *z));
/* That CPU clears so many frames of its claim, at most, and gives it back. */
void close_of_cpu(unsigned cpu, unsigned clears);

void op_scrub(void);
void op_claim_open(void);
void op_claim_close(void);
void op_aged(void);

void op_flush(void);
void op_sleep(void);
void op_rest(void);
void op_clock(void);
void op_policy(void);
void op_strategy(void);
void op_enable(void);
void op_resched(void);
void op_audit(void);

/* ---- misuse.c ---- */

extern bool misusing; /* the call that runs now must panic */
void on_panic(const char *line);
bool op_misuse(void); /* true if it was one */

#endif
