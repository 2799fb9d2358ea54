/*
 * Frames that a machine check has reported. The handler may have interrupted a lock holder, so
 * it only notes them (arch/x86_64/mce.c); this thread is woken and retires them: free or stored
 * ones at once, allocated or claimed ones when they come back.
 *
 * Owns that thread. Next: mm/retire.c.
 */
#include "kernel/mce.h"
#include "lib/log.h"
#include "mm/mm.h"
#include "sched/sched.h"

static struct thread *mce_of_notes; /* (c) */

static void mce_thread(void *arg)
{
    pfn_t pfn;
    (void)arg;
    for (;; thread_sleep(SLEEP_FOREVER)) { /* a note ends it */
        while (machine_check_next(&pfn)) {
            int error = mm_retire(pfn);
            log_line("machine check: pfn 0x%lx %s%s", (unsigned long)pfn,
                     error ? "not retired: " : "will not be used again",
                     error ? error_text(error) : "");
        }
    }
}

static void mce_wake(void)
{
    thread_interrupt(mce_of_notes);
}

void mce_start(void)
{
    mce_of_notes = thread_create("mce", mce_thread, NULL, ANY_CPU, ANY_NODE);
    if (!mce_of_notes) {
        log_line("no memory for the thread that retires bad frames");
        return;
    }
    machine_check_on_note(mce_wake); /* before it looks for the first time */
    thread_start(mce_of_notes);
}
