/*
 * The words that limit scrubbing, and the age that they promise. Owns nothing: mm/policy.c keeps
 * the limits, sched/aged.c the thread that keeps the promise.
 */
#include "kernel/policy.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "sched/sched.h"

static bool is_off(const char *value)
{
    return strcmp(value, "off") == 0;
}

static int age_word(struct mm_policy *p, const char *value)
{
    u64 ns = 0;
    if (!is_off(value) &&
        (parse_duration(value, &ns) != 0 || ns < 1000000 || ns / 1000000 > MM_AGE_MS_MAX))
        return E_INVAL;
    p->age_ms = (u32)(ns / 1000000);
    return 0;
}

static int rate_word(struct mm_policy *p, const char *value)
{
    u64 bytes = 0;
    if (!is_off(value) &&
        (parse_bytes(value, &bytes) != 0 || bytes < MIB || bytes / MIB > MM_RATE_MIB_MAX))
        return E_INVAL;
    p->rate_mib = (u32)(bytes / MIB);
    return 0;
}

static int scrubbers_word(struct mm_policy *p, const char *value)
{
    u64 n = 0;
    if (!is_off(value) && (parse_number(value, &n) != 0 || n < 1 || n > MAX_CPUS))
        return E_INVAL;
    p->scrubbers = (u32)n;
    return 0;
}

static int batch_word(struct mm_policy *p, const char *value)
{
    u64 n;
    if (parse_number(value, &n) != 0 || n < 1 || n > ORDER_MAX)
        return E_INVAL;
    p->batch = (u32)n;
    return 0;
}

static const struct {
    const char *key;
    int (*set)(struct mm_policy *p, const char *value);
    const char *wants;
} policy_words[] = {
    {"age", age_word, "a time from 1ms to 24h such as 10s, or off"},
    {"rate", rate_word, "MiB a second from 1M to 1T such as 200M, or off"},
    {"batch", batch_word, "an order from 1 to 18"},
    {"scrubbers", scrubbers_word, "a number of CPUs from 1 to 256, or off"},
};

int policy_word(struct mm_policy *policy, const struct word *w, const char **wants)
{
    for (unsigned i = 0; i < ARRAY_SIZE(policy_words); i++) {
        if (strcmp(policy_words[i].key, w->key) != 0)
            continue;
        *wants = policy_words[i].wants;
        return w->value ? policy_words[i].set(policy, w->value) : E_INVAL;
    }
    return E_NOENT;
}

int policy_apply(const struct mm_policy *policy)
{
    int error = mm_policy_set(policy);
    if (!error)
        aged_look_again();
    return error;
}

u64 policy_bound_ms(unsigned node)
{
    struct mm_policy p;
    struct mm_zone_info info;
    struct sched_stats cpu;

    mm_policy_get(&p);
    if (p.age_ms == 0 || !mm_has_age_bound() || !mm_strategy_scrubs_free())
        return 0;
    mm_node_info(node, &info);
    sched_cpu_stats(aged_cpu(node), &cpu);
    /* Round robin: a turn of the aged thread comes after one of each that wants the CPU. */
    u64 dirty = info.dirty + info.stored_dirty + info.in_flight;
    u64 own_ms = dirty * mm_clear_ns() / 1000000;
    u64 turns = own_ms / SCHED_SLICE_MS + 1;
    u64 others_ms = turns * (cpu.ready + 1) * SCHED_SLICE_MS;
    return p.age_ms + mm_aged_sleep_ms(p.age_ms) + own_ms + others_ms;
}

void policy_strategies(char *buf, size_t size)
{
    const char *name;
    size_t at = 0;
    for (unsigned i = 0; (name = mm_strategy_nth(i)) != NULL && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", name);
}

void policy_warn(void)
{
    static const char stars[] = "*****************************************************************";
    const char *warning = mm_strategy_warning();
    if (!warning)
        return;
    log_line("%s", stars);
    log_line("** WARNING: %s", warning);
    log_line("%s", stars);
}

void policy_say(void)
{
    char names[POLICY_STRATEGIES_MAX];
    struct mm_policy p;
    mm_policy_get(&p);
    policy_strategies(names, sizeof(names));
    log_line("strategy %s, idle scrubbing %s; allocator %s has %s", mm_strategy_name(),
             mm_scrub_enabled() ? "on" : "off", mm_backend_name(), names);
    if (p.rate_mib)
        log_line("rate limit: %u MiB/s a node", p.rate_mib);
    if (p.scrubbers)
        log_line("scrubbers: at most %u CPUs a node", p.scrubbers);
    if (p.batch)
        log_line("batch: order %u", p.batch);
    if (!mm_has_age_bound()) {
        log_line("age bound: none; allocator %s has no such thing", mm_backend_name());
        return;
    }
    if (p.age_ms == 0 || !mm_strategy_scrubs_free()) {
        log_line("age bound: none%s",
                 p.age_ms ? "; under this strategy nobody scrubs free memory" : "");
        return;
    }
    for (unsigned node = 0; node < nr_nodes; node++)
        log_line("age bound: %u ms; with every CPU busy no dirt of node %u gets older than %lu ms",
                 p.age_ms, node, policy_bound_ms(node));
}
