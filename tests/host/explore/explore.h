/*
 * The explorer: virtual CPUs are coroutines of one thread, and at each switch point of mm/ it is
 * decided who goes on. All decisions of one execution are its schedule; search.c enumerates them.
 *
 *   engine.c    virtual CPUs, decisions, one execution from start to rest
 *   memory.c    loads, stores and store buffers, locks, clears, halts
 *   oracle.c    one record a frame; the promises P1 to P9 that hold against it
 *   search.c    depth-first under a bound, sampling, the shortest counterexample
 *   trace.c     a schedule as columns, one for each CPU
 *   scenario_*.c  who does what on which machine
 *
 * Everything an execution changes is put back before the next: the state of mm/ (sections
 * mm_data and mm_bss of this program and the records at the end of each zone) and struct world.
 */
#ifndef TESTS_HOST_EXPLORE_H
#define TESTS_HOST_EXPLORE_H

#include "arch.h"
#include "mm/mm.h"
#include "mm/zone.h"

#define NONE (~0u)

/* ---- virtual CPUs (engine.c) ---- */

enum vcpu_state {
    VCPU_RUNS,  /* could go on */
    VCPU_LOCK,  /* stands in a lock's queue */
    VCPU_SPINS, /* cpu_relax(): until something that it read has changed */
    VCPU_HALTS, /* until a kick or its timer */
    VCPU_DONE,
};

#define BUFFER_MAX 40 /* stores; more than fit between two locked instructions of mm/ */
#define WATCH_MAX  8

enum { UNLOCK = 0, CALL_END = 16 };

/* A store that its CPU has made and the others do not see yet. */
struct buffered {
    void *p;
    u64 value, hash;
    unsigned size; /* UNLOCK: p is the lock; CALL_END: the call that has returned */
    bool kept;     /* it was decided that it stays */
    const struct site *at;
};

/* What a spinning CPU read, and what it saw. */
struct watch {
    const void *p;
    u64 value;
    unsigned size;
};

struct vcpu {
    unsigned id;
    enum vcpu_state state;
    unsigned preempt, nr_locks;
    struct spinlock *lock[8];
    bool irqs_off, kick; /* kick: came while interrupts were off */
    u64 timer;
    u64 chain; /* hash of its last event */
    unsigned nr_buffered, nr_watch;
    unsigned nr_unfenced; /* frames with a streaming clear that no fence has ordered yet */
    const void *about;    /* what its last step was on */
    bool passed;          /* it has come past a step that was no switch point since the last one */

    /* What the oracle watches, oracle.c. */
    bool in_free, in_take;
    u8 raised; /* mask of zones whose gate this take has shut */
    u8 shuts;  /* and shuts now */
    bool claiming;
    unsigned claim_clears, resched_clears;
    unsigned waited[MAX_CPUS], waited_at_lock[MAX_CPUS]; /* clears of others since the gate */

    struct buffered buffered[BUFFER_MAX];
    struct watch watch[WATCH_MAX];
};

#define FRAMES_MAX 1100
#define NOBODY     0xff

struct frame {
    u8 owner; /* CPU, or NOBODY */
    bool soiled;
    u8 clearing;         /* mask of CPUs whose streaming clear of it is not yet ordered */
    bool noted;          /* retired; while it has an owner it stays his */
    bool bad;            /* given back since: must not be seen again */
    unsigned retired_at; /* when nobody owned it: no take that begins later may get it */
};

#define CALLS_MAX 64

/* One call of mm/, as the oracle saw it from outside. Times count calls and returns. */
struct call {
    enum { CALL_TAKE, CALL_FREE, CALL_RETIRE } what;
    u8 cpu, order;
    unsigned flags, node;
    pfn_t pfn;
    unsigned begun, ended; /* ended NONE: still in it */
};

#define RANGES_MAX 4 /* of memory, and so zones */

struct world {
    struct vcpu cpu[MAX_CPUS];
    struct vcpu *asker[RANGES_MAX]; /* who asked last to be handed a frame of the zone */
    u32 resched[MAX_CPUS];
    u64 now;
    unsigned naps; /* times that the clock was moved on because all slept */
    unsigned clock;
    unsigned nr_calls;
    struct call call[CALLS_MAX];
    unsigned nr_frames;
    struct frame frame[FRAMES_MAX];
};

extern struct world world;
extern struct vcpu *self; /* who runs; outside of executions CPU 0 */

/* ---- scenarios ---- */

struct scenario {
    const char *name, *about;
    unsigned cpus, nodes;
    u8 cpu_node[MAX_CPUS];
    struct mm_range range[RANGES_MAX]; /* one frame more than it shall have: the zone's records */
    unsigned zone_gib;
    const char *role[MAX_CPUS];
    const char *alloc, *strategy;    /* NULL: limpid, and its first */
    const char *breaks;              /* NULL: nothing; the beginning of what the search must find */
    void (*setup)(void);             /* on CPU 0, before anything is explored */
    void (*script[MAX_CPUS])(void);  /* what each CPU does; NULL: nothing */
    void (*threads[MAX_CPUS])(void); /* what runs when the idle loop of that CPU gives way */
    void (*at_end)(void);            /* more checks, when all is at rest */
};

extern const struct scenario *scenario;          /* the one that is explored */
extern const struct scenario *const scenarios[]; /* NULL at the end */

/* Has it strategies in which the machine of claims and gates plays no part? */
static inline bool on_classic(void)
{
    return scenario->alloc != NULL;
}

/* The calls of mm/, with the oracle around them. For setups and scripts. */
pfn_t do_take(unsigned order, unsigned flags, unsigned node);
void do_free(pfn_t pfn, unsigned order);
void do_free_mask(pfn_t first, const struct map512 *frames);
int do_retire(pfn_t pfn);
bool do_scrub_step(void);
u64 do_aged_step(unsigned node);
void do_wake(unsigned cpu); /* makes a thread of that CPU runnable, as sched/runq.c does it */
/* For setups. */
void play_cpu(unsigned cpu);
void scrub_everything(void);

/* ---- one execution (engine.c) ---- */

enum outcome { RAN, CUT, BROKE }; /* to its end; cut off: nothing new; broke a promise */

void engine_prepare(const struct scenario *s); /* machine, setup, snapshot */
enum outcome engine_run(void);
extern struct engine {
    bool running; /* an execution is going on: switch points decide */
    u64 sum;      /* hash of all events so far: the same for schedules that differ only in the
                     order of steps that do not meet */
    unsigned steps;
    char why[400]; /* BROKE: what */
    bool tracing;
    bool every_point; /* also what meets no other CPU's steps is a switch point: for replays */
    bool grown;       /* another thing is known to be shared */
    bool every_step; /* the same, but not whether a store stays in its buffer: to test the search */
    const u32 *states; /* of the CPUs, mm/bell.c: for names in traces */
} engine;

/* Ends the execution: a promise is broken. */
void broke(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Ends the execution: what follows has been explored. */
void engine_cut(void) __attribute__((noreturn));
/* A switch point of the running CPU. */
void engine_point(const struct site *at);
/* The running CPU makes a step that meets nobody else's: no switch point. */
void engine_pass(const struct site *at);
/* A switch point before what the oracle judges by: a call begins or is over. */
void engine_call_point(void);
/* The running CPU cannot go on in its state; returns when it can. */
void engine_block(enum vcpu_state state);
u64 hash_mix(u64 a, u64 b);

/* ---- memory.c ---- */
void memory_reset(void);  /* for the next execution */
void memory_forget(void); /* for the next scenario */
void memory_drain_one(struct vcpu *c);
void memory_drain(struct vcpu *c);
bool memory_watch_changed(const struct vcpu *c);
u64 memory_now(const void *p, unsigned size); /* as all see it: for checks and traces */
const void *memory_last_locked(void);         /* what a locked instruction was last used on */
/*
 * An event of the running CPU on a thing that others meet: for the hash. What the oracle judges by
 * the order of two steps needs an event in each, or one of the orders is cut off as the other.
 */
void memory_event(const void *thing, u64 kind, bool writes);
/* A call has returned. A free is over for the others when all it stored is visible. */
void memory_call_ends(struct call *call);
void memory_free_ends(struct call *call);

/* ---- oracle.c ---- */
struct frame *oracle_frame(pfn_t pfn);
void oracle_reset(const struct scenario *s);
void oracle_clear_begins(pfn_t pfn, bool stream);
void oracle_clear_fence(void);
void oracle_locked(struct spinlock *l);
void oracle_unlocked(struct spinlock *l);
void oracle_stored(void *p, u64 old, u64 v); /* by the running CPU, perhaps into its buffer */
void oracle_preemptible(void);               /* the running CPU's preemption count is 0 again */
void oracle_call_ended(struct call *call);
void oracle_visible(struct vcpu *by, void *p, u64 old, u64 v);
void oracle_at_rest(void);

/* ---- search.c ---- */
/*
 * One of n options; cost[i] counts against the bound, option 0 is what happens by itself. A
 * decision is named by the step it is made at, so that its name does not depend on which steps are
 * switch points: several of one step by what they are about, and by their order.
 */
enum choice_kind { CHOICE_POINT, CHOICE_KEEP = 16, CHOICE_BLOCK = 20, CHOICES_A_STEP = 64 };
unsigned search_choose(enum choice_kind kind, unsigned n, const u8 *cost, u64 state);

struct limits {
    unsigned bound;
    double seconds; /* for one scenario, both parts */
    u64 executions; /* sampled, at most */
    u64 seed;
    /* To test the search: both are slow and have to come to the same ends. */
    bool uncut;           /* do not cut off states that were seen before */
    bool every;           /* every step is a switch point */
    bool ends;            /* count the ends */
    const char *schedule; /* replay this one only */
    bool all_steps;       /* of a schedule are printed, not only those that meet others */
};
/* True: nothing was found. */
bool search_scenario(const struct scenario *s, const struct limits *limits);

/* ---- trace.c ---- */
void trace_reset(void);
void trace(const struct site *at, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_load(const struct site *at, const void *p, u64 value);
void trace_stored(const void *p, const struct site *at, u64 from, u64 to, const char *remark);
void trace_visible(const struct vcpu *c, const struct buffered *b);
void trace_locked(struct spinlock *l, const struct site *at, bool waited);
void trace_unlocked(struct spinlock *l, const struct site *at);
/* The last step stays in the store buffer. */
void trace_kept(void);
void trace_print(const struct scenario *s, bool all);

#endif
