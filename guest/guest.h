/*
 * Guests: isolated contexts with memory of their own. What the kernel's prompt, the story and
 * the tests use; guest/guest.c implements it. A guest is an enemy: guest/abi.h is everything it
 * may ask for, guest/hypercall.c answers.
 *
 * Context of every call: a thread, interrupts on, no lock held.
 *
 * Next: guest/internal.h (struct guest, who owns what), guest/memory.c (where its frames come
 * from), guest/check.c (the check before mapping).
 */
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include "lib/base.h"
#include "lib/errors.h"
#include "sched/sched.h" /* ANY_CPU, ANY_NODE */

#define GUESTS_MAX        256 /* alive at the same time */
#define GUEST_NAME_MAX    32  /* with the NUL */
#define GUEST_SECRET_MAX  256 /* with the NUL */
#define GUEST_END_MAX     96  /* with the NUL */
#define GUEST_MEM_DEFAULT (16 * MIB)
#define GUEST_MEM_MAX     (128 * GIB)

struct guest_config {
    const char *name; /* the image in guests.cpio, and the guest's name */
    u64 mem;       /* bytes, rounded up to frames; 0: GUEST_MEM_DEFAULT. docs/abi.md: what counts */
    unsigned node; /* all of it from this node or none; ANY_NODE: the node of its CPU first */
    const char *kind;   /* NULL: "ring3" */
    const char *secret; /* NULL: none; given to the guest as the word secret= */
    unsigned cpu;       /* ANY_CPU: the least loaded one (of the node, if one is given) */
    bool linger;        /* given to the guest as the word linger */
    u64 cpu_ns;         /* it is killed when its threads have run for that long; 0: no limit */
};

/* All defaults: 16 MiB, any node, any CPU, ring3. */
#define GUEST_CONFIG_DEFAULT(image_name) \
    ((struct guest_config){.name = (image_name), .node = ANY_NODE, .cpu = ANY_CPU})

/*
 * The images are in this newc archive, which stays where it is. Once, before guest_start().
 * 0, or E_FORMAT (one line says why; then there are no images, and that is not fatal).
 */
int guests_init(const void *cpio, size_t bytes);
/* Calls say(ctx, name) for each image. */
void guests_each_image(void (*say)(void *ctx, const char *name), void *ctx);

/*
 * Takes memory, loads the image and starts it. 0 and its id (counted from 1), or an error, of
 * which one log line says exactly why; all memory is back by then. Memory that was dirty is
 * cleared meanwhile, preemptibly, unless the strategy says otherwise; it is read, and mapped, when
 * the guest first touches it.
 * E_INVAL (a bad value), E_NOENT (no such image, no such kind), E_FORMAT (a broken image),
 * E_NOMEM, E_NOSPC (GUESTS_MAX are alive), E_DIRTY (too many frames were not zero),
 * E_KILLED (by guest_kill() while it was being loaded).
 */
int guest_start(const struct guest_config *cfg, unsigned *id);
/*
 * Kills it, in whatever state and from any CPU, and returns at once: guest_wait() waits until
 * its memory is back. 0; E_NOENT (no such guest, or its memory is back already). Killing one
 * that is exiting already is no error.
 */
int guest_kill(unsigned id);
/* Waits until the guest has ended and its memory is back. 0, or E_NOENT (never existed). */
int guest_wait(unsigned id);

enum guest_state {
    GUEST_STARTING, /* memory is being taken and checked, the image loaded */
    GUEST_RUNNING,
    GUEST_EXITING, /* killed or ended; its memory is on the way back */
    GUEST_DEAD,    /* all of it is back; listed until the place in the table is needed */
};
const char *guest_state_name(enum guest_state state);

struct guest_stat {
    unsigned id;
    char name[GUEST_NAME_MAX];
    const char *kind;
    enum guest_state state;
    unsigned node, cpu;          /* where it lives and runs */
    u64 frames_given;            /* at start: mem= */
    u64 frames_held;             /* now: they are the guest's */
    u64 frames_mapped;           /* of these, the ones that it has touched */
    u64 frames_peak;             /* the most it ever held */
    u64 frames_got, frames_back; /* by mem_get and mem_give, since it started */
    u64 frames_own;              /* metadata and page tables, not counted above */
    u64 blocks;                  /* how many of its pages are 2 MiB pages now */
    u64 cpu_ns;                  /* how long its threads have run */
    unsigned threads;            /* that it has now */
    unsigned threads_started;    /* that it ever had */
    /*
     * Frames that were taken for it, its metadata included: clean; cleared by the taker; and
     * dirty, carried to the first touch.
     */
    u64 taken_clean, taken_cleared, taken_dirty;
    /*
     * First touches, and the time they took, the check included; the frames that they mapped;
     * how many of these were dirty; how many frames were scrubbed there, and the time that took;
     * how many were mapped dirty, for reading (`readonly`).
     */
    u64 touches, touch_ns, frames_touched, touched_dirty, cleared_at_touch, scrub_ns, frames_shown;
    u64 start_ns; /* time_ns() when it began to run */
    u64 load_ns;  /* from guest_start() to that */
    /* The rest is valid when it is dead. */
    char end[GUEST_END_MAX]; /* "exited with code 0", "killed", "killed: page fault at ..." */
    s64 exit_code;           /* of exit; -1 if it was killed */
    u64 destroy_ns;          /* from the kill or the exit to the last mm_free() */
    u64 free_ns;             /* the part of it that was giving memory back */
    u64 frees;               /* calls of mm_free() and mm_free_mask() that took */
};

/* One guest, alive or listed. 0 or E_NOENT. */
int guest_stat_get(unsigned id, struct guest_stat *out);
/* The smallest id above `after` that is alive or listed, 0: none. Start with 0. */
unsigned guest_next(unsigned after);

/* Killed or ended, and their memory is not all back yet. */
unsigned guests_exiting(void);
/* Waits until that is 0. */
void guests_wait_exiting(void);
/* Starting, running or exiting. */
unsigned guests_alive(void);
/* Frames that all guests hold, and what the kernel keeps about them: metadata, page tables. */
void guests_frames(u64 *memory, u64 *own);
/* Frames that the check before mapping found not to be zero since boot: refused, retired. */
u64 guests_leak_count(void);
/* Frames that were mapped dirty, because the strategy in force asked for it. */
u64 guests_shown_count(void);
/* Of the refused ones, those that could not be retired (mm_retire() was full): kept for good. */
u64 guests_leak_kept(void);

#endif
