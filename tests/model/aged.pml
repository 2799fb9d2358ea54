/*
 * The aged step: dirt past the age bound is scrubbed although nobody is idle for long (P9, rule
 * 17), under weak fairness.
 *
 * One pageblock of two frames. CPU 0 has threads that always want to run, and the aged scrubber G
 * among them. CPU 1 idles: B scrubs there, but a thread X comes after each first clear, takes
 * frame 0 and frees it again. So B never gets beyond frame 0, and G must have its turn, and find
 * frame 1 old. A turn (SCHED_SLICE_MS) is longer than a claim.
 *
 *   forgotten   frame 1, once dirty, is clean some time
 *
 * Switches: DROP_RULE_17, a return stamps dirt as young; DROP_AGED_TURN, G runs only if nobody
 * else wants to.
 */
bit dirty[2];           /* free and dirty, or claimed and not cleared yet */
bit claimed;            /* by B or by G */
bit old;                /* the stamp of the pageblock (zone_pb_since()) is past the bound */
bit g_runs;             /* who has CPU 0: G, or another */

/* The premise: G is not for ever so unlucky as to look only while B has the frames claimed. */
#define could (g_runs && old && !claimed)
ltl forgotten { ([] <> could -> [] <> (aged@claims)) -> [] (dirty[1] -> <> !dirty[1]) }

proctype busy()
{
    do
    :: atomic {
        !g_runs ->
#ifdef DROP_AGED_TURN
        printf("@A0 sched/runq.c:runq_schedule | the slice is over: it is another's turn\n")
#else
        g_runs = 1;
        printf("@A0 sched/runq.c:runq_schedule | the slice is over: it is G's turn\n")
#endif
       }
    od
}

proctype aged()
{
    do
    :: atomic {
        g_runs && !claimed && old && (dirty[0] || dirty[1]) ->
        claimed = 1;
        printf("@G0 mm/aged.c:scrub_due_in_gig | the pageblock is past the bound: claims it\n") }
claims: atomic {
            dirty[0] = 0;
            dirty[1] = 0;
            claimed = 0;
            old = 0;
            g_runs = 0;
            printf("@G0 mm/scrub.c:scrub_claimed | clears, returns; sleeps\n")
        }
    :: atomic {
        g_runs && !claimed && !old ->
        g_runs = 0;
        printf("@G0 mm/aged.c:limpid_aged_step | nothing is old; sleeps\n") }
    od
}

proctype idle()
{
    do
    :: atomic {
        !claimed && (dirty[0] || dirty[1]) ->
        claimed = 1;
        printf("@B0 mm/claim.c:claim_take_locked | claims what is dirty\n") }
        atomic {
            if
            :: dirty[0] -> dirty[0] = 0
            :: else -> dirty[1] = 0
            fi;
            printf("@B0 mm/scrub.c:clear_claimed | clears one frame; a thread comes: need_resched\n")
        }
        atomic {
            claimed = 0;
#ifdef DROP_RULE_17
            old = 0;
#endif
            old = old && (dirty[0] || dirty[1]);
            printf("@B0 mm/claim.c:claim_return_locked | returns the rest\n");
            /* the thread */
            if
            :: old = old && dirty[1]; dirty[0] = 1;
                printf("@A1 mm/free.c:limpid_free | X has taken frame 0, and frees it\n")
            :: skip
            fi
        }
    od
}

proctype clock()
{
    do
    :: atomic {
        !old && (dirty[0] || dirty[1]) ->
        old = 1;
        printf("@A1 mm/zone.h:now_ms | (time passes: the dirt is past the bound)\n") }
    od
}

init {
    atomic {
        dirty[0] = 1;
        dirty[1] = 1;
        run busy();
        run aged();
        run idle();
        run clock()
    }
}
