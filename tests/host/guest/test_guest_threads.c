/*
 * Several threads of one guest on its map of memory (guest/touch.c, guest/memory.c), for real: they
 * touch, get and give back at the same time. Each plays a CPU with a TLB of its own, which goes on
 * saying what it was told until it is flushed. Beside them takers play other guests: they write to
 * what they get and look whether it stays so. seed=N changes the mix.
 *
 *   a page table     pte[], written inside the memory gate, read by any thread at any time
 *   a TLB            tlb[thread][], under a lock of its own: an access is one hold of it, so a
 *                    flush, which takes it too, comes before the access or after it
 */
/* libc has a function of that name, too, and declares it otherwise. */
#define sched_yield sched_yield_of_libc
#include <pthread.h>
#undef sched_yield
#include <unistd.h>

#include "../mm/stage.h"
#include "guest/internal.h"

enum { THREADS = 4, TAKERS = 2, CPUS = THREADS + TAKERS + 1, PAGES = 1 << 14, AREA = 1200 };
#define FIRST (GUEST_MEM_BASE >> FRAME_SHIFT)
#define TAG   0x6775657374000000ULL /* what the guest writes begins with it */

#ifdef __SANITIZE_THREAD__
enum { STEPS = 500, BLOCKS_EVERY = 32 };
#else
enum { STEPS = 1500, BLOCKS_EVERY = 16 };
#endif

static struct guest guest;
static u64 pte[PAGES];  /* (a) pfn << 1 | may be written to; 0: not mapped */
static bool was[PAGES]; /* mapped since it was given (inside the gate) */
static struct {
    pthread_mutex_t lock;
    u64 entry[PAGES];
} tlb[THREADS];
static u64 foreign, lost, leaks, touches; /* (a) */
static bool stop;                         /* (a) */
static u64 latest[THREADS];               /* (a) what each thread has got last: its address */
static __thread unsigned self;            /* which thread of the guest */

/* ---- what sched/ would do ---- */

static pthread_mutex_t wake_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static u64 wakes;
static __thread u64 seen;

void waitq_enqueue(struct waitq *q)
{
    (void)q;
    pthread_mutex_lock(&wake_lock);
    seen = wakes;
    pthread_mutex_unlock(&wake_lock);
}

void waitq_cancel(struct waitq *q)
{
    (void)q;
}

void waitq_block(struct waitq *q)
{
    (void)q;
    pthread_mutex_lock(&wake_lock);
    while (wakes == seen)
        pthread_cond_wait(&woken, &wake_lock);
    pthread_mutex_unlock(&wake_lock);
}

void waitq_wake_all(struct waitq *q)
{
    (void)q;
    pthread_mutex_lock(&wake_lock);
    wakes++;
    pthread_cond_broadcast(&woken);
    pthread_mutex_unlock(&wake_lock);
}

/* Its order of turns is suite mutex's to test; here it has to exclude, and TSan has to see it. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

void mutex_lock(struct mutex *m)
{
    (void)m;
    pthread_mutex_lock(&gate);
}

void mutex_unlock(struct mutex *m)
{
    (void)m;
    pthread_mutex_unlock(&gate);
}

/* ---- the machine ---- */

static unsigned index_of(u64 va)
{
    u64 i = (va >> FRAME_SHIFT) - FIRST;
    if (i >= PAGES)
        panic("guest address %#lx is out of the test's range", va);
    return (unsigned)i;
}

static int ops_prepare(struct guest *g, u64 va, unsigned order)
{
    (void)g;
    (void)va;
    (void)order;
    return 0;
}

static int ops_map(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    (void)g;
    for (unsigned i = 0; i < 1u << order; i++) {
        unsigned at = index_of(va) + i;
        CHECK(load_relaxed(&pte[at]) == 0);
        if (!was[at] && !frame_is_zero(frame_va(pfn + i)))
            fetch_add(&leaks, 1);
        was[at] = true;
        store_release(&pte[at], (pfn + i) << 1 | !!(prot & PROT_WRITE));
    }
    return 0;
}

static int ops_allow_write(struct guest *g, u64 va, unsigned order)
{
    (void)g;
    for (unsigned i = 0; i < 1u << order; i++)
        store_release(&pte[index_of(va) + i], load_relaxed(&pte[index_of(va) + i]) | 1);
    return 0;
}

static int ops_unmap(struct guest *g, u64 va, unsigned order)
{
    (void)g;
    for (unsigned i = 0; i < 1u << order; i++)
        store_release(&pte[index_of(va) + i], 0);
    return 0;
}

static void ops_flush(struct guest *g, u64 va, u64 bytes)
{
    (void)g;
    for (unsigned t = 0; t < THREADS; t++) {
        pthread_mutex_lock(&tlb[t].lock);
        memset(&tlb[t].entry[index_of(va)], 0, (bytes >> FRAME_SHIFT) * sizeof(u64));
        pthread_mutex_unlock(&tlb[t].lock);
    }
}

static void ops_check_flushed(const struct guest *g)
{
    (void)g;
}

static pfn_t ops_walk(struct guest *g, u64 va, enum prot prot)
{
    u64 e = load_acquire(&pte[index_of(va)]);
    (void)g;
    return e && (e & 1 || prot != PROT_WRITE) ? e >> 1 : PFN_NONE;
}

static const struct guest_ops ops = {.kind = "threads",
                                     .prepare = ops_prepare,
                                     .map = ops_map,
                                     .allow_write = ops_allow_write,
                                     .unmap = ops_unmap,
                                     .flush = ops_flush,
                                     .check_flushed = ops_check_flushed,
                                     .walk = ops_walk};

/* One access as the CPU makes it. False: it faults. */
static bool access_once(u64 va, unsigned word, bool write, u64 *value)
{
    u64 *e = &tlb[self].entry[index_of(va)];
    pthread_mutex_lock(&tlb[self].lock);
    if (*e == 0 || (write && !(*e & 1)))
        *e = load_acquire(&pte[index_of(va)]);
    bool ok = *e && (!write || *e & 1);
    if (ok) {
        u64 *at = (u64 *)frame_va(*e >> 1) + word;
        if (write)
            store_relaxed(at, *value);
        else
            *value = load_relaxed(at);
    }
    pthread_mutex_unlock(&tlb[self].lock);
    return ok;
}

/* False: it is not the guest's, and it would be killed. */
static bool use(u64 va, unsigned word, bool write, u64 *value)
{
    while (!access_once(va, word, write, value)) {
        int err = guest_memory_touch(&guest, va, write ? PROT_WRITE : PROT_READ);
        CHECK(err == 0 || err == E_FAULT);
        fetch_add(&touches, 1);
        if (err)
            return false;
    }
    return true;
}

/* ---- what the guest's threads do ---- */

static u64 step_random(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static u64 get(u64 pages)
{
    guest_memory_enter(&guest);
    u64 va = guest_memory_find(&guest, pages);
    if (va && index_of(va) + pages <= PAGES) {
        for (u64 i = 0; i < pages; i++)
            was[index_of(va) + i] = false;
        CHECK_EQ(guest_memory_fill(&guest, va, pages, PROT_READ | PROT_WRITE, USE_MEMORY), 0);
    } else {
        va = 0;
    }
    guest_memory_leave(&guest);
    return va;
}

static void give(u64 va, u64 pages)
{
    if (!pages)
        return;
    guest_memory_enter_alone(&guest, va, pages);
    CHECK(guest_memory_givable(&guest, va, pages));
    CHECK_EQ(guest_memory_release(&guest, va, pages), 0);
    guest_memory_leave(&guest);
}

/* A page that all know: each has a word of its own in it. */
static void use_common(u64 random, u64 *mine)
{
    u64 i = random % AREA, va = GUEST_MEM_BASE + i * FRAME_SIZE, value;
    if (!use(va, self + 1, false, &value) || value != mine[i])
        fetch_add(&lost, 1);
    mine[i] = TAG | random >> 40;
    if (!use(va, self + 1, true, &mine[i]))
        fetch_add(&lost, 1);
}

/* What another one has just got: it may be gone by now, but what is there is the guest's. */
static void peek(u64 random)
{
    u64 value, va = load_relaxed(&latest[random % THREADS]);
    if (va && use(va + random / THREADS % 8 * FRAME_SIZE, 0, false, &value) && value &&
        value >> 24 != TAG >> 24)
        fetch_add(&foreign, 1);
}

static void *guest_main(void *arg)
{
    u64 *mine = calloc(AREA, sizeof(*mine)), random, va[4] = {0}, pages[4] = {0};
    self = (unsigned)(uintptr_t)arg & 0xff;
    random = (uintptr_t)arg * 7919 + 1;
    port_be_cpu(self);
    for (unsigned step = 0; step < STEPS; step++) {
        u64 r = step_random(&random), k = r % 4, value = TAG | self;
        use_common(r >> 8, mine);
        peek(r >> 16);
        if (!va[k]) {
            pages[k] = r >> 20 & (BLOCKS_EVERY - 1) ? 1 + (r >> 32) % 30 : 512;
            va[k] = get(pages[k]);
            store_relaxed(&latest[self], va[k]);
            if (r >> 14 & 1) { /* given back at once, mostly never touched but by those who peek */
                peek(r >> 45);
                give(va[k], pages[k]);
                va[k] = 0;
            }
            for (u64 i = 0; va[k] && i < pages[k]; i += 1 + (r >> 40) % 5)
                if (!use(va[k] + i * FRAME_SIZE, 0, true, &value))
                    fetch_add(&lost, 1);
        } else if (r >> 12 & 1) {
            for (u64 i = 0; i < pages[k]; i++)
                if (!use(va[k] + i * FRAME_SIZE, 0, false, &value) ||
                    (value && value != (TAG | self)))
                    fetch_add(&lost, 1);
            u64 part = (r >> 24) % pages[k];
            give(va[k], part);
            give(va[k] + part * FRAME_SIZE, pages[k] - part);
            va[k] = 0;
        }
    }
    for (unsigned k = 0; k < 4; k++)
        if (va[k])
            give(va[k], pages[k]);
    free(mine);
    mm_stores_flush();
    return NULL;
}

/* Somebody else: what it has stays as it has left it. */
static void *taker_main(void *arg)
{
    enum { HELD = 300 };
    unsigned cpu = (unsigned)(uintptr_t)arg;
    pfn_t held[HELD];
    port_be_cpu(cpu);
    while (!load_acquire(&stop)) {
        unsigned n = 0;
        while (n < HELD && (held[n] = mm_take(0, TAKE_CLEAN, 0)) != PFN_NONE) {
            if (!frame_is_zero(frame_va(held[n])))
                fetch_add(&leaks, 1);
            store_relaxed((u64 *)frame_va(held[n]), held[n]);
            n++;
        }
        usleep(1);
        for (unsigned i = 0; i < n; i++) {
            if (load_relaxed((u64 *)frame_va(held[i])) != held[i])
                fetch_add(&foreign, 1);
            mm_free(held[i], 0);
        }
    }
    mm_stores_flush();
    return NULL;
}

static void *scrubber_main(void *arg)
{
    port_be_cpu((unsigned)(uintptr_t)arg);
    mm_cpu_state_set(CPU_AWAKE);
    while (!load_acquire(&stop))
        if (!mm_scrub_step())
            usleep(1); /* more threads than cores */
    mm_cpu_state_set(CPU_BUSY);
    return NULL;
}

/* ---- */

static void guest_make(void)
{
    memset(&guest, 0, sizeof(guest));
    memset(pte, 0, sizeof(pte));
    memset(was, 0, sizeof(was));
    for (unsigned t = 0; t < THREADS; t++)
        memset(tlb[t].entry, 0, sizeof(tlb[t].entry));
    guest.ops = &ops;
    guest.id = 1;
    guest.state = GUEST_RUNNING;
    list_init(&guest.touching);
    strcpy(guest.name, "test");
    guest.take = TAKE_CLEAN;
    guest.frames_given = AREA;
    guest.frames_limit = PAGES / 2;
    foreign = lost = leaks = touches = 0;
    memset(latest, 0, sizeof(latest));
    stop = false;
}

static void live(const char *strategy)
{
    struct port_machine m = one_node(CPUS, 16, 80);
    pthread_t thread[CPUS];
    REQUIRE(port_boot(&m) == 0);
    soil_machine(&m);
    REQUIRE(mm_strategy_set(strategy) == 0);
    guest_make();
    REQUIRE(guest_memory_create(&guest) == 0);
    REQUIRE(guest_memory_fill(&guest, GUEST_MEM_BASE, AREA, PROT_READ | PROT_WRITE, USE_MEMORY) ==
            0);
    u64 seed = check_random() % 1000 << 8;
    for (unsigned t = 0; t < THREADS; t++)
        pthread_create(&thread[t], NULL, guest_main, (void *)(uintptr_t)(seed | t));
    for (unsigned t = THREADS; t < THREADS + TAKERS; t++)
        pthread_create(&thread[t], NULL, taker_main, (void *)(uintptr_t)t);
    pthread_create(&thread[CPUS - 1], NULL, scrubber_main, (void *)(uintptr_t)(CPUS - 1));
    for (unsigned t = 0; t < CPUS; t++) {
        if (t == THREADS)
            store_release(&stop, true);
        pthread_join(thread[t], NULL);
    }
    port_be_cpu(0);
    CHECK_EQ(foreign, 0);
    CHECK_EQ(lost, 0);
    CHECK_EQ(leaks, 0);
    CHECK_EQ(guest.frames_held, AREA);
    CHECK(list_empty(&guest.touching));
    CHECK(guest.touches > AREA / 2);
    CHECK_EQ(guest.cleared_at_touch, guest.touched_dirty);
    printf("# %s: %llu faults, %llu touches, %llu frames mapped, %llu scrubbed there\n", strategy,
           (unsigned long long)touches, (unsigned long long)guest.touches,
           (unsigned long long)guest.frames_touched, (unsigned long long)guest.cleared_at_touch);
    guest_memory_destroy(&guest);
    REQUIRE(mm_strategy_set("claim") == 0);
    CHECK_EQ(total().allocated, 0);
    CHECK_EQ(mm_check(true, say), 0);
}

static void case_claim(void)
{
    live("claim");
}

static void case_onmap(void)
{
    live("onmap");
}

int main(int argc, char **argv)
{
    for (unsigned t = 0; t < THREADS; t++)
        pthread_mutex_init(&tlb[t].lock, NULL);
    check_start(argc, argv);
    RUN(case_claim);
    RUN(case_onmap);
    return check_done();
}
