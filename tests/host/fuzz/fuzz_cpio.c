/* cpio: whatever the archive says, names and data lie inside it, and the walk ends. */
#include "lib/cpio.h"
#include "tests/host/fuzz/fuzz.h"

static bool inside(const u8 *base, size_t len, const void *p, u64 bytes)
{
    u64 off = (u64)((const u8 *)p - base);
    return (const u8 *)p >= base && off <= len && bytes <= len - off;
}

/* cpio_find() must give the first plain file of that name. */
static void find_check(const u8 *base, size_t len, const struct cpio_entry *e, u64 before)
{
    struct cpio_entry found;
    FUZZ_CHECK(cpio_find(base, len, e->name, &found, NULL) == 0, "lost: %s", e->name);
    FUZZ_CHECK(strcmp(found.name, e->name) == 0 && cpio_is_file(&found), "found another");
    FUZZ_CHECK((const u8 *)found.data <= base + before, "not the first");
}

FUZZ_TARGET(cpio)
{
    void *allocation;
    const u8 *base = fuzz_copy(data, size, 1, &allocation); /* archives lie at odd addresses */
    struct cpio c;
    struct cpio_entry e;
    int got;
    unsigned entries = 0, finds = 0;

    cpio_open(&c, base, size);
    while ((got = cpio_next(&c, &e)) == 1) {
        FUZZ_CHECK(++entries <= size / 110, "more headers than there is room for");
        FUZZ_CHECK(inside(base, size, e.name, 1), "a name outside");
        size_t room = size - (size_t)((const u8 *)e.name - base);
        FUZZ_CHECK(memchr(e.name, 0, room), "a name without an end");
        FUZZ_CHECK(inside(base, size, e.data, e.size), "data outside");
        FUZZ_CHECK((const u8 *)e.data > (const u8 *)e.name, "data before its name");
        if (cpio_is_file(&e) && finds++ < 8)
            find_check(base, size, &e, (u64)((const u8 *)e.data - base));
    }
    FUZZ_CHECK(got == 0 || got == E_FORMAT, "returned %d", got);
    FUZZ_CHECK((got == 0) == (c.why == NULL), "a reason and no error, or none and one");
    FUZZ_CHECK(cpio_next(&c, &e) == got, "the end is not the end");

    const char *why = NULL;
    int missing = cpio_find(base, size, "no such name, surely", &e, &why);
    FUZZ_CHECK(missing == (got ? E_FORMAT : E_NOENT), "returned %d", missing);
    FUZZ_CHECK((why != NULL) == (got != 0), "its reason");
    free(allocation);
    return 0;
}
