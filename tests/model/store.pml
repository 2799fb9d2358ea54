/*
 * The owner of a store against a sweeper: mm/store.c, store_enter() and owners_stop(). The owner
 * has no lock and no fence; its stores wait in a buffer (TSO, SDM3 9.2) and leave it in order, at
 * any time. Safety: they are never both in, and no frame is lost or seen twice.
 *
 *   spin -run tests/model/store.pml              exhausted without a violation
 *   spin -DDROP_SERIALIZE -run ...               the owner's plain store passes its later load
 *   spin -DDROP_WAIT -run ...                    the sweeper does not wait for the owner to leave
 */
#define ROUNDS 2

bit inside, wanted; /* memory */
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
    :: atomic { buffer?v -> inside = v }
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
    :: stored > 0 -> stored--; popped++
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
        buffer!1; /* inside = 1: mm/store.c:store_enter */
        if
        :: !wanted ->
            pop();
            buffer!0 /* mm/store.c:store_leave */
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
        atomic { !sweep_lock -> sweep_lock = 1 } /* mm/store.c:owners_stop */
        wanted = 1;
#ifndef DROP_SERIALIZE
        atomic { drain() } /* cpus_serialize(): the owner's CPU passes a fence */
#endif
#ifndef DROP_WAIT
        !inside;
#endif
        sweeper_in = 1; /* mm/store.c:empty_into */
        assert(!owner_in);
        swept = swept + stored;
        stored = 0;
        assert(!owner_in);
        sweeper_in = 0;
        wanted = 0; /* mm/store.c:owners_go */
        sweep_lock = 0
    :: else -> break
    od;
    assert(stored + popped + swept == 2)
}
