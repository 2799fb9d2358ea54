/*
 * struct guest, and what the files of guest/ want of each other. Who changes what:
 *
 *  (t) guest_table_lock: which guest has which place in the table.
 *  (g) the guest's own lock: its state, its thread, how it ended. Short; never while memory moves.
 *  (m) the guest's memory gate (guest_memory_enter), a lock that may sleep: its map of memory and
 *      its page tables. Who uses the guest's memory is inside, who takes a frame away from it is
 *      inside: so no frame is pulled away while somebody copies from it.
 *  (c) constant from the time the guest runs.
 *  (o) one thread of the guest only.
 *
 * A frame belongs to a guest exactly as long as the guest's map of memory (guest/memory.c) has
 * it. Only the guest's own threads give memory back: in mem_give, and the last of them at the end
 * (guest_thread_end); killing means telling them. So there is one order of events, whoever kills:
 *
 *   killer                              each thread of the guest, on its CPU
 *   state = EXITING (g)
 *   thread_interrupt, cpu_kick, each
 *                                       leaves ring 3, or wakes up, or ends its call or its touch
 *                                       on_user_return() sees EXITING
 *                                       leaves the address space
 *                                       nr_threads - 1 (g); not 0: that is all
 *                                       the last: no CPU runs in the space now
 *                                       gives back frames, tables, metadata
 *                                       all stacks are freed: state = DEAD (g), wakes who waits
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
    /* An address space without any memory. 0 or E_NOMEM. */
    int (*create)(struct guest *g);
    /* A thread that has not started yet will run in it, with this FPU area. */
    void (*attach)(struct guest *g, struct thread *thread, void *fpu);
    /* As aspace_prepare(), _map(), _allow_write(), _unmap(): inside the memory gate. */
    int (*prepare)(struct guest *g, u64 va, unsigned order);
    int (*map)(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot);
    int (*allow_write)(struct guest *g, u64 va, unsigned order);
    int (*unmap)(struct guest *g, u64 va, unsigned order);
    /* What was unmapped in the range is gone from every CPU when this returns. */
    void (*flush)(struct guest *g, u64 va, u64 bytes);
    /* Panics unless all that was unmapped is gone from every CPU. Before a frame is given away. */
    void (*check_flushed)(const struct guest *g);
    /* The frame behind an address, if it is mapped for the guest so; else PFN_NONE. */
    pfn_t (*walk)(struct guest *g, u64 va, enum prot prot);
    /* Runs the calling thread in it, until it leaves through an upcall. */
    void (*run)(struct guest *g, u64 entry, u64 stack, u64 arg) __attribute__((noreturn));
    /* The calling thread will not run in it any more, and its CPU holds no translations of it. */
    void (*leave)(struct guest *g);
    /* Gives the tables back. After leave() of every thread. */
    void (*destroy)(struct guest *g);
    /* Frames that the tables take. */
    u64 (*table_frames)(const struct guest *g);
};

extern const struct guest_ops ring3_ops;
/* One more kind, for good; nobody starts a guest meanwhile. Again: nothing. */
void guest_kind_add(const struct guest_ops *ops);

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
/* What each thread of a guest has for itself. */
struct guest_local {
    u8 fpu[512] __attribute__((aligned(16))); /* FXSAVE area; only the context switch uses it */
    char line[GUEST_LINE_MAX + 1];            /* (o) the console line that is not complete yet */
    unsigned line_len;                        /* (o) */
};

/* One frame of its own: what would bloat the table of guests. */
struct guest_head {
    struct guest_local local; /* of the first thread; each other one has a frame for it */
    struct gather gather;     /* (m) */
};
_Static_assert(sizeof(struct guest_head) <= FRAME_SIZE, "the head is one frame");

struct guest_thread {
    struct guest *guest;       /* (c) */
    bool taken;                /* (g) this place is somebody's */
    struct thread *thread;     /* (g) NULL: not created yet, or gone */
    struct guest_local *local; /* (o) */
    u64 entry, stack, arg;     /* (c) where it begins */
};

struct guest {
    struct spinlock lock;        /* first, with the queues: they outlive the guest */
    struct mutex gate;           /* the memory gate */
    struct waitq touched;        /* who waits for a touch of another thread to end */
    unsigned id;                 /* (t) 0: this place is free */
    char name[GUEST_NAME_MAX];   /* (c) */
    const struct guest_ops *ops; /* (c) */
    unsigned node;               /* (c) where its memory is asked for */
    enum take_flags take;        /* (c) TAKE_CLEAN, and TAKE_THIS_NODE if a node was asked for */
    unsigned cpu;                /* (c) */
    enum guest_state state;      /* (g); read without it by its thread, see guest_must_end() */
    bool say_end;                /* (g) its end has not been told yet */
    s64 exit_code;               /* (g) */
    char end[GUEST_END_MAX];     /* (g) */
    u64 started_at, load_ns;     /* (c) */
    u64 cpu_limit_ns;            /* (c) 0: none */
    u64 cpu_ns;                  /* (g) that its threads have run: those that are gone */
    u64 ended_at;                /* (g) time_ns() of the kill or the exit */
    u64 destroy_ns, free_ns;     /* (g) once it is dead */

    struct guest_thread threads[GUEST_THREADS_MAX];
    unsigned nr_threads;      /* (g) that have been made and have not left the address space */
    unsigned nr_stacks;       /* (g) of threads that are not reaped yet */
    unsigned threads_started; /* (g) in all */

    struct list touching;    /* (m) guest/touch.c: touches under way */
    u64 touches_ended;       /* (m), read without it by who waits for one to end */
    struct aspace space;     /* (m) kind ring3 */
    bool space_made;         /* (m) */
    struct guest_head *head; /* (m) */
    u64 *gib;                /* (m) guest/memory.c: a frame of 512 entries, one a GiB */
    unsigned dirty_seen;     /* (m) frames of this guest that the check refused */
    /* (m), read without it for listings: (a) relaxed, each a count by itself. */
    u64 frames_given, frames_held, frames_peak, frames_limit, frames_got, frames_back;
    u64 frames_own;                              /* metadata; tables are not counted here */
    u64 taken_clean, taken_cleared, taken_dirty; /* frames: see struct guest_stat */
    u64 frames_mapped, frames_touched, touched_dirty, shown;
    u64 touches, touch_ns;
    u64 blocks;
    u64 frees;
    u64 cleared_at_touch, scrub_ns; /* (a) by threads that are outside of the gate */
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
#define CPU_TIME_USED_UP "killed: its CPU time of %lu ms is used up"
/* Ends the guest, and the calling thread of it. `fmt` says how it ended. */
void guest_end(struct guest *g, s64 code, const char *fmt, ...) __printf_like(3, 4)
    __attribute__((noreturn));
/* A new guest in state STARTING. NULL: all places are taken by the living. */
struct guest *guest_table_add(const struct guest_config *cfg, const struct guest_ops *ops);
/* A guest that never ran leaves no trace. The place may be another's already: the id says. */
void guest_table_remove(struct guest *g, unsigned id);
/*
 * Makes it EXITING and tells its threads. True if it was alive until now. `say`: one line tells
 * how it ended, when its memory is back.
 */
bool guest_mark(struct guest *g, bool say, s64 code, const char *fmt, ...) __printf_like(4, 5);
/*
 * The calling thread leaves the guest for good; the last one gives everything back. If the guest
 * is not EXITING yet and nobody else is left in it, it has exited with code 0.
 */
void guest_thread_end(struct guest *g) __attribute__((noreturn));

/* ---- thread.c: the threads of a guest ---- */
/* The place of the running thread in its guest. */
struct guest_thread *guest_thread_self(struct guest *g);
/* Makes the first thread, on cfg's CPU; it does not run yet. 0 or E_NOMEM. */
int guest_thread_first(struct guest *g, const struct guest_config *cfg);
/* Gives it its FPU area and where it begins, once the head frame is there. */
void guest_thread_prepare(struct guest *g, u64 entry);
/* One more, and it runs. Its number; E_NOSPC, E_NOMEM. */
s64 guest_thread_start(struct guest *g, u64 entry, u64 stack, u64 arg);
/* What all its threads have run. The guest's lock is held. */
u64 guest_cpu_ns_locked(struct guest *g);
/* The running thread's share of the limit is used up: true if the guest's is, too. */
bool guest_over_limit(struct guest *g);

/* ---- memory.c: who owns what ---- */
enum page_use {
    USE_IMAGE,  /* image, stack, info page: stay until the end */
    USE_MEMORY, /* the guest may give it back */
};
/* The head frame and the empty map. 0 or E_NOMEM. */
int guest_memory_create(struct guest *g);
/*
 * Takes frames for [va, va + pages), by blocks of 2 MiB where it can, and the page tables that
 * they will need. On an error some of it may be there: guest_memory_release(). E_NOMEM, E_KILLED.
 */
int guest_memory_fill(struct guest *g, u64 va, u64 pages, enum prot prot, enum page_use use);
/*
 * Unmaps what is there of the range, flushes, then gives it back. E_NOMEM: nothing has changed.
 * E_KILLED: the guest is no longer whole and has to end. In the gate by guest_memory_enter_alone().
 */
int guest_memory_release(struct guest *g, u64 va, u64 pages);
/* True if all of the range is memory that may be given back. */
bool guest_memory_givable(const struct guest *g, u64 va, u64 pages);
/* True if the page is the guest's and it may use it so, touched or not. */
bool guest_memory_may(const struct guest *g, u64 va, enum prot prot);
/* A free range of the memory window, 0: none. */
u64 guest_memory_find(const struct guest *g, u64 pages);
/* Everything goes back, dirty. After ops->leave() of all threads. */
void guest_memory_destroy(struct guest *g);
/* A frame for what the kernel keeps about the guest, all zero; NULL: out of memory. In the gate. */
void *guest_own_take(struct guest *g);
void guest_own_free(struct guest *g, const void *frame);

/* ---- touch.c: the first touch ---- */
/* The memory gate. The second one waits, too, until nobody is touching what is in the range. */
void guest_memory_enter(struct guest *g);
void guest_memory_enter_alone(struct guest *g, u64 va, u64 pages);
void guest_memory_leave(struct guest *g);
/*
 * Maps the page at va, or the block that it is in, for what is to be done there (one of enum
 * prot). Outside of the gate. 0: done, or it was mapped already; E_FAULT: the guest may not do
 * that there; E_KILLED: the guest is to end; E_NOMEM, E_DIRTY: a frame was not zero, and there is
 * no other for it, or there were too many. What is mapped was read, and was zero (P1), unless
 * mm_carry() allows otherwise.
 */
int guest_memory_touch(struct guest *g, u64 va, enum prot access);
/* A page of the guest, filled and touched, before the guest runs; PFN_NONE and *error. */
pfn_t guest_memory_page(struct guest *g, u64 va, enum prot prot, enum page_use use, int *error);

/* ---- check.c: where frames come from, and the check before mapping ---- */
/* A block for the guest, which may be dirty if mm_carry() says so; nobody has read it. */
pfn_t guest_take(struct guest *g, unsigned order, struct map512 *dirt);
/* A frame that was read and found to be zero. PFN_NONE: *error is E_NOMEM or E_DIRTY. */
pfn_t guest_take_checked(struct guest *g, int *error);
/* Reports a frame that was not zero, and retires it. False: it may not be given back. */
bool guest_check_refuse(struct guest *g, pfn_t pfn);
/* Counts frames that were mapped dirty. In the gate. */
void guest_count_shown(struct guest *g, u64 frames);

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
