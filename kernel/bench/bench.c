/*
 * See bench.h. Owns the rows of the run that is going on (thread "main").
 */
#include "kernel/bench/bench.h"
#include "kernel/measure.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

#define ROWS_MAX 32

static struct row {
    const char *name, *unit, *against;
    u64 value, baseline;
} rows[ROWS_MAX];
static unsigned nr_rows;

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    {"alloc", bench_alloc},   {"scrub", bench_scrub}, {"destroy", bench_destroy},
    {"create", bench_create}, {"wake", bench_wake},
};

bool bench_race(struct bench_side *a, struct bench_side *b)
{
    u64 of_a[2 * BENCH_ROUNDS], of_b[2 * BENCH_ROUNDS];
    unsigned n = 0;

    /* Once without counting: the host gives the memory behind the frames at their first touch. */
    if (!b->sample(b) || !a->sample(a))
        return false;
    for (unsigned round = 0; round < BENCH_ROUNDS; round++) {
        of_a[n] = a->sample(a);
        of_b[n++] = b->sample(b);
        of_b[n] = b->sample(b);
        of_a[n++] = a->sample(a);
        if (!of_a[n - 2] || !of_b[n - 2] || !of_b[n - 1] || !of_a[n - 1])
            return false;
    }
    a->median = measure_median(of_a, n);
    b->median = measure_median(of_b, n);
    return true;
}

/* In millionths: a GiB freed costs some thousandth of a thousandth of clearing it. */
static u64 ratio_micro(u64 value, u64 baseline)
{
    return baseline ? value * 1000000 / baseline : 0;
}

void bench_row(const char *name, u64 value, const char *unit, u64 baseline, const char *against)
{
    u64 ratio = ratio_micro(value, baseline);
    log_line("bench: name=%s value=%lu unit=%s baseline=%lu ratio=%lu.%06lu against=%s", name,
             value, unit, baseline, ratio / 1000000, ratio % 1000000, against);
    if (nr_rows < ROWS_MAX)
        rows[nr_rows++] = (struct row){name, unit, against, value, baseline};
}

void bench_none(const char *name, const char *why)
{
    log_line("bench %s: no row: %s", name, why);
}

void bench_race_row(const char *name, const char *unit, struct bench_side *a, struct bench_side *b)
{
    if (bench_race(a, b))
        bench_row(name, a->median, unit, b->median, b->name);
    else
        bench_none(name, "not enough memory of one node");
}

static void say_table(void)
{
    log_line("%-28s %12s %-6s %12s  %10s", "what", "value", "", "baseline", "ratio");
    for (unsigned i = 0; i < nr_rows; i++) {
        const struct row *r = &rows[i];
        u64 ratio = ratio_micro(r->value, r->baseline);
        log_line("%-28s %12lu %-6s %12lu  %3lu.%06lu  of %s", r->name, r->value, r->unit,
                 r->baseline, ratio / 1000000, ratio % 1000000, r->against);
    }
}

bool bench_run(const char *part)
{
    bool all = strcmp(part, "all") == 0, found = false;
    nr_rows = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        if (!all && strcmp(parts[i].name, part) != 0)
            continue;
        parts[i].run();
        found = true;
    }
    if (found && nr_rows)
        say_table();
    return found;
}
