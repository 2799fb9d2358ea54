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
    const void *p;
    u32 execution; /* of another one: a free place */
    u32 nr_buffered;
    u64 visible;       /* while nr_buffered: what all others see */
    u64 written, read; /* hashes: the last write, and the reads since */
};

enum { THINGS = 4096 };
static struct thing things[THINGS];
static u32 execution;

void memory_reset(void)
{
    execution++;
}

static struct thing *thing_of(const void *p)
{
    unsigned n = (unsigned)(hash_mix((u64)p, 0) % THINGS);
    for (;; n = (n + 1) % THINGS) {
        struct thing *t = &things[n];
        if (t->execution != execution) {
            *t = (struct thing){.p = p, .execution = execution};
            return t;
        }
        if (t->p == p)
            return t;
    }
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
    if (engine.running)
        self->chain = event_hash(self->chain, thing_of(what), kind, writes);
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
    struct thing *t = thing_of(b.p);
    memmove(c->buffered, c->buffered + 1, --c->nr_buffered * sizeof(c->buffered[0]));
    if (b.size != CALL_END)
        event_hash(b.hash, t, 1, true);
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

/* A store of the running CPU has been put into its buffer: does it stay? */
static void keep_or_drain(void)
{
    static const u8 cost[2] = {0, 1};
    bool kept = self->nr_buffered > 1; /* behind one that stays */
    if (!kept && engine.running)
        kept = search_choose(2, cost, hash_mix(self->id, 2)) == 1;
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
    if (self->nr_buffered)
        buffer(call, CALL_END, 0, NULL);
    else
        oracle_call_ended(call);
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
    engine_point(at);
    u64 v = seen_by(self, p, size);
    memory_event(p, (u64)at, false);
    watch(p, size, v);
    if (engine.tracing)
        trace_load(at, p, v);
    return v;
}

void explore_store(void *p, unsigned size, u64 v, const struct site *at)
{
    engine_point(at);
    struct thing *t = thing_of(p);
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
    keep_or_drain();
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
    engine_point(at);
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
    engine_point(at);
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
    engine_point(at);
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
    if (!scenario->quiet_clears || self->clears++ < scenario->quiet_clears)
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
    engine_point(at);
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
    engine_point(at);
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
    engine_point(at);
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
    keep_or_drain();
    c->nr_watch = 0;
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
    engine_point(at);
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
    engine_point(at);
    memory_event(&self->kick, (u64)at, true);
    self->irqs_off = !on;
    if (on)
        self->kick = false;
    if (engine.tracing)
        trace(at, "%s", at->text);
}

void explore_halt(const struct site *at)
{
    engine_point(at);
    memory_event(&self->kick, (u64)at, true);
    self->irqs_off = false;
    if (engine.tracing)
        trace(at, "sti; hlt%s", self->kick ? ": ends at once, a kick is there" : "");
    if (!self->kick)
        engine_block(VCPU_HALTS);
    self->kick = false;
}
