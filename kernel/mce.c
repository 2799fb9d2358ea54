/*
 * Frames that a machine check has reported. The handler may have interrupted a lock holder, so
 * it only notes them (arch/x86_64/mce.c); this thread looks once a second and retires them: free
 * or stored ones at once, allocated or claimed ones when they come back.
 *
 * Owns nothing. Next: mm/retire.c.
 */
#include "kernel/mce.h"
#include "lib/log.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define LOOK_NS 1000000000ULL

static void mce_thread(void *arg)
{
    pfn_t pfn;
    (void)arg;
    for (;; thread_sleep(LOOK_NS)) {
        while (machine_check_next(&pfn)) {
            int error = mm_retire(pfn);
            log_line("machine check: pfn 0x%lx %s%s", (unsigned long)pfn,
                     error ? "not retired: " : "will not be used again",
                     error ? error_text(error) : "");
        }
    }
}

void mce_start(void)
{
    struct thread *t = thread_create("mce", mce_thread, NULL, ANY_CPU, ANY_NODE);
    if (t)
        thread_start(t);
    else
        log_line("no memory for the thread that retires bad frames");
}
