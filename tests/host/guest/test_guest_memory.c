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
    bool mapped, block, stale; /* stale: unmapped and not flushed yet */
} page[PAGES];
static int maps_left;     /* how many calls of map() succeed from now on; -1: all */
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

/* ---- the oracle ---- */

static unsigned page_of(u64 va)
{
    if (va >> FRAME_SHIFT >= PAGES)
        panic("guest address %#lx is out of the test's range", va);
    return (unsigned)(va >> FRAME_SHIFT);
}

static int oracle_map(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    unsigned first = page_of(va), n = 1u << order;
    (void)g;
    (void)prot;
    if (maps_left == 0 || (no_new_table && order == 0))
        return E_NOMEM;
    if (maps_left > 0)
        maps_left--;
    CHECK(IS_ALIGNED(first, n) && IS_ALIGNED(pfn, n));
    for (unsigned i = 0; i < n; i++) {
        CHECK(!page[first + i].mapped);
        /* P1; but a split maps again what the guest has written. */
        CHECK(frame_is_zero(frame_va(pfn + i)) ||
              (page[first + i].stale && page[first + i].pfn == pfn + i));
        page[first + i].pfn = pfn + i;
        page[first + i].mapped = true;
        page[first + i].block = order > 0;
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
    }
    return 0;
}

static void oracle_flush(struct guest *g, u64 va, u64 bytes)
{
    (void)g;
    for (u64 at = va; at < va + bytes; at += FRAME_SIZE)
        page[page_of(at)].stale = false;
}

static const struct guest_ops oracle_ops = {
    .kind = "oracle", .map = oracle_map, .unmap = oracle_unmap, .flush = oracle_flush};

/* True if all, or none, of the pages are mapped. */
static bool all_are(bool mapped, u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].mapped != mapped)
            return false;
    return true;
}

static bool none_stale(u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].stale)
            return false;
    return true;
}

static void soil_mapped(u64 va, u64 pages)
{
    for (u64 i = 0; i < pages; i++)
        if (page[page_of(va) + i].mapped)
            port_soil(page[page_of(va) + i].pfn);
}

/* ---- a guest ---- */

static bool guest_make(u64 frames)
{
    memset(&guest, 0, sizeof(guest));
    memset(page, 0, sizeof(page));
    maps_left = -1;
    no_new_table = false;
    guest.ops = &oracle_ops;
    guest.id = 1;
    strcpy(guest.name, "test");
    guest.take = TAKE_CLEAN;
    guest.frames_given = frames;
    guest.frames_limit = 2 * frames;
    return CHECK(guest_memory_create(&guest) == 0);
}

static int guest_fill(u64 va, u64 pages)
{
    return guest_memory_fill(&guest, va, pages, PROT_READ | PROT_WRITE, USE_MEMORY);
}

/* The frames that mm/ says are out are those that the guest has. */
static void check_sum(u64 before)
{
    u64 mapped = 0;
    for (unsigned i = 0; i < PAGES; i++)
        mapped += page[i].mapped;
    CHECK_EQ(guest.frames_held, mapped);
    CHECK_EQ(total().allocated - before, guest.frames_held + guest.frames_own);
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
    maps_left = short_of_tables ? (int)(check_random() % 5) : -1;
    int err = guest_fill(va, pages);
    maps_left = -1;
    if (!err) {
        CHECK(all_are(true, va, pages));
        CHECK(guest_memory_givable(&guest, va, pages));
        soil_mapped(va, pages);
        return;
    }
    CHECK(short_of_tables);
    CHECK_EQ(guest_memory_release(&guest, va, pages), 0);
    CHECK(all_are(false, va, pages) && none_stale(va, pages));
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
    maps_left = broken ? 0 : -1;
    int err = guest_memory_release(&guest, va, pages);
    CHECK(!err || no_new_table);
    no_new_table = false;
    maps_left = -1;
    if (err) {
        CHECK_EQ(err, broken ? E_KILLED : E_NOMEM);
        CHECK_EQ(guest.frames_held, held);
        CHECK(broken || (all_are(true, va, pages) && none_stale(va, pages)));
        return !broken;
    }
    CHECK(all_are(false, va, pages) && none_stale(va, pages));
    return true;
}

static void case_random(void)
{
    struct port_machine m = one_node(2, 16, 192);
    REQUIRE(port_boot(&m) == 0);
    soil_machine(&m);
    for (unsigned round = 0; round < 8; round++) {
        u64 before = total().allocated, frames = 2000 + check_random() % 9000;
        int err;
        REQUIRE(guest_make(frames));
        REQUIRE(guest_fill(GUEST_MEM_BASE, frames) == 0);
        pfn_t pfn = guest_memory_page(&guest, GUEST_IMAGE_BASE, PROT_READ, USE_IMAGE, &err);
        REQUIRE(pfn != PFN_NONE);
        CHECK_EQ(oracle_map(&guest, GUEST_IMAGE_BASE, pfn, 0, PROT_READ), 0);
        CHECK(!guest_memory_givable(&guest, GUEST_IMAGE_BASE, 1));

        bool whole = true;
        for (unsigned step = 0; whole && step < 200; step++) {
            u64 pages = 1 + check_random() % (check_random() % 3 ? 40 : 3000);
            if (check_random() % 2)
                get_some(pages);
            else
                whole =
                    give_some(GUEST_MEM_BASE + check_random() % (2 * frames) * FRAME_SIZE, pages);
            if (whole && step % 20 == 0)
                check_sum(before);
        }
        guest_memory_destroy(&guest);
        CHECK_EQ(total().allocated, before);
        CHECK_EQ(mm_check(true, say), 0);
        if (round % 3 == 0)
            scrub_all();
    }
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
    CHECK_EQ(guest_fill(GUEST_MEM_BASE, 12000), 0); /* the oracle looks at each */
    CHECK_EQ(guests_leak_count() - refused, 10);
    guest_memory_destroy(&guest);
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
    CHECK(guest_fill(GUEST_MEM_BASE, 12000) < 0);
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
    RUN(case_dirty_frames_are_refused);
    RUN(case_a_broken_scrubber_is_noticed);
    RUN(case_out_of_memory);
    return check_done();
}
