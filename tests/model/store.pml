/*
 * The owner of a store against a sweeper: mm/store.c, store_enter() and owners_stop(). The owner
 * has no lock and no fence; its stores wait in a buffer (TSO, SDM3 9.2) and leave it in order, at
 * any time. Safety: they are never both in, and no frame is lost or seen twice.
 *
 * Switches: DROP_SERIALIZE, the owner's plain store passes its later load; DROP_WAIT, the sweeper
 * does not wait for the owner to leave. A is the sweeper, B the owner.
 */
#define ROUNDS 2

bit inside, wanted; /* memory; wanted: cpu_stores.serves == SERVES_NOBODY */
bit sweep_lock;
chan buffer = [2] of { bit }; /* the owner's stores of `inside` on their way to memory */
bit owner_in, sweeper_in;     /* ghosts */
byte stored = 2, popped, swept;

/* The store buffer drains when it likes. */
active proctype memory()
{
    bit v;
end:
    do
    :: atomic { buffer?v -> inside = v; printf("@B0 mm/store.h:store_enter | (inside = %d becomes visible)\n", v) }
    od
}

inline drain() /* a locked instruction, an interrupt: the buffer is empty afterwards */
{
    do
    :: nempty(buffer) -> buffer?drained; inside = drained
    :: empty(buffer) -> break
    od
}

inline pop()
{
    owner_in = 1;
    assert(!sweeper_in);
    if
    :: stored > 0 -> stored--; popped++; printf("@B0 mm/store.h:store_pop | pops\n")
    :: popped > 0 -> popped--; stored++; printf("@B0 mm/store.h:store_push | puts back what it popped\n")
    :: else
    fi;
    assert(!sweeper_in);
    owner_in = 0
}

active proctype owner()
{
    byte n;
    bit drained;
    do
    :: n < ROUNDS ->
        n++;
        atomic { buffer!1; printf("@B0 mm/store.h:store_enter | inside = 1, in the store buffer; wanted is %d\n", wanted) }
        if
        :: !wanted ->
            pop();
            atomic { buffer!0; printf("@B0 mm/store.h:store_leave | inside = 0, in the store buffer\n") }
        :: else ->
            buffer!0;
            atomic { !sweep_lock -> sweep_lock = 1; drain() }
            pop();
            sweep_lock = 0
        fi
    :: else -> break
    od
}

active proctype sweeper()
{
    byte n;
    bit drained;
    do
    :: n < ROUNDS ->
        n++;
        atomic { !sweep_lock -> sweep_lock = 1; printf("@A0 mm/store.c:owners_stop | sweep lock\n") }
        atomic { wanted = 1; printf("@A0 mm/store.c:owners_stop | wanted = 1\n") }
#ifndef DROP_SERIALIZE
        /* the owner's CPU passes a fence */
        atomic { drain(); printf("@A0 mm/store.c:owners_stop | cpus_serialize()\n") }
#endif
#ifndef DROP_WAIT
        !inside;
#endif
        atomic { sweeper_in = 1; printf("@A0 mm/store_move.c:put_all | the owner is out: takes what is there\n") }
        assert(!owner_in);
        swept = swept + stored;
        stored = 0;
        assert(!owner_in);
        sweeper_in = 0;
        atomic { wanted = 0; printf("@A0 mm/store.c:owners_go | wanted = 0; sweep lock dropped\n") }
        sweep_lock = 0
    :: else -> break
    od;
    atomic { !owner_in -> assert(stored + popped + swept == 2) }
}
