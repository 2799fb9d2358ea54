/*
 * The list of limpid's strategies and the one in force. Changing it is safe at any moment: no strategy
 * keeps state between two calls, dirt stands in the zones' maps whoever put it there.
 */
#include "mm/strategy/strategy.h"
#include "mm/limpid.h"
#include "arch.h"

static const struct strategy *const strategies[] = {&strategy_claim, &strategy_eager,
                                                    &strategy_onmap, &strategy_readonly};
const struct strategy *mm_strategy = &strategy_claim;

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

int limpid_strategy_set(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(strategies); i++) {
        if (!same(strategies[i]->name, name))
            continue;
        store_release(&mm_strategy, strategies[i]);
        limpid_bell_pass_on();
        return 0;
    }
    return E_NOENT;
}

const char *limpid_strategy_name(void)
{
    return strategy_now()->name;
}

const char *limpid_strategy_nth(unsigned i)
{
    return i < ARRAY_SIZE(strategies) ? strategies[i]->name : NULL;
}

const struct strategy *limpid_strategy_now(void)
{
    return strategy_now();
}
