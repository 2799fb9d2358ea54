/*
 * Bells: no dirt is forgotten (P9). The idle loop, the ring, the gate, help, the limits.
 *
 * Node 0 has the zone, CPUS-1 CPUs that idle or run a thread (B0, ...), and two more that are
 * always busy: A0 frees, A1 takes and may shut the gate. Node 1 has one CPU, the last, which
 * helps. The idle CPUs are in sched/idle.c; A2, the world outside, wakes threads (WAKES), which end
 * or run for ever.
 *
 * All is finite but the idle loops. So every run comes to rest, with each CPU halted or in a
 * thread that never ends; then the monitor asks: is there dirt that a halted CPU could scrub? A
 * bell was lost if so.
 *
 * Stores stay in the store buffer of their CPU (A0's dirt and unlock, A1's gate and unlock, a CPU's
 * state if it were a plain store) until they drain, at any time, or a full fence drains them;
 * loads do not wait for them. So an unlock is no fence here, as on x86, and A0 and A1 read the states
 * while what they did may still be in their buffers. To take a lock is a locked instruction. A kick
 * is pending until it is taken: by hlt, or before if interrupts are on. The count of sleepers is left
 * out: to read none is to read each state as not ASLEEP, all at once.
 *
 * Switches: DROP_RULE_13 to DROP_RULE_15; DROP_SLEEP_WAIT, DROP_LEAVE_WAIT, DROP_LATE_STATES,
 * DROP_SLEEP_FENCE, DROP_LEAVE_FENCE, DROP_SECOND_LOOK, DROP_OWN_STATE, DROP_STI_HLT;
 * DROP_HELPER_RINGS; with RATE=1 DROP_ONE_LOOK.
 */
#ifndef CPUS
#define CPUS 2          /* with the last one, which is of node 1 */
#endif
#ifndef FREES
#define FREES 2
#endif
#ifndef WAKES
#define WAKES 1
#endif
#ifndef TAKES
#define TAKES 1
#endif
#ifndef RATE
#define RATE 0          /* a rate limit: after each claim the node is in debt for a while */
#endif
#ifndef LIMIT
#define LIMIT 0         /* one scrubber at a time */
#endif

#ifndef HANDS
#define HANDS 1         /* a return hands a frame over to the taker that waits */
#endif

#define HELPER (CPUS - 1)
#define HOME(c) ((c) != HELPER)
#define NOBODY 9

#define BUSY 0          /* enum cpu_state */
#define AWAKE 1
#define ASLEEP 2

bit locked;             /* the zone's lock */
byte nr_dirty;          /* (Z); read without the lock */
byte waiters;           /* (Z)(a) */
byte claims;            /* claims that are out */
bit returned;           /* `returns` is not what A1 has seen */
#if HANDS
bit handed;             /* wait_hands: A1 has its frame */
#define HANDED handed
#else
#define HANDED false
#endif
byte state[CPUS];
bit need_resched[CPUS];
bit kick[CPUS];         /* pending */
bit stored[CPUS];       /* a thread has left dirt in this CPU's stores */
bit debt;               /* policy_rate_free_at() has not come yet */
bit armed[CPUS];        /* the timer of sleep_arm_idle() */
bit waiting[CPUS];      /* for whoever held the lock when this CPU looked */

/* Store buffers. */
byte buffered_dirt;     /* A0: dirt, then its unlock */
bit buffered_drop;      /* A1: waiters, then its unlock */
#if HANDS
bit buffered_hand;      /* who has handed over: waiters, then its unlock */
#endif
byte buffered_state[CPUS]; /* 0 or the state + 1 */

#if RATE
#define RATE_FREE (!debt)
#else
#define RATE_FREE 1
#endif
#if LIMIT
#define BELOW_LIMIT (claims < 1)
#else
#define BELOW_LIMIT 1
#endif

/* xchg(): everything before it is visible, and so is it. */
inline state_xchg(c, s)
{
    buffered_state[c] = 0;
    state[c] = s
}

/* spin_wait_for_holder(): for the one that holds it now, not for one that comes after him. */
inline wait_for_holder(c)
{
    if
    :: !locked
    :: atomic { locked -> waiting[c] = 1 }
        !waiting[c]
    fi
}

/* The unlock has left the holder's store buffer: who waits for him goes on. */
inline unlocked()
{
    locked = 0;
    waiting[0] = 0;
    waiting[1] = 0;
#if CPUS == 3
    waiting[2] = 0
#endif
}

/* bell_node_busy(0): state after state. */
inline node_busy(c)
{
    r = 0;
    yes = 1;
    do
    :: r < HELPER && yes -> atomic { yes = (state[r] == BUSY); r++ }
    :: else -> r = 0; break
    od
}

/* zone_to_scrub() for CPU c: may it claim? The words are read one after the other. */
inline may_claim(c)
{
    yes = (nr_dirty != 0);
    if
    :: yes -> yes = (waiters == 0)
    :: else
    fi;
    if
    :: yes -> atomic { in_debt = debt; yes = BELOW_LIMIT && RATE_FREE }
    :: else
    fi;
    if
    :: yes && !HOME(c) -> node_busy(c)
    :: else
    fi
}

/* wake(): a CPU that was read ASLEEP, once. */
inline wake(w, by, nr)
{
    atomic {
        if
        :: state[w] == ASLEEP ->
            state[w] = AWAKE;
            kick[w] = 1;
            printf("@%c%d mm/bell.c:wake | CPU %d is asleep: kicks it\n", by, nr, w)
        :: else -> printf("@%c%d mm/bell.c:wake | CPU %d has changed meanwhile\n", by, nr, w)
        fi
    }
}

/* bell_ring() behind its look at nr_dirty; `me` is this CPU. */
inline ring(me, by, n)
{
    r = 0;
    awake = 0;
    sleeper = NOBODY;
    do
    :: r < HELPER -> atomic {
        awake = awake || (state[r] == AWAKE && r != me);
        sleeper = (state[r] == ASLEEP -> r : sleeper);
        r++ }
    :: else -> r = 0; break
    od;
    if
    :: atomic {
        awake ->
        awake = 0;
        sleeper = NOBODY;
        printf("@%c%d mm/bell.c:bell_ring | one is awake at home: it will look\n", by, n) }
    :: !awake && sleeper != NOBODY -> wake(sleeper, by, n)
    :: else ->
#ifdef DROP_RULE_15
        skip
#else
        /* home is busy: the nearest node that has somebody */
        if
        :: state[HELPER] == ASLEEP && me != HELPER -> wake(HELPER, by, n)
        :: else -> printf("@%c%d mm/bell.c:bell_ring | nobody to ring\n", by, n)
        fi
#endif
    fi;
    sleeper = NOBODY
}

/* The idle loop of CPU c. */
proctype idle(byte c)
{
    byte left, r, sleeper = NOBODY;
    bit yes, awake, in_debt;
#if HANDS
    bit hands;
#endif

loop:
    if
    :: need_resched[c] ->
#ifdef DROP_LEAVE_FENCE
        d_step {
            !buffered_state[c] ->
            buffered_state[c] = BUSY + 1;
            printf("@B%d sched/idle.c:idle_loop | a thread to run: state = BUSY, a plain store\n", c)
        }
#else
        d_step {
            state_xchg(c, BUSY);
            printf("@B%d sched/idle.c:idle_loop | a thread to run: xchg(state, BUSY)\n", c)
        }
#endif
#ifndef DROP_RULE_14
#ifndef DROP_LEAVE_WAIT
        wait_for_holder(c);
#endif
        if
        :: atomic {
            nr_dirty == 0 ->
            printf("@B%d mm/bell.c:limpid_bell_pass_on | looks: no dirt\n", c) }
        :: atomic {
            nr_dirty ->
            printf("@B%d mm/bell.c:limpid_bell_pass_on | looks: there is dirt\n", c) }
            ring(c, 'B', c)
        fi;
#endif
        atomic {
            need_resched[c] = 0;
            if
            :: printf("@B%d sched/runq.c:runq_schedule | runs a thread that never ends\n", c) ->
end_thread:     false
            :: printf("@B%d sched/runq.c:runq_schedule | runs the thread\n", c)
            :: stored[c] = 1;
                printf("@B%d mm/store.h:store_push | runs the thread; it frees into its CPU's stores\n", c)
            fi
        }
        atomic {
            state_xchg(c, AWAKE);
            printf("@B%d sched/idle.c:idle_loop | the thread is gone: xchg(state, AWAKE)\n", c);
            goto loop
        }
    :: else
    fi;

    /* ---- mm_scrub_step() ---- */
    may_claim(c);
    if
    :: yes ->
        atomic {
            !locked ->
            yes = 0;
            in_debt = 0;
            if
            :: nr_dirty && !waiters && BELOW_LIMIT && RATE_FREE ->
                left = nr_dirty - 1;    /* clears one frame before its first look */
                nr_dirty = 0;
                claims++;
                printf("@B%d mm/claim.c:claim_take_locked | lock; claims the dirt; unlock\n", c)
            :: else -> goto flush
            fi
        }
        do
        :: left && !waiters && !need_resched[c] -> left--
        :: left && (waiters || need_resched[c]) -> break
        :: !left -> break
        od;
        atomic {
            !locked ->
#if HANDS
            if
            :: waiters -> hands = 1     /* who waits wants one frame */
            :: skip
            fi;
#endif
            d_step {
#if HANDS
            handed = handed || hands;
            locked = hands;
            buffered_hand = hands;
#endif
            nr_dirty = nr_dirty + left;
            printf("@B%d mm/claim.c:claim_return_locked | lock; returns, %d still dirty; unlock\n", c, left);
            claims--;
            left = 0;
            returned = 1;
            debt = RATE
        } }
#if HANDS
        if
        :: hands ->
            printf("@B%d mm/wait.c:wait_hand_over_locked | has handed a frame over; the open gate and the unlock: in the store buffer\n", c);
            hands = 0;
#ifndef DROP_RULE_13
            if
            :: nr_dirty == 0
            :: else -> ring(c, 'B', c)
            fi
#endif
        :: else
        fi;
#endif
#ifndef DROP_HELPER_RINGS
        /* whoever is at home now may have looked while this claim was out */
        if
        :: atomic {
            !HOME(c) && nr_dirty ->
            printf("@B%d mm/scrub.c:scrub_claim_step | has helped, leaves dirt: rings\n", c) }
            ring(c, 'B', c)
        :: else
        fi;
#endif
        goto loop
    :: else
    fi;

flush:
    /* ---- mm_stores_flush(): the zone is that of node 0, whoever we are ---- */
    if
    :: stored[c] ->
        atomic {
            !locked ->
            stored[c] = 0;
            nr_dirty++;
            printf("@B%d mm/store_move.c:limpid_stores_flush | lock; its stores into the maps; unlock\n", c)
        }
        if
        :: HOME(c) /* awake and at home: will look */
        :: else -> ring(c, 'B', c)
        fi
    :: else
    fi;

    atomic {
#ifdef DROP_SLEEP_FENCE
        !buffered_state[c];
        buffered_state[c] = ASLEEP + 1;
        printf("@B%d sched/idle.c:idle_loop | state = ASLEEP, a plain store\n", c)
#else
        state_xchg(c, ASLEEP);
        printf("@B%d sched/idle.c:idle_loop | xchg(state, ASLEEP)\n", c)
#endif
    }
#ifndef DROP_SLEEP_WAIT
    wait_for_holder(c);
#endif
    /*
     * cli. From here on a kick stays pending. One that was sent before was taken while interrupts
     * were on, or it is late, and then it ends the hlt.
     */
    atomic {
        if
        :: kick[c] -> kick[c] = 0
        :: true
        fi;
        printf("@B%d sched/idle.c:idle_loop | cli\n", c)
    }
#ifndef DROP_SECOND_LOOK
    yes = need_resched[c];
    if
    :: !yes -> may_claim(c)
    :: else
    fi;
#ifndef DROP_OWN_STATE
    yes = yes || (state[c] != ASLEEP && !buffered_state[c]);    /* somebody has rung */
#endif
    if
    :: yes -> d_step {
        yes = 0;
        in_debt = 0;
        state_xchg(c, AWAKE);
        printf("@B%d sched/idle.c:idle_loop | there is work: AWAKE; sti\n", c)
       }
       goto loop
    :: else
    fi;
#endif
#if RATE
    /* mm_scrub_may_at(): is the rate all that stands in the way? */
#ifdef DROP_ONE_LOOK
    in_debt = (nr_dirty != 0) && debt;
#endif
    if
    :: in_debt && !HOME(c) -> node_busy(c)
    :: else -> yes = 1
    fi;
    atomic { d_step {
        armed[c] = yes && in_debt && debt;
        kick[c] = kick[c] || (yes && in_debt && !debt); /* that time has come: the timer at once */
        printf("@B%d sched/sleep.c:sleep_arm_idle | timer for the rate: %d\n", c, yes && in_debt);
        yes = 0;
        in_debt = 0
    } }
#endif
#ifdef DROP_STI_HLT
    atomic {
        printf("@B%d sched/idle.c:idle_loop | sti, and something else before hlt\n", c);
        if
        :: kick[c] -> kick[c] = 0
        :: true
        fi
    }
#endif
end_halted:
    atomic {
        kick[c] ->
        kick[c] = 0;
        armed[c] = 0;
        printf("@B%d sched/idle.c:idle_loop | sti; hlt, and a kick: wakes\n", c)
    }
    atomic {
        state_xchg(c, AWAKE);
        printf("@B%d sched/idle.c:idle_loop | xchg(state, AWAKE)\n", c);
        goto loop
    }
}

/* A thread of node 0 that frees, on a CPU that is always busy. */
proctype freeing()
{
    byte frees, r, sleeper = NOBODY;
    bit awake;

    do
    :: frees < FREES ->
#ifdef DROP_LATE_STATES
        ring(NOBODY, 'A', 0);
#endif
        d_step {
            !locked ->
            locked = 1;
            buffered_dirt = 1;
            frees++;
            printf("@A0 mm/free.c:free_mask | lock; dirt into the maps; unlock: all in the store buffer\n")
        }
#ifndef DROP_LATE_STATES
        if
        :: nr_dirty == 0 && !buffered_dirt -> skip   /* gone already */
        :: else -> ring(NOBODY, 'A', 0)
        fi
#endif
    :: else -> break
    od
}

/* A taker of node 0 that waits for a claim. */
proctype taking()
{
    byte takes, r, sleeper = NOBODY;
    bit awake;

    do
    :: takes < TAKES -> takes++;
        if
        :: atomic {
            !locked && claims ->
            returned = 0;
            waiters++;
            printf("@A1 mm/wait.c:gate_raise_locked | shuts the gate\n")
           }
        :: break
        fi;
        returned || HANDED;
        if
#if HANDS
        :: d_step {
            handed ->
            handed = 0;
            printf("@A1 mm/wait.c:handed_over | has its frame\n") }
            /* It rings, too, but perhaps before the gate is open: that is no help. */
#endif
        :: d_step {
            !HANDED && !locked ->
            locked = 1;
            buffered_drop = 1;
            printf("@A1 mm/wait.c:gate_drop_locked | lock; takes; opens the gate; unlock: in the store buffer\n") }
#ifndef DROP_RULE_13
            if
            :: nr_dirty == 0
            :: else -> ring(NOBODY, 'A', 1)
            fi
#endif
        fi
    :: else -> break
    od
}

/* Threads become ready. */
proctype waker()
{
    byte wakes, c;

    do
    :: wakes < WAKES -> atomic {
        wakes++;
        if
        :: c = 0
        :: c = HELPER
#if CPUS == 3
        :: c = 1
#endif
        fi;
        need_resched[c] = 1;
        kick[c] = 1;
        printf("@A2 sched/runq.c:runq_make_ready_locked | a thread for CPU %d: need_resched; kick\n", c);
        c = 0 }
    :: break
    od
}

/* Store buffers drain; time passes. */
proctype machine()
{
end:
    do
    :: d_step {
        buffered_dirt ->
        nr_dirty = nr_dirty + buffered_dirt;
        buffered_dirt = 0;
        unlocked();
        printf("@A0 mm/zone.h:zone_count | (the dirt and the unlock are visible)\n") }
    :: d_step {
        buffered_drop ->
        waiters--;
        buffered_drop = 0;
        unlocked();
        printf("@A1 mm/wait.c:gate_drop_locked | (the open gate and the unlock are visible)\n") }
#if HANDS
    :: d_step {
        buffered_hand ->
        waiters--;
        buffered_hand = 0;
        unlocked();
        printf("@A1 mm/wait.c:gate_drop_locked | (what its frame's giver did, and the unlock, are visible)\n") }
#endif
#if defined(DROP_SLEEP_FENCE) || defined(DROP_LEAVE_FENCE)
    :: d_step {
        buffered_state[0] ->
        state[0] = buffered_state[0] - 1;
        buffered_state[0] = 0;
        printf("@B0 mm/bell.c:mm_cpu_state_set | (its state is visible)\n") }
    :: d_step {
        buffered_state[1] ->
        state[1] = buffered_state[1] - 1;
        buffered_state[1] = 0;
        printf("@B1 mm/bell.c:mm_cpu_state_set | (its state is visible)\n") }
#endif
#if RATE
    :: d_step {
        debt ->
        debt = 0;
        kick[0] = kick[0] || armed[0];
        armed[0] = 0;
        kick[1] = kick[1] || armed[1];
        armed[1] = 0;
        printf("@A2 mm/policy.c:policy_rate_free_at | (time passes: the rate is free again)\n") }
#endif
    od
}

/* At rest: is there dirt, and a CPU that may scrub it? Whoever is not BUSY now is halted. */
proctype monitor()
{
    timeout ->
    assert(!locked && waiters == 0 && claims == 0);
#if CPUS == 3
    assert(!(nr_dirty && (state[0] != BUSY || state[1] != BUSY)));  /* P9 no dirt is forgotten */
    assert(!(nr_dirty && state[0] == BUSY && state[1] == BUSY && state[2] != BUSY)); /* P9, help */
#else
    assert(!(nr_dirty && state[0] != BUSY));                          /* P9 no dirt is forgotten */
    assert(!(nr_dirty && state[0] == BUSY && state[1] != BUSY));      /* P9, help */
#endif
}

init {
    atomic {
        state[0] = AWAKE;
        state[1] = AWAKE;
#if CPUS == 3
        state[2] = AWAKE;
#endif
        run idle(0);
        run idle(1);
#if CPUS == 3
        run idle(2);
#endif
        run freeing();
        run taking();
        run waker();
        run machine();
        run monitor()
    }
}
