/*
 * The story: what `make run` shows. Each part is a heading and what really happened.
 *
 * Why the second guest must meet the first one's memory: the first takes 60% of the node's free
 * memory, the second asks for 55% of all that the node has, and both want that node or nothing.
 * Together that is more than there is.
 *
 * Owns nothing. Thread "main". Next: commands.c, the same by hand.
 */
#include "kernel/story.h"
#include "kernel/console.h"
#include "kernel/tables.h"
#include "guest/guest.h"
#include "lib/string.h"
#include "mm/mm.h"
#include "sched/sched.h"

#define POLL_NS    (2 * 1000 * 1000ULL)
#define DRAW_NS    (50 * 1000 * 1000ULL)
#define REPORT_NS  (250 * 1000 * 1000ULL)
#define GIVE_UP_NS (10 * 1000 * 1000 * 1000ULL) /* without one frame of progress */

#define SECRET "the-first-guest-wrote-this-"

/* With scrubbing held back, takers would have to clear (and the host to find) all of it. */
#define HELD_FRAMES (64 * MIB / FRAME_SIZE)

struct story {
    unsigned node; /* where both guests live */
    u64 first_mem, second_mem;
};

static void story_see_image(void *ctx, const char *name)
{
    unsigned *seen = ctx;
    if (strcmp(name, "secretive") == 0)
        *seen |= 1;
    if (strcmp(name, "prober") == 0)
        *seen |= 2;
}

static bool story_has_images(void)
{
    unsigned seen = 0;
    guests_each_image(story_see_image, &seen);
    if (seen == 3)
        return true;
    log_line("the story ends here: it needs guests.cpio as the first module (PVH: -initrd), with "
             "the images secretive and prober; missing: %s",
             seen == 1   ? "prober"
             : seen == 2 ? "secretive"
                         : "both");
    return false;
}

static u64 free_frames(const struct mm_zone_info *i)
{
    return i->clean + i->dirty + i->stored_clean + i->stored_dirty + i->in_flight;
}

/* The node with the most free memory: the guests should have room to be seen. */
static void story_plan(struct story *s)
{
    struct mm_zone_info i;
    u64 most = 0;

    s->node = 0;
    for (unsigned node = 0; node < nr_nodes; node++) {
        mm_node_info(node, &i);
        if (free_frames(&i) > most) {
            most = free_frames(&i);
            s->node = node;
        }
    }
    mm_node_info(s->node, &i);
    u64 first = free_frames(&i) * 60 / 100, second = i.frames * 55 / 100;
    if (!mm_scrub_enabled()) {
        first = MIN(first, HELD_FRAMES);
        second = MIN(second, HELD_FRAMES);
    }
    s->first_mem = MIN(ALIGN_DOWN(first << FRAME_SHIFT, 2 * MIB), GUEST_MEM_MAX);
    s->second_mem = MIN(ALIGN_DOWN(second << FRAME_SHIFT, 2 * MIB), GUEST_MEM_MAX);
}

/* Starts a guest, waits for its end. False if it did not start. */
static bool story_run_guest(const struct story *s, const char *name, u64 mem, const char *secret,
                            struct guest_stat *out)
{
    struct guest_config cfg = GUEST_CONFIG_DEFAULT(name);
    unsigned id;

    cfg.mem = mem;
    cfg.node = s->node;
    cfg.secret = secret;
    if (guest_start(&cfg, &id) != 0)
        return false;
    log_line("guest %u %s started", id, name);
    guest_wait(id);
    return guest_stat_get(id, out) == 0;
}

/* ---- the scrub, watched ---- */

struct scrub_watch {
    u64 began_ns;
    u64 began_frames[MAX_CPUS]; /* what each CPU had scrubbed before */
};

static u64 scrub_left(u64 *all)
{
    struct mm_zone_info i;
    mm_node_info(MM_ALL_NODES, &i);
    *all = free_frames(&i);
    return i.dirty + i.stored_dirty + i.in_flight;
}

static void scrub_watch_begin(struct scrub_watch *w)
{
    w->began_ns = time_ns();
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        w->began_frames[cpu] = mm_cpu_scrubbed(cpu);
}

/* Frames since then, and how many CPUs had a part in it. */
static u64 scrub_watch_sum(const struct scrub_watch *w, unsigned *cpus)
{
    u64 sum = 0;
    *cpus = 0;
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++) {
        u64 n = mm_cpu_scrubbed(cpu) - w->began_frames[cpu];
        sum += n;
        *cpus += n > 0;
    }
    return sum;
}

static u64 mib_per_s(u64 frames, u64 ns)
{
    return ns ? frames * (1000000000ULL / 256) / ns : 0; /* 256 frames a MiB */
}

static void scrub_progress(const struct scrub_watch *w, u64 left, u64 all, bool redraw)
{
    unsigned cpus;
    u64 ns = time_ns() - w->began_ns, done = scrub_watch_sum(w, &cpus);
    u64 percent = all ? (all - MIN(left, all)) * 100 / all : 100;

    if (redraw) {
        static const char bar[] = "########################################";
        int filled = (int)(percent * (sizeof(bar) - 1) / 100);
        log_redraw("scrub [%-40.*s] %3lu%%  %lu MiB/s, %u CPUs", filled, bar, percent,
                   mib_per_s(done, ns), cpus);
        return;
    }
    log_line("scrub: %3lu%% clean, %lu MiB to go, %lu MiB/s, %u CPUs", percent, MIB_OF(left),
             mib_per_s(done, ns), cpus);
}

/* Sleeps in small steps until nothing is dirty: every CPU without a thread scrubs meanwhile. */
static bool story_watch_scrub(const struct scrub_watch *w)
{
    u64 all, left, last_left = ~0ULL, progress_at = time_ns(), drawn_at = progress_at;
    u64 every = console_is_plain() ? REPORT_NS : DRAW_NS;

    while ((left = scrub_left(&all)) != 0) {
        u64 now = time_ns();
        if (left != last_left) {
            last_left = left;
            progress_at = now;
        } else if (now - progress_at > GIVE_UP_NS) {
            log_line("scrub: no progress with %lu frames left; the story goes on without", left);
            return false;
        }
        if (now - drawn_at >= every) {
            scrub_progress(w, left, all, !console_is_plain());
            drawn_at = now;
        }
        thread_sleep(POLL_NS);
    }
    unsigned cpus;
    u64 ns = time_ns() - w->began_ns, done = scrub_watch_sum(w, &cpus);
    log_line("scrubbed %lu.%lu MiB in %lu ms: %lu MiB/s by %u idle CPU%s; nothing is dirty now",
             MIB_OF(done), TENTH_OF(done), MS_OF(ns), mib_per_s(done, ns), cpus,
             cpus == 1 ? "" : "s");
    return true;
}

/* ---- the parts ---- */

static bool story_first_guest(const struct story *s, struct scrub_watch *w)
{
    struct guest_stat g;

    log_heading("== a guest with a secret: %lu MiB of node %u", (u64)(s->first_mem / MIB), s->node);
    if (!story_run_guest(s, "secretive", s->first_mem, SECRET, &g))
        return false;
    scrub_watch_begin(w);
    log_line("secretive is gone: destroyed in %lu.%03lu ms, %lu.%03lu ms of it giving back "
             "%lu.%lu MiB in %lu calls",
             MS_OF(g.destroy_ns), MS_MICROS(g.destroy_ns), MS_OF(g.free_ns), MS_MICROS(g.free_ns),
             MIB_OF(g.frames_peak), TENTH_OF(g.frames_peak), g.frees);
    table_zones();
    return true;
}

static bool story_second_guest(const struct story *s)
{
    struct guest_stat g;
    u64 leaks = guests_leak_count();

    log_heading("== a guest that looks for it: %lu MiB of the same node",
                (u64)(s->second_mem / MIB));
    if (!story_run_guest(s, "prober", s->second_mem, NULL, &g))
        return false;
    log_line("prober is gone: loaded in %lu.%03lu ms; %lu first touches, each read before it was "
             "mapped, in %lu ms; destroyed in %lu.%03lu ms",
             MS_OF(g.load_ns), MS_MICROS(g.load_ns), g.touches, MS_OF(g.touch_ns),
             MS_OF(g.destroy_ns), MS_MICROS(g.destroy_ns));
    return g.exit_code == 0 && guests_leak_count() == leaks;
}

bool story_tell(void)
{
    static struct scrub_watch watch; /* 2 KiB: not for a stack */
    struct story s;
    bool ok = true;

    log_heading("== the machine");
    table_topology();
    log_heading("== memory: strategy %s, idle scrubbing %s", mm_strategy_name(),
                mm_scrub_enabled() ? "on" : "off");
    table_zones();
    if (!story_has_images())
        return false;
    story_plan(&s);
    if (!story_first_guest(&s, &watch))
        return false;
    log_heading("== idle CPUs scrub");
    if (!mm_strategy_scrubs_free())
        log_line("under %s nobody scrubs free memory: guests pay when they touch it",
                 mm_strategy_name());
    else if (mm_scrub_enabled())
        ok = story_watch_scrub(&watch);
    else
        log_line("idle scrubbing is off: who takes dirty memory clears it");
    if (!story_second_guest(&s))
        ok = false;
    log_heading("== who scrubbed what");
    table_scrubbed();
    return ok;
}
