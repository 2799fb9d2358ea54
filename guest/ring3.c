/*
 * The kind "ring3": a guest is an address space and one thread in ring 3.
 *
 * Owns nothing but what is in struct guest: `space` (m), and the machine half of its thread,
 * which is set up before the thread starts and after that belongs to the thread.
 *
 * Next: arch/x86_64/arch.h, "address spaces of ring-3 guests".
 */
#include "guest/internal.h"

static int ring3_create(struct guest *g)
{
    int err = aspace_create(&g->space);
    if (err)
        return err;
    g->space_made = true;

    /* What a guest finds in the FPU is this, and nobody else's. */
    arch_fpu_init(g->head->fpu);
    thread_arch(g->thread)->fpu = g->head->fpu;
    thread_arch(g->thread)->cr3 = g->space.root;
    return 0;
}

static int ring3_map(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    return aspace_map(&g->space, va, pfn, order, prot);
}

static int ring3_unmap(struct guest *g, u64 va, unsigned order)
{
    return aspace_unmap(&g->space, va, order);
}

static void ring3_flush(struct guest *g, u64 va, u64 bytes)
{
    aspace_flush(&g->space, va, bytes);
}

static pfn_t ring3_walk(struct guest *g, u64 va, enum prot prot)
{
    return aspace_walk(&g->space, va, prot);
}

static void ring3_run(struct guest *g) __attribute__((noreturn));
static void ring3_run(struct guest *g)
{
    /*
     * Interrupts off between the look and ring 3: a kick that comes in between stays pending and
     * is answered on the way in, where on_user_return() looks again.
     */
    irqs_off();
    on_user_return();
    user_enter(g->entry, GUEST_STACK_TOP, GUEST_INFO, 0);
}

static void ring3_leave(struct guest *g)
{
    if (!g->space_made)
        return;
    struct arch_thread *t = thread_arch(thread_self());

    /* Not half-way: a switch in between would load the old root again, or save FPU state. */
    preempt_disable();
    irqs_off();
    t->cr3 = 0;
    t->fpu = NULL;
    aspace_leave();
    irqs_on();
    preempt_enable();

    /* Threads do not move between CPUs, so this was the only one. */
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        ASSERT(load_relaxed(&cpu_by_id(cpu)->cr3) != g->space.root);
}

static void ring3_destroy(struct guest *g)
{
    if (!g->space_made)
        return;
    aspace_destroy(&g->space);
    g->space_made = false;
}

static u64 ring3_table_frames(const struct guest *g)
{
    return g->space_made ? load_relaxed(&g->space.tables) : 0;
}

const struct guest_ops ring3_ops = {
    .kind = "ring3",
    .create = ring3_create,
    .map = ring3_map,
    .unmap = ring3_unmap,
    .flush = ring3_flush,
    .walk = ring3_walk,
    .run = ring3_run,
    .leave = ring3_leave,
    .destroy = ring3_destroy,
    .table_frames = ring3_table_frames,
};
