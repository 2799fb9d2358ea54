/*
 * The explorer's front door: every scenario, or those that are named.
 *
 *     test_explore [list] [seed=N] [bound=N] [seconds=N] [executions=N] [ends] [uncut] [every]
 *                  [schedule=...] [steps] [SCENARIO ...]
 *
 * seconds are of this program's time, for one scenario. With schedule= one schedule of the named
 * scenario is replayed and told as columns; with steps, each step of it. Ends with the line of
 * counts that tools/test.py wants; status 1 if a promise was broken or nothing ran.
 *
 * To test the search itself: ends counts the different ends that executions came to; uncut goes
 * through states again that were seen before, every takes each step for a switch point. Both are
 * slow and have to come to the same ends.
 */
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct scenario *scenario_named(const char *name)
{
    for (unsigned n = 0; scenarios[n]; n++)
        if (!strcmp(scenarios[n]->name, name))
            return scenarios[n];
    fprintf(stderr, "no scenario is called %s (list names them)\n", name);
    exit(2);
}

static u64 number(const char *text, const char *what)
{
    char *end;
    u64 v = strtoull(text, &end, 0);
    if (*end || end == text) {
        fprintf(stderr, "%s=%s: expected a number\n", what, text);
        exit(2);
    }
    return v;
}

/* The part after "name=", NULL if the argument is another one. */
static const char *value(const char *argument, const char *name)
{
    size_t n = strlen(name);
    return strncmp(argument, name, n) == 0 && argument[n] == '=' ? argument + n + 1 : NULL;
}

static bool run_scenario(const struct scenario *s, const struct limits *limits)
{
    bool passed = search_scenario(s, limits);
    if (!passed && !limits->schedule)
        printf("%s: FAILED, 1 checks\n", s->name);
    fflush(stdout);
    return passed;
}

int main(int argc, char **argv)
{
    struct limits limits = {.bound = 3, .seconds = 2, .executions = 100000, .seed = 1};
    const struct scenario *named[64];
    unsigned nr_named = 0, passed = 0, failed = 0;
    for (int n = 1; n < argc; n++) {
        const char *v;
        if (!strcmp(argv[n], "list")) {
            for (unsigned i = 0; scenarios[i]; i++)
                printf("%-14s %s\n", scenarios[i]->name, scenarios[i]->about);
            return 0;
        }
        if ((v = value(argv[n], "seed")))
            limits.seed = number(v, "seed");
        else if ((v = value(argv[n], "bound")))
            limits.bound = (unsigned)MIN(number(v, "bound"), 7u);
        else if ((v = value(argv[n], "seconds")))
            limits.seconds = (double)number(v, "seconds");
        else if ((v = value(argv[n], "executions")))
            limits.executions = number(v, "executions");
        else if ((v = value(argv[n], "schedule")))
            limits.schedule = v;
        else if (!strcmp(argv[n], "uncut"))
            limits.uncut = true;
        else if (!strcmp(argv[n], "every"))
            limits.every = true;
        else if (!strcmp(argv[n], "ends"))
            limits.ends = true;
        else if (!strcmp(argv[n], "steps"))
            limits.all_steps = true;
        else
            named[nr_named++ % ARRAY_SIZE(named)] = scenario_named(argv[n]);
    }
    if (limits.schedule && nr_named != 1) {
        fprintf(stderr, "a schedule is one scenario's: name it\n");
        return 2;
    }
    nr_named = MIN(nr_named, (unsigned)ARRAY_SIZE(named));
    for (unsigned n = 0; nr_named ? n < nr_named : scenarios[n] != NULL; n++) {
        const struct scenario *s = nr_named ? named[n] : scenarios[n];
        if (run_scenario(s, &limits))
            passed++;
        else
            failed++;
    }
    printf("test_explore: %u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
