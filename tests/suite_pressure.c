/*
 * Running out, and killing: memory is short, guests die in every state, and nobody else suffers:
 * no leak, no frame lost, and who cannot have memory is told so. The framework adds everything
 * up after each case, and some cases do so in the middle.
 *
 * Memory is made short in one node by holding the rest of it, untouched (ktest_ballast.h).
 */
#include "arch.h"
#include "kernel/accounting.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"
#include "tests/ktest_ballast.h"
#include "tests/ktest_guest.h"

#define FRAMES(bytes) ((bytes) / FRAME_SIZE)

static void say(const char *line)
{
    ktest_note("%s", line);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool have_images(const char *a, const char *b, const char *c)
{
    return ktest_guest_have(a) && (!b || ktest_guest_have(b)) && (!c || ktest_guest_have(c));
}

static unsigned start_small(const char *name, u64 mem, unsigned cpu, u64 cpu_ns)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    cfg.mem = mem;
    cfg.cpu = cpu;
    cfg.cpu_ns = cpu_ns;
    cfg.linger = true; /* who knows the word stays until it is killed */
    return ktest_guest_start(&cfg);
}

/* ---- the memory of a node is used up ---- */

/* Frames chained through their first bytes: as many as there are, without memory for a list. */
struct chain {
    pfn_t first;
    u64 frames;
};

static struct chain chain_take(unsigned node, enum take_flags flags)
{
    struct chain c = {PFN_NONE, 0};
    pfn_t pfn;
    while ((pfn = mm_take(0, flags, node)) != PFN_NONE) {
        *(pfn_t *)frame_va(pfn) = c.first;
        c.first = pfn;
        c.frames++;
    }
    return c;
}

static void chain_free(struct chain *c)
{
    while (c->first != PFN_NONE) {
        pfn_t next = *(pfn_t *)frame_va(c->first);
        mm_free(c->first, 0);
        c->first = next;
    }
}

static void do_nothing(void *unused)
{
    (void)unused;
}

static void short_gone(void *gone)
{
    store_release((unsigned *)gone, 1u);
}

/* A thread on a CPU of the node: it runs and is gone, or there is none and that is all. */
static bool thread_runs(unsigned node)
{
    static unsigned gone; /* (a) */
    struct thread *t = thread_create("short", do_nothing, NULL, ANY_CPU, node);
    if (!t)
        return false;
    store_relaxed(&gone, 0);
    thread_on_reaped(t, short_gone, &gone);
    thread_start(t);
    return CHECK(ktest_wait_for(&gone, KTEST_LOST));
}

/* No other node has any. */
static bool is_all_memory(unsigned node)
{
    struct mm_zone_info here, all;
    mm_node_info(node, &here);
    mm_node_info(MM_ALL_NODES, &all);
    return here.frames == all.frames;
}

/* Starts guests that stay until one cannot be had; how many. */
static unsigned fill_with_guests(unsigned node, u64 mem, unsigned *id, unsigned max, int *error)
{
    unsigned n = 0;
    for (; n < max; n++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("secretive");
        cfg.mem = mem;
        cfg.node = node;
        cfg.linger = true;
        *error = guest_start(&cfg, &id[n]);
        if (*error)
            break;
    }
    return n;
}

static void guests_use_up_a_node(void)
{
    enum { LEAVE_MIB = 64, EACH_MIB = 5, MAX = LEAVE_MIB / EACH_MIB + 4 };
    static unsigned id[MAX];
    struct guest_stat stat;
    struct accounting sums;
    unsigned node, nr;
    int error = 0;

    if (!have_images("secretive", "prober", NULL) || !ktest_ballast_node(&node) ||
        !ktest_has_mib(60))
        return;
    u64 leaks = guests_leak_count();
    ktest_ballast_take(node, FRAMES(LEAVE_MIB * MIB));
    nr = fill_with_guests(node, EACH_MIB * MIB, id, MAX, &error);
    CHECK_MSG(nr > LEAVE_MIB / EACH_MIB / 2 && nr < MAX && error == E_NOMEM, "%u guests, then: %s",
              nr, error_text(error));

    /* The last frame of the node, too. Whoever comes now is told so, and nobody dies of it. */
    struct chain rest = chain_take(node, TAKE_CLEAN | TAKE_THIS_NODE);
    CHECK(ktest_ballast_left(node) == 0);
    CHECK(mm_take(0, TAKE_ANY | TAKE_THIS_NODE, node) == PFN_NONE);
    CHECK(mm_take(ORDER_PAGEBLOCK, TAKE_CLEAN | TAKE_THIS_NODE, node) == PFN_NONE);
    unsigned none;
    CHECK(fill_with_guests(node, 1 * MIB, &none, 1, &error) == 0 && error == E_NOMEM);
    CHECK(thread_runs(node) || is_all_memory(node));
    for (unsigned i = 0; i < nr; i++)
        CHECK_MSG(guest_stat_get(id[i], &stat) == 0 && stat.state == GUEST_RUNNING &&
                      stat.frames_held == stat.frames_given,
                  "guest %u: %s, %lu of %lu frames", id[i], guest_state_name(stat.state),
                  stat.frames_held, stat.frames_given);
    thread_reap_wait();
    CHECK(accounting_check(say, &sums) == 0);
    chain_free(&rest);

    /* Half of them die, and a newcomer takes their place at once. */
    for (unsigned i = 0; i < nr; i += 2)
        CHECK(guest_kill(id[i]) == 0);
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("prober");
    cfg.mem = (nr + 1) / 2 * EACH_MIB * MIB;
    cfg.node = node;
    ktest_guest_ends_well(ktest_guest_start(&cfg));
    for (unsigned i = 0; i < nr; i++) {
        if (i % 2)
            CHECK(guest_kill(id[i]) == 0);
        if (ktest_guest_ended(id[i], &stat))
            CHECK_MSG(strcmp(stat.end, "killed") == 0, "%s", stat.end);
    }
    ktest_ballast_free();
    CHECK(guests_leak_count() == leaks);
}

/* Not a frame anywhere: threads and guests are refused in so many words, and come when there is. */
static void not_a_frame_is_left(void)
{
    struct mm_zone_info all;
    struct chain rest;
    unsigned node, refused = 0, id;

    mm_node_info(MM_ALL_NODES, &all);
    if (all.frames > FRAMES(600 * MIB)) {
        ktest_skip("the machine has more than 600 MiB");
        return;
    }
    if (!ktest_guest_have("prober") || !ktest_ballast_node(&node))
        return;
    ktest_ballast_take(node, 0);
    rest = chain_take(node, TAKE_ANY); /* of the other nodes */
    /* A record may be had in a frame that is there already, a stack may not. */
    for (unsigned i = 0; i < 8; i++)
        refused += !thread_runs(ANY_NODE);
    CHECK_MSG(refused == 8, "%u of 8 threads were refused", refused);
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("prober");
    cfg.mem = 1 * MIB;
    CHECK(guest_start(&cfg, &id) == E_NOMEM);
    chain_free(&rest);
    ktest_ballast_free();
    CHECK(thread_runs(ANY_NODE));
    ktest_guest_ends_well(ktest_guest_start(&cfg));
}

/* ---- balloons against takers ---- */

static struct taker {
    struct ktest_thread thread;
    unsigned node;
    u64 random, takes, refused, leaks;
} taker[4];

static void take_and_look(void *arg)
{
    enum { HELD = 64, STEPS = 1500 };
    struct taker *t = arg;
    struct {
        pfn_t pfn;
        unsigned order;
    } held[HELD];
    unsigned nr = 0;

    for (unsigned step = 0; step < STEPS; step++) {
        t->random = t->random * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned r = (unsigned)(t->random >> 33);
        if (nr < HELD && r % 5 < 3) {
            unsigned order = r >> 8 & 7 ? r >> 12 & 3 : r >> 12 & 7;
            pfn_t pfn = mm_take(order, TAKE_CLEAN | TAKE_THIS_NODE, t->node);
            if (pfn == PFN_NONE) {
                t->refused++;
                continue;
            }
            for (unsigned i = 0; i < 1u << order; i++) {
                t->leaks += !frame_is_zero(frame_va(pfn + i));
                *(u64 *)frame_va(pfn + i) = t->random;
            }
            t->takes++;
            held[nr].pfn = pfn;
            held[nr++].order = order;
        } else if (nr) {
            unsigned i = r % nr;
            mm_free(held[i].pfn, held[i].order);
            held[i] = held[--nr];
        }
        if (r >> 20 == 7)
            thread_sleep(KTEST_MS / 10);
    }
    while (nr-- > 0)
        mm_free(held[nr].pfn, held[nr].order);
}

/*
 * Balloons that together want more than there is, takers in the kernel, and one prober after the
 * other: each takes what another has just soiled and given back.
 */
static void balloons_beside_takers(void)
{
    enum { LEAVE_MIB = 64, BALLOONS = 4, EACH_MIB = 14, PROBERS = 6 };
    unsigned id[BALLOONS], node, balloons = 0, started = 0;
    unsigned takers = MIN(nr_cpus, (unsigned)ARRAY_SIZE(taker));
    struct guest_stat stat;
    u64 leaks = guests_leak_count(), refused = 0, got = 0;

    if (!have_images("balloon", "prober", NULL) || !ktest_ballast_node(&node) || !ktest_has_mib(60))
        return;
    ktest_ballast_take(node, FRAMES(LEAVE_MIB * MIB));
    for (unsigned i = 0; i < BALLOONS; i++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("balloon");
        char words[48];
        snprintf(words, sizeof(words), "700x4x%lu", ktest_random() % 1000000 + 1);
        cfg.mem = EACH_MIB * MIB; /* and twice that at most */
        cfg.node = node;
        cfg.secret = words;
        cfg.cpu = i % nr_cpus;
        /* Those before it may hold all of it already. */
        int error = guest_start(&cfg, &id[i]);
        CHECK_MSG(error == 0 || error == E_NOMEM, "balloon: %s", error_text(error));
        if (error)
            id[i] = 0;
        balloons += error == 0;
    }
    CHECK(balloons >= 2);
    for (unsigned i = 0; i < takers; i++) {
        taker[i] = (struct taker){.node = node, .random = ktest_random()};
        ktest_spawn(&taker[i].thread, i * nr_cpus / takers, take_and_look, &taker[i]);
    }
    for (unsigned i = 0; i < PROBERS; i++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("prober");
        unsigned prober;
        cfg.mem = (1 + ktest_random() % 6) * MIB;
        cfg.node = node;
        int error = guest_start(&cfg, &prober);
        CHECK_MSG(error == 0 || error == E_NOMEM, "prober: %s", error_text(error));
        if (error == 0) {
            started++;
            ktest_guest_ends_well(prober);
        }
        thread_sleep(ktest_random() % (5 * KTEST_MS));
    }
    for (unsigned i = 0; i < takers; i++) {
        ktest_join(&taker[i].thread);
        CHECK_MSG(taker[i].leaks == 0, "taker %u: %lu frames were not zero", i, taker[i].leaks);
        CHECK(taker[i].takes + taker[i].refused > 0); /* memory, or a clear no */
        refused += taker[i].refused;
    }
    for (unsigned i = 0; i < BALLOONS; i++) {
        if (!id[i])
            continue;
        ktest_guest_ends_well(id[i]);
        if (guest_stat_get(id[i], &stat) == 0)
            got += stat.frames_got;
    }
    ktest_ballast_free();
    CHECK(guests_leak_count() == leaks);
    ktest_note("%u balloons got %lu MiB, %u of %d probers had room, %lu takes were refused",
               balloons, got >> 8, started, PROBERS, refused);
}

/* ---- killed in every state ---- */

static struct {
    unsigned stop; /* (a) */
    int odd;       /* (o) an error that a kill does not explain */
} starter;

static void start_for_ever(void *unused)
{
    (void)unused;
    while (!load_acquire(&starter.stop)) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("spinner");
        unsigned id = 0;
        cfg.mem = 12 * MIB;
        int error = guest_start(&cfg, &id);
        if (error && error != E_KILLED)
            starter.odd = error;
        if (!error) {
            guest_kill(id);
            guest_wait(id);
        }
    }
}

static void starting_ones_are_killed(void)
{
    struct ktest_thread t;
    unsigned killed = 0;
    struct accounting sums;

    if (!ktest_guest_have("spinner"))
        return;
    starter.stop = 0;
    starter.odd = 0;
    ktest_spawn(&t, ANY_CPU, start_for_ever, NULL);
    for (u64 end = time_ns() + KTEST_S; killed < 12 && time_ns() < end;) {
        struct guest_stat stat;
        for (unsigned id = guest_next(0); id; id = guest_next(id))
            if (guest_stat_get(id, &stat) == 0 && stat.state == GUEST_STARTING)
                killed += guest_kill(id) == 0;
        thread_sleep(ktest_random() % KTEST_MS);
    }
    store_release(&starter.stop, 1);
    ktest_join(&t);
    CHECK_MSG(starter.odd == 0, "start: %s", error_text(starter.odd));
    guests_wait_exiting();
    thread_reap_wait();
    CHECK(accounting_check(say, &sums) == 0);
    CHECK(sums.guests == 0 && sums.guest_own == 0);
    ktest_note("%u killed while they were starting", killed);
}

static struct killer {
    struct ktest_thread thread;
    unsigned id;
} killer[2];

/* Again and again until nobody is there: so it also comes while the guest is exiting. */
static void kill_until_gone(void *arg)
{
    const struct killer *k = arg;
    while (guest_kill(k->id) == 0)
        sched_yield();
}

static void any_state_can_be_killed(void)
{
    /* What each of them does all the time: run, sleep, call for memory, come to its own end. */
    static const struct {
        const char *image;
        u64 cpu_ns; /* its end by the limit may come in between, too */
    } kind[] = {{"spinner", 0}, {"secretive", 0}, {"balloon", 0},
                {"prober", 0},  {"getgive", 0},   {"spinner", 3 * KTEST_MS}};
    struct guest_stat stat;
    struct accounting sums;

    for (unsigned i = 0; i < ARRAY_SIZE(kind); i++)
        if (!ktest_guest_have(kind[i].image))
            return;
    for (unsigned round = 0; round < 4 * ARRAY_SIZE(kind); round++) {
        unsigned k = round % ARRAY_SIZE(kind);
        unsigned id = start_small(kind[k].image, (1 + ktest_random() % 3) * MIB,
                                  (unsigned)(ktest_random() % nr_cpus), kind[k].cpu_ns);
        REQUIRE(id);
        if (ktest_random() % 4)
            thread_sleep(ktest_random() % (8 * KTEST_MS));
        for (unsigned n = 0; n < ARRAY_SIZE(killer); n++) {
            killer[n].id = id;
            ktest_spawn(&killer[n].thread, n * (nr_cpus - 1), kill_until_gone, &killer[n]);
        }
        for (unsigned n = 0; n < ARRAY_SIZE(killer); n++)
            ktest_join(&killer[n].thread);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(starts_with(stat.end, "killed") || stat.exit_code == 0, "%s: %s", stat.name,
                      stat.end);
        CHECK(guest_kill(id) == E_NOENT);
    }
    thread_reap_wait();
    CHECK(accounting_check(say, &sums) == 0);
    CHECK(sums.guests == 0 && sums.guest_own == 0);
}

/* With little memory left: what one gives back the next one gets, while more of them die. */
static void kills_while_memory_is_short(void)
{
    enum { LEAVE_MIB = 24, EACH_MIB = 7, PLACES = 3, ROUNDS = 24 };
    static const char *const image[] = {"balloon", "secretive", "spinner", "prober"};
    unsigned id[PLACES] = {0}, node, started = 0;
    struct guest_stat stat;
    u64 leaks = guests_leak_count();

    for (unsigned i = 0; i < ARRAY_SIZE(image); i++)
        if (!ktest_guest_have(image[i]))
            return;
    if (!ktest_ballast_node(&node))
        return;
    ktest_ballast_take(node, FRAMES(LEAVE_MIB * MIB));
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned place = (unsigned)(ktest_random() % PLACES);
        struct guest_config cfg = GUEST_CONFIG_DEFAULT(image[ktest_random() % ARRAY_SIZE(image)]);
        cfg.mem = EACH_MIB * MIB;
        cfg.node = node;
        cfg.linger = true;
        cfg.cpu = (unsigned)(ktest_random() % nr_cpus);
        if (id[place])
            guest_kill(id[place]); /* and it does not wait for the end */
        int error = guest_start(&cfg, &id[place]);
        CHECK_MSG(error == 0 || error == E_NOMEM, "start %s: %s", cfg.name, error_text(error));
        if (error)
            id[place] = 0;
        started += error == 0;
        thread_sleep(ktest_random() % (6 * KTEST_MS));
    }
    for (unsigned i = 0; i < PLACES; i++) {
        if (!id[i])
            continue;
        guest_kill(id[i]);
        if (ktest_guest_ended(id[i], &stat))
            CHECK_MSG(starts_with(stat.end, "killed") || stat.exit_code == 0, "%s: %s", stat.name,
                      stat.end);
    }
    CHECK(started > ROUNDS / 4);
    CHECK(guests_leak_count() == leaks);
    ktest_ballast_free();
}

/* ---- CPU time ---- */

/* Waits for an end that ought to come by itself; one that does not come is a failed check. */
static bool ends_by_itself(unsigned id, struct guest_stat *stat)
{
    if (!id)
        return false;
    for (u64 end = time_ns() + KTEST_LOST; time_ns() < end; thread_sleep(KTEST_MS))
        if (guest_stat_get(id, stat) == 0 && stat->state == GUEST_DEAD)
            return true;
    CHECK_MSG(false, "guest %u %s runs on, after %lu ms of CPU time", id, stat->name,
              stat->cpu_ns / 1000000);
    guest_kill(id);
    guest_wait(id);
    return false;
}

static void used_up(unsigned id, u64 limit)
{
    struct guest_stat stat;
    if (!ends_by_itself(id, &stat))
        return;
    CHECK_MSG(starts_with(stat.end, "killed: its CPU time") && stat.exit_code == -1, "%s: %s",
              stat.name, stat.end);
    CHECK_MSG(stat.cpu_ns >= limit, "%s ran for %lu ns of %lu", stat.name, stat.cpu_ns, limit);
}

/* Alone on its CPU, where no tick runs; and one that is in hypercalls nearly all the time. */
static void a_spinner_uses_up_its_time(void)
{
    if (!have_images("spinner", "balloon", NULL))
        return;
    for (unsigned cpu = 0; cpu < MIN(nr_cpus, 4u); cpu++) {
        u64 limit = (5 + ktest_random() % 40) * KTEST_MS;
        used_up(start_small("spinner", 1 * MIB, nr_cpus - 1 - cpu, limit), limit);
    }
    used_up(start_small("balloon", 2 * MIB, nr_cpus - 1, 40 * KTEST_MS), 40 * KTEST_MS);
}

/* Several on one CPU: each is charged with what it had itself, so together with no more than all. */
static void each_pays_for_itself(void)
{
    enum { N = 4, LIMIT_MS = 30 };
    unsigned id[N], cpu = nr_cpus - 1;
    struct guest_stat stat;
    struct sched_stats before, after;
    u64 sum = 0;

    if (!ktest_guest_have("spinner"))
        return;
    u64 begin = time_ns(); /* outside of the two counts: what passes between is in neither */
    sched_cpu_stats(cpu, &before);
    for (unsigned i = 0; i < N; i++)
        id[i] = start_small("spinner", 1 * MIB, cpu, (i + 1) * LIMIT_MS * KTEST_MS);
    for (unsigned i = 0; i < N; i++) {
        used_up(id[i], (i + 1) * LIMIT_MS * KTEST_MS);
        if (id[i] && guest_stat_get(id[i], &stat) == 0)
            sum += stat.cpu_ns;
    }
    thread_reap_wait();
    sched_cpu_stats(cpu, &after);
    u64 passed = time_ns() - begin, busy = after.busy_ns - before.busy_ns;
    CHECK_MSG(sum <= busy && busy <= passed, "guests ran for %lu us, the CPU for %lu, of %lu",
              sum / 1000, busy / 1000, passed / 1000);
}

/* Who sleeps uses no time, and who ends within the limit is not touched by it. */
static void sleep_is_free(void)
{
    struct guest_stat stat;
    if (!have_images("secretive", "prober", NULL))
        return;
    unsigned sleeper = start_small("secretive", 1 * MIB, 0, KTEST_LOST);
    ktest_guest_ends_well(start_small("prober", 1 * MIB, nr_cpus - 1, KTEST_LOST));
    thread_sleep(20 * KTEST_MS); /* long enough to have filled its memory, mostly */
    if (sleeper && CHECK(guest_stat_get(sleeper, &stat) == 0)) {
        u64 ran = stat.cpu_ns;
        for (unsigned i = 0; i < 1000 && ran == 0; i++) { /* it has had no turn yet */
            thread_sleep(KTEST_MS);
            CHECK(guest_stat_get(sleeper, &stat) == 0);
            ran = stat.cpu_ns;
        }
        CHECK(stat.state == GUEST_RUNNING && ran > 0 && ran < KTEST_LOST);
        guest_kill(sleeper);
        if (ktest_guest_ended(sleeper, &stat))
            CHECK_MSG(strcmp(stat.end, "killed") == 0, "%s", stat.end);
    }
}

static const struct ktest cases[] = {
    {"guests_use_up_a_node", guests_use_up_a_node, 0, 0},
    {"not_a_frame_is_left", not_a_frame_is_left, 0, 0},
    {"balloons_beside_takers", balloons_beside_takers, 0, 0},
    {"starting_ones_are_killed", starting_ones_are_killed, 0, 0},
    {"any_state_can_be_killed", any_state_can_be_killed, 0, 0},
    {"kills_while_memory_is_short", kills_while_memory_is_short, 0, 0},
    {"a_spinner_uses_up_its_time", a_spinner_uses_up_its_time, 0, 0},
    {"each_pays_for_itself", each_pays_for_itself, 0, 0},
    {"sleep_is_free", sleep_is_free, 0, 0},
};
KTEST_SUITE(pressure, cases);
