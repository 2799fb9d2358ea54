/*
 * The hypercalls: everything a guest may ask for (guest/abi.h, docs/abi.md), and what becomes of
 * one that faults. Each call checks everything before it changes anything. A number that makes
 * no sense is answered with an error; a pointer to what the guest does not have ends it.
 *
 * A guest's memory is read and written through the direct map after a walk of its tables, inside
 * the memory gate from the walk to the end of the copy: nobody can take a frame away meanwhile. A
 * buffer that the guest has never touched is touched for it first.
 *
 * Runs on a thread of the guest, interrupts on. Next: guest/touch.c, guest/memory.c.
 */
#include "guest/internal.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "trap.h"

/* Why a first touch came to nothing, though the guest may touch it: a frame was not zero. */
#define TOUCH_FAILED(err)                                                         \
    ((err) == E_NOMEM ? "there is no memory to replace a frame that was not zero" \
                      : "too many frames of its memory were not zero")

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

/*
 * The gate entered, all of it touched, and the guest may use it so: 0. An error, and not entered.
 * A page that another thread gives back in between is as good as one that never was there.
 */
static int guest_enter_for(struct guest *g, u64 va, u64 bytes, enum prot prot)
{
    if (va >= USER_TOP || bytes > USER_TOP - va)
        return bytes ? E_FAULT : 0;
    for (u64 page = ALIGN_DOWN(va, FRAME_SIZE); page < va + bytes; page += FRAME_SIZE) {
        int err = guest_memory_touch(g, page, prot);
        if (err)
            return err;
    }
    guest_memory_enter(g);
    if (guest_may(g, va, bytes, prot))
        return 0;
    guest_memory_leave(g);
    return E_FAULT;
}

/* What the kernel sees at a guest address, to the end of the page. Inside the gate. */
static u8 *guest_window(struct guest *g, u64 va, u64 *bytes)
{
    u64 offset = va % FRAME_SIZE;
    *bytes = MIN(*bytes, FRAME_SIZE - offset);
    return (u8 *)frame_va(g->ops->walk(g, ALIGN_DOWN(va, FRAME_SIZE), PROT_READ)) + offset;
}

/* 0, or an error and nothing was copied. */
static int guest_copy_in(struct guest *g, void *to, u64 va, u64 bytes)
{
    int err = guest_enter_for(g, va, bytes, PROT_READ);
    if (err)
        return err;
    while (bytes) {
        u64 n = bytes;
        const u8 *from = guest_window(g, va, &n);
        memcpy(to, from, n);
        to = (u8 *)to + n;
        va += n;
        bytes -= n;
    }
    guest_memory_leave(g);
    return 0;
}

static int guest_copy_out(struct guest *g, u64 va, const void *from, u64 bytes)
{
    int err = guest_enter_for(g, va, bytes, PROT_WRITE);
    if (err)
        return err;
    while (bytes) {
        u64 n = bytes;
        u8 *to = guest_window(g, va, &n);
        memcpy(to, from, n);
        from = (const u8 *)from + n;
        va += n;
        bytes -= n;
    }
    guest_memory_leave(g);
    return 0;
}

/* ---- the calls ---- */

static s64 call_console_write(struct guest *g, u64 va, u64 bytes)
{
    char part[128];

    if (bytes > GUEST_WRITE_MAX)
        return E_INVAL;
    if (bytes == 0)
        return 0;
    /* All of it first: nothing is printed of a text whose end is not there. */
    int err = guest_enter_for(g, va, bytes, PROT_READ);
    if (err)
        return err;
    guest_memory_leave(g);
    for (u64 done = 0; done < bytes;) {
        u64 n = MIN(bytes - done, sizeof(part));
        err = guest_copy_in(g, part, va + done, n);
        if (err)
            return err;
        guest_console_put(g, part, n);
        done += n;
    }
    return (s64)bytes;
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
    guest_memory_enter_alone(g, va, pages);
    int err = guest_memory_givable(g, va, pages) ? 0 : E_FAULT;
    if (!err)
        err = guest_memory_release(g, va, pages);
    if (!err)
        count_add(&g->frames_back, pages);
    /* Marked before anybody else gets in: its map and its tables do not agree any more. */
    if (err == E_KILLED)
        guest_mark(g, true, -1, "killed: no memory left for its tables in mem_give");
    guest_memory_leave(g);
    return err;
}

static s64 call_whoami(struct guest *g, u64 va)
{
    struct guest_whoami who = {
        .version = GUEST_ABI_VERSION,
        .id = g->id,
        .node = g->node,
        .cpu = thread_cpu(thread_self()),
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

/*
 * Where it begins has to be code, and below the top of its stack there has to be a page that it
 * can write to. Only whether they are the guest's is looked at: they are touched by the thread.
 */
static s64 call_thread_start(struct guest *g, u64 entry, u64 stack, u64 arg, u64 *bad)
{
    if (!IS_ALIGNED(stack, 16))
        return E_INVAL;
    guest_memory_enter(g);
    bool code = entry < USER_TOP && guest_memory_may(g, entry, PROT_EXEC);
    bool room = stack <= USER_TOP && guest_memory_may(g, stack - 1, PROT_WRITE);
    guest_memory_leave(g);
    *bad = code ? stack : entry;
    return code && room ? guest_thread_start(g, entry, stack, arg) : E_FAULT;
}

/* A guest that has handed over a bad pointer, or for which there is no memory, ends. */
static void end_if_hopeless(struct guest *g, const struct trapframe *tf, s64 result, u64 bad)
{
    static const char *const name[] = {[HC_CONSOLE_WRITE] = "console_write",
                                       [HC_MEM_GIVE] = "mem_give",
                                       [HC_WHOAMI] = "whoami",
                                       [HC_THREAD_START] = "thread_start"};
    if (result == E_FAULT)
        guest_end(g, -1, "killed: bad pointer 0x%lx in %s rip 0x%lx", bad, name[tf->rax], tf->rip);
    bool touches = tf->rax == HC_CONSOLE_WRITE || tf->rax == HC_WHOAMI;
    if (touches && (result == E_NOMEM || result == E_DIRTY))
        guest_end(g, -1, "killed: %s, in %s", TOUCH_FAILED(result), name[tf->rax]);
}

void on_hypercall(struct trapframe *tf)
{
    struct guest *g = guest_self();
    u64 bad = tf->rdi;
    s64 result;

    switch (tf->rax) {
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
    case HC_THREAD_START:
        result = call_thread_start(g, tf->rdi, tf->rsi, tf->rdx, &bad);
        break;
    case HC_THREAD_EXIT:
        guest_thread_end(g);
    default:
        result = E_NOSYS;
    }
    end_if_hopeless(g, tf, result, bad);
    tf->rax = (u64)result; /* E_KILLED: it does not come as far as to see it */
}

/* ---- faults and the way back ---- */

/*
 * A fault that a touch can mend: the page is not there yet, or may not be written to yet. What was
 * there, was not written to, and faulted will do so again; so will an access that the CPU made as
 * if it were the kernel's.
 */
static bool fault_may_be_touch(u64 error)
{
    return error & PF_USER && (!(error & PF_PRESENT) || error & PF_WRITE);
}

/* Mostly the first touch of what is the guest's own. */
static void user_fault(struct guest *g, const struct trapframe *tf)
{
    enum prot access = tf->error & PF_FETCH   ? PROT_EXEC
                       : tf->error & PF_WRITE ? PROT_WRITE
                                              : PROT_READ;
    int err = fault_may_be_touch(tf->error) ? guest_memory_touch(g, tf->cr2, access) : E_FAULT;
    if (!err || err == E_KILLED) /* on_user_return() sees to the killed */
        return;
    if (err != E_FAULT)
        guest_end(g, -1, "killed: %s, at 0x%lx rip 0x%lx", TOUCH_FAILED(err), tf->cr2, tf->rip);
    guest_end(g, -1, "killed: page fault at 0x%lx (%s) rip 0x%lx", tf->cr2,
              access == PROT_EXEC    ? "execute"
              : access == PROT_WRITE ? "write"
                                     : "read",
              tf->rip);
}

void on_user_trap(struct trapframe *tf)
{
    struct guest *g = guest_self();

    if (tf->vector == TRAP_PF) {
        user_fault(g, tf);
        return;
    }
    guest_end(g, -1, "killed: %s (error 0x%lx) rip 0x%lx", trap_name(tf->vector), tf->error,
              tf->rip);
}

void on_user_return(void)
{
    struct guest *g = guest_self();
    if (likely(!guest_must_end(g) && !thread_over_limit()))
        return;
    irqs_on();
    if (guest_must_end(g))
        guest_thread_end(g);
    if (guest_over_limit(g))
        guest_end(g, -1, CPU_TIME_USED_UP, g->cpu_limit_ns / 1000000);
}
