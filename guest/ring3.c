/*
 * The kind "ring3": a guest is an address space and its threads in ring 3.
 *
 * Owns nothing but what is in struct guest: `space` (m), and the machine half of its threads,
 * which is set up before a thread starts and after that belongs to the thread.
 *
 * Next: arch/x86_64/arch.h, "address spaces of ring-3 guests".
 */
#include "guest/internal.h"

static int ring3_create(struct guest *g)
{
    int err = aspace_create(&g->space);
    if (!err)
        g->space_made = true;
    return err;
}

static void ring3_attach(struct guest *g, struct thread *thread, void *fpu)
{
    thread_arch(thread)->fpu = fpu; /* what it finds in the FPU is this, and nobody else's */
    thread_arch(thread)->space = &g->space;
}

static int ring3_prepare(struct guest *g, u64 va, unsigned order)
{
    return aspace_prepare(&g->space, va, order);
}

static int ring3_map(struct guest *g, u64 va, pfn_t pfn, unsigned order, enum prot prot)
{
    return aspace_map(&g->space, va, pfn, order, prot);
}

static int ring3_allow_write(struct guest *g, u64 va, unsigned order)
{
    return aspace_allow_write(&g->space, va, order);
}

static int ring3_unmap(struct guest *g, u64 va, unsigned order)
{
    return aspace_unmap(&g->space, va, order);
}

static void ring3_flush(struct guest *g, u64 va, u64 bytes)
{
    aspace_flush(&g->space, va, bytes);
}

static void ring3_check_flushed(const struct guest *g)
{
    aspace_check_flushed(&g->space);
}

static pfn_t ring3_walk(struct guest *g, u64 va, enum prot prot)
{
    return aspace_walk(&g->space, va, prot);
}

static void ring3_run(struct guest *g, u64 entry, u64 stack, u64 arg) __attribute__((noreturn));
static void ring3_run(struct guest *g, u64 entry, u64 stack, u64 arg)
{
    (void)g;
    /*
     * Interrupts off between the look and ring 3: a kick that comes in between stays pending and
     * is answered on the way in, where on_user_return() looks again. It may have turned them on,
     * and then what it had looked at may have changed.
     */
    do {
        irqs_off();
        on_user_return();
    } while (irqs_enabled());
    user_enter(entry, stack, arg, 0);
}

static void ring3_leave(struct guest *g)
{
    if (!g->space_made)
        return;
    struct arch_thread *t = thread_arch(thread_self());

    /* Not half-way: a switch in between would load the old root again, or save FPU state. */
    preempt_disable();
    irqs_off();
    t->space = NULL;
    t->fpu = NULL;
    aspace_leave();
    irqs_on();
    preempt_enable();
}

static void ring3_destroy(struct guest *g)
{
    if (!g->space_made)
        return;
    aspace_destroy(&g->space); /* it looks whether any CPU still runs in it */
    g->space_made = false;
}

static u64 ring3_table_frames(const struct guest *g)
{
    return g->space_made ? load_relaxed(&g->space.tables) : 0;
}

const struct guest_ops ring3_ops = {
    .kind = "ring3",
    .create = ring3_create,
    .attach = ring3_attach,
    .prepare = ring3_prepare,
    .map = ring3_map,
    .allow_write = ring3_allow_write,
    .unmap = ring3_unmap,
    .flush = ring3_flush,
    .check_flushed = ring3_check_flushed,
    .walk = ring3_walk,
    .run = ring3_run,
    .leave = ring3_leave,
    .destroy = ring3_destroy,
    .table_frames = ring3_table_frames,
};
