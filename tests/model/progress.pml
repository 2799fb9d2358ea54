/*
 * Progress of takers and scrubbers: rules 4, 10, 11, 12 and 16, under weak fairness (a process
 * that can go on for ever does go on some time).
 *
 * CPU 0 runs the taker A0. CPU 1 runs the idle thread B, which scrubs, and the taker A1, which
 * wakes now and then and has the CPU until it sleeps. One zone, two frames, all
 * takes are of order 0.
 *
 * The zone lock is a ticket lock. Lock and unlock are steps of their own, for here it matters
 * who comes first.
 *
 *   takers      every take ends, with a frame or without
 *   clears      who claims again and again also clears again and again
 *   gate        the gate is open again and again
 *   returns     who wants to return a claim gets the lock
 * and an assertion: B goes on for at most one clear once A1 is ready (P8).
 *
 * Switches: DROP_RULE_4, _10, _11, _12, _16.
 */
#define TICKETS 4       /* three can stand in line */

byte next, serving;     /* the ticket lock */
bit locked;             /* the lock without rule 12 */

byte free = 3;          /* the maps */
byte dirty = 3;
byte claim;             /* B's */
byte waiters;
bit returned[2];
byte own[2];

bit in_take[2];
bit b_runs = 1;         /* who has CPU 1: B, or A1 */
bit need_resched;       /* A1 is ready */
byte clears_since;      /* by B, since then */
bit returning;          /* B wants the lock for its return */

#define CPU1_IS_OURS (t == 0 || !b_runs)
#define LOWEST(m) (((m) & 1) -> 1 : (m) & 2)

ltl takers { [] (in_take[0] -> <> !in_take[0]) && [] (in_take[1] -> <> !in_take[1]) }
ltl clears { [] <> (scrubber@claimed) -> [] <> (scrubber@clearing) }
ltl gate { [] <> (waiters == 0) }
ltl returns { [] (returning -> <> !returning) }

#ifdef DROP_RULE_12
#define GET_LOCK(cond) \
    atomic { cond && !locked -> locked = 1 }
#define UNLOCK locked = 0
#else
#define GET_LOCK(cond) \
    atomic { cond -> ticket = next; next = (next + 1) % TICKETS } \
    cond && serving == ticket
#define UNLOCK ticket = 0; serving = (serving + 1) % TICKETS
#endif

/* Clean before dirty. */
#define GOT ((free & ~dirty) -> LOWEST(free & ~dirty) : LOWEST(free))

proctype taker(byte t)
{
    byte ticket, x;

sleeping:
    if
    :: t == 1 ->
        /* the CPU goes back to B; some time an interrupt wakes us */
        atomic { b_runs = 1; printf("@A1 sched/sleep.c:thread_sleep | sleeps: the CPU is idle\n") }
        atomic {
            need_resched = 1;
            clears_since = 0;
            printf("@A1 sched/runq.c:runq_make_ready_locked | is ready to run\n")
        }
        !b_runs
    :: else
    fi;

    in_take[t] = 1;
    GET_LOCK(CPU1_IS_OURS);
    atomic {
        CPU1_IS_OURS ->
        if
        :: free ->
            x = GOT;
            goto taken
        :: !free && claim ->
            waiters++;
            returned[t] = 0;
            printf("@A%d mm/wait.c:gate_raise_locked | nothing free: shuts the gate; unlock\n", t);
            UNLOCK
        :: !free && !claim ->
            printf("@A%d mm/wait.c:take_decide | fails; unlock\n", t);
            goto failed
        fi
    }

spinning:
#ifdef DROP_RULE_12
    /* the spin goes through the lock */
    GET_LOCK(CPU1_IS_OURS);
    atomic {
        CPU1_IS_OURS ->
        if
        :: !returned[t] ->
            printf("@A%d mm/wait.c:wait_and_take | lock; no return yet; unlock\n", t);
            UNLOCK;
            goto spinning
        :: else
        fi
    }
#else
    if
    :: CPU1_IS_OURS && returned[t] -> printf("@A%d mm/wait.c:wait_and_take | sees a return\n", t)
#ifdef DROP_RULE_11
    :: CPU1_IS_OURS -> printf("@A%d sched/thread.c:thread_exit | is killed, with the gate shut\n", t);
        in_take[t] = 0;
        if
        :: t == 1 -> b_runs = 1
        :: else
        fi;
        goto dead
#endif
    fi;
#ifdef DROP_RULE_4
    atomic {
        CPU1_IS_OURS ->
        waiters--;
        printf("@A%d mm/wait.c:gate_drop_locked | opens the gate, and goes on to try again\n", t)
    }
#endif
    GET_LOCK(CPU1_IS_OURS);
#endif
    atomic {
        CPU1_IS_OURS ->
        if
        :: free ->
#ifndef DROP_RULE_4
            waiters--;
#endif
            x = GOT;
            goto taken
        :: !free && claim ->
            returned[t] = 0;
#ifdef DROP_RULE_4
            waiters++;
#endif
            printf("@A%d mm/wait.c:wait_and_take | still nothing; unlock\n", t);
            UNLOCK;
            goto spinning
        :: !free && !claim ->
#ifndef DROP_RULE_4
            waiters--;
#endif
            printf("@A%d mm/wait.c:take_decide | fails; unlock\n", t);
            goto failed
        fi
    }

taken:
    atomic {
        printf("@A%d mm/wait.c:take_locked | takes <%d>; unlock\n", t, x);
        free = free & ~x;
        dirty = dirty & ~x;
        own[t] = own[t] | x;
        x = 0;
        UNLOCK;
        in_take[t] = 0;
        if
        :: goto sleeping    /* and keeps it for now */
        :: skip
        fi
    }
freeing:
    GET_LOCK(CPU1_IS_OURS);
    atomic {
        CPU1_IS_OURS ->
        printf("@A%d mm/free.c:limpid_free_mask | lock; frees <%d>; unlock\n", t, own[t]);
        free = free | own[t];
        dirty = dirty | own[t];
        own[t] = 0;
        UNLOCK;
        goto sleeping
    }
failed:
    atomic {
        UNLOCK;
        in_take[t] = 0;
        if
        :: own[t] -> goto freeing
        :: else -> goto sleeping
        fi
    }
dead:
    skip
}

proctype scrubber()
{
    byte ticket, todo, x;

    do
    :: atomic {
        b_runs && need_resched ->
        need_resched = 0;
        b_runs = 0;
        printf("@B0 sched/idle.c:idle_loop | gives way to A1\n") }
    :: b_runs && !need_resched && !waiters && dirty ->   /* has_work() */
        GET_LOCK(b_runs);
        atomic {
            b_runs ->
            if
            :: dirty && !waiters ->
                claim = dirty;
                free = free & ~dirty;
                dirty = 0;
                todo = claim;
                printf("@B0 mm/claim.c:claim_take_locked | lock; claims <%d>; unlock\n", claim);
                UNLOCK
            :: else -> UNLOCK; goto next_round
            fi
        }
claimed:
#ifdef DROP_RULE_16
        if
        :: waiters && b_runs -> printf("@B0 mm/scrub.c:clear_claimed | sees the gate shut\n"); goto back
        :: !waiters && b_runs
        fi;
#endif
        do
        :: b_runs ->
clearing:   atomic {
                x = LOWEST(todo);
                todo = todo & ~x;
                clears_since = clears_since + need_resched;
                assert(clears_since <= 1);  /* P8 idle work yields */
                printf("@B0 mm/scrub.c:clear_claimed | clears <%d>\n", x);
                x = 0
            }
            if
            :: b_runs && (waiters || need_resched || !todo) -> break
            :: b_runs && !(waiters || need_resched || !todo)
            fi
        od;
back:
        returning = 1;
        GET_LOCK(b_runs);
        atomic {
            b_runs ->
            printf("@B0 mm/claim.c:claim_return_locked | lock; returns <%d>, dirty <%d>; unlock\n", claim, todo);
            returning = 0;
            free = free | claim;
            dirty = dirty | todo;
            claim = 0;
            todo = 0;
            returned[0] = 1;
            returned[1] = 1;
            UNLOCK
        }
next_round:
        skip
    od
}

#ifdef DROP_RULE_10
/* An interrupt readies A1 where B holds a claim, and no lock, and the CPU switches at once. */
proctype interrupt()
{
    do
    :: atomic {
        b_runs && need_resched && claim && !returning ->
        need_resched = 0;
        b_runs = 0;
        printf("@A1 sched/runq.c:on_preempt | preempts B, which holds <%d>\n", claim) }
    od
}
#endif

init {
    atomic {
        run taker(0);
        run taker(1);
#ifdef DROP_RULE_10
        run interrupt();
#endif
        run scrubber()
    }
}
