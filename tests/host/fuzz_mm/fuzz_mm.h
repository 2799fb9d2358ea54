/*
 * The fuzzer of mm/: an input is a machine and what its CPUs do on it, one thread plays them all.
 *
 *   machine.c   from the first bytes: CPUs, nodes, distances, ranges of odd shapes
 *   calls.c     from the rest: which operation runs when, on which CPU, in the midst of which call
 *   ops.c       what owners do: takes, frees, retires
 *   scrub.c     scrub steps, claims held open, aged dirt; sleep, time, policies, strategies
 *   misuse.c    what must panic
 *   oracle.c    one byte a frame that says who has it and what it holds; every promise against it
 *   fuzz_mm.c   the way in; test_corpus_mm.c puts the kept inputs through it
 *
 * Where mm/ clears a frame or spins, another CPU may go on with the operations that follow in the
 * input, so claims and half-cleared blocks are open while the others take, free and retire.
 * The contents of frames are the oracle's: what mm/ may tell apart is zero from not zero, and
 * so a machine of a GiB costs a few pages. On small machines the frames are written too.
 */
#ifndef TESTS_HOST_FUZZ_MM_H
#define TESTS_HOST_FUZZ_MM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/host/port/port.h"
#include "mm/claim.h"
#include "mm/store.h"
#include "mm/zone.h"

enum { FUZZ_CPUS = 6, FUZZ_NODES = 4, NONE_CPU = 255 };

#define FUZZ_CHECK(cond, ...)                                                          \
    do {                                                                               \
        if (!(cond)) {                                                                 \
            fprintf(stderr, "%s:%d: promise broken: %s: ", __FILE__, __LINE__, #cond); \
            fprintf(stderr, __VA_ARGS__);                                              \
            fprintf(stderr, "\n");                                                     \
            abort();                                                                   \
        }                                                                              \
    } while (0)

/* True with LIMPID_FUZZ_TRACE in the environment: every operation is a line. */
extern bool fuzz_tracing;
#define TRACE(...)                        \
    do {                                  \
        if (fuzz_tracing)                 \
            fprintf(stderr, __VA_ARGS__); \
    } while (0)

void fuzz_log(const char *line);

/* ---- the input, read from its front; what is not there reads as zero ---- */

struct input {
    const u8 *at;
    size_t left;
};
extern struct input input;

static inline u8 input_byte(void)
{
    if (input.left == 0)
        return 0;
    input.left--;
    return *input.at++;
}

/* 0 to n - 1, of one byte. */
static inline unsigned input_below(unsigned n)
{
    return input_byte() % n;
}

static inline unsigned input_word(void)
{
    unsigned low = input_byte();
    return low | (unsigned)input_byte() << 8;
}

/* ---- machine.c ---- */

extern struct port_machine machine;
/* Boots what the input says. False: mm_init() refused it, as it should. */
bool machine_boot(void);

/* ---- oracle.c ---- */

enum frame_bits {
    F_OURS = 1,     /* one that mm/ manages */
    F_HELD = 2,     /* somebody was given it */
    F_DIRTY = 4,    /* free: mm/ has to clear it before it counts as clean */
    F_SOILED = 8,   /* it does not hold zeroes */
    F_BAD = 16,     /* retired, or will be when it comes back */
    F_AWAY = 32,    /* for the time of one search: claimed, or in a store */
    F_FREEING = 64, /* held, and its owner is giving it back now */
};

extern u8 *frames;
extern u32 *freed_ms; /* when a dirty free frame was freed */

void oracle_begin(void);
void oracle_end(void);
bool oracle_node_has_memory(unsigned node);

/* The free frames without those that mark_away() marked; `clean`: only such. node NONE: any. */
#define NODE_ANY (~0u)
bool oracle_would_serve(unsigned order, unsigned node, bool clean);
enum away { AWAY_CLAIMS = 1, AWAY_STORES = 2 };
void oracle_mark_away(unsigned which, bool mark);

bool oracle_clear(void *p, size_t bytes); /* a clear begins: is it one that is allowed? */
bool oracle_is_zero(const void *frame);
/*
 * All frames of a block that mm_take() gave: checks, and they are held and soiled from now on.
 * may_be_bad: some were retired while their taker cleared them.
 */
void oracle_taken(pfn_t pfn, unsigned order, bool clean, bool may_be_bad);
/* They have been given back. */
void oracle_freed(pfn_t pfn, u64 count, bool dirty);
void oracle_hold(pfn_t pfn, u64 count, bool freeing);

/* Everything adds up, at a moment when no call of mm/ is open. */
void oracle_audit(bool contents);
/* No dirt is forgotten (P9): nobody who should have been woken for it sleeps. */
void oracle_check_bells(void);
/* The walker finds nothing wrong; at any moment. */
void oracle_walk(bool contents);

extern unsigned oracle_clears; /* counts them */
extern u64 oracle_held;

/* ---- calls.c; what it shares with the other operations is in ops.h ---- */

void ops_run(void);
extern enum cpu_state cpu_states[FUZZ_CPUS]; /* what each CPU published last */

#endif
