/*
 * A schedule as columns, one for each CPU, a step a line in the order in which things happened.
 * Owns the trace of one replay. Loads of what nobody else has changed are left out unless all
 * is asked for.
 */
#include "explore.h"
#include "mm/claim.h"
#include "mm/classic/heap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 20000, TEXT_MAX = 200 };

static struct line {
    u8 cpu;
    bool detail; /* only for who wants all */
    bool always; /* for everybody: it stays in the store buffer */
    bool store;  /* to p; else, if p is set, a load of it */
    const void *p;
    const struct site *at;
    char text[TEXT_MAX];
} * lines;
static unsigned nr_lines;

/* What CPUs have loaded and stored in this trace. */
static struct met {
    const void *p;
    u8 loaded, stored; /* masks of CPUs */
} met[256];
static unsigned nr_met;

/* A zone as it was when its lock was taken, to say what the hold has changed. */
static struct before {
    u64 nr_free, nr_dirty, in_flight, outside, retired;
    u32 waiters;
    const struct zone *claimed[MAX_CPUS];
} before[MAX_CPUS][MAX_ZONES];

void trace_reset(void)
{
    if (!lines)
        lines = malloc(LINES_MAX * sizeof(*lines));
    nr_lines = nr_met = 0;
}

static struct line *line_add(const struct site *at, const char *fmt, va_list ap)
{
    static struct line full;
    struct line *l = nr_lines < LINES_MAX ? &lines[nr_lines++] : &full;
    *l = (struct line){.cpu = (u8)self->id, .at = at};
    vsnprintf(l->text, sizeof(l->text), fmt, ap);
    return l;
}

void trace(const struct site *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line_add(at, fmt, ap);
    va_end(ap);
}

static struct line *trace_line(const struct site *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct line *l = line_add(at, fmt, ap);
    va_end(ap);
    return l;
}

/* A field of a record of classic: of which frame, and which. NULL: it is none. */
static const char *record_field(const void *p, pfn_t *pfn)
{
    for (unsigned n = 0; n < classic_nr_heaps; n++) {
        const struct heap *h = &classic_heaps[n];
        if (p < (const void *)h->record || p >= (const void *)(h->record + (h->end - h->first)))
            continue;
        u64 at = (u64)((const char *)p - (const char *)h->record), field = at % sizeof(*h->record);
        *pfn = heap_pfn(h, h->first + (u32)(at / sizeof(*h->record)));
        return field == offsetof(struct record, next)    ? "next"
               : field == offsetof(struct record, prev)  ? "prev"
               : field == offsetof(struct record, flags) ? "flags"
               : field == offsetof(struct record, order) ? "order"
                                                         : "first dirty";
    }
    return NULL;
}

static const char *name_of(const void *p, const struct site *at)
{
    static char name[80];
    pfn_t pfn;
    const char *of_record = record_field(p, &pfn);
    if (of_record) {
        snprintf(name, sizeof(name), "%s of %llu", of_record, (unsigned long long)pfn);
        return name;
    }
    for (unsigned n = 0; n < mm_zone_count; n++) {
        const struct zone *z = &mm_zones[n];
        const char *field = p == &z->waiters    ? "waiters"
                            : p == &z->nr_free  ? "nr_free"
                            : p == &z->nr_dirty ? "nr_dirty"
                            : p == &z->returns  ? "returns"
                                                : NULL;
        if (field) {
            snprintf(name, sizeof(name), "zone %u %s", n, field);
            return name;
        }
    }
    for (unsigned n = 0; n < scenario->cpus; n++) {
        const struct claim *c = claim_of_cpu(n);
        const char *field = p == &c->zone ? "zone" : p == &c->begun ? "clears begun" : NULL;
        if (field)
            snprintf(name, sizeof(name), "claim of CPU %u %s", n, field);
        else if (p == &world.resched[n])
            snprintf(name, sizeof(name), "need_resched of CPU %u", n);
        else
            continue;
        return name;
    }
    if ((const u32 *)p >= engine.states && (const u32 *)p < engine.states + scenario->cpus)
        snprintf(name, sizeof(name), "state of CPU %u", (unsigned)((const u32 *)p - engine.states));
    else if (strchr(at->text, '?'))
        snprintf(name, sizeof(name), "a counter");
    else
        snprintf(name, sizeof(name), "%s", at->text[0] == '&' ? at->text + 1 : at->text);
    return name;
}

/* A value, as what it stands for. Two of them at a time. */
static const char *value_of(const void *p, u64 value)
{
    static const char *const states[] = {
        [CPU_BUSY] = "busy", [CPU_AWAKE] = "awake", [CPU_ASLEEP] = "asleep"};
    static char text[2][80];
    static unsigned turn;
    pfn_t pfn;
    const char *of_record = record_field(p, &pfn);
    turn ^= 1;
    if (of_record && (!strcmp(of_record, "next") || !strcmp(of_record, "prev"))) {
        if (value == LINK_NONE || value == LINK_POISON)
            return value == LINK_NONE ? "end of the list" : "POISON";
    } else if (of_record && !strcmp(of_record, "flags")) {
        static const char *const flags[8] = {"dirty",      "taker's",       NULL,    NULL,
                                             "holds dirt", "scrubbing_now", "stop!", "detained"};
        size_t n = 0;
        text[turn][0] = 0;
        for (unsigned bit = 0; bit < 8; bit++)
            if ((value >> bit & 1) && flags[bit])
                n += (size_t)snprintf(text[turn] + n, sizeof(text[turn]) - n, "%s%s", n ? "+" : "",
                                      flags[bit]);
        return n ? text[turn] : "none";
    }
    if (value == LINK_NONE)
        return "none";
    if ((const u32 *)p >= engine.states && (const u32 *)p < engine.states + scenario->cpus &&
        value < ARRAY_SIZE(states))
        return states[value];
    snprintf(text[turn], sizeof(text[turn]), "%lld", (long long)value);
    return text[turn];
}

static struct met *met_of(const void *p)
{
    static struct met full;
    for (unsigned n = 0; n < nr_met; n++)
        if (met[n].p == p)
            return &met[n];
    if (nr_met == ARRAY_SIZE(met))
        return &full;
    met[nr_met] = (struct met){.p = p};
    return &met[nr_met++];
}

static bool is_pointer(const struct site *at)
{
    return strstr(at->text, "->zone") != NULL;
}

void trace_load(const struct site *at, const void *p, u64 value)
{
    struct line *l = trace_line(at, "%s: %s", name_of(p, at), value_of(p, value));
    l->p = p;
    l->detail = is_pointer(at); /* claim slots: what locks change is said at the unlock */
    met_of(p)->loaded |= (u8)(1u << self->id);
}

void trace_stored(const void *p, const struct site *at, u64 from, u64 to, const char *remark)
{
    struct line *l = trace_line(at, "%s: %s -> %s%s", name_of(p, at), value_of(p, from),
                                value_of(p, to), remark);
    l->p = p;
    l->store = true;
    l->detail = is_pointer(at);
    for (unsigned n = 0; n < mm_zone_count; n++)
        if (p == &mm_zones[n].nr_free || p == &mm_zones[n].nr_dirty)
            l->detail = true;
    met_of(p)->stored |= (u8)(1u << self->id);
}

void trace_kept(void)
{
    struct line *l = &lines[nr_lines - 1];
    size_t n = strlen(l->text);
    snprintf(l->text + n, TEXT_MAX - n, " (stays in the store buffer)");
    l->always = true;
}

void trace_visible(const struct vcpu *c, const struct buffered *b)
{
    const struct spinlock *lock = b->p;
    struct line *l =
        b->size == UNLOCK
            ? trace_line(NULL, "(the unlock of %s %u is visible now)", lock->name, lock->sub)
            : trace_line(NULL, "(its store to %s is visible now)", name_of(b->p, b->at));
    l->cpu = (u8)c->id;
}

/* Of classic's heap, which is under this lock alone. */
static void heap_note(struct before *b)
{
    *b = (struct before){.nr_free = classic_heaps[0].nr_free,
                         .nr_dirty = classic_heaps[0].nr_dirty,
                         .outside = classic_heaps[0].allocated,
                         .in_flight = classic_heaps[0].nr_out};
}

static void zone_note(const struct zone *z, struct before *b)
{
    *b = (struct before){.nr_free = z->nr_free,
                         .nr_dirty = z->nr_dirty,
                         .in_flight = z->in_flight,
                         .outside = z->outside,
                         .retired = z->retired,
                         .waiters = z->waiters};
    for (unsigned n = 0; n < scenario->cpus; n++)
        b->claimed[n] = claim_of_cpu(n)->zone;
}

void trace_locked(struct spinlock *l, const struct site *at, bool waited)
{
    bool zone = l->rank == RANK_ZONE;
    if (zone && on_classic())
        heap_note(&before[self->id][0]);
    else if (zone)
        zone_note(&mm_zones[l->sub], &before[self->id][l->sub]);
    trace_line(at, "lock %s %u%s", l->name, l->sub, waited ? ", its turn now" : "")->detail =
        !zone && !waited;
}

static void say_change(char *text, const char *what, u64 from, u64 to)
{
    size_t n = strlen(text);
    if (from != to)
        snprintf(text + n, TEXT_MAX - n, "%s %s %llu -> %llu", n ? "," : "", what,
                 (unsigned long long)from, (unsigned long long)to);
}

static void say_frames(char *text, const char *what, const struct zone *z, u32 pb,
                       const struct map512 *frames)
{
    size_t n = strlen(text);
    n += (size_t)snprintf(text + n, TEXT_MAX - n, "%s %s", n ? "," : "", what);
    unsigned count = map512_count(frames), said = 0;
    map512_for_each(bit, frames)
    {
        if (said++ == 6 || n >= TEXT_MAX)
            break;
        n += (size_t)snprintf(text + n, TEXT_MAX - n, " %llu",
                              (unsigned long long)(zone_pb_pfn(z, pb) + bit));
    }
    if (count > 6 && n < TEXT_MAX)
        snprintf(text + n, TEXT_MAX - n, " ... (%u)", count);
}

void trace_unlocked(struct spinlock *l, const struct site *at)
{
    char text[TEXT_MAX] = "";
    bool zone = l->rank == RANK_ZONE;
    if (zone && on_classic()) {
        struct before now;
        const struct before *b = &before[self->id][0];
        heap_note(&now);
        say_change(text, "listed", b->nr_free, now.nr_free);
        say_change(text, "allocated", b->outside, now.outside);
        say_change(text, "detained", b->in_flight, now.in_flight);
        say_change(text, "dirty", b->nr_dirty, now.nr_dirty);
    } else if (zone) {
        const struct zone *z = &mm_zones[l->sub];
        const struct before *b = &before[self->id][l->sub];
        for (unsigned n = 0; n < scenario->cpus; n++) {
            const struct claim *c = claim_of_cpu(n);
            if (b->claimed[n] != c->zone && c->zone == z)
                say_frames(text, "claims frame", z, c->pb, &c->mask);
            else if (b->claimed[n] == z && !c->zone)
                say_frames(text, "returns the claim of frame", z, c->pb, &c->mask);
        }
        say_change(text, "free", b->nr_free, z->nr_free);
        say_change(text, "dirty", b->nr_dirty, z->nr_dirty);
        say_change(text, "in flight", b->in_flight, z->in_flight);
        say_change(text, "taken or stored", b->outside, z->outside);
        say_change(text, "retired", b->retired, z->retired);
        say_change(text, "waiters", b->waiters, z->waiters);
    }
    trace_line(at, "unlock %s %u%s%s", l->name, l->sub, text[0] ? ":" : "", text)->detail = !zone;
}

/* ---- printing ---- */

/* Of loads and stores only those that meet another CPU's. */
static bool is_worth_it(const struct line *l, bool all)
{
    if (all || l->always)
        return true;
    if (l->detail)
        return false;
    if (!l->p)
        return true;
    const struct met *m = met_of(l->p);
    u8 others = (u8) ~(1u << l->cpu);
    return ((m->stored | (l->store ? m->loaded : 0)) & others) != 0;
}

/* It has just said the same: a hint that is read twice. */
static bool is_repeated(unsigned line)
{
    const struct line *l = &lines[line];
    unsigned back = 0;
    for (unsigned n = line; n-- > 0 && back < 4 && l->p && !l->store;) {
        if (lines[n].cpu != l->cpu)
            return false;
        if (lines[n].p == l->p && !strcmp(lines[n].text, l->text))
            return true;
        back++;
    }
    return false;
}

/* Words of the text in its CPU's column; what does not fit goes on below, indented. */
static void print_line(const struct line *l, unsigned width)
{
    char text[TEXT_MAX + 80], *word, *rest = NULL;
    const char *file = l->at ? strrchr(l->at->file, '/') : NULL;
    snprintf(text, sizeof(text), "%s", l->text);
    if (l->at)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " [%s:%u]",
                 file ? file + 1 : l->at->file, l->at->line);
    unsigned column = 0, indent = l->cpu * width + 2;
    for (word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        unsigned length = (unsigned)strlen(word);
        if (column && column + 1 + length > width - 2) {
            printf("\n");
            column = 0;
            indent = l->cpu * width + 6;
        }
        if (column == 0) {
            printf("%*s%s", (int)indent, "", word);
            column = indent - l->cpu * width + length;
        } else {
            printf(" %s", word);
            column += 1 + length;
        }
    }
    printf("\n");
}

void trace_print(const struct scenario *s, bool all)
{
    unsigned width = s->cpus <= 2 ? 56 : s->cpus == 3 ? 46 : 40;
    for (unsigned n = 0; n < s->cpus; n++) {
        char head[80];
        snprintf(head, sizeof(head), "%c: %s", 'A' + n, s->role[n] ? s->role[n] : "");
        printf("%s%-*s", n ? "" : "  ", n + 1 < s->cpus ? (int)width : 0, head);
    }
    printf("\n\n");
    for (unsigned n = 0; n < nr_lines; n++)
        if (is_worth_it(&lines[n], all) && (all || !is_repeated(n)))
            print_line(&lines[n], width);
}
