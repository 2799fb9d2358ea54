/*
 * The list of strategies and the one in force. Changing it is safe at any moment: no strategy
 * keeps state between two calls, dirt stands in the zones' maps whoever put it there.
 */
#include "mm/strategy/strategy.h"
#include "mm/mm.h"
#include "arch.h"

static const struct strategy *const strategies[] = {&strategy_claim, &strategy_eager};
const struct strategy *mm_strategy = &strategy_claim;

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
        store_release(&mm_strategy, strategies[i]);
        mm_bell_pass_on();
        return 0;
    }
    return E_NOENT;
}

const char *mm_strategy_name(void)
{
    return strategy_now()->name;
}
