/*
 * The strategies of `classic` and the one in force. To change it: no scrubber is at work, then
 * under the lock the new one, and the lists as it expects them. So no strategy meets the half-done
 * work of another, and no dirt is lost: it stands in the records, whoever put it there.
 *
 *     A: changes                             B: idle CPU
 *     stopped++           full fence         active++              full fence
 *     waits for active == 0                  stopped? then active--, and no step
 *     lock; the other one; unlock            clears; looks at stopped after each
 *     stopped--                              active--
 *
 * Owns the choice and these two counters.
 */
#include "mm/classic/strategy/strategy.h"
#include "mm/classic/classic_backend.h"

/* The default first. */
static const struct classic_strategy *const strategies[] = {
    &strategy_inplace, &strategy_classic_eager, &strategy_ondemand, &strategy_locked,
    &strategy_batch,   &strategy_overlap,       &strategy_mark,     &strategy_walk,
};

const struct classic_strategy *classic_strategy = &strategy_inplace;
void (*classic_gate)(const char *point, pfn_t pfn);

static u32 stopped; /* (a) */
static u32 active;  /* (a) steps at work */

void strategies_init(void)
{
    store_relaxed(&stopped, 0);
    store_relaxed(&active, 0);
    store_release(&classic_strategy, strategies[0]);
    overlap_init();
}

void strategies_stop(void)
{
    fetch_add(&stopped, 1); /* full fence: pairs with strategy_step_begin() */
    while (load_acquire(&active))
        cpu_relax();
}

void strategies_go(void)
{
    fetch_add(&stopped, -1u);
}

bool heaps_scrub_at_work(void)
{
    return load_acquire(&active) != 0;
}

bool strategies_stopped(void)
{
    return load_relaxed(&stopped) != 0;
}

bool strategy_step_begin(void)
{
    fetch_add(&active, 1); /* full fence: pairs with strategies_stop() */
    if (!strategies_stopped())
        return true;
    fetch_add(&active, -1u);
    return false;
}

void strategy_step_end(void)
{
    fetch_add(&active, -1u);
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void change(const struct classic_strategy *s)
{
    strategies_stop();
    heap_lock();
    /* Before the lists are sorted: what follows may merge and stop as the new one does. */
    store_release(&classic_strategy, s);
    for (unsigned n = 0; n < classic_nr_heaps; n++)
        heap_resort_locked(&classic_heaps[n]);
    heap_unlock();
    strategies_go();
    heaps_bell_pass_on();
}

int heaps_strategy_set(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(strategies); i++) {
        if (!same(strategies[i]->common.name, name))
            continue;
        if (strategies[i] != load_acquire(&classic_strategy))
            change(strategies[i]);
        return 0;
    }
    return E_NOENT;
}

const char *heaps_strategy_name(void)
{
    return load_acquire(&classic_strategy)->common.name;
}

const char *heaps_strategy_nth(unsigned i)
{
    return i < ARRAY_SIZE(strategies) ? strategies[i]->common.name : NULL;
}

const struct strategy *heaps_strategy_now(void)
{
    return &load_acquire(&classic_strategy)->common;
}
