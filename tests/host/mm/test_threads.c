/*
 * Real threads on a small memory, so that stores, claims and the gate meet all the time: takers
 * that soil what they get and check what they asked for, scrubbers as the idle loop drives them.
 * seed=N changes the mix; what a run finds it finds by chance: schedules are enumerated elsewhere.
 */
#include "stage.h"
#include "mm/zone.h"

#include <pthread.h>
#include <sched.h>

enum { TAKERS = 3, SCRUBBERS = 2, CPUS = TAKERS + SCRUBBERS, HELD_MAX = 2000 };

#ifdef __SANITIZE_THREAD__
enum { STEPS = 6000 }; /* of each taker; ThreadSanitizer makes a step dear */
#else
enum { STEPS = 12000 };
#endif

static bool stop;                /* (a) */
static u64 leaks, takes, misses; /* (a) */

static u64 step_random(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

struct taker {
    pthread_t thread;
    unsigned cpu;
    u64 random;
    unsigned steps;
};

static void *taker_main(void *arg)
{
    struct taker *t = arg;
    struct {
        pfn_t pfn;
        unsigned order;
    } held[HELD_MAX];
    unsigned nr = 0;
    port_be_cpu(t->cpu);
    for (unsigned n = 0; n < t->steps; n++) {
        u64 r = step_random(&t->random);
        bool full = n / 2000 % 2;
        if (nr < HELD_MAX && r % 10 < (full ? 7 : 4)) {
            unsigned order = r >> 8 & 7 ? (unsigned)(r >> 16 & 3) : (unsigned)(r >> 16 & 15) % 11;
            bool clean = r >> 20 & 1;
            pfn_t pfn = mm_take(order, clean ? TAKE_CLEAN : TAKE_ANY, (unsigned)(r >> 24 & 1));
            if (pfn == PFN_NONE) {
                fetch_add(&misses, 1);
                continue;
            }
            fetch_add(&takes, 1);
            if (clean && !block_is_zero(pfn, order))
                fetch_add(&leaks, 1);
            for (pfn_t p = pfn; p < pfn + (1ULL << order); p++)
                *(volatile u64 *)frame_va(p) = p | 1; /* soiled enough for frame_is_zero() */
            held[nr].pfn = pfn;
            held[nr++].order = order;
        } else if (nr) {
            unsigned k = (unsigned)(r >> 32) % nr;
            mm_free(held[k].pfn, held[k].order);
            held[k] = held[--nr];
        }
        if (r >> 50 == 0)
            mm_stores_flush();
    }
    while (nr) {
        nr--;
        mm_free(held[nr].pfn, held[nr].order);
    }
    mm_stores_flush();
    return NULL;
}

static void *scrubber_main(void *arg)
{
    unsigned cpu = (unsigned)(uintptr_t)arg;
    port_be_cpu(cpu);
    mm_cpu_state_set(CPU_AWAKE);
    while (!load_acquire(&stop))
        if (!mm_scrub_step())
            sched_yield(); /* more CPUs than cores */
    while (mm_scrub_step())
        ;
    mm_cpu_state_set(CPU_BUSY);
    return NULL;
}

static void storm(unsigned mib, unsigned steps)
{
    struct port_machine m = two_nodes(CPUS, mib);
    struct taker taker[TAKERS];
    pthread_t scrubber[SCRUBBERS];
    m.zone_gib = 1;
    CHECK_EQ(port_boot(&m), 0);
    soil_machine(&m);
    u64 all = total().frames;
    store_release(&stop, false);
    leaks = takes = misses = 0;
    for (unsigned n = 0; n < SCRUBBERS; n++)
        pthread_create(&scrubber[n], NULL, scrubber_main, (void *)(uintptr_t)(TAKERS + n));
    for (unsigned n = 0; n < TAKERS; n++) {
        taker[n] = (struct taker){.cpu = n, .random = check_random() | 1, .steps = steps};
        pthread_create(&taker[n].thread, NULL, taker_main, &taker[n]);
    }
    for (unsigned n = 0; n < TAKERS; n++)
        pthread_join(taker[n].thread, NULL);
    store_release(&stop, true);
    for (unsigned n = 0; n < SCRUBBERS; n++)
        pthread_join(scrubber[n], NULL);

    struct mm_zone_info i = total();
    printf("# %u MiB a node: %llu takes, %llu misses, %llu waits, at most %llu clears waited for, "
           "%llu scrubbed idle, %llu by takers\n",
           mib, (unsigned long long)takes, (unsigned long long)misses, (unsigned long long)i.waits,
           (unsigned long long)i.max_clears_waited,
           (unsigned long long)(i.scrubbed_idle_local + i.scrubbed_idle_remote),
           (unsigned long long)(i.scrubbed_takers_local + i.scrubbed_takers_remote));
    CHECK_EQ(leaks, 0);
    CHECK(i.max_clears_waited <= 1);
    CHECK(takes > 1000);
    CHECK_EQ(i.allocated, 0);
    CHECK_EQ(i.in_flight, 0);
    CHECK_EQ(i.dirty + i.clean, all);
    CHECK_EQ(mm_check(true, say), 0);
    port_be_cpu(0);
    for (unsigned n = 0; n < mm_nr_zones(); n++)
        CHECK_EQ(mm_zones[n].waiters, 0);
}

static void case_storm_with_room(void)
{
    storm(24, STEPS);
}

static void case_storm_at_the_edge(void)
{
    storm(4, STEPS); /* takers run out all the time and wait for claims */
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_storm_with_room);
    RUN(case_storm_at_the_edge);
    return check_done();
}
