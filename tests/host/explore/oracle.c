/*
 * The oracle: one record a frame, kept naively beside mm/, and the promises P1 to P9 held against
 * it. It sees calls and returns, clears, and what becomes visible; of mm/ it reads claim slots,
 * to know who is scrubbing, and at rest everything.
 *
 * P4 needs care: an allocation may fail only if at some moment between call and return nothing
 * could have served it. A frame counts as available from the return of the free that gave it
 * back to the call of the take that got it: never while anybody might be moving it. So a failure
 * is a broken promise if there was a free block of the order, made of such frames alone, at every
 * moment of the call.
 */
#include "explore.h"
#include "mm/claim.h"
#include "mm/wait.h"

#include <stdio.h>
#include <string.h>

static struct frame nowhere;

struct frame *oracle_frame(pfn_t pfn)
{
    unsigned n = 0;
    for (unsigned r = 0; r < RANGES_MAX; r++) {
        const struct mm_range *range = &scenario->range[r];
        if (pfn >= range->start && pfn < range->end)
            return &world.frame[n + (pfn - range->start)];
        n += (unsigned)(range->end - range->start);
    }
    broke("pfn 0x%llx is no memory", (unsigned long long)pfn);
    return &nowhere;
}

static pfn_t pfn_of(unsigned frame)
{
    for (unsigned r = 0; r < RANGES_MAX; r++) {
        const struct mm_range *range = &scenario->range[r];
        if (frame < range->end - range->start)
            return range->start + frame;
        frame -= (unsigned)(range->end - range->start);
    }
    broke("no frame %u", frame);
}

static unsigned long long ull(u64 v)
{
    return v;
}

void oracle_reset(const struct scenario *s)
{
    world.nr_frames = 0;
    for (unsigned r = 0; r < RANGES_MAX; r++)
        world.nr_frames += (unsigned)(s->range[r].end - s->range[r].start);
    if (world.nr_frames > FRAMES_MAX)
        broke("more than %u frames", FRAMES_MAX);
    for (unsigned n = 0; n < world.nr_frames; n++)
        world.frame[n] = (struct frame){.owner = NOBODY, .soiled = true};
    /* The zones' own records are nobody's to take: owned by a CPU that there is not. */
    for (unsigned n = 0; n < world.nr_frames; n++)
        if (!mm_owns(pfn_of(n)))
            world.frame[n].owner = MAX_CPUS;
}

/* ---- calls ---- */

/*
 * The order of calls and returns decides P4, so they meet each other, for the hash. One thing of
 * all calls: schedules that differ in it are different ones.
 */
static struct call *call_begin(unsigned what, pfn_t pfn, unsigned order)
{
    engine_call_point();
    if (world.nr_calls == CALLS_MAX)
        broke("the scenario makes more than %u calls", CALLS_MAX);
    struct call *call = &world.call[world.nr_calls++];
    *call = (struct call){.what = what,
                          .cpu = (u8)self->id,
                          .order = (u8)order,
                          .pfn = pfn,
                          .begun = ++world.clock,
                          .ended = NONE};
    memory_event(&world.clock, what, true);
    return call;
}

/* Also when another CPU runs: the returning one's stores have left its buffer at last. */
void oracle_call_ended(struct call *call)
{
    call->ended = ++world.clock;
}

/* A block is handed out: P1, P2. */
static void check_taken(const struct call *call, pfn_t pfn, unsigned order, bool clean)
{
    for (u64 n = 0; n < 1ULL << order; n++) {
        struct frame *f = oracle_frame(pfn + n);
        memory_event(f, 1, true);
        if (f->owner != NOBODY)
            broke("P2: frame %llu is handed out and belongs to CPU %u", ull(pfn + n), f->owner);
        if (f->bad || (f->retired_at && f->retired_at < call->begun))
            broke("P2: frame %llu is handed out and was retired before", ull(pfn + n));
        if (clean && f->clearing)
            broke("P1: frame %llu is handed out as clean, and its clear is not visible yet: no "
                  "fence has ordered it",
                  ull(pfn + n));
        if (f->clearing)
            broke("P2: frame %llu is handed out while CPU mask %x clears it", ull(pfn + n),
                  f->clearing);
        if (clean && f->soiled)
            broke("P1: frame %llu is handed out as clean and is not zero", ull(pfn + n));
        f->owner = (u8)self->id;
        f->soiled = true; /* the owner writes to it */
    }
}

/* Rule 4 and P4's second half: others have cleared one frame at most while we waited. */
static void check_waited(void)
{
    for (unsigned n = 0; n < MAX_CPUS; n++)
        if (self->raised && self->waited_at_lock[n] > 1)
            broke("P4: CPU %u waits at the gate while CPU %u clears %u frames", self->id, n,
                  self->waited_at_lock[n]);
    self->raised = 0;
}

pfn_t do_take(unsigned order, unsigned flags, unsigned node)
{
    struct call *call = call_begin(CALL_TAKE, PFN_NONE, order);
    call->flags = flags;
    call->node = node;
    if (engine.tracing)
        trace(NULL, "mm_take(order %u, %s%s, node %u)", order, flags & TAKE_CLEAN ? "clean" : "any",
              flags & TAKE_THIS_NODE ? ", this node" : "", node);
    self->in_take = true;
    self->raised = 0;
    memset(self->waited, 0, sizeof(self->waited));
    pfn_t pfn = mm_take(order, flags, node);
    engine_call_point();
    self->in_take = false;
    if (engine.tracing) {
        if (pfn == PFN_NONE)
            trace(NULL, "= fails");
        else
            trace(NULL, "= frame %llu", ull(pfn));
    }
    call->pfn = pfn;
    if (pfn != PFN_NONE)
        check_taken(call, pfn, order, flags & TAKE_CLEAN);
    check_waited();
    memory_call_ends(call);
    return pfn;
}

static void give_back(pfn_t pfn)
{
    struct frame *f = oracle_frame(pfn);
    if (f->owner != self->id)
        broke("the scenario frees frame %llu, which is not CPU %u's", ull(pfn), self->id);
    f->owner = NOBODY;
    f->bad = f->noted;
    memory_event(f, 2, true);
}

void do_free(pfn_t pfn, unsigned order)
{
    if (pfn == PFN_NONE)
        return;
    struct call *call = call_begin(CALL_FREE, pfn, order);
    if (engine.tracing)
        trace(NULL, "mm_free(frame %llu, order %u)", ull(pfn), order);
    for (u64 n = 0; n < 1ULL << order; n++)
        give_back(pfn + n);
    self->in_free = true;
    mm_free(pfn, order);
    self->in_free = false;
    engine_call_point();
    memory_free_ends(call);
}

void do_free_mask(pfn_t first, const struct map512 *frames)
{
    if (engine.tracing)
        trace(NULL, "mm_free_mask(%u frames from %llu)", map512_count(frames), ull(first));
    struct call *calls[8];
    unsigned n = 0;
    map512_for_each(bit, frames)
    {
        if (n == ARRAY_SIZE(calls))
            broke("the scenario frees more than 8 frames by mask");
        calls[n++] = call_begin(CALL_FREE, first + bit, 0);
        give_back(first + bit);
    }
    self->in_free = true;
    mm_free_mask(first, frames);
    self->in_free = false;
    engine_call_point();
    while (n)
        memory_free_ends(calls[--n]);
}

int do_retire(pfn_t pfn)
{
    struct call *call = call_begin(CALL_RETIRE, pfn, 0);
    if (engine.tracing)
        trace(NULL, "mm_retire(frame %llu)", ull(pfn));
    int error = mm_retire(pfn);
    engine_call_point();
    struct frame *f = oracle_frame(pfn);
    if (error == 0) {
        f->noted = true;
        if (f->owner == NOBODY)
            f->retired_at = world.clock + 1; /* for takes that begin after our return */
    }
    memory_event(f, 3, true);
    memory_call_ends(call);
    return error;
}

bool do_scrub_step(void)
{
    if (engine.tracing)
        trace(NULL, "mm_scrub_step()");
    bool did = mm_scrub_step();
    if (engine.tracing)
        trace(NULL, "= %s", did ? "did work" : "nothing to do");
    return did;
}

u64 do_aged_step(unsigned node)
{
    if (engine.tracing)
        trace(NULL, "mm_aged_step(node %u)", node);
    u64 ns = mm_aged_step(node);
    if (engine.tracing)
        trace(NULL, ns ? "= sleeps %llu ms" : "= again at once", ull(ns / 1000000));
    return ns;
}

/* As runq_make_ready_locked() does it. */
void do_wake(unsigned cpu)
{
    if (engine.tracing)
        trace(NULL, "a thread of CPU %u becomes runnable", cpu);
    world.cpu[cpu].resched_clears = 0;
    xchg(&world.resched[cpu], 1);
    cpu_kick(cpu);
}

void play_cpu(unsigned cpu)
{
    self = &world.cpu[cpu];
}

void scrub_everything(void)
{
    while (mm_scrub_step())
        ;
}

/* ---- what mm/ does on the way ---- */

void oracle_clear_begins(pfn_t pfn, bool stream)
{
    struct frame *f = oracle_frame(pfn);
    u8 me = (u8)(1u << self->id);
    if (self->nr_locks)
        broke("P5: frame %llu is cleared while %s %u is held", ull(pfn), self->lock[0]->name,
              self->lock[0]->sub);
    if (self->in_free)
        broke("P7: a free clears frame %llu", ull(pfn));
    if (f->owner != NOBODY)
        broke("P2: frame %llu is cleared and belongs to CPU %u", ull(pfn), f->owner);
    if (f->clearing & ~me)
        broke("P2: frame %llu is cleared by two CPUs at once", ull(pfn));
    if (!f->soiled || f->clearing)
        broke("P6: frame %llu is cleared and is clean already", ull(pfn));
    if (stream) {
        f->clearing |= me;
        self->nr_unfenced++;
    } else {
        f->soiled = false;
    }
    if (!self->claiming)
        return;
    self->claim_clears++;
    if (memory_now(&world.resched[self->id], 4) && ++self->resched_clears > 1)
        broke("P8: CPU %u clears frame %llu, the second since a thread wants to run", self->id,
              ull(pfn));
    const struct zone *z = claim_of_cpu(self->id)->zone;
    memory_event(&world.resched[self->id], 5, false);
    if (z) {
        memory_event(&z->waiters, 6, false);
        memory_event(&z->total, 7, false);
    }
    for (unsigned n = 0; n < scenario->cpus; n++) {
        if (!z || !(world.cpu[n].raised >> z->index & 1))
            continue;
        memory_event(&wait_hands[n].pfn, 9,
                     false); /* meets the moment in which it is handed over */
        if (wait_hands[n].pfn == PFN_NONE)
            world.cpu[n].waited[self->id]++;
    }
}

void oracle_clear_fence(void)
{
    u8 me = (u8)(1u << self->id);
    for (unsigned n = 0; n < world.nr_frames && self->nr_unfenced; n++) {
        struct frame *f = &world.frame[n];
        if (!(f->clearing & me))
            continue;
        f->clearing &= (u8)~me;
        f->soiled = false;
        self->nr_unfenced--;
        memory_event(f, 4, true);
    }
}

void oracle_locked(struct spinlock *l)
{
    if (self->in_take && l->rank == RANK_ZONE)
        memory_event(&mm_zones[l->sub].total, 8, true); /* meets the clears that are counted */
    memcpy(self->waited_at_lock, self->waited, sizeof(self->waited));
}

void oracle_unlocked(struct spinlock *l)
{
    bool claiming = claim_of_cpu(self->id)->zone != NULL;
    (void)l;
    if (claiming && !self->claiming)
        self->claim_clears = 0;
    if (!claiming && self->claiming && self->claim_clears == 0)
        broke("livelock (rule 16): a claim comes back without one clear; takers that come one "
              "after the other keep CPU %u from ever clearing",
              self->id);
    self->claiming = claiming;
}

/*
 * Rules 10 and 11: whoever holds a claim or shuts a gate is not preempted. Who hands a frame over takes
 * the asker's share of the gate down, and what that has waited for is what it has waited for by now.
 */
void oracle_stored(void *p, u64 old, u64 v)
{
    for (unsigned n = 0; n < mm_zone_count; n++) {
        if (p == &mm_zones[n].asker && v)
            world.asker[n] = self;
        if (p != &mm_zones[n].waiters)
            continue;
        if (v > old) {
            self->shuts |= (u8)(1u << n);
            continue;
        }
        struct vcpu *whose = self->in_take ? self : world.asker[n];
        whose->shuts &= (u8) ~(1u << n);
        if (whose != self)
            memcpy(whose->waited_at_lock, whose->waited, sizeof(whose->waited));
    }
}

void oracle_preemptible(void)
{
    if (claim_of_cpu(self->id)->zone)
        broke("rule 10: CPU %u holds a claim and may be preempted", self->id);
    if (self->shuts == 0)
        return;
    /* Where it has been handed its frame, its share goes down in the hold that did so. */
    pfn_t handed = wait_hands[self->id].pfn;
    if (handed == PFN_NONE || self->shuts & ~(1u << zone_of(handed)->index))
        broke("rule 11: CPU %u shuts a gate and may be preempted", self->id);
}

/* A store has left its CPU's buffer. The gate's count tells when a taker begins to wait. */
void oracle_visible(struct vcpu *by, void *p, u64 old, u64 v)
{
    for (unsigned n = 0; n < mm_zone_count && by->in_take; n++)
        if (p == &mm_zones[n].waiters && v > old)
            by->raised |= (u8)(1u << n);
}

/* ---- at rest ---- */

/*
 * A free begins before the frame can be anybody else's, a take has ended before its owner can
 * free it: by these moments the frees and takes of one frame are in the order in which they
 * happened, however the calls overlap.
 */
static bool available(pfn_t pfn, unsigned when)
{
    bool yes = oracle_frame(pfn)->owner != MAX_CPUS;
    unsigned last = 0;
    for (unsigned n = 0; n < world.nr_calls; n++) {
        const struct call *c = &world.call[n];
        if (c->pfn == PFN_NONE || pfn < c->pfn || pfn >= c->pfn + (1ULL << c->order) ||
            c->begun > when)
            continue;
        if (c->what == CALL_RETIRE || when < c->ended)
            return false;
        unsigned moment = c->what == CALL_FREE ? c->begun : c->ended;
        if (moment > last) {
            last = moment;
            yes = c->what == CALL_FREE;
        }
    }
    return yes;
}

static bool could_serve(const struct call *take, unsigned when)
{
    u64 size = 1ULL << take->order;
    for (unsigned z = 0; z < mm_nr_zones(); z++) {
        struct mm_zone_info zone;
        mm_zone_info(z, &zone);
        if ((take->flags & TAKE_THIS_NODE) && zone.node != take->node)
            continue;
        for (unsigned r = 0; r < RANGES_MAX; r++) {
            pfn_t from = MAX(scenario->range[r].start, zone.start);
            pfn_t end = MIN(scenario->range[r].end, zone.end);
            for (pfn_t pfn = ALIGN_UP(from, size); pfn + size <= end; pfn += size) {
                u64 n = 0;
                while (n < size && available(pfn + n, when))
                    n++;
                if (n == size)
                    return true;
            }
        }
    }
    return false;
}

static void check_failed_takes(void)
{
    for (unsigned n = 0; n < world.nr_calls; n++) {
        const struct call *take = &world.call[n];
        if (take->what != CALL_TAKE || take->pfn != PFN_NONE)
            continue;
        bool always = true;
        for (unsigned when = take->begun; when < take->ended && always; when++)
            always = could_serve(take, when);
        if (always)
            broke("P4: CPU %u's take of order %u failed, and at every moment of the call a free "
                  "block could have served it",
                  take->cpu, take->order);
    }
}

static char first_line[200];

static void note_line(const char *line)
{
    if (!first_line[0])
        snprintf(first_line, sizeof(first_line), "%s", line);
}

/* P9, and that nobody rests on what others need. */
static void check_rest(void)
{
    bool all_sleep = true;
    for (unsigned n = 0; n < scenario->cpus; n++) {
        struct vcpu *c = &world.cpu[n];
        if (c->nr_locks || c->preempt)
            broke("CPU %u ends with %u locks and a preemption count of %u", n, c->nr_locks,
                  c->preempt);
        self = c;
        oracle_clear_fence(); /* by the time that all rest a clear is visible by itself */
        all_sleep = all_sleep && c->state == VCPU_HALTS;
        if (c->state != VCPU_HALTS)
            continue;
        if (mm_scrub_may())
            broke("P9: a bell is lost: CPU %u sleeps, there is dirt that it may scrub, and nobody "
                  "will wake it",
                  n);
        if (mm_scrub_may_at())
            broke("P9: CPU %u sleeps without a timer, and only the rate limit kept it from dirt",
                  n);
        if (world.resched[n])
            broke("a wake-up is lost: CPU %u sleeps and has a runnable thread", n);
    }
    self = &world.cpu[0];
    for (unsigned n = 0; n < mm_zone_count; n++)
        if (mm_zones[n].waiters)
            broke("zone %u: the gate stays shut", n);
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        struct mm_zone_info info;
        mm_zone_info(n, &info);
        if (info.max_clears_waited > 1)
            broke("P4: a taker waited for %llu clears", ull(info.max_clears_waited));
        if (info.in_flight)
            broke("P2: %llu frames of zone %u stay in flight", ull(info.in_flight), n);
        if (all_sleep && info.stored_clean + info.stored_dirty)
            broke("P9: all sleep, and stores of zone %u still hold frames", n);
    }
}

/* Allocated, as mm/ counts it, is what has an owner. */
static void check_owned(void)
{
    u64 allocated = 0, owned = 0;
    for (unsigned n = 0; n < mm_nr_zones(); n++) {
        struct mm_zone_info info;
        mm_zone_info(n, &info);
        allocated += info.allocated;
    }
    for (unsigned n = 0; n < world.nr_frames; n++)
        owned += world.frame[n].owner < MAX_CPUS;
    if (allocated != owned)
        broke("P2: %llu frames count as allocated, %llu have an owner", ull(allocated), ull(owned));
}

void oracle_at_rest(void)
{
    engine.tracing = false;
    check_rest();
    check_failed_takes();
    self = &world.cpu[0];
    first_line[0] = 0;
    if (mm_check(true, note_line))
        broke("%s", first_line);
    check_owned();
    if (scenario->at_end)
        scenario->at_end();
}
