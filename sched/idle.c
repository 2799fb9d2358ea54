/*
 * What a CPU does when no thread can run: it scrubs, one step after the other, and when nothing
 * that it may scrub is dirty it halts, without a tick. The protocol's "The idle loop".
 *
 * Owns nothing. Takes no lock itself; mm/ and the run queue take theirs.
 *
 * The race that this loop is written around. A thread or a free may come at any time; whoever
 * makes work does   publish the work; full fence; read our state; kick if ASLEEP   and we do
 * publish our state; full fence; look for work.   Of two such parties at least one sees the
 * other:
 *
 *   free on CPU A                          idle CPU B
 *   dirt into the zone, under its lock     step finds nothing
 *   unlock                                 cli
 *                                          state = ASLEEP       (xchg: full fence)
 *   mfence                                 mm_scrub_may()? sees the dirt -> AWAKE, sti, again
 *   reads B's state:                         or does not: then A's fence comes after ours,
 *     AWAKE:  B has not looked yet,          and A reads ASLEEP and kicks:
 *             and will see the dirt        sti; hlt   the kick waited behind cli and is taken
 *     ASLEEP: kicks B                                 after sti's one instruction of delay,
 *                                                     which is hlt: hlt ends at once
 *
 * Leaving out the second look, either fence, or putting anything between sti and hlt loses a
 * bell: the dirt then stays until somebody rings again, and the first symptom is `wait clean`
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
             * looked. Now we leave without looking. So say BUSY first (xchg: full fence), then
             * look for dirt and pass the bell on to a CPU that sleeps.
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

        irqs_off();
        mm_cpu_state_set(CPU_ASLEEP);
        if (need_resched() || mm_scrub_may()) {
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
