/*
 * See measure.h. Owns the spinners' switch: one measurement at a time.
 */
#include "kernel/measure.h"
#include "guest/guest.h"
#include "lib/log.h"
#include "lib/string.h"
#include "sched/sched.h"

#define POLL_NS (NS_PER_MS / 5)

/* ---- numbers ---- */

u64 measure_median(u64 *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++) /* insertion sort: a handful */
        for (unsigned j = i; j > 0 && v[j - 1] > v[j]; j--) {
            u64 t = v[j];
            v[j] = v[j - 1];
            v[j - 1] = t;
        }
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

/* Values below 16 have a bucket each; from there on the four bits below the top one choose. */
static unsigned hist_bucket(u64 value)
{
    if (value < 16)
        return (unsigned)value;
    unsigned top = 63 - (unsigned)__builtin_clzll(value);
    return (top - 3) * 16 + (unsigned)(value >> (top - 4) & 15);
}

/* The largest value of a bucket. */
static u64 hist_limit(unsigned bucket)
{
    if (bucket < 16)
        return bucket;
    unsigned top = bucket / 16 + 3;
    return ((16ULL + bucket % 16 + 1) << (top - 4)) - 1;
}

void hist_reset(struct hist *h)
{
    memset(h, 0, sizeof(*h));
}

void hist_add(struct hist *h, u64 value)
{
    h->count[MIN(hist_bucket(value), HIST_BUCKETS - 1)]++;
    h->nr++;
    h->max = MAX(h->max, value);
}

void hist_merge(struct hist *into, const struct hist *h)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->count[i] += h->count[i];
    into->nr += h->nr;
    into->max = MAX(into->max, h->max);
}

u64 hist_at(const struct hist *h, unsigned per_mille)
{
    u64 want = (h->nr * per_mille + 999) / 1000, seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->count[i];
        if (seen >= want && seen)
            return MIN(hist_limit(i), h->max);
    }
    return h->max;
}

/* ---- threads ---- */

static void helper_main(void *arg)
{
    struct helper *h = arg;
    h->fn(h->arg);
    store_release(&h->done, 1); /* pairs with the acquire in helper_join(); *h is its owner's now */
}

bool helper_start(struct helper *h, unsigned cpu, void (*fn)(void *arg), void *arg)
{
    *h = (struct helper){.fn = fn, .arg = arg};
    struct thread *t = thread_create("measure", helper_main, h, cpu, ANY_NODE);
    if (!t) {
        log_line("measure: no memory for a thread");
        h->done = 1;
        return false;
    }
    thread_start(t);
    return true;
}

void helper_join(struct helper *h)
{
    while (!load_acquire(&h->done))
        thread_sleep(POLL_NS);
}

static bool spin_stop;        /* (a) */
static unsigned spin_running; /* (a) */

static void spinner(void *unused)
{
    (void)unused;
    fetch_add(&spin_running, 1);
    while (!load_relaxed(&spin_stop)) {
        sched_yield(); /* others of this CPU first: it is to be busy, not to be slow */
        irqs_off();
        if (load_relaxed(&spin_stop) || need_resched())
            irqs_on();
        else
            irqs_on_and_halt(); /* until the stop's kick, or the tick if there are others */
    }
    fetch_add(&spin_running, -1u);
}

bool spinners_start(unsigned node)
{
    unsigned started = 0;
    store_release(&spin_stop, false);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if ((node != MM_ALL_NODES && cpu_node(cpu) != node) ||
            !load_acquire(&cpu_by_id(cpu)->online))
            continue;
        struct thread *t = thread_create("busy", spinner, NULL, cpu, ANY_NODE);
        if (!t) {
            log_line("measure: no memory for a thread");
            spinners_stop();
            return false;
        }
        thread_start(t);
        started++;
    }
    while (load_acquire(&spin_running) != started)
        thread_sleep(NS_PER_MS);
    return true;
}

void spinners_stop(void)
{
    store_release(&spin_stop, true);
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        cpu_kick(cpu);
    while (load_acquire(&spin_running))
        thread_sleep(NS_PER_MS);
}

unsigned measure_cpu(unsigned node, unsigned nth)
{
    for (unsigned i = 0; i < nr_nodes; i++) {
        unsigned near = mm_node_near(node, i), there = 0;
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            there += cpu_node(cpu) == near && load_acquire(&cpu_by_id(cpu)->online);
        if (there == 0)
            continue;
        nth %= there;
        for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
            if (cpu_node(cpu) == near && load_acquire(&cpu_by_id(cpu)->online) && nth-- == 0)
                return cpu;
    }
    return 0;
}

/* ---- memory ---- */

u64 measure_free(unsigned node)
{
    struct mm_zone_info i;
    mm_node_info(node, &i);
    return i.clean + i.dirty + i.stored_clean + i.stored_dirty + i.in_flight;
}

u64 measure_unclean(unsigned node)
{
    struct mm_zone_info i;
    mm_node_info(node, &i);
    return i.dirty + i.stored_dirty + i.in_flight;
}

unsigned measure_node(void)
{
    unsigned best = 0;
    for (unsigned node = 1; node < nr_nodes; node++)
        if (measure_free(node) > measure_free(best))
            best = node;
    return best;
}

void measure_soil(pfn_t pfn, unsigned order)
{
    for (u64 i = 0; i < 1ULL << order; i++)
        *(volatile u64 *)frame_va(pfn + i) = pfn + i + 1;
}

u64 pile_take(struct pile *p, unsigned order, enum take_flags flags, unsigned node, u64 blocks)
{
    u64 got = 0;
    for (; got < blocks; got++) {
        pfn_t pfn = mm_take(order, flags | TAKE_THIS_NODE, node);
        if (pfn == PFN_NONE)
            break;
        *(pfn_t *)frame_va(pfn) = p->first;
        p->first = pfn;
        p->blocks++;
        p->frames += 1ULL << order;
    }
    return got;
}

void pile_soil(const struct pile *p, unsigned order)
{
    for (pfn_t pfn = p->first; pfn != PFN_NONE;) {
        pfn_t next = *(pfn_t *)frame_va(pfn);
        measure_soil(pfn, order);
        *(pfn_t *)frame_va(pfn) = next; /* not zero: 0 is no frame that mm/ has */
        pfn = next;
    }
}

void pile_free(struct pile *p, unsigned order)
{
    for (pfn_t pfn = p->first; pfn != PFN_NONE;) {
        pfn_t next = *(pfn_t *)frame_va(pfn);
        mm_free(pfn, order);
        pfn = next;
    }
    *p = PILE_EMPTY;
}

void ballast_take(struct ballast *b, unsigned node, u64 leave)
{
    for (unsigned order = ORDER_MAX + 1; order-- > 0;) {
        b->of[order] = PILE_EMPTY;
        u64 left = measure_free(node);
        while (left >= leave + (1ULL << order) &&
               pile_take(&b->of[order], order, TAKE_ANY, node, (left - leave) >> order) > 0)
            left = measure_free(node);
    }
}

void ballast_free(struct ballast *b)
{
    for (unsigned order = 0; order <= ORDER_MAX; order++)
        pile_free(&b->of[order], order);
}

/* ---- the machine ---- */

static u64 scrubbed_so_far(void)
{
    u64 sum = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        sum += counts_cpu_clears(cpu);
    return sum;
}

u64 measure_settle(unsigned node, u64 stuck_ns)
{
    guests_wait_exiting();
    thread_reap_wait();
    u64 seen = scrubbed_so_far(), since = time_ns(), left;
    while ((left = measure_unclean(node)) != 0) {
        u64 now = time_ns(), done = scrubbed_so_far();
        if (done != seen) {
            seen = done;
            since = now;
        } else if (now - since > stuck_ns) {
            break;
        }
        thread_sleep(POLL_NS);
    }
    return left;
}

u64 measure_clean_within(unsigned node, u64 frames, u64 ns, u64 *took_ns)
{
    u64 began = time_ns(), left;
    while ((left = measure_unclean(node)) > frames && time_ns() - began < ns)
        thread_sleep(POLL_NS);
    *took_ns = time_ns() - began;
    return left;
}

u64 counts_cpu_clears(unsigned cpu)
{
    struct clear_counts c;
    clear_counts_get(cpu, &c);
    return c.frames;
}

void counts_take(struct counts *out)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    *out = (struct counts){
        .idle_local = i.scrubbed_idle_local,
        .idle_remote = i.scrubbed_idle_remote,
        .takers_local = i.scrubbed_takers_local,
        .takers_remote = i.scrubbed_takers_remote,
        .aged = i.scrubbed_aged,
        .at_free = i.scrubbed_at_free,
        .at_map = i.scrubbed_at_map,
    };
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        struct clear_counts c;
        clear_counts_get(cpu, &c);
        out->clears += c.frames;
        out->clears_locked += c.locked;
        out->clears_again += c.again;
    }
}

void counts_since(const struct counts *before, struct counts *out)
{
    counts_take(out);
    out->clears -= before->clears;
    out->clears_locked -= before->clears_locked;
    out->clears_again -= before->clears_again;
    out->idle_local -= before->idle_local;
    out->idle_remote -= before->idle_remote;
    out->takers_local -= before->takers_local;
    out->takers_remote -= before->takers_remote;
    out->aged -= before->aged;
    out->at_free -= before->at_free;
    out->at_map -= before->at_map;
}

const char *measure_lazy_strategy(void)
{
    static const char *const defaults[] = {"claim", "ondemand"};
    static char was[16];
    str_copy(was, mm_strategy_name(), sizeof(was));
    if (strcmp(was, "eager") != 0)
        return was;
    for (unsigned i = 0; i < ARRAY_SIZE(defaults); i++)
        if (mm_strategy_set(defaults[i]) == 0) {
            mm_strategy_set(was);
            return defaults[i];
        }
    return was;
}
