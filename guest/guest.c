/*
 * The table of guests and their life: starting -> running -> exiting -> dead.
 *
 * Owns guest_table[] under guest_table_lock (t), and each guest's state, threads and end under
 * the guest's own lock (g); the order is table, guest. Neither is held while memory moves or a
 * line is printed. A place in the table never moves, so a pointer to it stays good; the id says
 * whose it is. The dead stay listed until a new guest needs the place: the longest dead first.
 *
 * Next: guest/internal.h has the order of events at the end; guest/start.c is the beginning.
 */
#include "guest/internal.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

static struct spinlock guest_table_lock = SPINLOCK("guest table", RANK_GUEST_TABLE);
static struct guest guest_table[GUESTS_MAX];
static unsigned guest_last_id;     /* (t) */
static struct waitq guest_changes; /* who waits for an end */
static bool guest_ready;           /* (t) the locks and queues are made */

const char *guest_state_name(enum guest_state state)
{
    static const char *const name[] = {"starting", "running", "exiting", "dead"};
    return (unsigned)state < ARRAY_SIZE(name) ? name[state] : "?";
}

struct guest *guest_self(void)
{
    struct guest *g = thread_guest(thread_self());
    if (!g)
        panic("thread %s came from ring 3 and belongs to no guest", thread_name(thread_self()));
    return g;
}

/* ---- the table ---- */

static struct guest *table_find_locked(unsigned id)
{
    ASSERT(spin_held(&guest_table_lock));
    for (unsigned i = 0; id && i < GUESTS_MAX; i++)
        if (guest_table[i].id == id)
            return &guest_table[i];
    return NULL;
}

/* A place that never was used, or the one of the guest that is dead for the longest time. */
static struct guest *table_place_locked(void)
{
    struct guest *best = NULL;
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        struct guest *g = &guest_table[i];
        if (!g->id)
            return g;
        if (g->state == GUEST_DEAD && (!best || g->id < best->id))
            best = g;
    }
    return best;
}

static void table_ready_locked(void)
{
    for (unsigned i = 0; i < GUESTS_MAX && !guest_ready; i++) {
        spin_init(&guest_table[i].lock, "guest", RANK_GUEST, i);
        mutex_init(&guest_table[i].gate, "guest memory");
        waitq_init(&guest_table[i].touched, "guest touch");
    }
    if (!guest_ready)
        waitq_init(&guest_changes, "guest changes");
    guest_ready = true;
}

struct guest *guest_table_add(const struct guest_config *cfg, const struct guest_ops *ops)
{
    spin_lock(&guest_table_lock);
    table_ready_locked();
    struct guest *g = table_place_locked();
    if (g) {
        spin_lock(&g->lock);
        /* All but what outlives one guest: the lock and the queues, which come first. */
        memset((char *)g + offsetof(struct guest, id), 0, sizeof(*g) - offsetof(struct guest, id));
        g->id = ++guest_last_id;
        g->ops = ops;
        g->state = GUEST_STARTING;
        list_init(&g->touching);
        str_copy(g->name, cfg->name, sizeof(g->name));
        spin_unlock(&g->lock);
    }
    spin_unlock(&guest_table_lock);
    return g;
}

void guest_table_remove(struct guest *g, unsigned id)
{
    spin_lock(&guest_table_lock);
    if (g->id == id)
        g->id = 0;
    spin_unlock(&guest_table_lock);
    waitq_wake_all(&guest_changes);
}

/* ---- the end ---- */

/* True if the guest was alive and is exiting because of this call. */
static bool guest_set_exiting_locked(struct guest *g, bool say, s64 code, const char *fmt,
                                     va_list ap)
{
    ASSERT(spin_held(&g->lock));
    if (g->state != GUEST_STARTING && g->state != GUEST_RUNNING)
        return false;
    g->ended_at = time_ns();
    g->exit_code = code;
    g->say_end = say;
    vsnprintf(g->end, sizeof(g->end), fmt, ap);
    store_relaxed(&g->state, GUEST_EXITING); /* seen by its threads at the latest by the kick */
    for (unsigned i = 0; i < GUEST_THREADS_MAX; i++)
        if (g->threads[i].thread)
            thread_interrupt(g->threads[i].thread);
    return true;
}

bool guest_mark(struct guest *g, bool say, s64 code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    spin_lock(&g->lock);
    bool first = guest_set_exiting_locked(g, say, code, fmt, ap);
    spin_unlock(&g->lock);
    va_end(ap);
    return first;
}

void guest_end(struct guest *g, s64 code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    spin_lock(&g->lock);
    guest_set_exiting_locked(g, true, code, fmt, ap);
    spin_unlock(&g->lock);
    va_end(ap);
    guest_thread_end(g);
}

/* The reaper has freed a thread's stack: if it was the last one, everything is back now. */
static void guest_reaped(void *arg)
{
    struct guest *g = arg;
    spin_lock(&g->lock);
    if (--g->nr_stacks == 0)
        g->state = GUEST_DEAD;
    spin_unlock(&g->lock);
    waitq_wake_all(&guest_changes);
}

static void guest_exit_locked(struct guest *g, s64 code, const char *fmt, ...) __printf_like(3, 4);
static void guest_exit_locked(struct guest *g, s64 code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    guest_set_exiting_locked(g, true, code, fmt, ap);
    va_end(ap);
}

/* Everything goes back. The caller is the last thread, and is out of the address space. */
static void guest_destroy(struct guest *g)
{
    guest_memory_enter(g);
    u64 begin = time_ns();
    guest_memory_destroy(g);
    g->ops->destroy(g);
    u64 end = time_ns();
    guest_memory_leave(g);

    spin_lock(&g->lock);
    g->free_ns = end - begin;
    g->destroy_ns = end - g->ended_at;
    bool say = g->say_end;
    spin_unlock(&g->lock);
    /* Told now, not before: a line on a slow console is no part of the destroy time. */
    if (say)
        log_line("guest %u %s %s", g->id, g->name, g->end);
}

void guest_thread_end(struct guest *g)
{
    struct guest_thread *t = guest_thread_self(g);

    guest_console_flush(g);
    guest_memory_enter(g); /* counts of the guest are changed in it */
    g->ops->leave(g);
    if (t->local && t->local != &g->head->local)
        guest_own_free(g, t->local);
    guest_memory_leave(g);

    thread_on_reaped(thread_self(), guest_reaped, g);
    spin_lock(&g->lock);
    g->cpu_ns += thread_cpu_ns(t->thread);
    t->thread = NULL; /* nobody interrupts what is about to be gone */
    t->taken = false;
    bool last = --g->nr_threads == 0;
    /* Else a guest could run for ever on threads that each end within their share. */
    if (g->cpu_limit_ns && guest_cpu_ns_locked(g) >= g->cpu_limit_ns)
        guest_exit_locked(g, -1, CPU_TIME_USED_UP, g->cpu_limit_ns / 1000000);
    else if (last)
        guest_exit_locked(g, 0, "exited: its last thread ended");
    spin_unlock(&g->lock);
    /* Who is not the last must not touch the guest any more. */
    if (last)
        guest_destroy(g);
    thread_exit();
}

int guest_kill(unsigned id)
{
    spin_lock(&guest_table_lock);
    struct guest *g = table_find_locked(id);
    char name[GUEST_NAME_MAX];
    bool first = false, exiting = false;
    if (g) {
        str_copy(name, g->name, sizeof(name));
        first = guest_mark(g, false, -1, "killed");
        exiting = load_relaxed(&g->state) == GUEST_EXITING;
    }
    spin_unlock(&guest_table_lock);
    if (first)
        log_line("guest %u %s killed", id, name);
    return exiting ? 0 : E_NOENT;
}

/* True if all memory of guest `id` is back. */
static bool guest_is_gone(unsigned id)
{
    spin_lock(&guest_table_lock);
    const struct guest *g = table_find_locked(id);
    bool gone = !g || load_relaxed(&g->state) == GUEST_DEAD;
    spin_unlock(&guest_table_lock);
    return gone;
}

int guest_wait(unsigned id)
{
    spin_lock(&guest_table_lock);
    bool existed = id > 0 && id <= guest_last_id;
    spin_unlock(&guest_table_lock);
    if (!existed)
        return E_NOENT;
    waitq_wait(&guest_changes, guest_is_gone(id));
    return 0;
}

/* ---- looking ---- */

static void stat_fill(struct guest *g, struct guest_stat *out)
{
    spin_lock(&g->lock);
    *out = (struct guest_stat){
        .id = g->id,
        .kind = g->ops->kind,
        .state = g->state,
        .node = g->node,
        .cpu = g->cpu,
        .frames_given = g->frames_given,
        .frames_held = load_relaxed(&g->frames_held),
        .frames_mapped = load_relaxed(&g->frames_mapped),
        .frames_peak = load_relaxed(&g->frames_peak),
        .frames_got = load_relaxed(&g->frames_got),
        .frames_back = load_relaxed(&g->frames_back),
        .frames_own = load_relaxed(&g->frames_own) + g->ops->table_frames(g),
        .blocks = load_relaxed(&g->blocks),
        .taken_clean = load_relaxed(&g->taken_clean),
        .taken_cleared = load_relaxed(&g->taken_cleared),
        .taken_dirty = load_relaxed(&g->taken_dirty),
        .touches = load_relaxed(&g->touches),
        .touch_ns = load_relaxed(&g->touch_ns),
        .frames_touched = load_relaxed(&g->frames_touched),
        .touched_dirty = load_relaxed(&g->touched_dirty),
        .cleared_at_touch = load_relaxed(&g->cleared_at_touch),
        .scrub_ns = load_relaxed(&g->scrub_ns),
        .frames_shown = load_relaxed(&g->shown),
        .cpu_ns = guest_cpu_ns_locked(g),
        .threads = g->nr_threads,
        .threads_started = g->threads_started,
        .start_ns = g->started_at,
        .load_ns = g->load_ns,
        .exit_code = g->exit_code,
        .destroy_ns = g->destroy_ns,
        .free_ns = g->free_ns,
        .frees = load_relaxed(&g->frees),
    };
    str_copy(out->name, g->name, sizeof(out->name));
    str_copy(out->end, g->end, sizeof(out->end));
    spin_unlock(&g->lock);
}

int guest_stat_get(unsigned id, struct guest_stat *out)
{
    spin_lock(&guest_table_lock);
    struct guest *g = table_find_locked(id);
    if (g)
        stat_fill(g, out);
    spin_unlock(&guest_table_lock);
    return g ? 0 : E_NOENT;
}

unsigned guest_next(unsigned after)
{
    unsigned best = 0;
    spin_lock(&guest_table_lock);
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        unsigned id = guest_table[i].id;
        if (id > after && (!best || id < best))
            best = id;
    }
    spin_unlock(&guest_table_lock);
    return best;
}

static unsigned guests_count(bool exiting_only)
{
    unsigned n = 0;
    spin_lock(&guest_table_lock);
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        const struct guest *g = &guest_table[i];
        enum guest_state state = load_relaxed(&g->state);
        if (g->id && (state == GUEST_EXITING || (!exiting_only && state != GUEST_DEAD)))
            n++;
    }
    spin_unlock(&guest_table_lock);
    return n;
}

unsigned guests_exiting(void)
{
    return guests_count(true);
}

unsigned guests_alive(void)
{
    return guests_count(false);
}

void guests_wait_exiting(void)
{
    spin_lock(&guest_table_lock);
    table_ready_locked();
    spin_unlock(&guest_table_lock);
    waitq_wait(&guest_changes, guests_exiting() == 0);
}

void guests_frames(u64 *memory, u64 *own)
{
    *memory = *own = 0;
    spin_lock(&guest_table_lock);
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        const struct guest *g = &guest_table[i];
        if (!g->id || load_relaxed(&g->state) == GUEST_DEAD)
            continue;
        *memory += load_relaxed(&g->frames_held);
        *own += load_relaxed(&g->frames_own) + g->ops->table_frames(g);
    }
    spin_unlock(&guest_table_lock);
}
