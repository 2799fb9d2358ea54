/*
 * The claim protocol: takers, claims, returns, the gate, stores, bad frames. Safety: P1 to P4.
 *
 * CPU 0 .. TAKERS-1 run takers, which also free, flush and retire; the CPUs behind them are idle
 * and scrub. Up to four frames, two pageblocks of two each, in one zone or (ZONES=2) one each. A
 * mask has bit f for frame f, as a map512 has.
 *
 * What one step is. All that a CPU does between lock and unlock is one step, if no word of it is
 * read without that lock: nobody could see a half of it. Pops and pushes take no lock. That they
 * and a sweep keep out of each other's way is store.pml; here a sweep stops whoever stores
 * anything and has it all in one step. One CPU is stopped, or passed by as empty, in a moment;
 * with three takers the looks at one CPU and at the next are steps of their own.
 * Who takes a frame clears and uses it in that same step: nobody else may touch it, which is what
 * the assertions are for. A lock has no order here: progress.pml is about who comes first.
 *
 * A streaming clear goes into the write-combining buffer (`wc`); the sfence before the return
 * makes it visible. Without the fence it becomes visible at any time (process buffer).
 *
 * Switches: DROP_RULE_1 to DROP_RULE_9 leave out a rule of the protocol; DROP_CLEAR_FENCE,
 * DROP_RETIRE_SWEEP, DROP_LOOK_AGAIN, DROP_RAISE_ALL and DROP_FAIL_AT_ONCE what stands under no
 * number or is the other half of a rule.
 *
 * Each step says what it does and for which function of the kernel it stands:
 * tools/model.py prints that as two columns, tools/proof_lint.py sees that the function is still
 * there. <%d> is a mask of frames.
 */
#ifndef ZONES
#define ZONES 1
#endif
#ifndef TAKERS
#define TAKERS 2
#endif
#ifndef SCRUBBERS
#define SCRUBBERS 2
#endif
#ifndef FRAMES
#define FRAMES 4
#endif
#ifndef STORES
#define STORES 1        /* CPUs have stores */
#endif
#ifndef BLOCKS
#define BLOCKS 1        /* takes of order 1, too */
#endif
#ifndef RETIRE
#define RETIRE 0        /* a frame may go bad */
#endif

#define ALL ((1 << FRAMES) - 1)
#if ZONES == 1
#define ZONE(z) ALL
#define ZONE_OF(m) 0
#else
#define ZONE(z) ((3 << (2 * (z))) & ALL)
#define ZONE_OF(m) (((m) & 3) == 0)
#endif
#define LOWEST(m) ((m) & (16 - (m)))
#define NR(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1) + ((m) >> 3))
#define HAS(m, order) ((order) == 0 -> (m) != 0 : (((m) & 3) == 3 || ((m) & 12) == 12))

/* As in mm/zone.h. The maps of both zones are one mask each: a frame is in one zone only. */
byte free;              /* (Z) */
byte dirty;             /* (Z) of the free ones */
byte bad;               /* (Z) */
byte retired;           /* (Z) bad ones that have come back and stay */
bit locked[ZONES];
byte waiters[ZONES];    /* (Z)(a) the gate */
bit returned[TAKERS];   /* `returns` is not what this waiter has seen: all it looks for */
byte claim[SCRUBBERS];  /* (Z) claim.mask */

byte store[TAKERS];     /* one take store a CPU */
bit store_clean[TAKERS];
bit store_named[TAKERS]; /* store.zone is not NULL: also of an empty one, till its next refill */
byte behind[TAKERS];    /* the write-behind buffer */
byte stop[TAKERS]; /* cpu_stores.serves == SERVES_NOBODY; 2: its owner is known to be out */

/* What is the case, whatever the maps say. */
byte own[TAKERS];       /* allocated to this taker */
byte content;           /* frames that do not hold only zeroes */
byte wc[SCRUBBERS];     /* cleared by this CPU, not visible yet */
byte moving[TAKERS];    /* in neither map nor store: only without rule 2 */
bit revoked[SCRUBBERS]; /* only without rule 6 */

/* For the assertions. */
bit deciding[TAKERS];   /* in take_decide() */
bit none[TAKERS];       /* in which there was a moment when nothing could have served it */
byte wanted[TAKERS];    /* its order */
byte allowed[TAKERS];   /* the frames of its zones */
bit waiting[TAKERS];    /* it has shut the gate */
byte handed[TAKERS];    /* wait_hands: a scrubber has handed it a frame of this zone, and one more */
byte late[TAKERS * SCRUBBERS]; /* clears that a scrubber has begun since */

byte x, y;              /* scratch inside a step, 0 between steps */

#if TAKERS == 3
#define EACH_TAKER(what) what(0); what(1); what(2)
#define STORED (store[0] | store[1] | store[2] | behind[0] | behind[1] | behind[2] | \
                moving[0] | moving[1] | moving[2])
#define OWNED (own[0] | own[1] | own[2])
#define STORED_SUM (store[0] + store[1] + store[2] + behind[0] + behind[1] + behind[2] + \
                    moving[0] + moving[1] + moving[2])
#define OWNED_SUM (own[0] + own[1] + own[2])
#else
#define EACH_TAKER(what) what(0); what(1)
#define STORED (store[0] | store[1] | behind[0] | behind[1] | moving[0] | moving[1])
#define OWNED (own[0] | own[1])
#define STORED_SUM (store[0] + store[1] + behind[0] + behind[1] + moving[0] + moving[1])
#define OWNED_SUM (own[0] + own[1])
#endif
#if SCRUBBERS == 2
#define CLAIMED (claim[0] | claim[1])
#define CLAIMED_SUM (claim[0] + claim[1])
#else
#define CLAIMED claim[0]
#define CLAIMED_SUM claim[0]
#endif

#define NOBODY 255
/* wait_hand_over_locked(): a taker of one frame that waits in zone z, and a good frame that is clean. */
#define ASKS(t) (waiting[t] && !handed[t] && wanted[t] == 0 && (allowed[t] & ZONE(z)) && \
                 (claim[s] & ~todo & ~bad))

#define CHECK(t) \
    assert(!store_clean[t] || (store[t] & content) == 0); /* P3 clean means zero, in a store */ \
    none[t] = none[t] || (deciding[t] && \
              !HAS((free | STORED | CLAIMED) & ~bad & allowed[t], wanted[t]))

/* After each step that moves frames. A sum of masks that equals their union has no bit twice. */
inline check()
{
    x = 0;
    y = 0;
    assert((free | STORED | CLAIMED | OWNED | retired) == ALL);          /* P2 one owner: not none */
    assert(free + STORED_SUM + CLAIMED_SUM + OWNED_SUM + retired == ALL); /* P2 one owner: not two */
    assert((free & ~dirty & content) == 0);                 /* P3 clean means zero, in the maps */
    assert((free & bad) == 0);                              /* P2 one owner: retired is for good */
    EACH_TAKER(CHECK)
}

/* pageblock_put_locked(): frames m come back, d of them dirty. The one door into the maps. */
inline put(m, d, filter)
{
    assert((free & (m)) == 0);
    free = free | ((m) & ~(bad & filter));
    dirty = (dirty | (d)) & free;
    retired = retired | ((m) & bad & filter)
}

/* clear_taken(): t has got the frames m, d of them dirty. It clears those, and uses all. */
inline use(m, d)
{
    own[t] = own[t] | m;
    content = content & ~(d);
    assert((content & m) == 0);     /* P1 no leak */
    assert((bad & m) == 0);         /* P2 one owner: retired is for good */
    content = content | m
}

/* take_from_zone_locked(): x = a block of `order` among the frames `in`, clean before dirty. */
inline look(order, in)
{
    if
    :: order == 0 ->
        x = free & in & ~dirty;
        x = (x == 0 -> free & in : x);
        x = LOWEST(x)
    :: else ->
        x = (((free & in) & 3) == 3 -> 3 : 0);
        y = (((free & in) & 12) == 12 -> 12 : 0);
        x = (x == 0 || (y != 0 && (dirty & y) == 0 && (dirty & x) != 0) -> y : x);
        y = 0
    fi
}

inline take()
{
    y = x & dirty;
    free = free & ~x;
    dirty = dirty & ~x;
    use(x, y);
    y = 0
}

/* empty_into(), put_swept(): what CPU c keeps of the frames `in` goes back into the maps. */
inline sweep(c, in)
{
    x = (store[c] | behind[c]) & in;
    y = (behind[c] | (store_clean[c] -> 0 : store[c])) & in;
    store[c] = store[c] & ~(in);
    store_clean[c] = store_clean[c] && store[c];
    store_named[c] = (store[c] != 0);
    behind[c] = behind[c] & ~(in);
    put(x, y, ALL)
}

#if TAKERS == 3
#define STOP(c) stop[c] = (stop[c] -> 2 : 0)

/*
 * owners_stop(), by CPU t: marks whoever stores anything, then has all of those stopped at once.
 * Meanwhile an owner that was passed by as empty may have pushed what it freed, and another have
 * popped its last: so it looks again, until it finds nobody new.
 */
inline owners_stop()
{
    do
    :: c < TAKERS -> d_step {
        if
        :: c != t && !stop[c] && (store_named[c] || behind[c]) ->
            stop[c] = 1;
            found = 1;
            printf("@A%d mm/store.c:owners_stop | CPU %d stores something\n", t, c)
        :: c != t && !stop[c] && !(store_named[c] || behind[c]) ->
            printf("@A%d mm/store.c:owners_stop | CPU %d stores nothing\n", t, c)
        :: else
        fi;
        c++ }
    :: c == TAKERS && found -> d_step {
        EACH_TAKER(STOP);
        found = 0;
#ifndef DROP_LOOK_AGAIN
        c = 0;
#endif
        printf("@A%d mm/store.c:owners_stop | those have passed a fence, and are out\n", t) }
    :: c == TAKERS && !found -> c = 0; break
    od
}
#else
#define STOP(c) stop[c] = 2
#endif

#define SWEPT(c, in) ((stop[c] == 2 || t == c) -> (store[c] | behind[c]) & (in) : 0)
#define SWEEP_CPU(c) \
    if \
    :: stop[c] == 2 || t == c -> sweep(c, sweep_in) \
    :: else \
    fi; \
    stop[c] = 0

/* store_sweep_zone_locked() of each zone, store_sweep_end() */
inline sweep_all(sweep_in)
{
    printf("@A%d mm/store_move.c:store_sweep_zone_locked | sweeps <%d> into the maps\n", t,
           SWEPT(0, sweep_in) | SWEPT(1, sweep_in) | SWEPT(TAKERS - 1, sweep_in));
    EACH_TAKER(SWEEP_CPU);
    check()
}

#if ZONES == 2
#define EACH_ALLOWED(what) \
    if \
    :: (allowed[t] & ZONE(0)) -> what(0) \
    :: else \
    fi; \
    if \
    :: (allowed[t] & ZONE(1)) -> what(1) \
    :: else \
    fi
#else
#define EACH_ALLOWED(what) what(0)
#endif
#ifdef DROP_RULE_5
#define RAISE(z) waiters[z] = 1
#define LOWER(z) waiters[z] = 0
#else
#define RAISE(z) waiters[z]++
#define LOWER(z) waiters[z]--
#endif
#define UNLOCK(z) locked[z] = 0

#ifdef DROP_RAISE_ALL
#define GATES(what) if :: (allowed[t] & ZONE(0)) -> what(0) :: else -> what(ZONES - 1) fi
#else
#define GATES(what) EACH_ALLOWED(what)
#endif
inline gate_raise()
{
    GATES(RAISE)
#ifdef DROP_RULE_6
    ; revoked[0] = 1;
    revoked[SCRUBBERS - 1] = 1
#endif
}

inline gate_drop()
{
    GATES(LOWER)
}

/* The end of a take. */
inline done()
{
    deciding[t] = 0;
    waiting[t] = 0;
    none[t] = 0;
    wanted[t] = 0;
    allowed[t] = 0;
    returned[t] = 0;
    handed[t] = 0;
    late[t * SCRUBBERS] = 0;
    late[t * SCRUBBERS + SCRUBBERS - 1] = 0;
    check()
}

proctype taker(byte t)
{
    byte z, c;      /* which zone; which CPU's store, or which frame to retire */
#if TAKERS == 3
    bit found;      /* a sweep has found a CPU that stores something */
#endif
#ifdef DROP_RULE_8
    bit would;
#endif

more:
    atomic {
        if
        :: wanted[t] = 0; goto taking
#if BLOCKS
        :: wanted[t] = 1; goto taking
#endif
#if STORES
        :: d_step {
            own[t] && stop[t] != 2 ->
            x = LOWEST(own[t]);
            own[t] = own[t] & ~x;
            behind[t] = behind[t] | x;
            printf("@A%d mm/store.h:store_push | frees <%d> into its write-behind buffer\n", t, x);
            check()
           }
           goto more
        :: d_step {
            ((behind[t] | store[t]) & ZONE(0)) && !locked[0] && stop[t] != 2 ->
            printf("@A%d mm/store_move.c:store_flush_behind | lock; its stores <%d> into the maps; unlock\n",
                   t, (store[t] | behind[t]) & ZONE(0));
            sweep(t, ZONE(0));
            check()
           }
           goto more
#if ZONES == 2
        :: d_step {
            ((behind[t] | store[t]) & ZONE(1)) && !locked[1] && stop[t] != 2 ->
            printf("@A%d mm/store_move.c:store_flush_behind | lock; its stores <%d> into the maps; unlock\n",
                   t, (store[t] | behind[t]) & ZONE(1));
            sweep(t, ZONE(1));
            check()
           }
           goto more
#endif
#endif
        :: d_step {
            (own[t] & ZONE(0)) && !locked[0] ->
            x = own[t] & ZONE(0);
            own[t] = own[t] & ~x;
            printf("@A%d mm/free.c:limpid_free_mask | lock; frees <%d>, dirty; unlock\n", t, x);
            put(x, x, ALL);
            check()
           }
           goto more
#if ZONES == 2
        :: d_step {
            (own[t] & ZONE(1)) && !locked[1] ->
            x = own[t] & ZONE(1);
            own[t] = own[t] & ~x;
            printf("@A%d mm/free.c:limpid_free_mask | lock; frees <%d>, dirty; unlock\n", t, x);
            put(x, x, ALL);
            check()
           }
           goto more
#endif
#if RETIRE
        :: t == 0 && bad == 0 -> goto retiring
#endif
        fi
    }

#if RETIRE
retiring:
    atomic { /* any frame: a machine check does not choose */
        if
        :: c = 1
        :: c = 2
        :: c = 4
#if FRAMES == 4
        :: c = 8
#endif
        fi;
        z = ZONE_OF(c)
    }
    d_step {
        !locked[z] ->
        printf("@A%d mm/retire.c:retire_locked | lock; notes that <%d> is bad; unlock\n", t, c);
#if STORES && !defined(DROP_RETIRE_SWEEP)
        EACH_TAKER(STOP);
        sweep_all(ZONE(z));
#endif
        bad = c;
        retired = retired | (free & bad);
        free = free & ~bad;
        dirty = dirty & free;
        c = 0;
        z = 0;
        check()
    }
    goto more;
#endif

    /* ---- mm_take() ---- */
taking:
    atomic {
        if
        :: allowed[t] = ALL
#if ZONES == 2
        :: allowed[t] = ZONE(0)
#endif
        fi;
        printf("@A%d mm/take.c:limpid_take | wants a block of order %d in <%d>\n", t, wanted[t],
               allowed[t]);
        if
#if STORES
        :: wanted[t] == 0 && store[t] -> goto popping
        :: wanted[t] == 0 && !store[t] -> goto refilling
#endif
        :: else -> goto preferring
        fi
    }

#if STORES
refilling:
    /*
     * A pageblock's clean frames, or else a pageblock's dirty ones, out of the first zone that has
     * any: a big node has several. Nothing while the gate is shut.
     */
    atomic {
        d_step {
            stop[t] != 2 && !locked[((free & ZONE(0)) -> 0 : ZONES - 1)] ->
            z = ((free & ZONE(0)) -> 0 : ZONES - 1);
            y = (waiters[z] -> 0 : free & ZONE(z));
            x = y & ~dirty & 3;
            x = (x -> x : y & ~dirty & 12);
            store_clean[t] = (x != 0);
            x = (x -> x : y & 3);
            x = (x -> x : y & 12);
            z = 0;
            free = free & ~x;
            dirty = dirty & ~x;
#ifdef DROP_RULE_2
            moving[t] = x;
            printf("@A%d mm/take.c:store_refill | lock; <%d> out of the maps; unlock\n", t, x);
#else
            store[t] = x;
            store_named[t] = (x != 0);
            printf("@A%d mm/take.c:store_refill | lock; <%d> from the maps into its store; unlock\n",
                   t, x);
#endif
            check()
        }
#ifdef DROP_RULE_2
    }
    atomic {
        d_step {
            stop[t] != 2 ->
            store[t] = moving[t];
            store_named[t] = (store[t] != 0);
            moving[t] = 0;
            printf("@A%d mm/store_move.c:store_fill_locked | <%d> into its store\n", t, store[t]);
            check()
        }
#endif
        if
        :: store[t] == 0 -> goto preferring
        :: else
        fi
    }

popping:
    atomic {
        d_step {
            stop[t] != 2 ->
            x = LOWEST(store[t]);
            y = (store_clean[t] -> 0 : x)
        }
        if
        :: x == 0 -> goto preferring    /* swept meanwhile */
        :: else
        fi;
#ifdef DROP_RULE_3
        c = x + 16 * y;
        printf("@A%d mm/store.h:store_pop | reads that <%d> is in its store\n", t, x);
        x = 0;
        y = 0
    }
    atomic {
        x = c & 15;
        y = c >> 4;
        c = 0;
#endif
        d_step {
            store[t] = store[t] & ~x;
            store_clean[t] = store_clean[t] && store[t];
            printf("@A%d mm/store.h:store_pop | pops <%d>\n", t, x);
            use(x, y);
            done()
        }
        goto more
    }
#endif

preferring:
    /* Zone after zone. Whether to lock it at all is a hint, which may be stale: or not at all. */
    do
    :: z < ZONES && (allowed[t] & ZONE(z)) -> atomic {
        d_step {
            !locked[z] ->
            look(wanted[t], ZONE(z));
            z++
        }
        if
        :: x -> d_step {
            printf("@A%d mm/take.c:take_from_node | lock; takes <%d>; unlock\n", t, x);
            take();
            z = 0;
            done()
           }
           goto more
        :: else
        fi }
    :: z < ZONES && !(allowed[t] & ZONE(z)) -> z++
    :: z = 0; break
    od;

    /* ---- take_decide() ---- */
#ifdef DROP_RULE_8
    atomic { d_step { deciding[t] = 1; check() } }
    do
    :: z < ZONES && (allowed[t] & ZONE(z)) ->
        atomic {
            d_step {
                !locked[z] ->
                printf("@A%d mm/wait.c:lock_allowed | locks zone %d alone\n", t, z);
#if STORES
                EACH_TAKER(STOP);
                sweep_all(ZONE(z));
#endif
                look(wanted[t], ZONE(z));
                would = would || HAS((free | CLAIMED) & ~bad & ZONE(z), wanted[t]);
                z++
            }
            if
            :: x -> d_step {
                printf("@A%d mm/wait.c:take_locked | takes <%d>; unlock\n", t, x);
                take();
                would = 0;
                z = 0;
                done()
               }
               goto more
            :: else -> printf("@A%d mm/wait.c:take_locked | nothing in zone %d; unlock\n", t, z - 1)
            fi
        }
    :: z < ZONES && !(allowed[t] & ZONE(z)) -> z++
    :: z == ZONES -> z = 0; break
    od;
    atomic { d_step {
        /* What could be waited for is not what this is about. */
        if
        :: !would ->
            printf("@A%d mm/wait.c:take_decide | fails\n", t);
            assert(none[t])     /* P4 scrubbing hides nothing */
        :: else
        fi;
        would = 0;
        done()
    } }
    goto more;
#endif

locking:
    /* Here it has all locks: what it has been handed until now it finds. */
#if ZONES == 2
#define HANDED_MEANWHILE \
    if \
    :: handed[t] -> \
        if \
        :: allowed[t] == ALL -> locked[0] = 0 \
        :: else \
        fi; \
        z = 0; \
        goto handed_over \
    :: else \
    fi;
#else
#define HANDED_MEANWHILE \
    if \
    :: handed[t] -> z = 0; goto handed_over \
    :: else \
    fi;
#endif
#if ZONES == 2
    if
    :: allowed[t] == ALL -> d_step {
        !locked[0] ->
        locked[0] = 1;
        printf("@A%d mm/wait.c:lock_allowed | locks zone 0\n", t);
        z = 1 }
    :: else
    fi;
#endif
#if TAKERS == 3
    atomic {
        !locked[z] ->
        HANDED_MEANWHILE
        d_step {
        locked[z] = 1;
        printf("@A%d mm/wait.c:lock_allowed | locks zone %d\n", t, z);
        deciding[t] = 1;
        check()
    } }
    owners_stop();
#endif
    atomic {
#if TAKERS != 3
        !locked[z] ->
        HANDED_MEANWHILE
#endif
        d_step {
#if TAKERS != 3
            printf("@A%d mm/wait.c:lock_allowed | locks zone %d\n", t, z);
            deciding[t] = 1;
            check();
            EACH_TAKER(STOP);
#endif
#if STORES && !defined(DROP_RULE_1)
            sweep_all(allowed[t]);
#endif
            z = 0
        }
        d_step { look(wanted[t], allowed[t]) }
        if
        :: x -> d_step {
            printf("@A%d mm/wait.c:take_locked | takes <%d>; unlock\n", t, x);
            take();
            if
            :: waiting[t] -> gate_drop()
            :: else
            fi;
            EACH_ALLOWED(UNLOCK);
            done()
           }
           goto more
        :: else
        fi;
        if
#ifdef DROP_RULE_7
        :: NR(free & allowed[t]) < (1 << wanted[t]) &&
           HAS((free | CLAIMED) & ~bad & allowed[t], wanted[t]) ->
#elif defined(DROP_FAIL_AT_ONCE)
        :: (CLAIMED & allowed[t]) != 0 ->
#else
        :: HAS((free | CLAIMED) & ~bad & allowed[t], wanted[t]) ->
#endif
          d_step {
            returned[t] = 0;
            if
#ifndef DROP_RULE_4
            :: waiting[t] ->
                printf("@A%d mm/wait.c:wait_and_take | not enough yet; unlock; spins on returns\n", t)
#endif
            :: else ->
                waiting[t] = 1;
                gate_raise();
                printf("@A%d mm/wait.c:gate_raise_locked | shuts the gate; unlock; spins on returns\n",
                       t)
            fi;
            EACH_ALLOWED(UNLOCK)
          }
        :: else -> d_step {
            printf("@A%d mm/wait.c:take_decide | fails; unlock\n", t);
            assert(none[t]);    /* P4 scrubbing hides nothing */
#ifndef DROP_RULE_4
            if
            :: waiting[t] -> gate_drop()
            :: else
            fi;
#endif
            EACH_ALLOWED(UNLOCK);
            done()
           }
           goto more
        fi
    }
    if
    :: handed[t] -> goto handed_over
    :: d_step {
        returned[t] && !handed[t] ->
        returned[t] = 0;
        printf("@A%d mm/wait.c:wait_and_take | sees a return\n", t)
#ifdef DROP_RULE_4
        ; gate_drop();
        printf("@A%d mm/wait.c:gate_drop_locked | opens the gate, and goes on to try again\n", t)
#endif
       }
       goto locking
    fi;
handed_over:
    /* In the other zone, if it has waited there too, it lowers the gate itself. */
#if ZONES == 2
    if
    :: allowed[t] == ALL -> d_step {
        !locked[2 - handed[t]] ->
        LOWER(2 - handed[t]);
        printf("@A%d mm/wait.c:gate_drop_locked | lock; lowers the gate of zone %d; unlock\n", t, 2 - handed[t]) }
    :: else
    fi;
#endif
    atomic {
        d_step {
            printf("@A%d mm/wait.c:handed_over | has its frame\n", t);
            done()
        }
        goto more
    }
}

/* P4: behind a gate that t has shut, s begins one clear at most. */
#define LATE(t) \
    late[(t) * SCRUBBERS + s] = \
        late[(t) * SCRUBBERS + s] + (waiting[t] && !handed[t] && (x & allowed[t]) -> 1 : 0); \
    assert(late[(t) * SCRUBBERS + s] <= 1)
#define RETURNED(t) returned[t] = waiting[t]

#ifdef DROP_RULE_6
#define GATE_SHUT(zone) (z != (zone))
#define REVOKED revoked[s]
#else
#define GATE_SHUT(zone) waiters[zone]
#define REVOKED waiters[z]
#endif

proctype scrubber(byte s)
{
    byte todo, z, to = NOBODY;

more:
#ifdef DROP_RULE_6
    atomic {
        if
        :: waiters[0] == 0 -> z = 0
#if ZONES == 2
        :: waiters[1] == 0 -> z = 1
#endif
        fi;
        printf("@B%d mm/scrub.c:has_work | the gate is open, says a look without the lock\n", s)
    }
#endif
claiming:
    atomic {
        if
        :: !locked[0] && !GATE_SHUT(0) && (free & dirty & 3) ->
            todo = 3
        :: !locked[ZONES - 1] && !GATE_SHUT(ZONES - 1) && (free & dirty & 12) ->
            todo = 12
        fi;
        d_step {
            todo = free & dirty & todo;
            z = ZONE_OF(todo);
            claim[s] = todo;
            free = free & ~todo;
            dirty = dirty & ~todo;
#ifdef DROP_RULE_6
            revoked[s] = 0;
#endif
            printf("@B%d mm/claim.c:claim_take_locked | lock; claims <%d>; unlock\n", s, todo);
            check()
        }
    }
clearing:
    do
    :: atomic { d_step {
        x = LOWEST(todo);
        todo = todo & ~x;
        wc[s] = wc[s] | x;
        printf("@B%d mm/scrub.c:clear_claimed | clears <%d>\n", s, x);
        EACH_TAKER(LATE);
        x = 0
       } }
       atomic {
        if
        :: REVOKED -> printf("@B%d mm/scrub.c:clear_claimed | sees the gate shut\n", s); break
        :: !REVOKED && todo == 0 -> break
        :: !REVOKED && todo != 0 -> skip
        :: !REVOKED && todo != 0 -> printf("@B%d mm/scrub.c:clear_claimed | need_resched\n", s); break
        fi
       }
    od;
returning:
    atomic {
        !locked[z] ->
        if
        :: ASKS(0) -> to = 0
        :: ASKS(1) -> to = 1
#if TAKERS == 3
        :: ASKS(2) -> to = 2
#endif
        :: skip /* another one has asked before, or who waits wants more */
        fi;
        d_step {
#ifndef DROP_CLEAR_FENCE
        content = content & ~wc[s]; /* clear_fence(), before the lock: nobody looked meanwhile */
        wc[s] = 0;
#endif
        x = claim[s];
        claim[s] = 0;
        if
        :: to != NOBODY ->
            y = LOWEST(x & ~todo & ~bad);
            x = x & ~y;
            printf("@B%d mm/wait.c:wait_hand_over_locked | sfence; lock; hands <%d> over to A%d, and lowers its gate\n",
                   s, y, to);
            own[to] = own[to] | y;
            assert((content & y) == 0);     /* P1 no leak */
            content = content | y;
            LOWER(z);
            handed[to] = z + 1;
            to = NOBODY
        :: else
        fi;
        printf("@B%d mm/claim.c:claim_return_locked | sfence; lock; returns <%d>, dirty <%d>; unlock\n",
               s, x, todo);
#ifdef DROP_RULE_9
        put(x, todo, 0);
#else
        put(x, todo, ALL);
#endif
        todo = 0;
        z = 0;
        EACH_TAKER(RETURNED);
        check()
    } }
    goto more
}

#ifdef DROP_CLEAR_FENCE
/*
 * The write-combining buffers: a clear becomes visible some time, frame by frame. How early,
 * nobody can see, for until its return the frame is this CPU's alone; so early is left out.
 */
#define DRAIN(s) \
    d_step { \
        wc[s] & ~claim[s] -> \
        x = LOWEST(wc[s] & ~claim[s]); \
        wc[s] = wc[s] & ~x; \
        content = content & ~x; \
        printf("@B%d mm/scrub.c:clear_claimed | (the clear of <%d> becomes visible)\n", s, x); \
        assert((free & x) == x);    /* a clear lands in nobody's frame */ \
        x = 0 \
    }

proctype buffer()
{
    do
    :: DRAIN(0)
    :: DRAIN(SCRUBBERS - 1)
    od
}
#endif

/* All memory is free and dirty at boot. */
init {
    atomic {
        free = ALL;
        dirty = ALL;
        content = ALL;
        run taker(0);
        run taker(1);
#if TAKERS == 3
        run taker(2);
#endif
#ifdef DROP_CLEAR_FENCE
        run buffer();
#endif
#if SCRUBBERS == 2
        run scrubber(1);
#endif
        run scrubber(0)
    }
}
