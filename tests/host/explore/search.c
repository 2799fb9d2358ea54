/*
 * The search: which schedules are run. Owns the decisions of the current execution.
 *
 * Depth-first, bound by bound: all schedules without a preemption (or a store kept in a buffer:
 * the same cost), then all with one, two, three. So what is found first is among the shortest. A
 * state that was reached before with as much left to spend leads nowhere new and is cut off;
 * states are told apart by engine.sum, see memory.c, so orders that make no difference are one.
 *
 * Only steps on what several CPUs share are switch points (memory.c). Which things are shared is
 * learnt on the way, and each time that another one turns up the search begins again: what it goes
 * through at last has switch points at all that were ever seen to be shared within that bound.
 *
 * Beyond the bound: random walks, each with a rate of preemption of its own.
 *
 * A schedule is written as its decisions that were not 0, "STEP:OPTION,...".
 */
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { CHOICES_MAX = 20000, OPTIONS_MAX = 8 };

static struct choice {
    u8 n, chosen, left; /* left: what could be spent here */
    unsigned at;        /* the decision's name */
    u8 cost[OPTIONS_MAX];
} choices[CHOICES_MAX];

static enum mode { ENUMERATE, SAMPLE, REPLAY } mode;
static unsigned nr_choices; /* made in this execution */
static unsigned nr_given;   /* ENUMERATE: how many of them are given */
static unsigned left;
static bool uncut;    /* states seen before are gone through again: to test the cutting */
static unsigned rate; /* SAMPLE: one decision in so many is not 0 */
static u64 random_state;

/* REPLAY: what to choose where. */
struct deviation {
    unsigned at, option;
};
enum { DEVIATIONS_MAX = 400 };
static struct schedule {
    unsigned n;
    struct deviation d[DEVIATIONS_MAX];
} replayed;

/* ---- states seen ---- */

/* An open hash table of words: the state, and in the lowest three bits the most that was left. */
enum { LEFT_MASK = 7, PROBES = 64 };
static u64 *seen;
static unsigned seen_bits;
static u64 nr_seen, nr_unseen; /* nr_unseen: there was no room for */

static void seen_reset(double seconds)
{
    unsigned bits = seconds > 60 ? 26 : seconds > 10 ? 25 : 23; /* a million states a second */
    if (seen && bits == seen_bits) {
        memset(seen, 0, sizeof(*seen) << bits);
    } else {
        seen_bits = bits;
        seen = mmap(NULL, sizeof(*seen) << bits, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (seen == MAP_FAILED) {
            fprintf(stderr, "no memory for states\n");
            exit(2);
        }
        madvise(seen, sizeof(*seen) << bits, MADV_HUGEPAGE);
    }
    nr_seen = nr_unseen = 0;
}

/* True if the state is new, or was only reached with less to spend. */
static bool see(u64 state)
{
    u64 mask = (1ULL << seen_bits) - 1, n = state >> 3, word = (state & ~(u64)LEFT_MASK) | left;
    for (unsigned probe = 0; probe < PROBES; probe++, n++) {
        u64 *s = &seen[n & mask];
        if (*s == 0) {
            *s = word | (word == 0);
            nr_seen++;
            return true;
        }
        if (((*s ^ word) & ~(u64)LEFT_MASK) == 0) {
            bool more = (*s & LEFT_MASK) < left;
            if (more)
                *s = word;
            return more;
        }
    }
    nr_unseen++; /* explored again and again: slow, no harm */
    return true;
}

/*
 * The ends that executions have come to, each once, as a count and a sum: what a search goes
 * through, whatever way it goes about it. Only kept track of for its test.
 */
enum { ENDS = 1 << 22 };
static u64 *ends, nr_ends, ends_sum;

static void ends_reset(bool wanted)
{
    nr_ends = ends_sum = 0;
    if (!wanted)
        return;
    if (!ends)
        ends = malloc(ENDS * sizeof(*ends));
    memset(ends, 0, ENDS * sizeof(*ends));
}

static void end_note(u64 sum)
{
    if (!ends)
        return;
    for (u64 n = sum;; n++) {
        if (ends[n % ENDS] == sum)
            return;
        if (ends[n % ENDS] == 0) {
            ends[n % ENDS] = sum;
            ends_sum += sum;
            if (++nr_ends == ENDS / 2)
                broke("too many ends to count");
            return;
        }
    }
}

/* ---- decisions ---- */

static u64 random_next(void)
{
    u64 z = random_state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static unsigned choose_sampled(unsigned n, const u8 *cost)
{
    unsigned nr_free = 0;
    while (nr_free < n && cost[nr_free] == 0)
        nr_free++;
    if (nr_free == 1 && random_next() % rate)
        return 0;
    if (nr_free > 1 && random_next() % 2) /* a free choice is made as often as not */
        return 0;
    return (unsigned)(random_next() % n);
}

static unsigned choose_replayed(unsigned at)
{
    for (unsigned i = 0; i < replayed.n; i++)
        if (replayed.d[i].at == at)
            return replayed.d[i].option;
    return 0;
}

static unsigned name_choice(enum choice_kind kind)
{
    unsigned at = engine.steps * CHOICES_A_STEP + kind;
    unsigned next = nr_choices ? choices[nr_choices - 1].at + 1 : 0;
    return MAX(at, next); /* next: another one of this step */
}

unsigned search_choose(enum choice_kind kind, unsigned n, const u8 *cost, u64 state)
{
    if (nr_choices == CHOICES_MAX)
        broke("livelock: no end after %u decisions", CHOICES_MAX);
    struct choice *c = &choices[nr_choices];
    if (mode == ENUMERATE && nr_choices < nr_given) {
        if (c->n != n)
            broke("the explorer is not deterministic: decision %u had %u options, now %u",
                  nr_choices, c->n, n);
    } else {
        if (mode == ENUMERATE && !uncut && !see(hash_mix(engine.sum, state)))
            engine_cut();
        c->n = (u8)n;
        c->at = name_choice(kind);
        c->left = (u8)left;
        memcpy(c->cost, cost, n);
        c->chosen = 0;
        if (mode == SAMPLE)
            c->chosen = (u8)choose_sampled(n, cost);
        else if (mode == REPLAY)
            c->chosen = (u8)MIN(choose_replayed(c->at), n - 1);
    }
    nr_choices++;
    left -= MIN(left, c->cost[c->chosen]);
    return c->chosen;
}

static enum outcome run(unsigned bound)
{
    nr_choices = 0;
    left = bound;
    return engine_run();
}

/* The next schedule in depth-first order. False: that was the last one. */
static bool backtrack(void)
{
    for (nr_given = nr_choices; nr_given > 0; nr_given--) {
        struct choice *c = &choices[nr_given - 1];
        while (++c->chosen < c->n)
            if (c->cost[c->chosen] <= c->left)
                return true;
    }
    return false;
}

/* ---- schedules found ---- */

static void schedule_note(struct schedule *s)
{
    s->n = 0;
    for (unsigned i = 0; i < nr_choices && s->n < DEVIATIONS_MAX; i++)
        if (choices[i].chosen)
            s->d[s->n++] = (struct deviation){choices[i].at, choices[i].chosen};
}

/* What it costs, then its decisions, then its steps: less is easier to read. */
#define WEIGHT_COST 100000000ULL
static u64 schedule_weight(void)
{
    u64 cost = 0, deviations = 0;
    for (unsigned i = 0; i < nr_choices; i++) {
        cost += choices[i].cost[choices[i].chosen];
        deviations += choices[i].chosen != 0;
    }
    return cost * WEIGHT_COST + deviations * 100000 + engine.steps;
}

/* The same promise: the words up to the first colon. */
static bool same_kind(const char *a, const char *b)
{
    size_t n = strcspn(a, ":");
    return strncmp(a, b, n + 1) == 0;
}

static bool replay(const struct schedule *s)
{
    mode = REPLAY;
    replayed = *s;
    engine.every_point = true; /* it may be about a thing that is not yet known to be shared */
    bool broken = run(0) == BROKE;
    engine.every_point = false;
    return broken;
}

/* Of this program's own time: on a busy machine the same search takes as long. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Drops one decision after the other for as long as the same promise stays broken. */
static void schedule_shrink(struct schedule *best, u64 *weight, const char *why)
{
    bool smaller = true;
    double until = now() + 5;
    while (smaller && now() < until) {
        smaller = false;
        for (unsigned i = 0; i < best->n && !smaller; i++) {
            /* Leave it out; or leave out the following one too, which may have undone it. */
            for (unsigned drop = 1; drop <= 3 && i + drop <= best->n && !smaller; drop++) {
                struct schedule try = *best;
                memmove(&try.d[i], &try.d[i + drop], (try.n - i - drop) * sizeof(try.d[0]));
                try.n -= drop;
                if (replay(&try) && same_kind(why, engine.why) && schedule_weight() < *weight) {
                    *weight = schedule_weight();
                    schedule_note(best);
                    smaller = true;
                }
            }
        }
    }
}

/* ---- one scenario ---- */

static u64 executions, cut_off;

/* Goes on for a while at the same bound, for a shorter one of the same kind. */
static void enumerate_shorter(struct schedule *best, u64 *weight, unsigned bound, const char *why)
{
    double until = now() + 2;
    while (!engine.grown && backtrack() && now() < until) {
        mode = ENUMERATE;
        if (run(bound) == BROKE && same_kind(why, engine.why) && schedule_weight() < *weight) {
            *weight = schedule_weight();
            schedule_note(best);
        }
    }
}

static void schedule_say(const struct scenario *s, const struct schedule *schedule,
                         const struct limits *limits)
{
    engine.tracing = true;
    trace_reset();
    bool broken = replay(schedule);
    engine.tracing = false;
    trace_print(s, limits->all_steps);
    printf("\n  %s\n", broken ? engine.why : "no promise is broken");
    printf("  again: make explore SCENARIO=%s SCHEDULE=", s->name);
    for (unsigned i = 0; i < schedule->n; i++)
        printf("%s%u:%u", i ? "," : "", schedule->d[i].at, schedule->d[i].option);
    printf("%s\n", schedule->n ? "" : "0:0");
}

/* A promise is broken. False: not the one that this scenario is there to break. */
static bool is_wanted(const struct scenario *s, const char *why)
{
    return !s->breaks || strncmp(why, s->breaks, strlen(s->breaks)) == 0;
}

static void found(const struct scenario *s, struct schedule *best, u64 weight, const char *why,
                  const struct limits *limits)
{
    schedule_shrink(best, &weight, why);
    printf("%s: %s: %s\n\n", s->breaks ? "promise broken, as expected" : "explore", s->name,
           replay(best) ? engine.why : why);
    schedule_say(s, best, limits);
    printf("  found after %llu executions, %llu preemptions or stores kept back; %s\n",
           (unsigned long long)executions, (unsigned long long)(weight / WEIGHT_COST), s->about);
}

static bool parse_schedule(const char *text, struct schedule *s)
{
    s->n = 0;
    while (*text && s->n < DEVIATIONS_MAX) {
        int used = 0;
        if (sscanf(text, "%u:%u%n", &s->d[s->n].at, &s->d[s->n].option, &used) != 2)
            return false;
        s->n++;
        text += used;
        if (*text == ',')
            text++;
    }
    return *text == 0;
}

/* All schedules within the bound. BROKEN: `best` says how. GROWN: has to begin again. */
enum found { ALL, NO_TIME, GROWN, BROKEN };

static enum found enumerate(unsigned bound, double until, struct schedule *best, u64 *weight,
                            char *why)
{
    nr_given = 0;
    engine.grown = false;
    do {
        mode = ENUMERATE;
        enum outcome o = run(bound);
        executions++;
        if (o == RAN)
            end_note(engine.sum);
        cut_off += o == CUT;
        if (engine.grown)
            return GROWN;
        if (o == BROKE && is_wanted(scenario, engine.why)) {
            snprintf(why, sizeof(engine.why), "%s", engine.why);
            *weight = schedule_weight();
            schedule_note(best);
            enumerate_shorter(best, weight, bound, why);
            return BROKEN;
        }
        if (executions % 256 == 0 && now() > until)
            return NO_TIME;
    } while (backtrack());
    return ALL;
}

bool search_scenario(const struct scenario *s, const struct limits *limits)
{
    struct schedule best;
    char why[sizeof(engine.why)];
    u64 weight;
    engine_prepare(s);
    if (limits->schedule) {
        if (!parse_schedule(limits->schedule, &best)) {
            printf("SCHEDULE=%s: expected NUMBER:OPTION,...\n", limits->schedule);
            exit(2);
        }
        schedule_say(s, &best, limits);
        return engine.why[0] == 0;
    }
    seen_reset(limits->seconds);
    uncut = limits->uncut;
    engine.every_step = limits->every;
    ends_reset(limits->ends);
    executions = cut_off = 0;

    /* A quarter of the time is kept for samples. */
    double start = now(), until = start + limits->seconds;
    unsigned exhausted = 0; /* bounds */
    enum found how = ALL;
    while (exhausted <= limits->bound && how != NO_TIME) {
        how = enumerate(exhausted, until - limits->seconds / 4, &best, &weight, why);
        if (how == BROKEN) {
            found(s, &best, weight, why, limits);
            return s->breaks != NULL;
        }
        if (how == ALL) {
            exhausted++;
        } else if (how == GROWN) {
            exhausted = 0;
            seen_reset(limits->seconds);
            ends_reset(limits->ends);
        }
    }
    bool all = how == ALL;
    u64 enumerated = executions;
    double enumerating = now() - start;

    random_state = limits->seed;
    for (u64 n = 0; n < limits->executions && (n % 256 || now() < until); n++) {
        static const u8 rates[] = {3, 6, 12, 25, 50, 100};
        mode = SAMPLE;
        rate = rates[random_next() % ARRAY_SIZE(rates)];
        executions++;
        if (run(0) == BROKE && is_wanted(s, engine.why)) {
            snprintf(why, sizeof(why), "%s", engine.why);
            weight = schedule_weight();
            schedule_note(&best);
            found(s, &best, weight, why, limits);
            return s->breaks != NULL;
        }
    }
    double took = now() - start;
    if (limits->ends)
        printf("%-14s ends: %llu, sum %llx\n", s->name, (unsigned long long)nr_ends,
               (unsigned long long)ends_sum);
    char text[60] = "nothing exhausted";
    if (all)
        snprintf(text, sizeof(text), "bound %u exhausted", limits->bound);
    else if (exhausted)
        snprintf(text, sizeof(text), "bound %u exhausted, %u not", exhausted - 1, exhausted);
    printf("%-14s %s: %llu executions, %llu states, %.1f s; %llu sampled; %.0f executions/s%s\n",
           s->name, text, (unsigned long long)enumerated, (unsigned long long)nr_seen, enumerating,
           (unsigned long long)(executions - enumerated),
           (double)executions / (took > 0 ? took : 1),
           nr_unseen ? "; the table of states was full" : "");
    if (s->breaks)
        printf("explore: %s: expected '%s', and no schedule does that\n", s->name, s->breaks);
    return !s->breaks;
}
