/*
 * Who runs when: which operation comes next and on which CPU, which calls of mm/ are open then, and
 * what goes on in the midst of them.
 *
 * One thread plays all CPUs. A call of mm/ is open while it clears frames, or spins at a gate;
 * the operation that follows in the input may then run in the midst of it, on another CPU. A CPU
 * whose call is open, or whose claim is held, does nothing else: preemption is off there. Who
 * would wait for a claim whose call is open below it on this one stack is not begun.
 * Next: ops.c.
 */
#include "ops.h"

enum { DEPTH_MAX = 4, OPS_MAX = 400 };

/* ---- CPUs, and calls that are open ---- */

enum cpu_state cpu_states[FUZZ_CPUS];
static unsigned kicks_seen[FUZZ_CPUS];
struct open_call open_call[DEPTH_MAX + 1];
unsigned depth;

bool cpu_is_free(unsigned cpu)
{
    bool busy = claim_is_open(cpu);
    for (unsigned d = 0; d < depth; d++)
        busy = busy || open_call[d].cpu == cpu;
    return !busy;
}

unsigned calls_open(enum call call)
{
    unsigned n = 0;
    for (unsigned d = 0; d < depth; d++)
        n += open_call[d].call == call;
    return n;
}

/* Sleepers that were kicked meanwhile are awake. */
static void see_kicks(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        if (port_kicks(cpu) == kicks_seen[cpu])
            continue;
        FUZZ_CHECK(port_kicks(cpu) == kicks_seen[cpu] + 1 && cpu_states[cpu] == CPU_ASLEEP,
                   "CPU %u is kicked and does not sleep", cpu);
        kicks_seen[cpu]++;
        cpu_states[cpu] = CPU_AWAKE;
    }
}

void set_state(enum cpu_state state)
{
    see_kicks();
    cpu_states[cpu_id()] = state;
    mm_cpu_state_set(state);
}

void be_thread(void)
{
    if (cpu_states[cpu_id()] == CPU_BUSY)
        return;
    set_state(CPU_BUSY);
    mm_bell_pass_on();
}

void be_idle(void)
{
    if (cpu_states[cpu_id()] != CPU_AWAKE)
        set_state(CPU_AWAKE);
}

/* ---- the order of things ---- */

static const struct {
    const char *name;
    void (*run)(void);
    unsigned weight;
} ops[] = {
    {"take", op_take, 24},          {"take many", op_take_many, 4},
    {"free", op_free, 16},          {"free many", op_free_many, 5},
    {"free part", op_free_part, 8}, {"free mask", op_free_mask, 8},
    {"retire", op_retire, 4},       {"retire many", op_retire_many, 2},
    {"scrub", op_scrub, 12},        {"claim", op_claim_open, 8},
    {"return", op_claim_close, 4},  {"aged step", op_aged, 4},
    {"flush", op_flush, 3},         {"sleep", op_sleep, 3},
    {"rest", op_rest, 3},           {"thread", be_thread, 2},
    {"clock", op_clock, 4},         {"policy", op_policy, 3},
    {"strategy", op_strategy, 2},   {"enable", op_enable, 2},
    {"resched", op_resched, 3},     {"audit", op_audit, 3},
};
enum { MISUSE = 127 };

/* One operation on a CPU that has time. False: the input is at its end. */
static bool run_op(void)
{
    unsigned b = input_byte(), c = input_byte(), cpu = c & 7, n = b & 127;
    unsigned tries = 0, op = 0;
    for (cpu %= nr_cpus; !cpu_is_free(cpu); cpu = (cpu + 1) % nr_cpus)
        if (++tries == nr_cpus) {
            op_claim_close(); /* all stand somewhere in mm/ */
            return true;
        }
    memset(&port_self, 0, sizeof(port_self));
    port_be_cpu(cpu);
    if (depth == 0 && n == MISUSE && op_misuse())
        return false;
    while (n >= ops[op].weight) {
        n -= ops[op].weight;
        op = (op + 1) % ARRAY_SIZE(ops);
    }
    TRACE("%*sCPU %u: %s%s\n", (int)depth * 4, "", cpu, ops[op].name, b & 128 ? ", nested" : "");
    struct open_call *me = &open_call[depth++];
    *me = (struct open_call){.cpu = cpu, .nest_after = b & 128 ? 1u + (c >> 3) : 0};
    ops[op].run();
    FUZZ_CHECK(port_self.nr_locks == 0 && port_self.preempt_count == 0,
               "%s left %u locks, preemption off %u times", ops[op].name, port_self.nr_locks,
               port_self.preempt_count);
    depth--;
    see_kicks();
    return true;
}

/* A moment in a call of mm/ at which other CPUs may do anything. */
static void event(void)
{
    struct open_call *me = &open_call[depth - 1];
    if (me->nest_after == 0 || --me->nest_after || depth == DEPTH_MAX || input.left == 0)
        return;
    struct port_cpu mine = port_self;
    run_op();
    port_self = mine;
}

static bool on_clear(void *p, size_t bytes, bool stream)
{
    (void)stream;
    if (misusing)
        return true;
    struct open_call *me = &open_call[depth - 1];
    bool done = oracle_clear(p, bytes);
    FUZZ_CHECK(me->call != CALL_SCRUB || me->clears == 0 || !need_resched(),
               "P8: another clear, and a thread wants to run");
    FUZZ_CHECK(me->call != CALL_SCRUB || port_self.preempt_count > 0,
               "rule 10: preemption is on, and a claim is held");
    me->clears++;
    if (me->call == CALL_TAKE)
        me->call = CALL_CLEARING_TAKE;
    event();
    return done;
}

static bool gate_is_shut(const struct zone *z)
{
    return z->waiters != 0;
}

/* A taker waits at a gate: a claim comes back, as it does within one clear. */
static void on_relax(void)
{
    struct open_call *me = &open_call[depth - 1];
    FUZZ_CHECK(me->call == CALL_TAKE, "who waits here?");
    FUZZ_CHECK(port_self.preempt_count > 0, "rule 11: preemption is on, and the gate is shut");
    if (!me->spun && !calls_open(CALL_CLEARING_TAKE)) {
        FUZZ_CHECK(oracle_would_serve(me->order, me->node, false),
                   "rule 7: claims do not help an order %u", me->order);
        oracle_mark_away(AWAY_CLAIMS, true);
        FUZZ_CHECK(!oracle_would_serve(me->order, me->node, false),
                   "an order %u is free and its taker waits", me->order);
        oracle_mark_away(AWAY_CLAIMS, false);
    }
    me->spun = true;
    FUZZ_CHECK(claim_find(gate_is_shut) != NONE_CPU, "a taker waits, and nobody has a claim");
    event();
    unsigned cpu = claim_find(gate_is_shut); /* the last one may have come back just now */
    if (cpu != NONE_CPU)
        close_of_cpu(cpu, input_byte() & 1);
}

/* All goes home: what was given back must be there, clean, and in one piece. */
static void wind_up(void)
{
    static const struct mm_policy none = {.age_ms = MM_AGE_MS};
    struct mm_zone_info i;
    unsigned cpu;
    u64 all = 0;
    while ((cpu = claim_find(NULL)) != NONE_CPU)
        close_of_cpu(cpu, 1);
    memset(&port_self, 0, sizeof(port_self));
    struct open_call *me = &open_call[depth++];
    *me = (struct open_call){.cpu = 0};
    mm_policy_set(&none);
    mm_strategy_set("claim");
    mm_scrub_enable(true);
    for (cpu = 0; cpu < nr_cpus; cpu++) {
        port_be_cpu(cpu);
        port_set_resched(cpu, false);
        set_state(CPU_BUSY);
        mm_stores_flush();
    }
    owners_free_all();
    mm_stores_flush();
    mm_node_info(MM_ALL_NODES, &i);
    all = i.frames;
    FUZZ_CHECK(i.dirty + i.clean + i.retired == all, "something is missing");
    if (i.dirty > 100000)
        return;
    while (mm_scrub_step()) /* all are busy: it helps everywhere */
        ;
    mm_node_info(MM_ALL_NODES, &i);
    FUZZ_CHECK(i.dirty == 0 && i.clean + i.retired == all, "%llu dirty",
               (unsigned long long)i.dirty);
    for (unsigned order = 0; order <= ORDER_MAX; order += 3)
        take(order, TAKE_CLEAN, 0);
    oracle_audit(true);
}

void ops_run(void)
{
    static const struct port_hooks hooks = {.log = fuzz_log,
                                            .clear = on_clear,
                                            .is_zero = oracle_is_zero,
                                            .relax = on_relax,
                                            .panic = on_panic};
    depth = 0;
    owners_begin();
    claims_begin();
    memset(kicks_seen, 0, sizeof(kicks_seen));
    for (unsigned cpu = 0; cpu < FUZZ_CPUS; cpu++)
        cpu_states[cpu] = CPU_BUSY;
    port_set_hooks(&hooks);
    oracle_begin();
    for (unsigned n = 0; n < OPS_MAX && input.left; n++) {
        if (!run_op())
            return;
        oracle_check_bells();
    }
    wind_up();
}
