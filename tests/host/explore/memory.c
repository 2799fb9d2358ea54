/*
 * The machine under the explorer: memory with a store buffer for each CPU (SDM3 9.2, TSO),
 * FIFO locks whose unlock is a plain store, clears that are visible only at their fence, kicks
 * and halts. Owns the store buffers and the history of each thing that CPUs share.
 *
 * A store is written to memory at once: the fields that are stored through store_relaxed() are
 * also read plainly, under the lock that guards them, and the lock is what makes others wait for
 * it. Who loads by load_relaxed() sees, while the store is in its CPU's buffer, what was there
 * before (thing.visible). To keep a store in the buffer is a decision that costs 1, like a
 * preemption; later stores queue behind it. Locked instructions and fences empty the buffer.
 *
 * A streaming clear is visible at clear_fence() or full_fence(), never by itself and not by a
 * locked instruction: that the lock's would do it on today's machines is not what mm/ relies on.
 */
#include "explore.h"

#include <string.h>

/* ---- things that CPUs share: each address, each frame ---- */

struct thing {
    const void *p; /* NULL: a free place */
    /* Of all executions of this scenario. */
    u8 readers, writers; /* masks of CPUs */
    bool shared;         /* somebody writes to it, and he is not alone */
    u32 under;           /* locks under which all of them meet it */
    u32 writes_under;    /* locks under which all of them write to it */
    /* Of this execution; of another one: not used yet. */
    u32 execution;
    u32 nr_buffered;
    u64 visible;       /* while nr_buffered: what all others see */
    u64 written, read; /* hashes: the last write, and the reads since */
};

enum { THINGS = 8192 };
static struct thing things[THINGS];
static unsigned nr_things;
static u32 execution;

void memory_reset(void)
{
    execution++;
}

void memory_forget(void)
{
    memset(things, 0, sizeof(things));
    nr_things = 0;
}

static struct thing *thing_of(const void *p)
{
    unsigned n = (unsigned)(hash_mix((u64)p, 0) % THINGS);
    for (;; n = (n + 1) % THINGS) {
        struct thing *t = &things[n];
        if (!t->p) {
            if (++nr_things == THINGS - 1)
                broke("more than %u things", THINGS);
            *t = (struct thing){.p = p, .under = ~0u, .writes_under = ~0u};
        }
        if (t->p != p)
            continue;
        if (t->execution != execution) {
            t->execution = execution;
            t->nr_buffered = 0;
            t->written = t->read = 0;
        }
        return t;
    }
}

/*
 * A switch in front of a step that no other CPU's step can meet is the same as a switch behind it.
 * So only the other steps are switch points: those on things that several CPUs share and not all
 * of them under one lock that the step is under, too. What is shared and under which locks is
 * found out on the way; once more is known, search.c begins again.
 */
static u32 lock_bit(const struct spinlock *l)
{
    return 1u << (l->rank == RANK_ZONE ? l->sub % 16 : 16 + l->rank % 16);
}

static u32 locks_held(const struct vcpu *c)
{
    u32 held = 0;
    for (unsigned n = 0; n < c->nr_locks; n++)
        held |= lock_bit(c->lock[n]);
    return held;
}

static void meet(struct thing *t, const struct vcpu *c, bool writes)
{
    u8 me = (u8)(1u << c->id);
    u32 held = locks_held(c), under = t->under, writes_under = t->writes_under;
    *(writes ? &t->writers : &t->readers) |= me;
    t->under &= held;
    t->writes_under &= writes ? held : ~0u;
    if (!t->shared && t->writers && ((t->writers | t->readers) & ~me))
        t->shared = engine.grown = true;
    else if (t->shared && (under != t->under || writes_under != t->writes_under))
        engine.grown = true;
}

/* Could another CPU's step meet one of the running CPU's on t? */
static bool may_meet(const struct thing *t, bool writes)
{
    u32 guards = writes ? t->under : t->writes_under;
    return t->shared && (guards & locks_held(self)) == 0;
}

/* In front of a step on *p; a locked one also makes all stores of its CPU visible. */
static void point(const void *p, bool writes, bool drains, const struct site *at)
{
    if (!engine.running)
        return;
    self->about = p;
    if (engine.every_point || engine.every_step || may_meet(thing_of(p), writes) ||
        (drains && self->nr_buffered))
        engine_point(at);
    else
        engine_pass(at);
}

static void point_at_fence(const struct site *at)
{
    if (engine.every_point || engine.every_step || self->nr_buffered || self->nr_unfenced)
        engine_point(at);
    else
        engine_pass(at);
}

static u64 get(const void *p, unsigned size)
{
    switch (size) {
    case 1:
        return *(const u8 *)p;
    case 2:
        return *(const u16 *)p;
    case 4:
        return *(const u32 *)p;
    default:
        return *(const u64 *)p;
    }
}

static u64 cut(u64 v, unsigned size)
{
    return size == 8 ? v : v & ((1ULL << 8 * size) - 1);
}

static void put(void *p, unsigned size, u64 v)
{
    memcpy(p, &v, size); /* little-endian */
}

/*
 * The hash of an execution is the sum of the hashes of its events, and that of an event is made
 * of the events that it follows: the one before on its CPU, and those it meets on the thing. Two
 * schedules that differ only in the order of events that do not meet have the same sum.
 */
static u64 event_hash(u64 chain, struct thing *t, u64 kind, bool writes)
{
    u64 h = hash_mix(hash_mix(chain, kind), t->written);
    if (writes) {
        h = hash_mix(h, t->read);
        t->written = h;
        t->read = 0;
    } else {
        t->read += h;
    }
    engine.sum += h;
    return h;
}

void memory_event(const void *what, u64 kind, bool writes)
{
    if (!engine.running)
        return;
    struct thing *t = thing_of(what);
    if (self->passed && what != self->about && may_meet(t, writes))
        broke("the explorer passed by a switch point: an event of kind %llx has none of its own",
              (unsigned long long)kind);
    meet(t, self, writes);
    self->chain = event_hash(self->chain, t, kind, writes);
}

static void local_event(u64 kind)
{
    if (engine.running) {
        self->chain = hash_mix(self->chain, kind);
        engine.sum += self->chain;
    }
}

/* ---- store buffers ---- */

static u64 seen_by(const struct vcpu *c, const void *p, unsigned size)
{
    const struct thing *t = thing_of(p);
    if (t->nr_buffered == 0)
        return get(p, size);
    for (unsigned n = c->nr_buffered; n-- > 0;)
        if (c->buffered[n].p == p && c->buffered[n].size == size)
            return c->buffered[n].value;
    return t->visible;
}

u64 memory_now(const void *p, unsigned size)
{
    const struct thing *t = thing_of(p);
    return t->nr_buffered ? t->visible : get(p, size);
}

static void lock_pass_on(struct spinlock *l)
{
    l->busy = 0;
    l->turns++;
    if (l->nr_queue == 0)
        return;
    struct vcpu *next = &world.cpu[l->queue[0]];
    memmove(l->queue, l->queue + 1, --l->nr_queue);
    l->busy = 1;
    l->holder = (u8)(next->id + 1);
    next->state = VCPU_RUNS;
}

void memory_drain_one(struct vcpu *c)
{
    struct buffered b = c->buffered[0];
    struct thing *t = thing_of(b.size == CALL_END ? &world.clock : b.p);
    memmove(c->buffered, c->buffered + 1, --c->nr_buffered * sizeof(c->buffered[0]));
    event_hash(b.hash, t, 1, true); /* it is c's, whoever runs */
    if (engine.tracing && b.kept)
        trace_visible(c, &b);
    if (b.size == UNLOCK) {
        lock_pass_on(b.p);
        return;
    }
    if (b.size == CALL_END) {
        oracle_call_ended(b.p);
        return;
    }
    u64 old = t->visible;
    t->visible = b.value;
    if (--t->nr_buffered == 0)
        put(b.p, b.size, b.value);
    oracle_visible(c, b.p, old, b.value);
}

void memory_drain(struct vcpu *c)
{
    while (c->nr_buffered)
        memory_drain_one(c);
}

/*
 * A store of the running CPU has been put into its buffer: does it stay? One that nobody else
 * looks at might as well not.
 */
static void keep_or_drain(const void *p)
{
    static const u8 cost[2] = {0, 1};
    bool kept = self->nr_buffered > 1; /* behind one that stays */
    if (!kept && engine.running && (engine.every_point || may_meet(thing_of(p), true)))
        kept = search_choose(CHOICE_KEEP, 2, cost, hash_mix(self->id, 2)) == 1;
    if (!kept) {
        memory_drain(self);
        return;
    }
    self->buffered[self->nr_buffered - 1].kept = true;
    if (engine.tracing)
        trace_kept();
}

static void buffer(void *p, unsigned size, u64 v, const struct site *at)
{
    if (self->nr_buffered == BUFFER_MAX)
        memory_drain_one(self); /* a full buffer makes room */
    local_event(hash_mix(size, v));
    self->buffered[self->nr_buffered++] =
        (struct buffered){.p = p, .size = size, .value = v, .at = at, .hash = self->chain};
}

void memory_call_ends(struct call *call)
{
    oracle_call_ended(call);
    memory_event(&world.clock, CALL_END, true);
}

void memory_free_ends(struct call *call)
{
    if (self->nr_buffered)
        buffer(call, CALL_END, 0, NULL);
    else
        memory_call_ends(call);
}

/* ---- loads, stores, locked instructions ---- */

static void watch(const void *p, unsigned size, u64 v)
{
    if (self->nr_watch == WATCH_MAX)
        memmove(self->watch, self->watch + 1, --self->nr_watch * sizeof(self->watch[0]));
    self->watch[self->nr_watch++] = (struct watch){p, v, size};
}

bool memory_watch_changed(const struct vcpu *c)
{
    for (unsigned n = 0; n < c->nr_watch; n++)
        if (seen_by(c, c->watch[n].p, c->watch[n].size) != c->watch[n].value)
            return true;
    return false;
}

u64 explore_load(const void *p, unsigned size, const struct site *at)
{
    point(p, false, false, at);
    u64 v = seen_by(self, p, size);
    memory_event(p, (u64)at, false);
    watch(p, size, v);
    if (engine.tracing)
        trace_load(at, p, v);
    return v;
}

void explore_store(void *p, unsigned size, u64 v, const struct site *at)
{
    point(p, true, false, at);
    struct thing *t = thing_of(p);
    if (engine.running)
        meet(t, self, true);
    u64 old = seen_by(self, p, size);
    v = cut(v, size);
    if (engine.tracing)
        trace_stored(p, at, old, v, "");
    oracle_stored(p, old, v);
    if (self->nr_buffered == BUFFER_MAX)
        memory_drain_one(self);
    if (t->nr_buffered++ == 0)
        t->visible = get(p, size);
    put(p, size, v);
    buffer(p, size, v, at);
    keep_or_drain(p);
}

static const void *last_locked;

const void *memory_last_locked(void)
{
    return last_locked;
}

/* The old value; `v` is written if `writes`. The buffer is empty before: a locked instruction. */
static u64 locked(void *p, unsigned size, bool (*change)(u64 old, u64 a, u64 *v), u64 a, u64 v,
                  const struct site *at)
{
    point(p, true, true, at);
    memory_drain(self);
    self->nr_watch = 0;
    last_locked = p;
    struct thing *t = thing_of(p);
    u64 old = memory_now(p, size);
    memory_event(p, (u64)at, true);
    bool writes = change(old, a, &v);
    v = cut(v, size);
    if (writes) {
        if (t->nr_buffered)
            t->visible = v;
        else
            put(p, size, v);
    }
    if (engine.tracing)
        trace_stored(p, at, old, writes ? v : old,
                     writes ? " (locked)" : " (locked; not as expected)");
    return old;
}

static bool change_xchg(u64 old, u64 a, u64 *v)
{
    (void)old;
    (void)a;
    (void)v;
    return true;
}

static bool change_add(u64 old, u64 a, u64 *v)
{
    *v = old + a;
    return true;
}

static bool change_cas(u64 old, u64 a, u64 *v)
{
    (void)v;
    return old == a;
}

u64 explore_xchg(void *p, unsigned size, u64 v, const struct site *at)
{
    return locked(p, size, change_xchg, 0, v, at);
}

u64 explore_fetch_add(void *p, unsigned size, u64 v, const struct site *at)
{
    return locked(p, size, change_add, v, 0, at);
}

bool explore_cas(void *p, unsigned size, u64 old, u64 v, const struct site *at)
{
    return locked(p, size, change_cas, old, v, at) == old;
}

void explore_fence(const struct site *at)
{
    point_at_fence(at);
    memory_drain(self);
    self->nr_watch = 0;
    local_event((u64)at);
    oracle_clear_fence();
    if (engine.tracing)
        trace(at, "mfence");
}

/* Every other CPU passes a fence now, wherever it stands. */
void explore_serialize(const struct site *at)
{
    engine_point(at);
    for (unsigned n = 0; n < nr_cpus; n++) {
        memory_drain(&world.cpu[n]);
        memory_event(&world.cpu[n], (u64)at, true);
    }
    self->nr_watch = 0;
    if (engine.tracing)
        trace(at, "all CPUs pass a fence");
}

void explore_relax(const struct site *at)
{
    engine_pass(at);
    local_event((u64)at);
    if (engine.running && !memory_watch_changed(self)) {
        if (engine.tracing)
            trace(at, "spins");
        engine_block(VCPU_SPINS);
    }
    self->nr_watch = 0;
}

/* ---- clears ---- */

void explore_clear(void *frame, size_t bytes, bool stream, const struct site *at)
{
    pfn_t pfn = (pfn_t)((char *)frame - explore_memory) >> FRAME_SHIFT;
    engine_point(at);
    (void)bytes;
    /* 512 stores: more than a store buffer holds, so what was stored before has left it. */
    memory_drain(self);
    memory_event(oracle_frame(pfn), (u64)at, true);
    oracle_clear_begins(pfn, stream);
    if (engine.tracing)
        trace(at, "clears frame %llu%s", (unsigned long long)pfn, stream ? "" : " (rep stos)");
}

void explore_clear_fence(const struct site *at)
{
    point_at_fence(at);
    local_event((u64)at);
    oracle_clear_fence();
    if (engine.tracing)
        trace(at, "sfence");
}

bool frame_is_zero(const void *frame)
{
    pfn_t pfn = (pfn_t)((const char *)frame - explore_memory) >> FRAME_SHIFT;
    const struct frame *f = oracle_frame(pfn);
    return !f->soiled;
}

/* ---- locks ---- */

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub)
{
    *l = (struct spinlock){.name = name, .rank = (u8)rank, .sub = (u8)sub};
}

bool spin_held(const struct spinlock *l)
{
    return l->holder == self->id + 1;
}

void explore_lock(struct spinlock *l, const struct site *at)
{
    struct vcpu *c = self;
    bool waits;
    preempt_disable();
    if (c->nr_locks) {
        const struct spinlock *top = c->lock[c->nr_locks - 1];
        if (top->rank > l->rank || (top->rank == l->rank && top->sub >= l->sub))
            broke("lock order: %s %u taken while %s %u is held, %s:%u", l->name, l->sub, top->name,
                  top->sub, at->file, at->line);
    }
    point(l, true, true, at);
    memory_drain(c); /* a ticket is drawn by a locked instruction */
    memory_event(l, (u64)at, true);
    waits = l->busy;
    if (waits) {
        if (engine.tracing)
            trace(at, "waits for lock %s %u", l->name, l->sub);
        l->queue[l->nr_queue++] = (u8)c->id;
        engine_block(VCPU_LOCK);
        memory_event(l, 3, true);
    } else {
        l->busy = 1;
        l->holder = (u8)(c->id + 1);
    }
    c->lock[c->nr_locks++] = l;
    c->nr_watch = 0;
    oracle_locked(l);
    if (engine.tracing)
        trace_locked(l, at, waits);
}

void explore_unlock(struct spinlock *l, const struct site *at)
{
    struct vcpu *c = self;
    if (!spin_held(l))
        broke("unlock of %s %u by a CPU that does not hold it, %s:%u", l->name, l->sub, at->file,
              at->line);
    point(l, true, false, at);
    oracle_unlocked(l);
    unsigned n = c->nr_locks;
    while (c->lock[n - 1] != l)
        n--;
    for (; n < c->nr_locks; n++)
        c->lock[n - 1] = c->lock[n];
    c->nr_locks--;
    l->holder = 0;
    buffer(l, UNLOCK, 0, at);
    if (engine.tracing)
        trace_unlocked(l, at);
    keep_or_drain(l);
    c->nr_watch = 0;
}

/* A look at the lock; if somebody holds it, as this CPU sees it, not on before he has let it go. */
void explore_wait_for_holder(const struct spinlock *l, const struct site *at)
{
    u8 turn;
    if (spin_held(l))
        broke("CPU %u waits for itself: it holds %s %u, %s:%u", self->id, l->name, l->sub, at->file,
              at->line);
    point(l, false, false, at);
    memory_event(l, (u64)at, false);
    turn = l->turns;
    if (engine.tracing)
        trace(at, "lock %s %u is %s", l->name, l->sub, l->busy ? "held: waits" : "free");
    while (l->busy && l->turns == turn) {
        watch(&l->turns, sizeof(l->turns), turn);
        explore_relax(at);
        memory_event(l, (u64)at, false);
    }
}

/* ---- interrupts ---- */

/* need_resched is one word for each CPU; a kick and the interrupt flag meet on &cpu.kick. */
bool explore_need_resched(const struct site *at)
{
    return explore_load(&world.resched[self->id], 4, at) != 0;
}

/*
 * The interrupt comes at once if they are on: the worst that can happen, for it then ends no
 * halt that comes later.
 */
void explore_kick(unsigned cpu, const struct site *at)
{
    struct vcpu *c = &world.cpu[cpu];
    point(&c->kick, true, true, at);
    memory_drain(self);
    memory_event(&c->kick, (u64)at, true);
    if (engine.tracing)
        trace(at, "kicks CPU %u%s", cpu, c->state == VCPU_HALTS ? ", which wakes" : "");
    if (c->state == VCPU_HALTS)
        c->state = VCPU_RUNS;
    else if (c->irqs_off)
        c->kick = true;
}

void explore_irqs(bool on, const struct site *at)
{
    point(&self->kick, true, false, at);
    memory_event(&self->kick, (u64)at, true);
    self->irqs_off = !on;
    if (on)
        self->kick = false;
    if (engine.tracing)
        trace(at, "%s", at->text);
}

void explore_halt(const struct site *at)
{
    point(&self->kick, true, false, at);
    memory_event(&self->kick, (u64)at, true);
    self->irqs_off = false;
    if (engine.tracing)
        trace(at, "sti; hlt%s", self->kick ? ": ends at once, a kick is there" : "");
    if (!self->kick)
        engine_block(VCPU_HALTS);
    self->kick = false;
}
