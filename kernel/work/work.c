/*
 * See work.h. Owns the table of the run that is going on (thread "main").
 */
#include "kernel/work/work.h"
#include "kernel/console.h"
#include "kernel/steps.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "sched/sched.h"

#define SETTLE_NS   (300 * NS_PER_MS) /* without one frame cleared: it will stay dirty */
#define BOOT_NS     NS_PER_S /* the same for what is dirty since boot: more may be in the way */
#define FRAMES_MAX  (1 * GIB / FRAME_SIZE)
#define METRICS_MAX 40

static const struct scenario {
    const char *name, *words;
    void (*run)(struct work *w);
    bool alone;
} scenarios[] = {
    {"destroy", "a guest of S is destroyed", work_destroy, false},
    {"create_now", "a guest of S where one has just died", work_create_now, false},
    {"create_idle", "the same after a second", work_create_idle, false},
    {"churn", "8 guests at a time come and go", work_churn, false},
    {"one_busy", "dirt on a node whose CPUs are busy", work_one_busy, false},
    {"all_busy", "dirt, and every CPU is busy", work_all_busy, false},
    {"huge", "a huge order, asked for in mid-scrub", work_huge, true},
    {"speck", "one dirty frame in a clean block", work_speck, true},
    {"balloon", "two guests inflate and deflate", work_balloon, false},
};
#define NR_SCENARIOS ARRAY_SIZE(scenarios)

static struct {
    const char *metric, *unit;
    u64 value[NR_SCENARIOS];
    u32 have; /* a bit for each scenario */
} table[METRICS_MAX];
static unsigned nr_metrics, now; /* now: the scenario that runs */

void work_value(const char *metric, u64 value, const char *unit)
{
    unsigned i = 0;
    log_line("work: scenario=%s strategy=%s metric=%s value=%lu unit=%s", scenarios[now].name,
             mm_strategy_name(), metric, value, unit);
    while (i < nr_metrics && strcmp(table[i].metric, metric) != 0)
        i++;
    if (i == METRICS_MAX)
        return;
    if (i == nr_metrics) {
        table[nr_metrics++].metric = metric;
        table[i].unit = unit;
        table[i].have = 0;
    }
    table[i].value[now] = value;
    table[i].have |= 1u << now;
}

void work_us(const char *metric, u64 ns)
{
    work_value(metric, (ns + 999) / 1000, "us");
}

/* ---- one scenario ---- */

static struct work w;     /* of the scenario that runs; too big for a stack */
static struct hist take9; /* as is this */

static void say_counts(const struct counts *c)
{
    work_value("cleared", kib(c->clears), "KiB");
    work_value("cleared_again", kib(c->clears_again), "KiB");
    /* Who frees, maps or comes by for the age runs on the node, or as near as can be. */
    u64 at_home = c->aged + c->at_free + c->at_map;
    work_value("cleared_local", kib(c->idle_local + c->takers_local + at_home), "KiB");
    work_value("cleared_remote", kib(c->idle_remote + c->takers_remote), "KiB");
    work_value("cleared_by_takers", kib(c->takers_local + c->takers_remote), "KiB");
    work_value("cleared_at_map", kib(c->at_map), "KiB");
    work_value("cleared_at_free", kib(c->at_free), "KiB");
    work_value("clears_locked", c->clears_locked, "clears");
}

static void say_takes(void)
{
    if (w.take.nr) {
        work_value("take_p50", hist_at(&w.take, 500), "ns");
        work_value("take_p99", hist_at(&w.take, 990), "ns");
        work_value("take_p99.9", hist_at(&w.take, 999), "ns");
    }
    if (take9.nr) {
        work_value("take9_p50", hist_at(&take9, 500), "ns");
        work_value("take9_p99", hist_at(&take9, 990), "ns");
    }
    work_value("failed", w.failed, "takes");
}

static u64 most_clears_before_run(void)
{
    struct sched_stats s;
    u64 most = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        sched_cpu_stats(cpu, &s);
        most = MAX(most, s.clears_before_run_max);
    }
    return most;
}

/* On a CPU of the node that it is about. */
static void run_main(void *arg)
{
    const struct scenario *s = arg;
    s->run(&w);
}

static void run_one(const struct scenario *s)
{
    struct helper helper;
    struct counts before, after;
    struct mm_costs costs;

    now = (unsigned)(s - scenarios);
    w = (struct work){.scenario = s->name, .node = measure_node(), .alone = s->alone};
    hist_reset(&take9);
    w.frames = MIN(measure_free(w.node) * 5 / 8, FRAMES_MAX);
    w.frames = ALIGN_DOWN(w.frames, 1ULL << ORDER_PAGEBLOCK);
    log_line("work %s: %s; S is %lu MiB", s->name, s->words, w.frames >> 8);
    measure_settle(MM_ALL_NODES, SETTLE_NS);
    sched_stats_reset();
    steps_reset();
    mm_costs_reset();
    clear_watch(true);
    counts_take(&before);
    u64 began = time_ns(), oldest = 0;
    sampler_start(w.node, w.alone);
    if (helper_start(&helper, measure_cpu(w.node, 0), run_main, (void *)s))
        helper_join(&helper);
    oldest = sampler_stop(&w.take, &take9, &w.failed);
    work_us("elapsed", time_ns() - began);
    counts_since(&before, &after);
    clear_watch(false);
    mm_costs_get(&costs);
    if (w.held)
        ballast_free(&w.rest);
    say_takes();
    say_counts(&after);
    work_value("clears_waited", costs.max_clears_waited, "clears");
    work_value("oldest_dirt", oldest, "ms");
    work_value("wake", most_clears_before_run(), "clears");
    if (steps_counted())
        work_value("lock_steps", steps_max(), "steps");
}

/* ---- the table ---- */

static void say_table(u32 ran)
{
    char line[256];
    unsigned at = (unsigned)snprintf(line, sizeof(line), "%-18s %-6s", "work", "");
    for (unsigned s = 0; s < NR_SCENARIOS; s++)
        if (ran >> s & 1)
            at += (unsigned)snprintf(line + at, sizeof(line) - at, " %11s", scenarios[s].name);
    log_line("%s", line);
    for (unsigned i = 0; i < nr_metrics; i++) {
        at = (unsigned)snprintf(line, sizeof(line), "%-18s %-6s", table[i].metric, table[i].unit);
        for (unsigned s = 0; s < NR_SCENARIOS; s++) {
            if (!(ran >> s & 1))
                continue;
            if (table[i].have >> s & 1)
                at += (unsigned)snprintf(line + at, sizeof(line) - at, " %11lu", table[i].value[s]);
            else
                at += (unsigned)snprintf(line + at, sizeof(line) - at, " %11s", "-");
        }
        log_line("%s", line);
    }
}

/*
 * Under a strategy that leaves dirt alone all of it is soiled once: memory that nobody has touched
 * since boot counts as dirty and is zero, and its clears would look like clears of clean frames.
 */
static void soil_what_stays_dirty(void)
{
    static struct ballast all;
    static bool done;
    if (done || measure_settle(MM_ALL_NODES, BOOT_NS) == 0)
        return;
    done = true;
    for (unsigned node = 0; node < nr_nodes; node++) {
        ballast_take(&all, node, nr_nodes > 1 && node ? 0 : 2048);
        for (unsigned order = 0; order <= ORDER_MAX; order++)
            pile_soil(&all.of[order], order);
        ballast_free(&all);
    }
}

bool work_run(const char *name)
{
    bool all = strcmp(name, "all") == 0;
    u32 ran = 0;
    nr_metrics = 0;
    soil_what_stays_dirty();
    for (unsigned i = 0; i < NR_SCENARIOS; i++) {
        if (!all && strcmp(scenarios[i].name, name) != 0)
            continue;
        run_one(&scenarios[i]);
        ran |= 1u << i;
        if (console_interrupted())
            break;
    }
    if (ran)
        say_table(ran);
    return ran != 0;
}
