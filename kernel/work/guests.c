/*
 * Scenarios with guests: destroy, create, churn, balloon. The guest `toucher` writes a word into
 * each of its pages and ends: a guest is created when it has all of its memory in its hands, no
 * matter at what moment a strategy makes it so.
 *
 * Owns nothing.
 */
#include "kernel/work/work.h"
#include "guest/guest.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "sched/sched.h"

static bool start(const struct work *w, const char *image, u64 frames, const char *secret,
                  unsigned cpu, unsigned *id)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(image);
    cfg.mem = frames * FRAME_SIZE;
    cfg.node = w->node;
    cfg.secret = secret;
    cfg.cpu = cpu;
    int error = guest_start(&cfg, id);
    if (error)
        log_line("work %s: %s did not start: %s", w->scenario, image, error_text(error));
    return error == 0;
}

/* A guest's whole life, in its parts. False: it did not start, or did not end well. */
struct life {
    u64 create_ns, destroy_ns, free_ns;
};
static bool live(struct work *w, u64 frames, struct life *out)
{
    struct guest_stat stat;
    unsigned id;
    u64 began = time_ns();
    *out = (struct life){0};
    if (!start(w, "toucher", frames, NULL, measure_cpu(w->node, 0), &id)) {
        w->failed++;
        return false;
    }
    guest_wait(id);
    u64 took = time_ns() - began;
    if (guest_stat_get(id, &stat) != 0 || stat.exit_code != 0) {
        w->failed++;
        return false;
    }
    out->create_ns = took - MIN(took, stat.destroy_ns);
    out->destroy_ns = stat.destroy_ns;
    out->free_ns = stat.free_ns;
    return true;
}

void work_destroy(struct work *w)
{
    struct life life;
    if (!live(w, w->frames, &life))
        return;
    work_us("destroy", life.destroy_ns);
    work_us("destroy_frees", life.free_ns);
}

/*
 * One dies, and after `pause_ns` the next one comes, where there is no room beside the first; and
 * once more. The better one of the two counts: a host that is busy adds, and never takes away.
 */
static void create_after(struct work *w, u64 pause_ns)
{
    struct life life;
    u64 create_ns = ~0ULL, destroy_ns = ~0ULL;

    ballast_take(&w->rest, w->node, w->frames + w->frames / 8);
    w->held = true;
    if (!live(w, w->frames, &life))
        return;
    for (unsigned round = 0; round < 2; round++) {
        if (pause_ns)
            thread_sleep(pause_ns);
        if (!live(w, w->frames, &life))
            return;
        create_ns = MIN(create_ns, life.create_ns);
        destroy_ns = MIN(destroy_ns, life.destroy_ns);
    }
    work_us("create", create_ns);
    work_us("destroy", destroy_ns);
}

void work_create_now(struct work *w)
{
    create_after(w, 0);
}

void work_create_idle(struct work *w)
{
    create_after(w, NS_PER_S);
}

void work_churn(struct work *w)
{
    enum { AT_ONCE = 8, LIVES = 24 };
    unsigned id[AT_ONCE] = {0}, ended = 0, refused = 0;
    u64 began = time_ns(), destroy[LIVES];
    struct guest_stat stat;

    for (unsigned i = 0; i < LIVES + AT_ONCE; i++) {
        unsigned *mine = &id[i % AT_ONCE];
        if (*mine) {
            guest_wait(*mine);
            if (guest_stat_get(*mine, &stat) == 0 && stat.exit_code == 0)
                destroy[ended++] = stat.destroy_ns;
        }
        *mine = 0;
        if (i < LIVES && !start(w, "toucher", w->frames / (2 * AT_ONCE), NULL, i % nr_cpus, mine))
            refused++;
    }
    w->failed += refused;
    work_us("create", (time_ns() - began) / LIVES); /* a life's share of all of it */
    if (ended)
        work_us("destroy", measure_median(destroy, ended));
}

void work_balloon(struct work *w)
{
    enum { GUESTS = 2 };
    unsigned id[GUESTS], wrong = 0;
    struct guest_stat stat;
    u64 got = 0, began = time_ns();

    for (unsigned i = 0; i < GUESTS; i++) {
        char words[32]; /* pages at most, waves, where its sequence of sizes begins */
        snprintf(words, sizeof(words), "1024x3x%u", i + 7);
        if (!start(w, "balloon", w->frames / 16, words, measure_cpu(w->node, i), &id[i]))
            id[i] = 0;
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        if (id[i]) {
            guest_wait(id[i]);
            if (guest_stat_get(id[i], &stat) == 0) {
                wrong += stat.exit_code != 0;
                got += stat.frames_got;
            }
        } else {
            w->failed++;
        }
    }
    u64 ns = time_ns() - began;
    work_value("got", got * (FRAME_SIZE / KIB), "KiB");
    if (got)
        work_us("create", ns * 256 / got); /* a MiB, inflated and deflated */
    work_value("leaky_guests", wrong, "guests");
}
