/*
 * The list of strategies and the one in force. Changing it is safe at any moment: no strategy
 * keeps state between two calls, dirt stands in the zones' maps whoever put it there.
 */
#include "mm/strategy/strategy.h"
#include "mm/mm.h"
#include "arch.h"

static const struct strategy *const strategies[] = {&strategy_claim, &strategy_eager};
static const struct strategy *current_strategy = &strategy_claim; /* (a) */

const struct strategy *strategy_now(void)
{
    return load_acquire(&current_strategy); /* pairs with the release in mm_strategy_set() */
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int mm_strategy_set(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(strategies); i++) {
        if (!same(strategies[i]->name, name))
            continue;
        store_release(&current_strategy, strategies[i]);
        mm_bell_pass_on();
        return 0;
    }
    return E_NOENT;
}

const char *mm_strategy_name(void)
{
    return strategy_now()->name;
}
