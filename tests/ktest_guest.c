/*
 * What the suites that run guests share. Owns the name that is being looked for, and who watches
 * an attack (one case at a time). Next: suite_guest.c, suite_touch.c, suite_pressure.c.
 */
#include "tests/ktest_guest.h"
#include "arch.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "tests/ktest_ballast.h"

static const char *image_wanted;
static bool image_seen;

static void image_look(void *ctx, const char *name)
{
    (void)ctx;
    image_seen |= strcmp(name, image_wanted) == 0;
}

bool ktest_guest_have(const char *image)
{
    image_wanted = image;
    image_seen = false;
    guests_each_image(image_look, NULL);
    if (!image_seen)
        ktest_skip("no image %s in the module", image);
    return image_seen;
}

unsigned ktest_guest_start(const struct guest_config *cfg)
{
    unsigned id = 0;
    int error = guest_start(cfg, &id);
    CHECK_MSG(error == 0, "start %s: %s", cfg->name, error_text(error));
    return error ? 0 : id;
}

bool ktest_guest_ended(unsigned id, struct guest_stat *out)
{
    if (!id)
        return false;
    int waited = guest_wait(id), got = guest_stat_get(id, out);
    return CHECK_MSG(waited == 0 && got == 0 && out->state == GUEST_DEAD && out->frames_held == 0,
                     "guest %u: wait %s, stat %s", id, error_text(waited), error_text(got));
}

void ktest_guest_ends_well(unsigned id)
{
    struct guest_stat stat;
    if (ktest_guest_ended(id, &stat))
        CHECK_MSG(stat.exit_code == 0 && strncmp(stat.end, "exited", 6) == 0, "%s: %s", stat.name,
                  stat.end);
}

/* ---- the attack on giving back ---- */

#define WATCHED 1500 /* frames that a watcher has at a time: those of the attack are among them */

static struct watcher {
    struct ktest_thread thread;
    unsigned node;
    u64 rounds, written; /* (o) frames that somebody else had written to */
} watcher[2];
static unsigned watch_stop; /* (a) */

/* Takes what there is, writes to it and looks whether it stays so. */
static void watch_frames(void *arg)
{
    static pfn_t frames[ARRAY_SIZE(watcher)][WATCHED];
    struct watcher *w = arg;
    pfn_t *pfn = frames[w - watcher];
    do {
        unsigned n = 0;
        while (n < WATCHED &&
               (pfn[n] = mm_take(0, TAKE_CLEAN | TAKE_THIS_NODE, w->node)) != PFN_NONE)
            n++;
        for (unsigned i = 0; i < n; i++) {
            w->written += !frame_is_zero(frame_va(pfn[i]));
            store_relaxed((u64 *)frame_va(pfn[i]), pfn[i]);
        }
        thread_sleep(2 * KTEST_MS);
        for (unsigned i = 0; i < n; i++) {
            w->written += load_relaxed((u64 *)frame_va(pfn[i])) != pfn[i];
            mm_free(pfn[i], 0);
        }
        w->rounds++;
    } while (!load_acquire(&watch_stop));
}

void ktest_attack(const char *kind, unsigned pages)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT("holder");
    struct guest_stat stat;
    char words[16];
    unsigned node;
    u64 leaks = guests_leak_count(), written = 0;

    if (!ktest_guest_have("holder") || !ktest_ballast_node(&node))
        return;
    snprintf(words, sizeof(words), "%u", pages);
    cfg.kind = kind;
    cfg.secret = words;
    cfg.node = node;
    cfg.mem = 8 * MIB;
    /*
     * A switch to another thread flushes, too. So the watchers are where the test is, and the
     * guest's second thread, which looks for the emptiest CPU, is alone if there are CPUs enough.
     */
    cfg.cpu = nr_cpus - 1;
    ktest_ballast_take(node, (cfg.mem + 12 * MIB) / FRAME_SIZE + pages);
    unsigned id = ktest_guest_start(&cfg);
    watch_stop = 0;
    for (unsigned i = 0; id && i < ARRAY_SIZE(watcher); i++) {
        watcher[i] = (struct watcher){.node = node};
        ktest_spawn(&watcher[i].thread, 0, watch_frames, &watcher[i]);
    }
    if (ktest_guest_ended(id, &stat))
        CHECK_MSG(strncmp(stat.end, "killed: page fault at 0x4", 25) == 0, "holder of %u: %s",
                  pages, stat.end);
    store_release(&watch_stop, 1);
    for (unsigned i = 0; id && i < ARRAY_SIZE(watcher); i++) {
        ktest_join(&watcher[i].thread);
        written += watcher[i].written;
    }
    ktest_ballast_free();
    CHECK_MSG(written == 0, "%lu times somebody else's frame was written to", written);
    CHECK(guests_leak_count() == leaks);
}
