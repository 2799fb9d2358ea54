/*
 * Archives of the "newc" format (cpio(5): magic 070701, or 070702 with sums, which are not
 * checked). Pure, nothing is copied: names and data point into the archive.
 */
#ifndef LIB_CPIO_H
#define LIB_CPIO_H

#include "lib/base.h"
#include "lib/errors.h"

struct cpio {
    const u8 *base;
    u64 len;
    u64 pos;         /* of the next header */
    const char *why; /* after E_FORMAT: what was wrong */
};

struct cpio_entry {
    const char *name; /* without a leading "./" */
    const void *data;
    u64 size;
    u32 mode; /* as in stat(2) */
};

/* True for a plain file, the only kind that has contents worth loading. */
static inline bool cpio_is_file(const struct cpio_entry *e)
{
    return (e->mode & 0170000) == 0100000;
}

void cpio_open(struct cpio *c, const void *base, u64 len);
/* The next entry: 1 and *out, 0 at the end (the trailer), E_FORMAT (c->why says what). */
int cpio_next(struct cpio *c, struct cpio_entry *out);
/*
 * Finds a plain file by its name. 0; E_NOENT; E_FORMAT if the archive is broken before it, and
 * *why (may be NULL) says how.
 */
int cpio_find(const void *base, u64 len, const char *name, struct cpio_entry *out,
              const char **why);

#endif
