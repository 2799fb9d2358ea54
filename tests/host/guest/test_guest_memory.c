/*
 * A guest's map of memory (guest/memory.c, gather.c, check.c) over the real mm/, against a naive
 * oracle: one record a page that says what is mapped there. The oracle plays the page tables, so
 * it can also let them run out of memory, which no kernel test can do at will. seed=N repeats.
 */
#include "../mm/stage.h"
#include "guest/internal.h"

#define PAGES (1u << 20) /* guest addresses up to 4 GiB */

static struct {
    pfn_t pfn;
    bool owned;                 /* the guest was given it */
    bool mapped, block, writes; /* what the page tables would say */
    bool was;                   /* it was mapped since it was given: may hold anything */
    bool stale;                 /* unmapped and not flushed yet */
} page[PAGES];
static unsigned stale;    /* pages that are */
static int tables_left;   /* how many tables there are for the taking; -1: enough */
static bool no_new_table; /* 4 KiB pages cannot be mapped, 2 MiB pages can */
static struct guest guest;

/* ---- what sched/ would do: nobody ever waits here ---- */

void waitq_enqueue(struct waitq *q)
{
    (void)q;
    panic("a test of one thread waits");
}

void waitq_cancel(struct waitq *q)
{
    (void)q;
}

void waitq_block(struct waitq *q)
{
    (void)q;
}

void waitq_wake_all(struct waitq *q)
{
    (void)q;
}

void mutex_lock(struct mutex *m)
{
    if (m->owner)
        panic("a test of one thread waits");
    m->owner = (struct thread *)m; /* anybody */
}

void mutex_unlock(struct mutex *m)
{
    m->owner = NULL;
}

/* ---- the oracle ---- */

static unsigned page_of(u64 va)
{
    if (va >> FRAME_SHIFT >= PAGES)
        panic("guest address %#lx is out of the test's range", va);
    return (unsigned)(va >> FRAME_SHIFT);
}

static int take_table(unsigned order)
{
    if (tables_left == 0 || (no_new_table && order == 0))
        return E_NOMEM;
    if (tables_left > 0)
        tables_left--;
    return 0;
}

static int oracle_prepare(struct guest *g, u64 va, unsigned order)
{
    (void)g;
    CHECK(IS_ALIGNED(page_of(va), 1u << order));
    return take_table(order);
}

static int oracle_map(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    unsigned first = page_of(va), n = 1u << order;
    bool may_be_dirty = mm_carry() == CARRY_UNTIL_WRITE && !(prot & PROT_WRITE);
    (void)g;
    if ((tables_left == 0 || no_new_table) && take_table(order) != 0)
        return E_NOMEM;
    CHECK(IS_ALIGNED(first, n) && IS_ALIGNED(pfn, n));
    for (unsigned i = 0; i < n; i++) {
        CHECK(page[first + i].owned && !page[first + i].mapped && !page[first + i].stale);
        /* P1; but a split maps again what the guest has written. */
        CHECK(may_be_dirty || frame_is_zero(frame_va(pfn + i)) ||
              (page[first + i].was && page[first + i].pfn == pfn + i));
        page[first + i].pfn = pfn + i;
        page[first + i].mapped = true;
        page[first + i].was = true;
        page[first + i].writes = prot & PROT_WRITE;
        page[first + i].block = order > 0;
    }
    return 0;
}

static int oracle_allow_write(struct guest *g, u64 va, unsigned order)
{
    unsigned first = page_of(va);
    (void)g;
    for (unsigned i = 0; i < 1u << order; i++) {
        CHECK(page[first + i].mapped && !page[first + i].writes);
        CHECK(page[first + i].block == (order > 0));
        CHECK(frame_is_zero(frame_va(page[first + i].pfn)));
        page[first + i].writes = true;
    }
    return 0;
}

static int oracle_unmap(struct guest *g, u64 va, unsigned order)
{
    unsigned first = page_of(va);
    (void)g;
    if (!page[first].mapped || page[first].block != (order > 0))
        return E_NOENT;
    for (unsigned i = 0; i < 1u << order; i++) {
        page[first + i].mapped = false;
        page[first + i].stale = true;
        stale++;
    }
    return 0;
}

static void oracle_flush(struct guest *g, u64 va, u64 bytes)
{
    (void)g;
    for (u64 at = va; at < va + bytes; at += FRAME_SIZE) {
        stale -= page[page_of(at)].stale;
        page[page_of(at)].stale = false;
    }
}

static void oracle_check_flushed(const struct guest *g)
{
    (void)g;
    CHECK_EQ(stale, 0);
}

static pfn_t oracle_walk(struct guest *g, u64 va, enum prot prot)
{
    unsigned i = page_of(va);
    (void)g;
    return page[i].mapped && (!(prot & PROT_WRITE) || page[i].writes) ? page[i].pfn : PFN_NONE;
}

static const struct guest_ops oracle_ops = {.kind = "oracle",
                                            .prepare = oracle_prepare,
                                            .map = oracle_map,
                                            .allow_write = oracle_allow_write,
                                            .unmap = oracle_unmap,
                                            .flush = oracle_flush,
                                            .check_flushed = oracle_check_flushed,
                                            .walk = oracle_walk};

/* True if all, or none, of the pages are the guest's. */
static bool all_are(bool owned, u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].owned != owned)
            return false;
    return true;
}

static void set_owned(bool owned, u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++) {
        page[page_of(va) + i].owned = owned;
        page[page_of(va) + i].was = false;
    }
}

static bool none_mapped(u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].mapped)
            return false;
    return true;
}

/* The guest writes to what it may write to. */
static void soil_mapped(u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].mapped && page[page_of(va) + i].writes)
            port_soil(page[page_of(va) + i].pfn);
}

/* ---- a guest ---- */

static bool guest_make(u64 frames)
{
    memset(&guest, 0, sizeof(guest));
    memset(page, 0, sizeof(page));
    stale = 0;
    tables_left = -1;
    no_new_table = false;
    guest.ops = &oracle_ops;
    guest.id = 1;
    guest.state = GUEST_RUNNING;
    list_init(&guest.touching);
    strcpy(guest.name, "test");
    guest.take = TAKE_CLEAN;
    guest.frames_given = frames;
    guest.frames_limit = 2 * frames;
    return CHECK(guest_memory_create(&guest) == 0);
}

static int guest_fill(u64 va, u64 pages)
{
    int err = guest_memory_fill(&guest, va, pages, PROT_READ | PROT_WRITE, USE_MEMORY);
    if (!err)
        set_owned(true, va, pages);
    return err;
}

/* Each page, or every step-th of them, is used as a guest would; the first error. */
static int guest_touch(u64 va, u64 pages, u64 step, enum prot access)
{
    for (u64 i = 0; i < pages; i += step) {
        int err = guest_memory_touch(&guest, va + i * FRAME_SIZE, access);
        if (err)
            return err;
        CHECK(oracle_walk(&guest, va + i * FRAME_SIZE, access) != PFN_NONE);
    }
    return 0;
}

/* The frames that mm/ says are out are those that the guest has. */
static void check_sum(u64 before)
{
    u64 owned = 0, mapped = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        owned += page[i].owned;
        mapped += page[i].mapped;
    }
    CHECK_EQ(guest.frames_held, owned);
    CHECK_EQ(guest.frames_mapped, mapped);
    CHECK_EQ(total().allocated - before, guest.frames_held + guest.frames_own);
    CHECK(guest.touched_dirty <= guest.frames_touched);
    CHECK(guest.cleared_at_touch <= guest.touched_dirty);
}

static void get_some(u64 pages)
{
    if (pages > guest.frames_limit - guest.frames_held)
        return;
    u64 va = guest_memory_find(&guest, pages);
    if (!va)
        return;
    CHECK(all_are(false, va, pages));
    bool short_of_tables = check_random() % 8 == 0;
    tables_left = short_of_tables ? (int)(check_random() % 5) : -1;
    int err = guest_fill(va, pages);
    tables_left = -1;
    CHECK(none_mapped(va, pages)); /* nothing is, before it is touched */
    if (!err) {
        CHECK(guest_memory_givable(&guest, va, pages));
        return;
    }
    CHECK(short_of_tables);
    CHECK_EQ(guest_memory_release(&guest, va, pages), 0);
    CHECK(!guest_memory_may(&guest, va, PROT_READ));
}

static void touch_some(u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++) {
        enum prot access = check_random() % 2 ? PROT_READ : PROT_WRITE;
        bool owned = page[page_of(va)].owned;
        CHECK_EQ(guest_memory_may(&guest, va, access), owned);
        CHECK_EQ(guest_memory_touch(&guest, va, access), owned ? 0 : E_FAULT);
        CHECK_EQ(guest_memory_touch(&guest, va, PROT_EXEC), E_FAULT);
        if (owned)
            CHECK(oracle_walk(&guest, va, access) != PFN_NONE);
        va += (check_random() % 8 ? 1 : check_random() % 700) * FRAME_SIZE;
    }
    soil_mapped(ALIGN_DOWN(va, 2 * MIB), 512);
}

/* False: the guest lost its tables and has to end. */
static bool give_some(u64 va, u64 pages)
{
    CHECK_EQ(guest_memory_givable(&guest, va, pages), all_are(true, va, pages));
    if (!all_are(true, va, pages))
        return true;
    u64 held = guest.frames_held;
    bool broken = check_random() % 40 == 0; /* not even the 2 MiB page can be put back */
    no_new_table = broken || check_random() % 8 == 0;
    tables_left = broken ? 0 : -1;
    int err = guest_memory_release(&guest, va, pages);
    CHECK(!err || no_new_table);
    no_new_table = false;
    tables_left = -1;
    if (err) {
        CHECK(err == E_NOMEM || (broken && err == E_KILLED));
        CHECK_EQ(guest.frames_held, held);
        CHECK_EQ(stale, 0);
        return err == E_NOMEM;
    }
    CHECK(none_mapped(va, pages));
    CHECK_EQ(stale, 0);
    set_owned(false, va, pages);
    return true;
}

/* Getting, touching and giving at random, under a strategy, or under one after the other. */
static void random_life(const char *const *strategies, unsigned nr)
{
    struct port_machine m = one_node(2, 16, 192);
    REQUIRE(port_boot(&m) == 0);
    soil_machine(&m);
    for (unsigned round = 0; round < 8; round++) {
        u64 before = total().allocated, frames = 2000 + check_random() % 9000;
        int err;
        REQUIRE(mm_strategy_set(strategies[check_random() % nr]) == 0);
        REQUIRE(guest_make(frames));
        REQUIRE(guest_fill(GUEST_MEM_BASE, frames) == 0);
        set_owned(true, GUEST_IMAGE_BASE, 1);
        pfn_t pfn = guest_memory_page(&guest, GUEST_IMAGE_BASE, PROT_READ, USE_IMAGE, &err);
        REQUIRE(pfn != PFN_NONE);
        CHECK(frame_is_zero(frame_va(pfn))); /* under any strategy: the loader writes to it */
        CHECK(!guest_memory_givable(&guest, GUEST_IMAGE_BASE, 1));

        bool whole = true;
        for (unsigned step = 0; whole && step < 250; step++) {
            u64 pages = 1 + check_random() % (check_random() % 3 ? 40 : 3000);
            u64 va = GUEST_MEM_BASE + check_random() % (2 * frames) * FRAME_SIZE;
            if (check_random() % 30 == 0)
                REQUIRE(mm_strategy_set(strategies[check_random() % nr]) == 0);
            switch (check_random() % 4) {
            case 0:
                get_some(pages);
                break;
            case 1:
                whole = give_some(va, pages);
                break;
            default:
                touch_some(va, pages % 40);
            }
            if (whole && step % 20 == 0)
                check_sum(before);
        }
        guest_memory_destroy(&guest);
        CHECK_EQ(total().allocated, before);
        CHECK_EQ(mm_check(true, say), 0);
        REQUIRE(mm_strategy_set("claim") == 0);
        if (round % 3 == 0)
            scrub_all();
    }
    CHECK_EQ(guests_leak_count(), 0);
}

static void case_random(void)
{
    static const char *const strategies[] = {"claim"};
    random_life(strategies, 1);
    CHECK_EQ(guest.taken_dirty, 0);
    CHECK_EQ(guests_shown_count(), 0);
}

static void case_random_under_onmap(void)
{
    static const char *const strategies[] = {"onmap"};
    random_life(strategies, 1);
    CHECK(total().scrubbed_at_map > 0);
    CHECK_EQ(guest.cleared_at_touch, guest.touched_dirty);
    CHECK_EQ(guests_shown_count(), 0);
}

static void case_random_under_readonly(void)
{
    static const char *const strategies[] = {"readonly"};
    random_life(strategies, 1);
    CHECK(guests_shown_count() > 0);
}

/* Dirt that one strategy has let out is scrubbed under the next. */
static void case_random_under_changing_strategies(void)
{
    static const char *const strategies[] = {"claim", "onmap", "eager", "onmap"};
    u64 shown = guests_shown_count();
    random_life(strategies, ARRAY_SIZE(strategies));
    CHECK_EQ(guests_shown_count(), shown);
}

/* Who reads under `readonly` sees the secret, who writes does not; and a write ends it. */
static void case_readonly_shows_what_it_says(void)
{
    struct port_machine m = one_node(1, 16, 64);
    REQUIRE(port_boot(&m) == 0);
    soil_machine(&m);
    u64 shown = guests_shown_count();
    REQUIRE(mm_strategy_set("readonly") == 0);
    REQUIRE(guest_make(2048) && guest_fill(GUEST_MEM_BASE, 2048) == 0);
    u64 read = GUEST_MEM_BASE, written = GUEST_MEM_BASE + 2 * MIB;
    CHECK_EQ(guest_touch(read, 1, 1, PROT_READ), 0);
    CHECK(!frame_is_zero(frame_va(page[page_of(read)].pfn)));
    CHECK_EQ(oracle_walk(&guest, read, PROT_WRITE), PFN_NONE);
    CHECK_EQ(guests_shown_count() - shown, 512);
    CHECK_EQ(guest.cleared_at_touch, 0);
    CHECK_EQ(guest_touch(written, 1, 1, PROT_WRITE), 0);
    CHECK(frame_is_zero(frame_va(page[page_of(written)].pfn)));
    CHECK_EQ(guest.cleared_at_touch, 512);
    /* A part of what was only read is given back, so the block is split, and stays as it was. */
    CHECK_EQ(guest_memory_release(&guest, read, 10), 0);
    set_owned(false, read, 10);
    CHECK_EQ(oracle_walk(&guest, read + 10 * FRAME_SIZE, PROT_WRITE), PFN_NONE);
    CHECK(!frame_is_zero(frame_va(page[page_of(read) + 10].pfn)));
    CHECK_EQ(guest_touch(read + 10 * FRAME_SIZE, 502, 1, PROT_WRITE), 0);
    CHECK_EQ(guest.cleared_at_touch, 1014);
    CHECK(frame_is_zero(frame_va(page[page_of(read) + 10].pfn)));
    guest_memory_destroy(&guest);
    CHECK_EQ(total().allocated, 0);
    REQUIRE(mm_strategy_set("claim") == 0);
}

/* Under onmap nobody clears but who touches, and just what is touched and dirty. */
static void case_onmap_scrubs_what_is_touched(void)
{
    struct port_machine m = one_node(1, 16, 64);
    REQUIRE(port_boot(&m) == 0);
    soil_machine(&m);
    REQUIRE(mm_strategy_set("onmap") == 0);
    u64 takers = total().scrubbed_takers_local;
    REQUIRE(guest_make(4096));
    u64 own = total().scrubbed_takers_local - takers; /* of the map itself */
    REQUIRE(guest_fill(GUEST_MEM_BASE, 4096) == 0);
    CHECK_EQ(total().scrubbed_takers_local - takers, own + guest.frames_own - 2);
    CHECK_EQ(guest.taken_dirty, 4096);
    CHECK_EQ(total().scrubbed_at_map, 0);
    CHECK(!mm_scrub_step() && !mm_scrub_may()); /* idle CPUs have nothing to do with it */
    CHECK_EQ(mm_aged_step(0), (u64)mm_aged_sleep_ms(MM_AGE_MS) * 1000000);

    CHECK_EQ(guest_touch(GUEST_MEM_BASE, 1024, 512, PROT_READ), 0);
    CHECK_EQ(total().scrubbed_at_map, 1024);
    CHECK_EQ(guest.cleared_at_touch, 1024);
    CHECK_EQ(guest.touches, 2);
    u64 dirty = total().dirty + total().stored_dirty;
    guest_memory_destroy(&guest); /* most of it untouched: it goes back dirty */
    CHECK(total().dirty + total().stored_dirty - dirty >= 4096);
    CHECK_EQ(mm_check(true, say), 0);
    REQUIRE(mm_strategy_set("claim") == 0);
    mm_stores_flush();
    scrub_all();
    CHECK_EQ(total().dirty + total().stored_dirty, 0);

    /* Clean memory is taken first, and not scrubbed again. */
    REQUIRE(mm_strategy_set("onmap") == 0);
    REQUIRE(guest_make(4096) && guest_fill(GUEST_MEM_BASE, 4096) == 0);
    CHECK_EQ(guest.taken_dirty, 0);
    CHECK_EQ(guest_touch(GUEST_MEM_BASE, 4096, 1, PROT_WRITE), 0);
    CHECK_EQ(guest.cleared_at_touch, 0);
    guest_memory_destroy(&guest);
    REQUIRE(mm_strategy_set("claim") == 0);
}

/* Who takes a block of which a part is dirty keeps the flags apart (P6). */
static void case_mixed_blocks_keep_their_flags(void)
{
    struct port_machine m = one_node(1, 16, 64);
    REQUIRE(port_boot(&m) == 0);
    scrub_all();
    /* Every third frame is taken, soiled and given back, so that no block is all clean. */
    struct mm_zone_info zone;
    mm_zone_info(0, &zone);
    u64 all = zone.frames;
    pfn_t *pfn = calloc(all + 1, sizeof(*pfn));
    u64 n = 0;
    while ((pfn[n] = mm_take(0, TAKE_CLEAN, 0)) != PFN_NONE)
        n++;
    u64 dirt = 0;
    REQUIRE(mm_strategy_set("eager") == 0);
    for (u64 i = 0; i < n; i++)
        if (pfn[i] % 3)
            mm_free(pfn[i], 0);
    REQUIRE(mm_strategy_set("onmap") == 0);
    for (u64 i = 0; i < n; i++)
        if (pfn[i] % 3 == 0) {
            port_soil(pfn[i]);
            mm_free(pfn[i], 0);
            dirt++;
        }
    free(pfn);
    u64 pages = n / 512 * 512 - 2 * 512;
    REQUIRE(guest_make(pages) && guest_fill(GUEST_MEM_BASE, pages) == 0);
    CHECK(guest.taken_dirty > 0 && guest.taken_dirty <= dirt);
    u64 taken = guest.taken_dirty;
    CHECK_EQ(guest_touch(GUEST_MEM_BASE, pages, 1, PROT_READ), 0);
    CHECK_EQ(guest.cleared_at_touch, taken);
    guest_memory_destroy(&guest);
    CHECK_EQ(total().allocated, 0);
    CHECK_EQ(mm_check(true, say), 0);
    REQUIRE(mm_strategy_set("claim") == 0);
}

/* Frames that are dirty behind mm's back are refused and retired; the guest gets others. */
static void case_dirty_frames_are_refused(void)
{
    struct port_machine m = one_node(1, 16, 64);
    struct mm_zone_info zone;
    REQUIRE(port_boot(&m) == 0);
    scrub_all();
    mm_zone_info(0, &zone);
    u64 refused = guests_leak_count();
    for (unsigned i = 0; i < 10; i++)
        port_soil(zone.start + 100 + i * 700);

    REQUIRE(guest_make(12000));
    CHECK_EQ(guest_fill(GUEST_MEM_BASE, 12000), 0);
    CHECK_EQ(guests_leak_count() - refused, 0);                    /* nobody has looked yet */
    CHECK_EQ(guest_touch(GUEST_MEM_BASE, 12000, 1, PROT_READ), 0); /* the oracle looks at each */
    CHECK_EQ(guests_leak_count() - refused, 10);
    check_sum(0);
    guest_memory_destroy(&guest);
    mm_stores_flush();
    CHECK_EQ(total().retired, 10);
    CHECK_EQ(total().allocated, 0);
    CHECK_EQ(mm_check(false, say), 0);
}

/* A scrubber that does nothing: the guest fails, and does not retire the whole machine. */
static void case_a_broken_scrubber_is_noticed(void)
{
    struct port_machine m = one_node(1, 16, 64);
    struct mm_zone_info zone;
    REQUIRE(port_boot(&m) == 0);
    scrub_all();
    REQUIRE(guest_make(12000));
    mm_zone_info(0, &zone);
    for (pfn_t pfn = zone.start; pfn < zone.start + 8192; pfn++)
        if (pfn != va_phys(guest.head) >> FRAME_SHIFT && pfn != va_phys(guest.gib) >> FRAME_SHIFT)
            port_soil(pfn);
    CHECK_EQ(guest_fill(GUEST_MEM_BASE, 12000), 0);
    CHECK_EQ(guest_touch(GUEST_MEM_BASE, 12000, 1, PROT_WRITE), E_DIRTY);
    CHECK(total().retired < 64);
    guest_memory_destroy(&guest);
    CHECK_EQ(total().allocated, 0);
}

/* More than there is: everything is taken, crumbs too, and all of it comes back. */
static void case_out_of_memory(void)
{
    struct port_machine m = one_node(1, 16, 64);
    REQUIRE(port_boot(&m) == 0);
    REQUIRE(guest_make(1 << 15));
    CHECK_EQ(guest_fill(GUEST_MEM_BASE, 1 << 15), E_NOMEM);
    CHECK(total().frames - guest.frames_held < 64);
    guest_memory_destroy(&guest);
    CHECK_EQ(total().allocated, 0);
    CHECK_EQ(mm_check(true, say), 0);
    /* By block and by pageblock, never by frame. */
    CHECK_MSG(guest.frees < 80, "%lu calls gave back 64 MiB", guest.frees);
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(case_random);
    RUN(case_random_under_onmap);
    RUN(case_random_under_readonly);
    RUN(case_random_under_changing_strategies);
    RUN(case_readonly_shows_what_it_says);
    RUN(case_onmap_scrubs_what_is_touched);
    RUN(case_mixed_blocks_keep_their_flags);
    RUN(case_dirty_frames_are_refused);
    RUN(case_a_broken_scrubber_is_noticed);
    RUN(case_out_of_memory);
    return check_done();
}
