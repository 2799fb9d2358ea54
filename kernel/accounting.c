/*
 * Adding up. Every frame of a zone is in one state, every allocated one has an owner who counts
 * it, and whatever was scrubbed was scrubbed by some CPU in some zone. Each of these numbers is
 * counted where it happens, by itself; here they have to meet.
 *
 * Owns nothing, takes no lock of its own. The numbers come one after the other, so they are of
 * one moment only if nothing moves meanwhile: accounting_take() reads twice what moves, and
 * accounting_check() holds the idle CPUs back.
 *
 * Next: tables.c, which shows it; tests/ktest.c, which checks it.
 */
#include "kernel/accounting.h"
#include "arch.h"
#include "guest/guest.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "sched/sched.h"

#define QUIET_TRIES 20000 /* of 100 us: two seconds, many times what one scrub step takes */
#define QUIET_NS    (100 * 1000ULL)
#define TAKE_TRIES  20

static u64 cpus_scrubbed(void)
{
    u64 sum = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        sum += mm_cpu_scrubbed(cpu);
    return sum;
}

static void cpus_add(struct mm_cpu_info *sum)
{
    *sum = (struct mm_cpu_info){0};
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct mm_cpu_info i;
        mm_cpu_info(cpu, &i);
        sum->scrubbed_idle_local += i.scrubbed_idle_local;
        sum->scrubbed_idle_remote += i.scrubbed_idle_remote;
        sum->scrubbed_aged += i.scrubbed_aged;
        sum->scrubbed_takers_local += i.scrubbed_takers_local;
        sum->scrubbed_takers_remote += i.scrubbed_takers_remote;
        sum->stored_clean += i.stored_clean;
        sum->stored_dirty += i.stored_dirty;
    }
}

/*
 * The zones are looked at between two looks at the CPUs, which have to say the same: then nobody
 * stored, took from a store or cleared meanwhile.
 *
 * What idle CPUs scrub is counted by the CPU with each clear, and by the zone when the claim comes
 * back. So they agree if no clear began between two looks at the CPUs and, in between, no claim
 * was out.
 */
static void take_once(struct accounting *a)
{
    *a = (struct accounting){.cpu_scrubbed = cpus_scrubbed(), .guests_kept = guests_leak_kept()};
    guests_frames(&a->guests, &a->guest_own);
    a->stacks = kstack_frames_held();
    a->records = sched_frames_held();

    cpus_add(&a->cpus);
    /* Between the looks at the CPUs: what was counted before it, the zones have counted too. */
    bool at_work = mm_scrub_at_work();
    mm_node_info(MM_ALL_NODES, &a->all);

    struct accounting again = {0};
    guests_frames(&again.guests, &again.guest_own);
    cpus_add(&again.cpus);
    a->steady = a->all.in_flight == 0 && !at_work &&
                memcmp(&a->cpus, &again.cpus, sizeof(a->cpus)) == 0 &&
                a->cpu_scrubbed == cpus_scrubbed() && a->guests == again.guests &&
                a->guest_own == again.guest_own && a->stacks == kstack_frames_held() &&
                a->records == sched_frames_held();
    a->unaccounted = (s64)(a->all.allocated - a->guests - a->guest_own - a->guests_kept -
                           a->stacks - a->records);
}

void accounting_take(struct accounting *out)
{
    for (unsigned tries = 0; tries < TAKE_TRIES; tries++) {
        take_once(out);
        if (out->steady)
            return;
        thread_sleep(QUIET_NS);
    }
}

/* ---- checking ---- */

struct sums {
    void (*say)(const char *line);
    unsigned wrong;
};

static void __printf_like(3, 4) expect(struct sums *s, bool ok, const char *fmt, ...)
{
    char line[200];
    va_list ap;

    if (ok)
        return;
    s->wrong++;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (s->say)
        s->say(line);
}

/* Every frame of a zone, or of a node, is in exactly one state. Holds at any moment. */
static void check_states(struct sums *s, const struct mm_zone_info *i, const char *what, unsigned n)
{
    u64 sum = i->clean + i->dirty + i->stored_clean + i->stored_dirty + i->in_flight +
              i->allocated + i->retired;
    /* A number below zero shows as one far above what there is. */
    bool sane = i->clean <= i->frames && i->dirty <= i->frames && i->allocated <= i->frames &&
                i->retired <= i->frames && i->stored_clean + i->stored_dirty <= i->frames;
    expect(s, sane && sum == i->frames,
           "accounting: %s %u: %lu frames, but clean %lu + dirty %lu + stored %lu + in flight %lu "
           "+ allocated %lu + retired %lu",
           what, n, i->frames, i->clean, i->dirty, i->stored_clean + i->stored_dirty, i->in_flight,
           i->allocated, i->retired);
}

static u64 scrubbed_idle(const struct mm_zone_info *i)
{
    return i->scrubbed_idle_local + i->scrubbed_idle_remote + i->scrubbed_aged;
}

/* The zones, one by one and by node, come to what all of them together say. */
static void check_zones(struct sums *s, const struct mm_zone_info *all)
{
    struct mm_zone_info i, zones = {0};
    u64 nodes = 0;

    for (unsigned zone = 0; zone < mm_nr_zones(); zone++) {
        mm_zone_info(zone, &i);
        check_states(s, &i, "zone", zone);
        zones.frames += i.frames;
        zones.allocated += i.allocated;
        zones.retired += i.retired;
    }
    for (unsigned node = 0; node < nr_nodes; node++) {
        mm_node_info(node, &i);
        check_states(s, &i, "node", node);
        nodes += i.frames;
    }
    expect(s,
           zones.frames == all->frames && zones.allocated == all->allocated &&
               zones.retired == all->retired && nodes == all->frames,
           "accounting: all: %lu frames, %lu allocated, %lu retired, but the zones have %lu, %lu, "
           "%lu and the nodes %lu",
           all->frames, all->allocated, all->retired, zones.frames, zones.allocated, zones.retired,
           nodes);
}

/* Whatever a zone counts as done to it, some CPU counts as done by it. */
static void check_cpus(struct sums *s, const struct accounting *a)
{
    const struct mm_zone_info *z = &a->all;
    const struct mm_cpu_info *c = &a->cpus;
    const struct {
        const char *what;
        u64 cpus, zones;
    } pair[] = {
        {"scrubbed when idle, local", c->scrubbed_idle_local, z->scrubbed_idle_local},
        {"scrubbed when idle, remote", c->scrubbed_idle_remote, z->scrubbed_idle_remote},
        {"scrubbed because of age", c->scrubbed_aged, z->scrubbed_aged},
        {"cleared by takers, local", c->scrubbed_takers_local, z->scrubbed_takers_local},
        {"cleared by takers, remote", c->scrubbed_takers_remote, z->scrubbed_takers_remote},
        {"stored clean", c->stored_clean, z->stored_clean},
        {"stored dirty", c->stored_dirty, z->stored_dirty},
        {"scrubbed, clear by clear", a->cpu_scrubbed, scrubbed_idle(z)},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(pair); i++)
        expect(s, pair[i].cpus == pair[i].zones,
               "accounting: frames %s: the CPUs say %lu, the zones %lu", pair[i].what, pair[i].cpus,
               pair[i].zones);
}

/* One guest at rest holds what it was given and got, less what it gave back. */
static void check_guests(struct sums *s, const struct accounting *a)
{
    struct guest_stat g;
    u64 held = 0, own = 0;

    for (unsigned id = guest_next(0); id; id = guest_next(id)) {
        if (guest_stat_get(id, &g) != 0)
            continue;
        held += g.frames_held;
        own += g.frames_own;
        if (g.state == GUEST_RUNNING)
            expect(s, g.frames_held == g.frames_given + g.frames_got - g.frames_back,
                   "accounting: guest %u %s holds %lu frames, but was given %lu, got %lu, gave "
                   "%lu back",
                   g.id, g.name, g.frames_held, g.frames_given, g.frames_got, g.frames_back);
        expect(s, g.state != GUEST_DEAD || (g.frames_held == 0 && g.frames_own == 0),
               "accounting: guest %u %s is dead and holds %lu frames", g.id, g.name,
               g.frames_held + g.frames_own);
        expect(
            s, g.frames_mapped <= g.frames_held && g.cleared_at_touch <= g.taken_dirty,
            "accounting: guest %u %s holds %lu frames, %lu mapped; was given %lu dirty ones, %lu "
            "scrubbed at its touch",
            g.id, g.name, g.frames_held, g.frames_mapped, g.taken_dirty, g.cleared_at_touch);
        expect(s, g.frames_held <= g.frames_peak, "accounting: guest %u %s: %lu frames, peak %lu",
               g.id, g.name, g.frames_held, g.frames_peak);
    }
    expect(s, held == a->guests && own == a->guest_own,
           "accounting: guests hold %lu and %lu frames, one by one %lu and %lu", a->guests,
           a->guest_own, held, own);
}

unsigned accounting_check(void (*say)(const char *line), struct accounting *out)
{
    struct sums s = {.say = say};
    bool scrub = mm_scrub_enabled();

    mm_scrub_enable(false);
    take_once(out);
    for (unsigned tries = 0; !out->steady && tries < QUIET_TRIES; tries++) {
        thread_sleep(QUIET_NS);
        take_once(out);
    }
    expect(&s, out->steady, "accounting: %lu frames in flight and no end, or somebody still moves",
           out->all.in_flight);
    if (out->steady) {
        check_zones(&s, &out->all);
        check_guests(&s, out);
        expect(&s, out->unaccounted >= 0,
               "accounting: %lu frames allocated, but owners count %ld more", out->all.allocated,
               -out->unaccounted);
        check_cpus(&s, out);
    }
    if (scrub)
        mm_scrub_enable(true);
    return s.wrong;
}
