/*
 * Ticket locks. Owns nothing but the per-CPU list of held locks (o).
 *
 * An interrupt handler starts a list of its own: what the interrupted code holds cannot be
 * compared by rank, since the handler did not choose to be nested in it. Instead two habits are
 * watched, which together rule out that an interrupt deadlocks with what it interrupted:
 *  - a lock that a handler takes is never taken with interrupts on;
 *  - nobody who holds such a lock takes one that others hold with interrupts on.
 *
 * Who has waited for long halts, and the holder kicks whose turn it is. A virtual machine may
 * have more CPUs than its host: there the next in line may not be running at all, kept off its
 * core by CPUs behind it in the line that spin. 64 CPUs on 2 cores then hand a lock on once in a
 * tenth of a second. No wake is lost, by the usual pair:
 *
 *   who waits                            who lets go
 *   halted_for, halted_ticket = mine     serving = next
 *   halted++            full fence       full fence
 *   serving == mine? no                  halted != 0? looks for whose ticket it is, kicks
 *   sti; hlt                             the kick waited behind cli, and ends the hlt
 */
#include "machine.h"

#define LOOKS_BEFORE_HALT 256 /* some tens of microseconds, under TCG and on hardware */

enum { SEEN_IN_IRQ = 1, SEEN_IRQS_ON = 2 };

void spin_init(struct spinlock *l, const char *name, enum lock_rank rank, unsigned sub)
{
    *l = (struct spinlock){.name = name, .rank = (u8)rank, .sub = (u16)sub};
}

bool spin_held(const struct spinlock *l)
{
    /* Relaxed: only this CPU can make it equal to its own id, or stop it from being so. */
    return load_relaxed(&l->holder) == cpu_id() + 1;
}

static void spin_check_habits(struct cpu *c, struct spinlock *l)
{
    u8 seen = 0;
    if (c->irq_depth)
        seen = SEEN_IN_IRQ;
    else if (irqs_enabled())
        seen = SEEN_IRQS_ON;
    /* Relaxed, and a lost update is seen the next time: this only remembers habits. */
    u8 had = load_relaxed(&l->seen);
    if ((had | seen) != had)
        store_relaxed(&l->seen, (u8)(had | seen));
    if ((had | seen) == (SEEN_IN_IRQ | SEEN_IRQS_ON))
        panic("lock %s is taken by interrupt handlers and with interrupts on", l->name);
    if (!(had & SEEN_IRQS_ON) || irqs_enabled())
        return;
    for (unsigned i = c->arch->irq_locks; i < c->nr_locks_held; i++)
        if (load_relaxed(&c->locks_held[i]->seen) & SEEN_IN_IRQ)
            panic(
                "lock %s, held with interrupts on elsewhere, taken under %s of interrupt handlers",
                l->name, c->locks_held[i]->name);
}

static void spin_check_order(struct cpu *c, struct spinlock *l)
{
    if (spin_held(l))
        panic("lock %s (%u) taken twice by CPU %u", l->name, l->sub, c->id);
    if (c->nr_locks_held == LOCKS_HELD_MAX)
        panic("CPU %u holds %u locks and wants %s", c->id, LOCKS_HELD_MAX, l->name);
    if (c->nr_locks_held == c->arch->irq_locks)
        return;
    /* Each was greater than the one before, so the last is the greatest. */
    const struct spinlock *top = c->locks_held[c->nr_locks_held - 1];
    if (l->rank < top->rank || (l->rank == top->rank && l->sub <= top->sub))
        panic("lock order: %s (rank %u.%u) taken under %s (rank %u.%u)", l->name, l->rank, l->sub,
              top->name, top->rank, top->sub);
}

/* In HLT until something happens, unless it is our turn already. Interrupts are on. */
static void spin_halt(struct cpu_arch *a, struct spinlock *l, u32 ticket)
{
    irqs_off();
    store_relaxed(&a->halted_ticket, ticket);
    store_relaxed(&a->halted_for, l);
    fetch_add(&l->halted, 1); /* full fence, and the two words above come first */
    if (load_acquire(&l->serving) == ticket)
        irqs_on();
    else
        irqs_on_and_halt();
    store_relaxed(&a->halted_for, NULL);
    fetch_add(&l->halted, -1u);
}

static void spin_wait(struct cpu *c, struct spinlock *l, u32 ticket)
{
    unsigned looks = 0;
    if (load_acquire(&l->serving) == ticket) /* acquire: as below */
        return;
    /* An interrupt that comes meanwhile may wait for a lock of its own. Relaxed: read when frozen. */
    const struct spinlock *outer = c->waits_for;
    store_relaxed(&c->waits_for, l);
    /* Acquire: pairs with the exchange in spin_drop(); what the last holder wrote is seen. */
    while (load_acquire(&l->serving) != ticket) {
        if (++looks % LOOKS_BEFORE_HALT == 0 && irqs_enabled())
            spin_halt(c->arch, l, ticket);
        else
            cpu_relax();
    }
    store_relaxed(&c->waits_for, outer);
}

static void spin_kick_next(const struct spinlock *l, u32 ticket)
{
    for (unsigned id = 0; id < nr_cpus; id++) {
        const struct cpu_arch *a = cpu_by_id(id)->arch;
        /* Relaxed: the fence in spin_halt() has made both visible, or it sees our store. */
        if (load_relaxed(&a->halted_for) == l && load_relaxed(&a->halted_ticket) == ticket)
            cpu_kick(id);
    }
}

void spin_lock(struct spinlock *l)
{
    preempt_disable();
    struct cpu *c = this_cpu();
    spin_check_order(c, l);
    spin_check_habits(c, l);

    spin_wait(c, l, fetch_add(&l->next, 1));
    store_relaxed(&l->holder, c->id + 1); /* read for what it says by this CPU only */

    /*
     * An interrupt between here and the count sees the lock either not on the list or on it;
     * handlers never take a lock that can be held with interrupts on, so both are fine.
     */
    c->locks_held[c->nr_locks_held] = l;
    c->nr_locks_held++;
}

/* Lets go of the lock, and leaves preemption off. */
static void spin_drop(struct spinlock *l)
{
    struct cpu *c = this_cpu();
    if (!spin_held(l))
        panic("lock %s (%u) released by CPU %u, which does not hold it", l->name, l->sub, c->id);
    unsigned i = c->nr_locks_held;
    while (c->locks_held[--i] != l)
        ;
    for (; i + 1 < c->nr_locks_held; i++)
        c->locks_held[i] = c->locks_held[i + 1];
    c->nr_locks_held--;
    store_relaxed(&l->holder, 0);
    /* Only the holder writes `serving`. Exchange, not store: a full fence before the look. */
    u32 next = l->serving + 1;
    xchg(&l->serving, next);
    if (unlikely(load_relaxed(&l->halted)))
        spin_kick_next(l, next);
}

void spin_unlock(struct spinlock *l)
{
    spin_drop(l);
    preempt_enable();
}

void spin_unlock_keep_preempt_off(struct spinlock *l)
{
    spin_drop(l);
}

/*
 * Who took the lock before we look is seen by the ticket that is out, and waited for. Who takes it
 * after our look does that by a locked instruction: what it loads then, it loads behind our stores.
 * The ticket that is served is read first: if the lock is handed on between the two looks we wait
 * for somebody who has gone, and that is no wait.
 */
void spin_wait_for_holder(const struct spinlock *l)
{
    u32 ticket = load_acquire(&l->serving); /* acquire: pairs with the exchange in spin_drop() */
    struct cpu *c = this_cpu();
    ASSERT(!spin_held(l));
    if (load_acquire(&l->next) == ticket)
        return;
    const struct spinlock *outer = c->waits_for; /* as in spin_wait(): told if we are frozen here */
    store_relaxed(&c->waits_for, l);
    while (load_acquire(&l->serving) == ticket)
        cpu_relax();
    store_relaxed(&c->waits_for, outer);
}

bool spin_lock_irqsave(struct spinlock *l)
{
    bool were_on = irqs_save();
    spin_lock(l);
    return were_on;
}

void spin_unlock_irqrestore(struct spinlock *l, bool irqs_were_on)
{
    spin_drop(l);
    irqs_restore(irqs_were_on);
    preempt_enable();
}
