/*
 * guest_start(): from a configuration to a running guest, or an error of which one line says why.
 *
 * The guest's thread is made first, its memory after that, and the thread gives everything back
 * at the end whether the guest ever ran or not: so there is one way out, and killing works while
 * memory is still being taken.
 *
 * Owns nothing. A guest in state STARTING is the starter's, but for its state (g).
 * Next: guest/loader.c, guest/memory.c.
 */
#include "guest/internal.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

static const struct guest_ops *guest_kinds[4] = {&ring3_ops}; /* (c) while guests are started */

void guest_kind_add(const struct guest_ops *ops)
{
    for (unsigned i = 0; i < ARRAY_SIZE(guest_kinds); i++) {
        if (guest_kinds[i] == ops)
            return;
        if (!guest_kinds[i]) {
            guest_kinds[i] = ops;
            return;
        }
    }
    panic("there is no room for the kind of guest '%s'", ops->kind);
}

static const struct guest_ops *start_kind(const struct guest_config *cfg)
{
    char list[64];
    size_t len = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(guest_kinds) && guest_kinds[i]; i++) {
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

/*
 * A guest with a thread that has not started yet: memory, image. Nobody else is at its memory, so
 * the gate is not entered for all of it.
 */
static int start_load(struct guest *g, const struct guest_image *im, const struct guest_config *cfg)
{
    int err = guest_memory_create(g);
    if (!err)
        err = g->ops->create(g);
    if (err)
        return err;
    guest_thread_prepare(g, im->elf.entry);
    return guest_load(g, im, cfg);
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
    struct guest *g = guest_table_add(cfg, ops);
    if (!g) {
        log_line("start %s: %d guests are alive, there is no place for more", cfg->name,
                 GUESTS_MAX);
        return E_NOSPC;
    }
    g->frames_given = frames;
    g->frames_limit = 2 * frames;
    g->cpu_limit_ns = cfg->cpu_ns;
    if (guest_thread_first(g, cfg) != 0) {
        log_line("start %s: out of memory for its thread", g->name);
        guest_table_remove(g, g->id);
        return E_NOMEM;
    }
    struct thread *t = g->threads[0].thread;
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
    guest_mark(g, false, -1, "never ran");
    unsigned gone = g->id;
    thread_start(t); /* gives back what there is */
    guest_wait(gone);
    guest_table_remove(g, gone);
    return err;
}
