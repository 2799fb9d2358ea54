/*
 * What a CPU does when no thread can run: it scrubs, one step after the other, and when nothing
 * that it may scrub is dirty it halts, without a tick. The protocol's "The idle loop".
 *
 * Owns nothing. Takes no lock itself; mm/ and the run queue take theirs.
 *
 * The race that this loop is written around. A thread or a free may come at any time; whoever
 * makes work publishes it, reads our state and kicks us if it is ASLEEP; we publish our state and
 * then look for work. Of two such parties at least one sees the other:
 *
 *   free on CPU A                          idle CPU B
 *   lock (a locked instruction)            step finds nothing
 *   dirt into the zone                     state = ASLEEP       (xchg: full fence)
 *   unlock                                 the lock is held? waits for its holder
 *   reads B's state:                       cli
 *     AWAKE:  B has not looked at the      mm_scrub_may()? sees the dirt -> AWAKE, sti, again
 *             lock yet, and will see         or does not: then A took the lock after our look
 *             the dirt                       at it, reads ASLEEP, and kicks:
 *     ASLEEP: AWAKE for it; kicks B        state is not ASLEEP any more? sti, again
 *                                          sti; hlt   the kick waited behind cli and is taken
 *                                                     after sti's one instruction of delay,
 *                                                     which is hlt: hlt ends at once
 *
 * The wait is with interrupts on, for a holder may be waiting for every CPU to take one. So a kick
 * may be taken before cli, and would end no hlt: hence the look at our own state.
 *
 * Leaving out the second look, the fence, the wait, or putting anything between sti and hlt loses
 * a bell: the dirt then stays until somebody rings again, and the first symptom is `wait clean`
 * that never ends on a quiet machine.
 */
#include "sched/thread.h"
#include "mm/mm.h"

void idle_loop(void *unused)
{
    (void)unused;
    mm_cpu_state_set(CPU_AWAKE);
    for (;;) {
        if (need_resched()) {
            /*
             * Rule 14: who freed memory while we were awake did not ring, because we would have
             * looked. Now we leave without looking. So say BUSY first (xchg: full fence), then wait
             * for who is still at it, look for dirt and pass the bell on to a CPU that sleeps.
             */
            mm_cpu_state_set(CPU_BUSY);
            mm_bell_pass_on();
            runq_schedule();
            mm_cpu_state_set(CPU_AWAKE);
            continue;
        }
        if (mm_scrub_step())
            continue;

        /*
         * Nothing to scrub. Before we sleep our stores go home: a sleeping CPU is never asked,
         * and what it keeps would be neither scrubbed nor counted as young. This may make dirt
         * in a zone that we serve; the second look below finds it.
         */
        mm_stores_flush();

        mm_cpu_state_set(CPU_ASLEEP);
        irqs_off();
        if (need_resched() || mm_scrub_may() || mm_cpu_state(cpu_id()) != CPU_ASLEEP) {
            mm_cpu_state_set(CPU_AWAKE);
            irqs_on();
            continue;
        }
        /*
         * Dirt that only the rate limit keeps from us rings no bell when its time comes. Asked
         * after ASLEEP was published: who frees into such a zone from now on kicks us, and we
         * ask again.
         */
        u64 when = mm_scrub_may_at();
        if (when)
            sleep_arm_idle(when);
        irqs_on_and_halt();
        mm_cpu_state_set(CPU_AWAKE);
    }
}
