/*
 * Guests: that they end as they should, whatever they try, that nothing of one reaches another,
 * and that all of their memory comes back. The images are those of guest/images/, from the
 * module; without one every case is skipped.
 */
#include "tests/ktest_guest.h"
#include "arch.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static unsigned start_small(const char *name, const char *secret, unsigned cpu)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    cfg.mem = 1 * MIB;
    cfg.secret = secret;
    cfg.cpu = cpu;
    return ktest_guest_start(&cfg);
}

/* ---- what a guest may not do ---- */

/* Runs one image with each of the words; each has to be killed for it. */
static void all_are_killed(const char *name, const char *const *words, unsigned nr)
{
    struct guest_stat stat;
    u64 leaks = guests_leak_count();
    if (!ktest_guest_have(name))
        return;
    for (unsigned i = 0; i < nr; i++) {
        if (!ktest_guest_ended(start_small(name, words[i], i % nr_cpus), &stat))
            continue;
        CHECK_MSG(starts_with(stat.end, "killed: ") && stat.exit_code == -1, "%s %s: %s", name,
                  words[i], stat.end);
    }
    CHECK(guests_leak_count() == leaks);
}

static void faults_kill(void)
{
    static const char *const words[] = {"null", "write", "text",         "info",
                                        "exec", "stack", "noncanonical", "beyond"};
    all_are_killed("faulter", words, ARRAY_SIZE(words));
}

static void illegal_instructions_kill(void)
{
    static const char *const words[] = {"ud2",   "hlt",    "cli",      "out",  "cr3",
                                        "wrmsr", "int3",   "int80",    "kick", "nmi",
                                        "trap",  "divide", "sysenter", "iret"};
    all_are_killed("illegal", words, ARRAY_SIZE(words));
}

static void bad_pointers_kill(void)
{
    static const char *const words[] = {"kernel",      "direct",        "null",       "wrap",
                                        "top",         "cross",         "readonly",   "code",
                                        "giveimage",   "givestack",     "givekernel", "givecross",
                                        "givetwice",   "threadkernel",  "threaddata", "threadhigh",
                                        "threadstack", "threadnostack", "threadcode"};
    all_are_killed("badptr", words, ARRAY_SIZE(words));
}

static void reading_the_kernel_kills(void)
{
    static const char *const words[] = {"text", "direct", "stack", "top"};
    all_are_killed("kernreader", words, ARRAY_SIZE(words));
}

/* ---- what it may ---- */

static void the_abi_holds(void)
{
    if (!ktest_guest_have("abicheck"))
        return;
    ktest_guest_ends_well(start_small("abicheck", NULL, ANY_CPU));
    ktest_guest_ends_well(start_small("abicheck", NULL, nr_cpus - 1));
}

static void the_console_is_theirs_by_name_only(void)
{
    if (ktest_guest_have("chatter"))
        ktest_guest_ends_well(start_small("chatter", NULL, ANY_CPU));
}

/* Two on one CPU and two elsewhere, each changing its memory all the time. */
static void memory_is_got_and_given(void)
{
    unsigned id[4];
    struct guest_stat stat;
    if (!ktest_guest_have("getgive"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(id); i++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("getgive");
        cfg.mem = (5 + 2 * i) * MIB;
        cfg.cpu = i < 2 ? nr_cpus - 1 : i % nr_cpus;
        id[i] = ktest_guest_start(&cfg);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(id); i++) {
        ktest_guest_ends_well(id[i]);
        if (id[i] && guest_stat_get(id[i], &stat) == 0)
            CHECK_MSG(stat.frames_got > 0 && stat.frames_back > stat.frames_got &&
                          stat.frames_peak >= stat.frames_given,
                      "got %lu, back %lu, peak %lu, given %lu", stat.frames_got, stat.frames_back,
                      stat.frames_peak, stat.frames_given);
    }
}

/* ---- threads of a guest ---- */

static unsigned start_words(const char *name, u64 mem, bool linger, const char *fmt, ...)
    __printf_like(4, 5);
static unsigned start_words(const char *name, u64 mem, bool linger, const char *fmt, ...)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    char words[48];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    cfg.mem = mem;
    cfg.secret = words;
    cfg.linger = linger;
    cfg.cpu = (unsigned)(ktest_random() % nr_cpus);
    return ktest_guest_start(&cfg);
}

/* They share memory, and touch, get and give it all at once. */
static void threads_share_memory(void)
{
    unsigned id[3];
    struct guest_stat stat;
    if (!ktest_guest_have("crowd"))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(id); i++)
        id[i] = start_words("crowd", (4 + 3 * i) * MIB, false, "%ux20x%lu", 2 + 3 * i,
                            ktest_random() % 1000 + 1);
    for (unsigned i = 0; i < ARRAY_SIZE(id); i++) {
        ktest_guest_ends_well(id[i]);
        if (id[i] && guest_stat_get(id[i], &stat) == 0)
            CHECK_MSG(stat.threads == 0 && stat.threads_started == 2 + 3 * i &&
                          stat.frames_touched > 0 && stat.touches > 0 && stat.touch_ns > 0,
                      "threads %u of %u, touched %lu in %lu", stat.threads, stat.threads_started,
                      stat.frames_touched, stat.touches);
    }
}

/* What the threads of a crowd do when the kill comes: run, touch, wait for a touch, get, give. */
static void crowds_are_killed(void)
{
    struct guest_stat stat;
    if (!ktest_guest_have("crowd"))
        return;
    for (unsigned i = 0; i < 16; i++) {
        unsigned id = start_words("crowd", 3 * MIB, true, "%u", 2 + i % 7);
        REQUIRE(id);
        if (i % 4)
            thread_sleep(ktest_random() % (15 * KTEST_MS));
        CHECK(guest_kill(id) == 0);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(strcmp(stat.end, "killed") == 0 && stat.threads == 0, "%s, %u threads left",
                      stat.end, stat.threads);
    }
}

/* The limit is the guest's, however many threads use it up. */
static void threads_share_their_time(void)
{
    struct guest_stat stat;
    if (!ktest_guest_have("crowd") || !ktest_guest_have("relay"))
        return;
    for (unsigned i = 0; i < 4; i++) {
        /* Five at a time, or one after the other. */
        struct guest_config cfg = GUEST_CONFIG_DEFAULT(i % 2 ? "relay" : "crowd");
        cfg.mem = 2 * MIB;
        cfg.secret = i % 2 ? NULL : "5";
        cfg.linger = true;
        cfg.cpu_ns = (30 + 30 * i) * KTEST_MS;
        unsigned id = ktest_guest_start(&cfg);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(starts_with(stat.end, "killed: its CPU time") && stat.cpu_ns >= cfg.cpu_ns &&
                          stat.threads_started > 1,
                      "%s, ran for %lu of %lu ns on %u threads", stat.end, stat.cpu_ns, cfg.cpu_ns,
                      stat.threads_started);
    }
}

/* Whatever numbers it calls with: it ends, by itself or killed, and nothing else happens. */
static void nonsense_is_answered(void)
{
    struct guest_stat stat;
    u64 leaks = guests_leak_count();
    if (!ktest_guest_have("nonsense"))
        return;
    for (unsigned i = 0; i < 12; i++) {
        unsigned id =
            start_words("nonsense", 5 * MIB, false, "200x%lu", ktest_random() % 100000 + 1);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(starts_with(stat.end, "killed: bad pointer") ||
                          starts_with(stat.end, "killed: page fault") || /* its stack given back */
                          starts_with(stat.end, "killed: invalid opcode") ||
                          starts_with(stat.end, "killed: general protection") ||
                          stat.exit_code == 0,
                      "%s", stat.end);
    }
    CHECK(guests_leak_count() == leaks);
}

static void given_back_is_out_of_reach(void)
{
    static const unsigned pages[] = {1, 8, 512, 1300};
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
        ktest_attack(NULL, pages[i]);
}

/* ---- kill ---- */

static void spinners_are_killed(void)
{
    static unsigned id[16];
    struct guest_stat stat;
    unsigned n = MIN(nr_cpus * 2, (unsigned)ARRAY_SIZE(id));
    if (!ktest_guest_have("spinner"))
        return;
    for (unsigned i = 0; i < n; i++)
        id[i] = start_small("spinner", NULL, i % nr_cpus);
    thread_sleep(10 * KTEST_MS);
    for (unsigned i = 0; i < n; i++) {
        if (!id[i])
            continue;
        CHECK(guest_stat_get(id[i], &stat) == 0 && stat.state == GUEST_RUNNING);
        CHECK(guest_kill(id[i]) == 0);
    }
    for (unsigned i = 0; i < n; i++) {
        if (!ktest_guest_ended(id[i], &stat))
            continue;
        CHECK_MSG(strcmp(stat.end, "killed") == 0 && stat.exit_code == -1, "%s", stat.end);
        CHECK(guest_kill(id[i]) == E_NOENT);
    }
    CHECK(guests_exiting() == 0);
}

/* At any moment of its life; twice, sometimes. */
static void a_kill_may_come_at_any_time(void)
{
    struct guest_stat stat;
    if (!ktest_guest_have("getgive"))
        return;
    for (unsigned i = 0; i < 30; i++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("getgive");
        cfg.mem = 3 * MIB;
        cfg.cpu = i % nr_cpus;
        unsigned id = ktest_guest_start(&cfg);
        REQUIRE(id);
        if (i % 4)
            thread_sleep(ktest_random() % (20 * KTEST_MS));
        int killed = guest_kill(id);
        if (i % 3 == 0)
            guest_kill(id);
        if (ktest_guest_ended(id, &stat))
            CHECK_MSG(killed == E_NOENT ? stat.exit_code == 0
                                        : starts_with(stat.end, "killed") || stat.exit_code == 0,
                      "%s", stat.end);
    }
}

static struct {
    unsigned stop; /* (a) */
    int odd;       /* an error that a kill does not explain */
} loading;

static void load_and_load(void *unused)
{
    (void)unused;
    while (!load_acquire(&loading.stop)) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("spinner");
        unsigned id = 0;
        cfg.mem = 8 * MIB;
        int error = guest_start(&cfg, &id);
        if (error && error != E_KILLED)
            loading.odd = error;
        if (!error) {
            guest_kill(id);
            guest_wait(id);
        }
    }
}

/* Guests are killed while they are being loaded: whatever has been taken comes back. */
static void a_kill_may_come_while_loading(void)
{
    struct ktest_thread t;
    unsigned killed = 0;
    if (!ktest_guest_have("spinner"))
        return;
    loading.stop = 0;
    loading.odd = 0;
    ktest_spawn(&t, nr_cpus - 1, load_and_load, NULL);
    for (u64 end = time_ns() + KTEST_S; killed < 20 && time_ns() < end;) {
        for (unsigned id = guest_next(0); id; id = guest_next(id)) {
            struct guest_stat stat;
            if (guest_stat_get(id, &stat) == 0 && stat.state == GUEST_STARTING)
                killed += guest_kill(id) == 0;
        }
        thread_sleep(ktest_random() % KTEST_MS);
    }
    store_release(&loading.stop, 1);
    ktest_join(&t);
    CHECK_MSG(loading.odd == 0, "start: %s", error_text(loading.odd));
    ktest_note("%u killed while loading", killed);
}

static void nobody_is_no_guest(void)
{
    struct guest_stat stat;
    CHECK(guest_kill(0) == E_NOENT && guest_kill(~0u) == E_NOENT);
    CHECK(guest_wait(0) == E_NOENT && guest_wait(~0u) == E_NOENT);
    CHECK(guest_stat_get(0, &stat) == E_NOENT && guest_stat_get(~0u, &stat) == E_NOENT);
}

/* ---- what cannot be started ---- */

static void refused(const struct guest_config *cfg, int want, const char *what)
{
    unsigned id = 0;
    int error = guest_start(cfg, &id);
    CHECK_MSG(error == want, "%s: %s", what, error_text(error));
    if (error == 0) {
        guest_kill(id);
        guest_wait(id);
    }
}

static void nonsense_is_refused(void)
{
    if (!ktest_guest_have("prober"))
        return;
    struct guest_config good = GUEST_CONFIG_DEFAULT("prober"), cfg = good;
    cfg.name = "no-such-image";
    refused(&cfg, E_NOENT, "an image that is not there");
    cfg = good;
    cfg.kind = "no-such-kind";
    refused(&cfg, E_NOENT, "a kind that is not there");
    cfg = good;
    cfg.node = nr_nodes;
    refused(&cfg, E_INVAL, "a node that is not there");
    cfg = good;
    cfg.cpu = nr_cpus;
    refused(&cfg, E_INVAL, "a CPU that is not there");
    cfg = good;
    cfg.mem = 4096;
    refused(&cfg, E_INVAL, "less memory than the image");
    cfg = good;
    cfg.mem = GUEST_MEM_MAX + 4096;
    refused(&cfg, E_INVAL, "more memory than any guest");
    cfg = good;
    cfg.mem = 100 * GIB;
    refused(&cfg, E_NOMEM, "more memory than there is");
}

/* ---- isolation, and where memory comes from ---- */

/* Frames of a node that are allocated. */
static u64 allocated(unsigned node)
{
    struct mm_zone_info info;
    mm_node_info(node, &info);
    return info.allocated;
}

static void memory_is_of_its_node(void)
{
    if (!ktest_guest_have("secretive"))
        return;
    for (unsigned node = 0; node < nr_nodes; node++) {
        struct guest_config cfg = GUEST_CONFIG_DEFAULT("secretive");
        struct mm_zone_info info;
        mm_node_info(node, &info);
        if (info.frames < 40 * MIB / FRAME_SIZE)
            continue; /* a node without memory worth the name */
        cfg.mem = 16 * MIB;
        cfg.node = node;
        cfg.linger = true;
        u64 before = allocated(node);
        unsigned id = ktest_guest_start(&cfg);
        REQUIRE(id);
        struct guest_stat stat;
        CHECK(guest_stat_get(id, &stat) == 0 && stat.frames_given == cfg.mem / FRAME_SIZE);
        CHECK_MSG(allocated(node) >= before + stat.frames_given, "node %u: %lu frames more of %lu",
                  node, allocated(node) - before, stat.frames_given);
        CHECK(guest_kill(id) == 0 && guest_wait(id) == 0);
    }
}

/*
 * Secrets live and die next to a prober, again and again: mid-scrub, on every CPU, in memory of
 * which a good part was just theirs.
 */
static void a_secret_is_not_seen(void)
{
    unsigned node = cpu_node(nr_cpus - 1);
    struct mm_zone_info info = {0};
    u64 leaks = guests_leak_count();
    if (!ktest_guest_have("secretive") || !ktest_guest_have("prober"))
        return;
    for (unsigned i = 0; i < nr_nodes && info.frames == 0; i++) { /* CPUs may have no memory */
        node = mm_node_near(cpu_node(nr_cpus - 1), i);
        mm_node_info(node, &info);
    }
    u64 mem = MIN(info.frames * FRAME_SIZE / 5 * 2, 64 * MIB);
    for (unsigned round = 0; round < 4; round++) {
        struct guest_config secretive = GUEST_CONFIG_DEFAULT("secretive");
        struct guest_config prober = GUEST_CONFIG_DEFAULT("prober");
        secretive.mem = prober.mem = mem;
        secretive.node = prober.node = node;
        secretive.secret = "nobody-else-may-read-this-";
        secretive.linger = true;
        secretive.cpu = round % nr_cpus;
        unsigned dies = ktest_guest_start(&secretive);
        REQUIRE(dies);
        thread_sleep(ktest_random() % (100 * KTEST_MS)); /* filled wholly, or in part */
        CHECK(guest_kill(dies) == 0);
        if (round % 2)
            guest_wait(dies);
        prober.mem = round % 2 ? mem : mem / 2; /* while the dying still hold theirs */
        ktest_guest_ends_well(ktest_guest_start(&prober));
        guest_wait(dies);
    }
    CHECK_MSG(guests_leak_count() == leaks, "%lu frames were not zero",
              guests_leak_count() - leaks);
}

/* The living: one lingers with its secret, others run around it. */
static void the_living_do_not_mix(void)
{
    if (!ktest_has_mib(30))
        return;
    if (!ktest_guest_have("secretive") || !ktest_guest_have("prober") ||
        !ktest_guest_have("getgive"))
        return;
    struct guest_config linger = GUEST_CONFIG_DEFAULT("secretive");
    linger.secret = "mine-";
    linger.linger = true;
    unsigned alive = guests_alive(), id = ktest_guest_start(&linger);
    REQUIRE(id);
    unsigned a = start_small("prober", NULL, 0), b = start_small("prober", NULL, nr_cpus - 1);
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("getgive");
    unsigned c = ktest_guest_start(&cfg);
    ktest_guest_ends_well(a);
    ktest_guest_ends_well(b);
    ktest_guest_ends_well(c);
    struct guest_stat stat;
    CHECK(guest_stat_get(id, &stat) == 0 && stat.state == GUEST_RUNNING);
    CHECK(guests_alive() == alive + 1);
    CHECK(guest_kill(id) == 0 && guest_wait(id) == 0);
}

/* More than there are CPUs, on all of them. */
static void many_at_once(void)
{
    static unsigned id[24];
    if (!ktest_guest_have("prober"))
        return;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(id); i++)
            id[i] = start_small("prober", NULL, ANY_CPU);
        for (unsigned i = 0; i < ARRAY_SIZE(id); i++)
            ktest_guest_ends_well(id[i]);
    }
    CHECK(guests_alive() == 0);
}

static const struct ktest cases[] = {
    {"faults_kill", faults_kill, 0, 0},
    {"illegal_instructions_kill", illegal_instructions_kill, 0, 0},
    {"bad_pointers_kill", bad_pointers_kill, 0, 0},
    {"reading_the_kernel_kills", reading_the_kernel_kills, 0, 0},
    {"the_abi_holds", the_abi_holds, 0, 0},
    {"the_console_is_theirs_by_name_only", the_console_is_theirs_by_name_only, 0, 0},
    {"memory_is_got_and_given", memory_is_got_and_given, 0, 0},
    {"threads_share_memory", threads_share_memory, 0, 0},
    {"crowds_are_killed", crowds_are_killed, 0, 0},
    {"threads_share_their_time", threads_share_their_time, 0, 0},
    {"nonsense_is_answered", nonsense_is_answered, 0, 0},
    {"given_back_is_out_of_reach", given_back_is_out_of_reach, 2, 0},
    {"spinners_are_killed", spinners_are_killed, 0, 0},
    {"a_kill_may_come_at_any_time", a_kill_may_come_at_any_time, 0, 0},
    {"a_kill_may_come_while_loading", a_kill_may_come_while_loading, 2, 0},
    {"nobody_is_no_guest", nobody_is_no_guest, 0, 0},
    {"nonsense_is_refused", nonsense_is_refused, 0, 0},
    {"memory_is_of_its_node", memory_is_of_its_node, 0, 0},
    {"a_secret_is_not_seen", a_secret_is_not_seen, 0, 0},
    {"the_living_do_not_mix", the_living_do_not_mix, 0, 0},
    {"many_at_once", many_at_once, 0, 0},
};
KTEST_SUITE(guest, cases);
