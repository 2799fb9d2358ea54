/*
 * The table of guests and their life: starting -> running -> exiting -> dead.
 *
 * Owns guest_table[] under guest_table_lock (t), and each guest's state, thread and end under
 * the guest's own lock (g); the order is table, guest. Neither is held while memory moves or a
 * line is printed. A place in the table never moves, so a pointer to it stays good; the id says
 * whose it is. The dead stay listed until a new guest needs the place: the longest dead first.
 *
 * A guest's thread is made first and gives everything back at the end, whether it ever ran or
 * not: so there is one way out, and who kills never waits.
 *
 * Next: guest/internal.h has the order of events at the end; guest/loader.c the beginning.
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

static const struct guest_ops *const guest_kinds[] = {&ring3_ops};

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
        waitq_init(&guest_table[i].gate, "guest memory");
    }
    if (!guest_ready)
        waitq_init(&guest_changes, "guest changes");
    guest_ready = true;
}

/* A new guest in state STARTING. NULL: all places are taken by the living. */
static struct guest *table_add(const struct guest_config *cfg, const struct guest_ops *ops)
{
    spin_lock(&guest_table_lock);
    table_ready_locked();
    struct guest *g = table_place_locked();
    if (g) {
        spin_lock(&g->lock);
        /* All but what outlives one guest: the lock and the gate, which come first. */
        memset((char *)g + offsetof(struct guest, id), 0, sizeof(*g) - offsetof(struct guest, id));
        g->id = ++guest_last_id;
        g->ops = ops;
        g->state = GUEST_STARTING;
        str_copy(g->name, cfg->name, sizeof(g->name));
        spin_unlock(&g->lock);
    }
    spin_unlock(&guest_table_lock);
    return g;
}

/* A guest that never ran leaves no trace. The place may be another's already: the id says. */
static void table_remove(struct guest *g, unsigned id)
{
    spin_lock(&guest_table_lock);
    if (g->id == id)
        g->id = 0;
    spin_unlock(&guest_table_lock);
    waitq_wake_all(&guest_changes);
}

/* ---- the end ---- */

/* True if the guest was alive and is exiting because of this call. */
static bool guest_set_exiting(struct guest *g, s64 code, const char *fmt, va_list ap)
{
    spin_lock(&g->lock);
    bool first = g->state == GUEST_STARTING || g->state == GUEST_RUNNING;
    if (first) {
        g->ended_at = time_ns();
        g->exit_code = code;
        vsnprintf(g->end, sizeof(g->end), fmt, ap);
        store_relaxed(&g->state, GUEST_EXITING); /* seen by its thread at the latest by the kick */
        if (g->thread)
            thread_interrupt(g->thread);
    }
    spin_unlock(&g->lock);
    return first;
}

static bool guest_mark(struct guest *g, s64 code, const char *fmt, ...) __printf_like(3, 4);
static bool guest_mark(struct guest *g, s64 code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool first = guest_set_exiting(g, code, fmt, ap);
    va_end(ap);
    return first;
}

void guest_end(struct guest *g, s64 code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool first = guest_set_exiting(g, code, fmt, ap);
    va_end(ap);

    g->say_end = first;
    guest_finish(g);
}

/* The reaper has freed the thread's stack: now everything is back. */
static void guest_reaped(void *arg)
{
    struct guest *g = arg;
    spin_lock(&g->lock);
    g->state = GUEST_DEAD;
    spin_unlock(&g->lock);
    waitq_wake_all(&guest_changes);
}

void guest_finish(struct guest *g)
{
    guest_console_flush(g);
    guest_memory_enter(g);
    g->ops->leave(g);
    u64 begin = time_ns();
    guest_memory_destroy(g);
    g->ops->destroy(g);
    u64 end = time_ns();
    guest_memory_leave(g);

    spin_lock(&g->lock);
    g->free_ns = end - begin;
    g->destroy_ns = end - g->ended_at;
    g->thread = NULL; /* nobody interrupts what is about to be gone */
    spin_unlock(&g->lock);
    /* Told now, not before: a line on a slow console is no part of the destroy time. */
    if (g->say_end)
        log_line("guest %u %s %s", g->id, g->name, g->end);
    thread_on_reaped(thread_self(), guest_reaped, g);
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
        first = guest_mark(g, -1, "killed");
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

/* ---- the beginning ---- */

/* The first thing a guest's thread does, and the only thing if it was ended before. */
static void guest_thread(void *arg)
{
    struct guest *g = arg;
    if (guest_must_end(g))
        guest_finish(g);
    g->ops->run(g);
}

static const struct guest_ops *start_kind(const struct guest_config *cfg)
{
    char list[64];
    size_t len = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
        if (!cfg->kind || strcmp(cfg->kind, guest_kinds[i]->kind) == 0)
            return guest_kinds[i];
        len += (size_t)snprintf(list + len, sizeof(list) - len, " %s", guest_kinds[i]->kind);
    }
    log_line("start %s: kind=%s is not known; there are:%s", cfg->name, cfg->kind, list);
    return NULL;
}

/* Looks at everything that can be wrong before anything is taken. */
static int start_check(const struct guest_config *cfg)
{
    const char *name = cfg->name;
    if (!name || !*name || strlen(name) >= GUEST_NAME_MAX) {
        log_line("start: the name of an image has 1 to %d characters", GUEST_NAME_MAX - 1);
        return E_INVAL;
    }
    if (cfg->mem > GUEST_MEM_MAX) {
        log_line("start %s: mem= is at most %llu GiB", name, GUEST_MEM_MAX / GIB);
        return E_INVAL;
    }
    if (cfg->node != ANY_NODE && cfg->node >= nr_nodes) {
        log_line("start %s: node=%u: there are nodes 0 to %u", name, cfg->node, nr_nodes - 1);
        return E_INVAL;
    }
    if (cfg->cpu != ANY_CPU &&
        (cfg->cpu >= nr_cpus || !load_acquire(&cpu_by_id(cfg->cpu)->online))) {
        log_line("start %s: cpu=%u: there are CPUs 0 to %u", name, cfg->cpu, nr_cpus - 1);
        return E_INVAL;
    }
    if (cfg->secret && (!*cfg->secret || strlen(cfg->secret) >= GUEST_SECRET_MAX)) {
        log_line("start %s: secret= has 1 to %d characters", name, GUEST_SECRET_MAX - 1);
        return E_INVAL;
    }
    return 0;
}

/*
 * Is there as much memory at all, free or coming back? Only so that a hopeless start does not
 * take, and clear, everything that there is before it fails. What guests that are exiting still
 * hold is waited for: who kills one and starts the next at once finds room.
 */
static bool start_room(const struct guest_config *cfg, u64 frames, u64 *have)
{
    struct mm_zone_info info;
    for (bool waited = false;; waited = true) {
        bool exiting = guests_exiting() > 0; /* before the look: what is back by then is seen */
        mm_node_info(cfg->node == ANY_NODE ? MM_ALL_NODES : cfg->node, &info);
        *have = info.frames - info.allocated - info.retired;
        if (frames <= *have || waited || !exiting)
            return frames <= *have;
        guests_wait_exiting();
    }
}

static void start_say_memory(const struct guest_config *cfg, u64 have, u64 frames)
{
    char where[32] = "any node";
    if (cfg->node != ANY_NODE)
        snprintf(where, sizeof(where), "node %u", cfg->node);
    log_line("start %s: out of memory: %llu of %llu KiB were to be had of %s", cfg->name,
             have * FRAME_SIZE / KIB, frames * FRAME_SIZE / KIB, where);
}

/* How many frames it is to be given. */
static int start_size(const struct guest_config *cfg, const struct guest_image *im, u64 *frames)
{
    u64 own = guest_image_frames(im), have;

    *frames = ALIGN_UP(cfg->mem ? cfg->mem : GUEST_MEM_DEFAULT, FRAME_SIZE) >> FRAME_SHIFT;
    if (*frames <= own) {
        log_line("start %s: mem=%lluK is too small: image, stack and info page take %lluK",
                 cfg->name, *frames * FRAME_SIZE / KIB, own * FRAME_SIZE / KIB);
        return E_INVAL;
    }
    if (!start_room(cfg, *frames, &have)) {
        start_say_memory(cfg, have, *frames);
        return E_NOMEM;
    }
    return 0;
}

static void start_place(struct guest *g, const struct guest_config *cfg)
{
    g->cpu = thread_cpu(g->thread);
    g->node = cfg->node == ANY_NODE ? cpu_node(g->cpu) : cfg->node;
    g->take = TAKE_CLEAN | (cfg->node == ANY_NODE ? 0 : TAKE_THIS_NODE);
}

static void start_say(const struct guest *g, const struct guest_config *cfg, int err)
{
    if (err == E_NOMEM)
        start_say_memory(cfg, g->frames_held, g->frames_given);
    else if (err == E_KILLED)
        log_line("start %s: killed while it was being loaded", g->name);
    else
        log_line("start %s: %s", g->name, error_text(err));
}

/* From STARTING to RUNNING; E_KILLED if somebody was faster. */
static int start_run(struct guest *g, u64 since)
{
    spin_lock(&g->lock);
    bool go = g->state == GUEST_STARTING;
    if (go) {
        g->started_at = time_ns();
        g->load_ns = g->started_at - since;
        store_relaxed(&g->state, GUEST_RUNNING);
    }
    spin_unlock(&g->lock);
    return go ? 0 : E_KILLED;
}

/* A guest with a thread that has not started yet: memory, image. */
static int start_load(struct guest *g, const struct guest_image *im, const struct guest_config *cfg)
{
    guest_memory_enter(g);
    int err = guest_memory_create(g);
    if (!err)
        err = g->ops->create(g);
    if (!err)
        err = guest_load(g, im, cfg);
    guest_memory_leave(g);
    return err;
}

int guest_start(const struct guest_config *cfg, unsigned *id)
{
    u64 since = time_ns();
    struct guest_image im;
    int err = start_check(cfg);
    if (err)
        return err;
    const struct guest_ops *ops = start_kind(cfg);
    if (!ops)
        return E_NOENT;
    err = guest_image_find(cfg->name, &im);
    if (err)
        return err;
    u64 frames;
    err = start_size(cfg, &im, &frames);
    if (err)
        return err;
    struct guest *g = table_add(cfg, ops);
    if (!g) {
        log_line("start %s: %d guests are alive, there is no place for more", cfg->name,
                 GUESTS_MAX);
        return E_NOSPC;
    }
    g->frames_given = frames;
    g->frames_limit = 2 * frames;
    struct thread *t = thread_create(g->name, guest_thread, g, cfg->cpu, cfg->node);
    if (!t) {
        log_line("start %s: out of memory for its thread", g->name);
        table_remove(g, g->id);
        return E_NOMEM;
    }
    thread_set_guest(t, g);
    spin_lock(&g->lock);
    g->thread = t;
    spin_unlock(&g->lock);
    start_place(g, cfg);
    *id = g->id;

    err = start_load(g, &im, cfg);
    if (!err)
        err = start_run(g, since);
    if (!err) {
        thread_start(t);
        return 0;
    }
    start_say(g, cfg, err);
    guest_mark(g, -1, "never ran");
    unsigned gone = g->id;
    thread_start(t); /* gives back what there is */
    guest_wait(gone);
    table_remove(g, gone);
    return err;
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
        .frames_peak = load_relaxed(&g->frames_peak),
        .frames_got = load_relaxed(&g->frames_got),
        .frames_back = load_relaxed(&g->frames_back),
        .frames_own = load_relaxed(&g->frames_own) + g->ops->table_frames(g),
        .blocks = load_relaxed(&g->blocks),
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

u64 guests_frames(void)
{
    u64 sum = 0;
    spin_lock(&guest_table_lock);
    for (unsigned i = 0; i < GUESTS_MAX; i++) {
        const struct guest *g = &guest_table[i];
        if (g->id && g->state != GUEST_DEAD)
            sum += load_relaxed(&g->frames_held) + load_relaxed(&g->frames_own) +
                   g->ops->table_frames(g);
    }
    spin_unlock(&guest_table_lock);
    return sum;
}
