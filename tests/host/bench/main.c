/*
 * make bench-host: all rows, the table, and the files of results in the directory that is named.
 * QUICK=1 in the environment: few samples. Next: tests/host/bench/bench.h, then rows_*.c.
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS_MAX = 96 };
static struct row rows[ROWS_MAX];
static unsigned nr_rows;

void row_add(struct row r)
{
    if (nr_rows == ROWS_MAX)
        panic("more than %d rows", ROWS_MAX);
    rows[nr_rows++] = r;
    fprintf(stderr, "  %s\n", r.name);
}

static double measured(const struct row *r)
{
    return isnan(r->baseline) ? r->value : r->value / r->baseline;
}

static bool holds(const struct row *r)
{
    double m = measured(r);
    return r->kind == BAR_AT_MOST ? m <= r->bar : m >= r->bar; /* NAN: never */
}

static void json_number(FILE *f, const char *name, double v, const char *end)
{
    if (isfinite(v))
        fprintf(f, "\"%s\": %.6g%s", name, v, end);
    else
        fprintf(f, "\"%s\": null%s", name, end);
}

static FILE *open_in(const char *directory, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    if (!f) {
        perror(path);
        exit(2);
    }
    return f;
}

static void write_json(const char *directory)
{
    FILE *f = open_in(directory, "bench-host.json");
    fprintf(f, "[\n");
    for (unsigned i = 0; i < nr_rows; i++) {
        const struct row *r = &rows[i];
        fprintf(f, "  {\"name\": \"%s\", ", r->name);
        json_number(f, "value", r->value, ", ");
        fprintf(f, "\"unit\": \"%s\", ", r->unit);
        json_number(f, "baseline", r->baseline, ", ");
        json_number(f, "ratio", r->value / r->baseline, i + 1 < nr_rows ? "},\n" : "}\n");
    }
    fprintf(f, "]\n");
    fclose(f);
}

/* For the plot: how far each row with a bar is from it; 1 is on the bar, above 1 is missed. */
static void write_distances(const char *directory)
{
    FILE *f = open_in(directory, "bench-host.dat");
    for (unsigned i = 0; i < nr_rows; i++) {
        const struct row *r = &rows[i];
        double m = measured(r);
        if (r->kind == BAR_NONE || isnan(m))
            continue;
        double far = r->kind == BAR_AT_MOST ? (r->bar > 0 ? m / r->bar : m + 1) : r->bar / m;
        fprintf(f, "\"%s\" %.6g %d\n", r->name, MIN(MAX(far, 0.01), 1000.0), holds(r));
    }
    fclose(f);
}

static const char *number(char *text, size_t size, double v)
{
    if (isnan(v))
        snprintf(text, size, "-");
    else
        snprintf(text, size,
                 v != 0 && fabs(v) < 0.01 ? "%.6f"
                 : fabs(v) < 100          ? "%.2f"
                                          : "%.0f",
                 v);
    return text;
}

unsigned rows_print(const char *directory)
{
    unsigned missed = 0;
    char value[32], base[32], ratio[32], bar[32];
    printf("%-58s %9s %-10s %9s %9s  %-10s %s\n", "what", "value", "unit", "baseline", "ratio",
           "bar", "");
    for (unsigned i = 0; i < nr_rows; i++) {
        const struct row *r = &rows[i];
        const char *verdict = "";
        bar[0] = 0;
        if (r->kind != BAR_NONE) {
            snprintf(bar, sizeof(bar), "%s %.5g", r->kind == BAR_AT_MOST ? "<=" : ">=", r->bar);
            verdict = holds(r) ? "holds" : isnan(measured(r)) ? "MISSES: no sample" : "MISSES";
            missed += !holds(r);
        }
        printf("%-58s %9s %-10s %9s %9s  %-10s %-7s%s%s\n", r->name,
               number(value, sizeof(value), r->value), r->unit,
               number(base, sizeof(base), r->baseline),
               number(ratio, sizeof(ratio), r->value / r->baseline), bar, verdict,
               r->of ? " of: " : "", r->of ? r->of : "");
    }
    write_json(directory);
    write_distances(directory);
    return missed;
}

/* What mm/ promises of the machine in steps.c. */
static const double steps_bound = MM_LOCK_STEPS_MAX(STEPS_CPUS, STEPS_GIB);

/* The program beside this one. */
static char steps_program[512];

void rows_steps(void)
{
    char command[600], call[64], worst[64] = "";
    static char of[128];
    unsigned long long n, most = 0;
    snprintf(command, sizeof(command), "'%s' %d", steps_program, bench_quick ? 1 : 5);
    FILE *f = popen(command, "r");
    while (f && fscanf(f, "%llu %63[^\n]", &n, call) == 2) {
        fprintf(stderr, "  steps under a zone lock: %s: %llu\n", call, n);
        if (n > most) {
            most = n;
            snprintf(worst, sizeof(worst), "%s", call);
        }
    }
    if (!f || pclose(f) != 0)
        panic("%s: failed", steps_program);
    snprintf(of, sizeof(of), "the bound that mm/ states; seen in: %s", worst);
    row_add((struct row){"steps under a zone lock, most seen", (double)most, "steps", steps_bound,
                         of, BAR_AT_MOST, 1});
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : ".", *quick = getenv("QUICK");
    const char *only = argc > 2 ? argv[2] : NULL;
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"blocks", rows_blocks},
                 {"aged", rows_aged},
                 {"free", rows_free},
                 {"scrub", rows_scrub},
                 {"steps", rows_steps}};
    snprintf(steps_program, sizeof(steps_program), "%.*ssteps",
             (int)(strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 - argv[0] : 0), argv[0]);
    bench_quick = quick && strcmp(quick, "1") == 0;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        fprintf(stderr, "bench: two cores are needed\n");
        return 2;
    }
    bench_machine_init(24);
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (!only || strcmp(only, parts[i].name) == 0)
            parts[i].run();
    unsigned missed = rows_print(directory);
    double load[3];
    if (getloadavg(load, 3) == 3)
        printf("%u rows, %u bars missed; load %.1f\n", nr_rows, missed, load[0]);
    return 0;
}
