/*
 * The hypercalls: everything a guest may ask for (guest/abi.h, docs/abi.md), and what becomes of
 * one that faults. Each call checks everything before it changes anything. A number that makes
 * no sense is answered with an error; a pointer to what the guest does not have ends it.
 *
 * A guest's memory is read and written through the direct map after a walk of its tables, inside
 * the memory gate from the walk to the end of the copy: nobody can take a frame away meanwhile.
 *
 * Runs on the guest's own thread, interrupts on. Next: guest/memory.c.
 */
#include "guest/internal.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "trap.h"

/* ---- the guest's memory ---- */

/* True if the guest itself may use all of [va, va + bytes) so. Inside the gate. */
static bool guest_may(struct guest *g, u64 va, u64 bytes, enum prot prot)
{
    if (bytes == 0)
        return true;
    if (va >= USER_TOP || bytes > USER_TOP - va)
        return false;
    for (u64 page = ALIGN_DOWN(va, FRAME_SIZE); page < va + bytes; page += FRAME_SIZE)
        if (g->ops->walk(g, page, prot) == PFN_NONE)
            return false;
    return true;
}

/* What the kernel sees at a guest address, to the end of the page. Inside the gate. */
static u8 *guest_window(struct guest *g, u64 va, u64 *bytes)
{
    u64 offset = va % FRAME_SIZE;
    *bytes = MIN(*bytes, FRAME_SIZE - offset);
    return (u8 *)frame_va(g->ops->walk(g, ALIGN_DOWN(va, FRAME_SIZE), PROT_READ)) + offset;
}

/* 0, or E_FAULT and nothing was copied. */
static int guest_copy_in(struct guest *g, void *to, u64 va, u64 bytes)
{
    guest_memory_enter(g);
    bool ok = guest_may(g, va, bytes, PROT_READ);
    while (ok && bytes) {
        u64 n = bytes;
        const u8 *from = guest_window(g, va, &n);
        memcpy(to, from, n);
        to = (u8 *)to + n;
        va += n;
        bytes -= n;
    }
    guest_memory_leave(g);
    return ok ? 0 : E_FAULT;
}

static int guest_copy_out(struct guest *g, u64 va, const void *from, u64 bytes)
{
    guest_memory_enter(g);
    bool ok = guest_may(g, va, bytes, PROT_WRITE);
    while (ok && bytes) {
        u64 n = bytes;
        u8 *to = guest_window(g, va, &n);
        memcpy(to, from, n);
        from = (const u8 *)from + n;
        va += n;
        bytes -= n;
    }
    guest_memory_leave(g);
    return ok ? 0 : E_FAULT;
}

/* ---- the calls ---- */

static s64 call_console_write(struct guest *g, u64 va, u64 bytes)
{
    char part[128];

    if (bytes > GUEST_WRITE_MAX)
        return E_INVAL;
    /* All of it first: nothing is printed of a text whose end is not there. */
    guest_memory_enter(g);
    bool ok = guest_may(g, va, bytes, PROT_READ);
    guest_memory_leave(g);
    for (u64 done = 0; ok && done < bytes;) {
        u64 n = MIN(bytes - done, sizeof(part));
        ok = guest_copy_in(g, part, va + done, n) == 0;
        if (ok)
            guest_console_put(g, part, n);
        done += n;
    }
    return ok ? (s64)bytes : E_FAULT;
}

static s64 call_mem_get(struct guest *g, u64 pages)
{
    if (pages == 0)
        return E_INVAL;
    guest_memory_enter(g);
    s64 result = E_NOMEM;
    u64 va = 0;
    if (pages <= g->frames_limit - g->frames_held)
        va = guest_memory_find(g, pages);
    if (va) {
        int err = guest_memory_fill(g, va, pages, PROT_READ | PROT_WRITE, USE_MEMORY);
        result = err ? err : (s64)va;
        if (err)
            err = guest_memory_release(g, va, pages);
        ASSERT(!err); /* what was filled begins and ends where the range does: nothing to split */
    }
    if (result > 0)
        count_add(&g->frames_got, pages);
    guest_memory_leave(g);
    return result;
}

static s64 call_mem_give(struct guest *g, u64 va, u64 pages)
{
    if (pages == 0 || pages > USER_TOP / FRAME_SIZE || !IS_ALIGNED(va, FRAME_SIZE))
        return E_INVAL;
    if (va >= USER_TOP || pages * FRAME_SIZE > USER_TOP - va)
        return E_FAULT;
    guest_memory_enter(g);
    int err = guest_memory_givable(g, va, pages) ? 0 : E_FAULT;
    if (!err)
        err = guest_memory_release(g, va, pages);
    if (!err)
        count_add(&g->frames_back, pages);
    guest_memory_leave(g);
    return err;
}

static s64 call_whoami(struct guest *g, u64 va)
{
    struct guest_whoami who = {
        .version = GUEST_ABI_VERSION,
        .id = g->id,
        .node = g->node,
        .cpu = g->cpu,
        .frames_held = load_relaxed(&g->frames_held),
        .frames_limit = g->frames_limit,
    };
    _Static_assert(sizeof(who.name) == sizeof(g->name), "the name fits");
    memcpy(who.name, g->name, sizeof(who.name));
    return guest_copy_out(g, va, &who, sizeof(who));
}

static s64 call_sleep(struct guest *g, u64 ns)
{
    u64 start = time_ns();
    /* A kill interrupts the sleep, and is remembered if it comes between the look and the sleep. */
    for (u64 slept = 0; slept < ns && !guest_must_end(g); slept = time_ns() - start)
        thread_sleep(MIN(ns - slept, 1000ULL * 1000 * 1000 * 3600));
    return 0;
}

void on_hypercall(struct trapframe *tf)
{
    static const char *const name[] = {
        [HC_CONSOLE_WRITE] = "console_write", [HC_MEM_GIVE] = "mem_give", [HC_WHOAMI] = "whoami"};
    struct guest *g = guest_self();
    u64 number = tf->rax;
    s64 result;

    switch (number) {
    case HC_CONSOLE_WRITE:
        result = call_console_write(g, tf->rdi, tf->rsi);
        break;
    case HC_MEM_GET:
        result = call_mem_get(g, tf->rdi);
        break;
    case HC_MEM_GIVE:
        result = call_mem_give(g, tf->rdi, tf->rsi);
        break;
    case HC_YIELD:
        sched_yield();
        result = 0;
        break;
    case HC_EXIT:
        guest_end(g, (s64)tf->rdi, "exited with code %ld", (s64)tf->rdi);
    case HC_WHOAMI:
        result = call_whoami(g, tf->rdi);
        break;
    case HC_SLEEP:
        result = call_sleep(g, tf->rdi);
        break;
    default:
        result = E_NOSYS;
    }
    if (result == E_FAULT)
        guest_end(g, -1, "killed: bad pointer 0x%lx in %s rip 0x%lx", tf->rdi, name[number],
                  tf->rip);
    if (result == E_KILLED && !guest_must_end(g))
        guest_end(g, -1, "killed: no memory left for its tables in %s", name[number]);
    tf->rax = (u64)result;
}

/* ---- faults and the way back ---- */

void on_user_trap(struct trapframe *tf)
{
    struct guest *g = guest_self();

    if (tf->vector == TRAP_PF)
        guest_end(g, -1, "killed: page fault at 0x%lx (%s) rip 0x%lx", tf->cr2,
                  tf->error & PF_FETCH   ? "execute"
                  : tf->error & PF_WRITE ? "write"
                                         : "read",
                  tf->rip);
    guest_end(g, -1, "killed: %s (error 0x%lx) rip 0x%lx", trap_name(tf->vector), tf->error,
              tf->rip);
}

void on_user_return(void)
{
    struct guest *g = guest_self();
    if (likely(!guest_must_end(g) && !thread_over_limit()))
        return;
    irqs_on();
    if (!guest_must_end(g))
        guest_end(g, -1, "killed: its CPU time of %lu ms is used up", g->cpu_limit_ns / 1000000);
    guest_finish(g);
}
