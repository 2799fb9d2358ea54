/*
 * struct guest, and what the files of guest/ want of each other. Who changes what:
 *
 *  (t) guest_table_lock: which guest has which place in the table.
 *  (g) the guest's own lock: its state, its thread, how it ended. Short; never while memory moves.
 *  (m) the guest's memory gate (guest_memory_enter), a lock that may sleep: its map of memory and
 *      its page tables. Who uses the guest's memory is inside, who takes a frame away from it is
 *      inside: so no frame is pulled away while somebody copies from it.
 *  (c) constant from the time the guest runs.
 *  (o) its own thread only.
 *
 * A frame belongs to a guest exactly as long as the guest's map of memory (guest/memory.c) has
 * it. Only the guest's own thread gives memory back, in mem_give and at its end (guest_finish);
 * killing means telling that thread. So there is one order of events, whoever kills:
 *
 *   killer                              the guest's thread, on its CPU
 *   state = EXITING (g)
 *   thread_interrupt, cpu_kick
 *                                       leaves ring 3, or wakes up, or ends its hypercall
 *                                       on_user_return() sees EXITING
 *                                       leaves the address space: no CPU runs in it now
 *                                       gives back frames, tables, metadata
 *                                       state = DEAD (g), wakes who waits
 *
 * Next: guest/guest.c.
 */
#ifndef GUEST_INTERNAL_H
#define GUEST_INTERNAL_H

#include "arch.h"
#include "guest/abi.h"
#include "guest/guest.h"
#include "lib/cpio.h"
#include "lib/elf64.h"
#include "mm/mm.h"
#include "sched/sched.h"

struct guest;

/*
 * A kind of guest: what differs between an address space in ring 3 and, one day, a machine of
 * its own with nested tables. guest/ring3.c has the one that there is.
 */
struct guest_ops {
    const char *kind;
    /* An address space without any memory, for the thread that will run in it. 0 or E_NOMEM. */
    int (*create)(struct guest *g);
    /* As aspace_map() and aspace_unmap(): inside the memory gate. */
    int (*map)(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot);
    int (*unmap)(struct guest *g, u64 va, unsigned order);
    /* What was unmapped in the range is gone from every CPU when this returns. */
    void (*flush)(struct guest *g, u64 va, u64 bytes);
    /* The frame behind an address, if the guest itself may use it so; else PFN_NONE. */
    pfn_t (*walk)(struct guest *g, u64 va, enum prot prot);
    /* Runs it, on its own thread, until it leaves through an upcall. */
    void (*run)(struct guest *g) __attribute__((noreturn));
    /* From here on no CPU runs in it or holds translations of it. Its own thread. */
    void (*leave)(struct guest *g);
    /* Gives the tables back. After leave(). */
    void (*destroy)(struct guest *g);
    /* Frames that the tables take. */
    u64 (*table_frames)(const struct guest *g);
};

extern const struct guest_ops ring3_ops;

/*
 * Frames on their way back, collected by pageblock, so that those of one pageblock take one
 * mm_free_mask(): a guest that got its memory in crumbs has several pageblocks going at once.
 */
#define GATHER_MAX 32
struct gather {
    pfn_t first[GATHER_MAX]; /* of the pageblock; PFN_NONE: nothing here */
    struct map512 frames[GATHER_MAX];
    unsigned last;   /* where the last frame went: mostly the next one goes there, too */
    unsigned victim; /* the next one to be given back when all are in use */
    u64 *frees;      /* counts the calls */
};

#define GUEST_LINE_MAX 200
/* One frame of its own: what would bloat the table of guests. */
struct guest_head {
    u8 fpu[512] __attribute__((aligned(16))); /* FXSAVE area; only the context switch uses it */
    struct gather gather;                     /* (m) */
    char line[GUEST_LINE_MAX + 1];            /* (o) the console line that is not complete yet */
    unsigned line_len;                        /* (o) */
};

struct guest {
    struct spinlock lock;        /* first, with the gate: they outlive the guest */
    struct waitq gate;           /* the memory gate: who waits to get in */
    unsigned id;                 /* (t) 0: this place is free */
    char name[GUEST_NAME_MAX];   /* (c) */
    const struct guest_ops *ops; /* (c) */
    unsigned node;               /* (c) where its memory is asked for */
    enum take_flags take;        /* (c) TAKE_CLEAN, and TAKE_THIS_NODE if a node was asked for */
    unsigned cpu;                /* (c) */
    enum guest_state state;      /* (g); read without it by its thread, see guest_must_end() */
    struct thread *thread;       /* (g) NULL: not created yet, or gone */
    bool say_end;                /* (o) its end has not been told yet */
    s64 exit_code;               /* (g) */
    char end[GUEST_END_MAX];     /* (g) */
    u64 started_at, load_ns;     /* (c) */
    u64 cpu_limit_ns;            /* (c) 0: none */
    u64 cpu_ns;                  /* (g) that its thread has run: once `thread` is gone */
    u64 ended_at;                /* (g) time_ns() of the kill or the exit */
    u64 destroy_ns, free_ns;     /* (g) once it is dead */

    unsigned gate_taken;     /* (a) 1: somebody is in; cas to enter, release to leave */
    struct aspace space;     /* (m) kind ring3 */
    bool space_made;         /* (m) */
    struct guest_head *head; /* (m) */
    u64 *gib;                /* (m) guest/memory.c: a frame of 512 entries, one a GiB */
    unsigned dirty_seen;     /* (m) frames of this guest that the check refused */
    u64 entry;               /* (c) */
    /* (m), read without it for listings: (a) relaxed, each a count by itself. */
    u64 frames_given, frames_held, frames_peak, frames_limit, frames_got, frames_back;
    u64 frames_own;                 /* metadata; tables are not counted here */
    u64 taken_clean, taken_cleared; /* frames that came clean, that were cleared for it */
    u64 blocks;
    u64 frees;
};

/* Counters that listings read while they change: a count by itself, it orders nothing. */
#define count_add(p, n) store_relaxed((p), load_relaxed(p) + (u64)(n))
#define count_sub(p, n) store_relaxed((p), load_relaxed(p) - (u64)(n))

/* ---- guest.c: the table and the states ---- */
/* The guest of the running thread; panics if there is none. */
struct guest *guest_self(void);
/* Somebody has ended it: memory that is being taken is not needed any more. */
static inline bool guest_must_end(const struct guest *g)
{
    /* Relaxed: orders nothing. Who set it kicks this CPU afterwards. */
    return load_relaxed(&g->state) == GUEST_EXITING;
}
/* Ends the calling guest thread: memory back, state DEAD. `fmt` says how it ended. */
void guest_end(struct guest *g, s64 code, const char *fmt, ...) __printf_like(3, 4)
    __attribute__((noreturn));
/* A new guest in state STARTING. NULL: all places are taken by the living. */
struct guest *guest_table_add(const struct guest_config *cfg, const struct guest_ops *ops);
/* A guest that never ran leaves no trace. The place may be another's already: the id says. */
void guest_table_remove(struct guest *g, unsigned id);
/* Makes it EXITING and tells its thread. True if it was alive until now. */
bool guest_mark(struct guest *g, s64 code, const char *fmt, ...) __printf_like(3, 4);
/* Gives everything back and ends the thread. The state is EXITING already. */
void guest_finish(struct guest *g) __attribute__((noreturn));

/* ---- memory.c: who owns what ---- */
enum page_use {
    USE_IMAGE,  /* image, stack, info page: stay until the end */
    USE_MEMORY, /* the guest may give it back */
};
void guest_memory_enter(struct guest *g);
void guest_memory_leave(struct guest *g);
/* The head frame and the empty map. 0 or E_NOMEM. */
int guest_memory_create(struct guest *g);
/*
 * Takes checked frames for [va, va + pages) and maps them, by 2 MiB pages where it can. On an
 * error some of it may be there: guest_memory_release(). E_NOMEM, E_DIRTY, E_KILLED.
 */
int guest_memory_fill(struct guest *g, u64 va, u64 pages, enum prot prot, enum page_use use);
/* One checked frame for the page at va, in the map but not mapped yet; PFN_NONE and *error. */
pfn_t guest_memory_page(struct guest *g, u64 va, enum prot prot, enum page_use use, int *error);
/*
 * Unmaps what is there of the range, flushes, then gives it back. E_NOMEM: nothing has changed.
 * E_KILLED: the guest is no longer whole and has to end.
 */
int guest_memory_release(struct guest *g, u64 va, u64 pages);
/* True if all of the range is memory that may be given back. */
bool guest_memory_givable(const struct guest *g, u64 va, u64 pages);
/* A free range of the memory window, 0: none. */
u64 guest_memory_find(const struct guest *g, u64 pages);
/* Everything goes back, dirty. After ops->leave(). */
void guest_memory_destroy(struct guest *g);

/* ---- check.c: the check before mapping ---- */
/*
 * A block of frames, each of which was read and found to be zero. PFN_NONE: *error is E_NOMEM,
 * or E_DIRTY when too many were not zero.
 */
pfn_t guest_take_checked(struct guest *g, unsigned order, int *error);

/* ---- gather.c ---- */
void gather_init(struct gather *ga, u64 *frees);
void gather_add(struct gather *ga, pfn_t pfn);
void gather_flush(struct gather *ga);

/* ---- loader.c ---- */
struct guest_image {
    struct elf64 elf;
    u64 pages; /* of all segments */
};
/* Finds and checks an image; on an error one line says why. 0, E_NOENT, E_FORMAT. */
int guest_image_find(const char *name, struct guest_image *out);
/* Frames of a guest besides its memory area: image, stack, info page. */
u64 guest_image_frames(const struct guest_image *im);
/* Puts image, stack, info page and memory area in place. E_NOMEM, E_DIRTY, E_KILLED. */
int guest_load(struct guest *g, const struct guest_image *im, const struct guest_config *cfg);

/* ---- console.c ---- */
void guest_console_put(struct guest *g, const char *text, u64 bytes);
/* Prints the line that is not complete, if there is one. */
void guest_console_flush(struct guest *g);

#endif
