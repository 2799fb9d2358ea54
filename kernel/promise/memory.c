/*
 * P1 to P3: what is in the frames. Takers on every CPU, while idle CPUs scrub.
 *
 * Owns the takers' records: one test at a time.
 */
#include "kernel/promise/promise.h"
#include "kernel/measure.h"
#include "guest/guest.h"
#include "lib/log.h"
#include "lib/string.h"
#include "sched/sched.h"

#define TAKERS    4
#define HELD      24
#define STEPS     800
#define GUEST_MIB 24 /* two of them have no room beside each other in what is left of the node */

struct taker {
    struct helper helper;
    unsigned node;
    u64 random;
    u64 takes;
    u64 not_zero, leaked_bytes; /* frames handed out as zero, and what was in them */
    u64 claimed_clean;          /* of them, those that nobody said to have cleared for us */
    u64 changed;                /* frames that somebody wrote to while they were ours */
};
static struct taker takers[TAKERS];

static u64 next_random(struct taker *t)
{
    t->random = t->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return t->random >> 33;
}

static u64 count_leaked(const u64 *frame)
{
    u64 n = 0;
    for (unsigned i = 0; i < FRAME_SIZE / sizeof(u64); i++)
        n += frame[i] ? sizeof(u64) : 0;
    return n;
}

/* Our mark in a frame: at its front, in the middle and at its end, where a clear passes last. */
static const unsigned mark_at[] = {0, 1, 255, 256, 511};

static void mark(pfn_t pfn, u64 salt)
{
    volatile u64 *f = frame_va(pfn);
    for (unsigned i = 0; i < ARRAY_SIZE(mark_at); i++)
        f[mark_at[i]] = (pfn << 16 ^ salt) | 1;
}

static bool marked(pfn_t pfn, u64 salt)
{
    const volatile u64 *f = frame_va(pfn);
    for (unsigned i = 0; i < ARRAY_SIZE(mark_at); i++)
        if (f[mark_at[i]] != ((pfn << 16 ^ salt) | 1))
            return false;
    return true;
}

struct held {
    pfn_t pfn;
    unsigned order;
    u64 salt;
};

static void give(struct taker *t, const struct held *h)
{
    for (u64 i = 0; i < 1ULL << h->order; i++)
        t->changed += !marked(h->pfn + i, h->salt);
    mm_free(h->pfn, h->order);
}

/* Takes and frees at random, mostly small; looks at all it gets, and at all it gives back. */
static void taker_main(void *arg)
{
    struct taker *t = arg;
    struct held held[HELD];
    unsigned nr = 0;

    for (unsigned step = 0; step < STEPS; step++) {
        u64 r = next_random(t), cleared = 0;
        if (nr < HELD && r % 7 < 4) {
            unsigned order = r & 1024 ? (r & 2048 ? 9 : r >> 12 & 7) : r >> 12 & 1;
            pfn_t pfn = mm_take_counted(order, TAKE_CLEAN | TAKE_THIS_NODE, t->node, &cleared);
            if (pfn == PFN_NONE)
                continue;
            t->takes += 1ULL << order;
            for (u64 i = 0; i < 1ULL << order; i++) {
                if (!frame_is_zero(frame_va(pfn + i))) {
                    t->not_zero++;
                    t->claimed_clean += cleared == 0;
                    t->leaked_bytes += count_leaked(frame_va(pfn + i));
                }
                mark(pfn + i, r);
            }
            held[nr++] = (struct held){pfn, order, r};
        } else if (nr) {
            unsigned i = (unsigned)(r >> 5) % nr;
            give(t, &held[i]);
            held[i] = held[--nr];
        }
        if (r % 16 == 3)
            thread_sleep(NS_PER_MS / 10 + r % (NS_PER_MS / 4)); /* its CPU scrubs meanwhile */
    }
    while (nr)
        give(t, &held[--nr]);
}

/* All takers to their end; their sums in takers[0]. */
static struct taker *takers_run(unsigned node, u64 seed)
{
    unsigned n = MIN(nr_cpus, (unsigned)TAKERS);
    for (unsigned i = 0; i < n; i++) {
        takers[i] = (struct taker){.node = node, .random = seed * 1000 + i};
        helper_start(&takers[i].helper, i * nr_cpus / n, taker_main, &takers[i]);
    }
    for (unsigned i = 0; i < n; i++)
        helper_join(&takers[i].helper);
    for (unsigned i = 1; i < n; i++) {
        takers[0].takes += takers[i].takes;
        takers[0].not_zero += takers[i].not_zero;
        takers[0].leaked_bytes += takers[i].leaked_bytes;
        takers[0].claimed_clean += takers[i].claimed_clean;
        takers[0].changed += takers[i].changed;
    }
    return &takers[0];
}

/* ---- P1 ---- */

/* A guest to its end. Memory may be short for a moment while the last one's is on its way. */
static bool run_guest(const char *name, unsigned node, const char *secret, struct guest_stat *stat)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    unsigned id;
    int error = E_NOMEM;
    cfg.mem = GUEST_MIB * MIB;
    cfg.node = node;
    cfg.secret = secret;
    for (unsigned tries = 0; tries < 20 && error == E_NOMEM; tries++) {
        error = guest_start(&cfg, &id);
        if (error == E_NOMEM)
            thread_sleep(50 * NS_PER_MS);
    }
    if (error) {
        log_line("promise P1: %s did not start: %s", name, error_text(error));
        return false;
    }
    guest_wait(id);
    return guest_stat_get(id, stat) == 0;
}

void promise_no_leak(struct promise_result *r)
{
    unsigned node = measure_node(), found = 0, guests = 0, wrong = 0;
    struct guest_stat stat;
    struct ballast ballast;
    u64 refused = guests_leak_count();
    const struct taker *t = takers_run(node, 1);

    /* The node has room for one guest and a half: the second gets what the first has soiled. */
    ballast_take(&ballast, node, (GUEST_MIB + GUEST_MIB / 2) * MIB / FRAME_SIZE);
    for (unsigned round = 0; round < 4; round++) {
        if (!run_guest("secretive", node, "what-nobody-else-may-read-", &stat))
            wrong++;
        if (!run_guest("prober", node, NULL, &stat)) {
            wrong++;
            continue;
        }
        guests++;
        found += stat.exit_code == 1;
        wrong += stat.exit_code != 0 && stat.exit_code != 1;
    }
    ballast_free(&ballast);
    refused = guests_leak_count() - refused;
    promise_say(r, t->not_zero == 0 && refused == 0 && found == 0 && wrong == 0 && guests > 0,
                "%lu bytes leaked to takers of %lu frames; %u of %u guests read another's; "
                "%lu refused by the check; %u guests failed",
                t->leaked_bytes, t->takes, found, guests, refused, wrong);
}

/* ---- P2 ---- */

static void say_line(const char *line)
{
    log_line("  %s", line);
}

void promise_one_owner(struct promise_result *r)
{
    const struct taker *t = takers_run(measure_node(), 2);
    unsigned wrong = mm_check(false, say_line);
    promise_say(r, t->changed == 0 && wrong == 0,
                "%lu of %lu frames changed under their owner; the walker finds %u things wrong",
                t->changed, t->takes, wrong);
}

/* ---- P3 ---- */

void promise_clean_is_zero(struct promise_result *r)
{
    enum { ORDER = 12, LOOKS = 3 }; /* 16 MiB of dirt before each look */
    unsigned node = measure_node(), wrong = 0, looks = 0;
    struct mm_zone_info i;
    u64 most_clean = 0;

    for (; looks < LOOKS; looks++) {
        struct pile pile = PILE_EMPTY;
        pile_take(&pile, ORDER, TAKE_ANY, node, 1);
        pile_soil(&pile, ORDER);
        pile_free(&pile, ORDER);
        thread_sleep(looks * NS_PER_MS); /* now and then in the middle of the scrub */
        wrong += mm_check(true, say_line);
        mm_node_info(node, &i);
        most_clean = MAX(most_clean, i.clean);
    }
    const struct taker *t = takers_run(node, 3);
    wrong += mm_check(true, say_line);
    promise_say(r, wrong == 0 && t->claimed_clean == 0,
                "%u things wrong in %u looks at all of up to %lu clean frames; %lu of %lu frames "
                "taken as clean were not",
                wrong, looks + 1, most_clean, t->claimed_clean, t->takes);
}
