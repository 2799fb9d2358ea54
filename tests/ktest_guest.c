/*
 * What the suites that run guests share. Owns nothing but the name that is being looked for (one
 * case at a time). Next: suite_guest.c, suite_pressure.c.
 */
#include "tests/ktest_guest.h"
#include "lib/string.h"

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
