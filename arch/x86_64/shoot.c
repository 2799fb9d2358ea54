/*
 * TLB shootdown: after a translation has been taken out of a table, no CPU may go on using it.
 * Who took it out asks every CPU that may have it cached and waits for all of them.
 *
 * Each CPU has one request of its own (struct shoot) and a set of bits that says whose requests
 * it has to look at. No locks, so two CPUs that shoot at once do not wait for each other's turn;
 * and who waits answers the others in its wait loop, so they do not deadlock even if both have
 * interrupts off:
 *
 *   CPU A                                CPU B
 *   request filled, waiting = 1          request filled, waiting = 1
 *   bit A set in B's set; IPI            bit B set in A's set; IPI
 *   waits: sees bit B, flushes,          waits: sees bit A, flushes,
 *          B.waiting = 0                        A.waiting = 0
 *   A.waiting is 0: done                 B.waiting is 0: done
 *
 * The caller holds no lock that a CPU with interrupts off may be spinning on.
 */
#include "machine.h"

#define PAGES_MAX    32             /* more: reload CR3, which flushes everything */
#define GIVE_UP_NS   60000000000ULL /* a CPU that is silent for a minute is not coming back */
#define LOOKS_A_TIME 1024

/* There are no global pages, so loading CR3 flushes everything. */
static void flush_here(u64 va, u64 bytes)
{
    if (bytes > PAGES_MAX * FRAME_SIZE) {
        write_cr3(read_cr3());
        return;
    }
    for (u64 at = ALIGN_DOWN(va, FRAME_SIZE); at < va + bytes; at += FRAME_SIZE)
        invlpg(at);
}

static void shoot_flush(const struct shoot *s)
{
    struct cpu *c = this_cpu();
    if (s->root && c->cr3 != s->root)
        return; /* another address space: loading it flushed that one */
    flush_here(s->va, s->bytes);
    if (s->unmaps > c->arch->flushed)
        store_relaxed(&c->arch->flushed, s->unmaps); /* seen by who waits for our answer */
}

/*
 * Where this CPU says that it has flushed, so that aspace_check_flushed() can tell. Before the
 * load it holds nothing of the new space, however old; after it nothing that is older than the
 * look at as->unmaps. A CPU that shoots counts its unmap, fences, and reads our cr3: either it
 * sees us and asks, or we see its count.
 */
void shoot_load_root(const struct aspace *as)
{
    struct cpu *c = this_cpu();
    store_relaxed(&c->arch->flushed, ~0ULL);
    /* Said before it is done; the exchange is the full fence that pairs with shoot_range()'s. */
    xchg(&c->cr3, as ? as->root : kernel_root);
    u64 unmaps = as ? load_relaxed(&as->unmaps) : ~0ULL;
    write_cr3(c->cr3);
    store_relaxed(&c->arch->flushed, unmaps);
}

void shoot_answer(void)
{
    struct cpu *c = this_cpu();
    for (unsigned w = 0; w < ARRAY_SIZE(c->arch->shoot_from); w++) {
        u64 *word = &c->arch->shoot_from[w];
        /* Relaxed look; the exchange is what takes the bits and orders the requests behind it. */
        u64 from = load_relaxed(word) ? xchg(word, 0) : 0;
        while (from) {
            unsigned id = w * 64 + (unsigned)__builtin_ctzll(from);
            from &= from - 1;
            struct shoot *s = &cpu_by_id(id)->arch->shoot;
            shoot_flush(s);
            /* The last touch: the asker may reuse the request at once. Full fence. */
            fetch_add(&s->waiting, -1u);
        }
    }
}

void shoot_range(u64 root, u64 va, u64 bytes, u64 unmaps)
{
    preempt_disable();
    struct cpu *me = this_cpu();
    struct shoot *s = &me->arch->shoot;
    ASSERT(!me->irq_depth);
    *s = (struct shoot){.root = root, .va = va, .bytes = bytes, .unmaps = unmaps};
    /*
     * The new table entry is visible before any cpu->cr3 is read. Pairs with the exchange of
     * cpu->cr3 before the CR3 load in shoot_load_root(): a CPU that we do not see in the space
     * walks the tables after our store.
     */
    full_fence();
    for (unsigned id = 0; id < nr_cpus; id++) {
        struct cpu *c = cpu_by_id(id);
        if (c == me || !load_acquire(&c->online) || (root && load_relaxed(&c->cr3) != root))
            continue;
        fetch_add(&s->waiting, 1);
        /* Full fence: the request is complete before the bit can be seen. */
        __atomic_fetch_or(&c->arch->shoot_from[me->id / 64], 1ULL << me->id % 64, __ATOMIC_SEQ_CST);
        apic_ipi(c->apic_id, VECTOR_SHOOT);
    }
    shoot_flush(s);

    u64 begun = 0;
    /* Acquire: pairs with the fetch_add() in shoot_answer(). */
    for (u64 looks = 1; load_acquire(&s->waiting) != 0; looks++) {
        shoot_answer();
        cpu_relax();
        if (looks % LOOKS_A_TIME)
            continue;
        u64 now = time_ns();
        begun = begun ? begun : now;
        if (now - begun > GIVE_UP_NS)
            panic("CPU %u waits for %u CPUs to flush %#lx", me->id, load_relaxed(&s->waiting), va);
    }
    preempt_enable();
}

/* An empty request: who answers it has been in an interrupt, which is a fence, or made one. */
void cpus_serialize(void)
{
    shoot_range(0, 0, 0, 0);
}
