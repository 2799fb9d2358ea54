/*
 * See lib/cpio.h. A newc header is 6 bytes of magic and 13 numbers of 8 hexadecimal digits; name
 * and data follow, each padded to a multiple of 4 from the start of the archive.
 */
#include "lib/cpio.h"
#include "lib/string.h"

#define CPIO_HEADER 110u

enum { CPIO_MODE = 1, CPIO_FILESIZE = 6, CPIO_NAMESIZE = 11 }; /* fields, counted from 0 */

void cpio_open(struct cpio *c, const void *base, u64 len)
{
    *c = (struct cpio){base, len, 0, NULL};
}

static bool cpio_number(const u8 *header, unsigned field, u32 *out)
{
    const u8 *text = header + 6 + 8 * field;
    u32 v = 0;
    for (unsigned i = 0; i < 8; i++) {
        u8 c = text[i], letter = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v << 4 | (u32)(c - '0');
        else if (letter >= 'a' && letter <= 'f')
            v = v << 4 | (u32)(letter - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static int cpio_refuse(struct cpio *c, const char *why)
{
    c->why = why;
    c->pos = c->len; /* the next call says the same: no header */
    return E_FORMAT;
}

int cpio_next(struct cpio *c, struct cpio_entry *out)
{
    /* All positions are below 2^64 - 2^34: lengths have 32 bits, the archive is in memory. */
    const u8 *h = c->base + c->pos;
    u32 mode, filesize, namesize;

    if (c->pos > c->len || c->len - c->pos < CPIO_HEADER)
        return cpio_refuse(c, "the archive ends without a trailer");
    if (memcmp(h, "070701", 6) != 0 && memcmp(h, "070702", 6) != 0)
        return cpio_refuse(c, "no newc header where one should be");
    if (!cpio_number(h, CPIO_MODE, &mode) || !cpio_number(h, CPIO_FILESIZE, &filesize) ||
        !cpio_number(h, CPIO_NAMESIZE, &namesize))
        return cpio_refuse(c, "a header with something else than hexadecimal digits");

    u64 name_at = c->pos + CPIO_HEADER;
    if (namesize == 0 || namesize > c->len - name_at)
        return cpio_refuse(c, "a name that goes past the end");
    const char *name = (const char *)c->base + name_at;
    if (name[namesize - 1] != 0 || strlen(name) != namesize - 1)
        return cpio_refuse(c, "a name that does not end where it should");
    if (strcmp(name, "TRAILER!!!") == 0)
        return 0; /* stays there: so does the next call */

    u64 data_at = ALIGN_UP(name_at + namesize, 4ULL);
    if (data_at > c->len || filesize > c->len - data_at)
        return cpio_refuse(c, "data that goes past the end");
    c->pos = ALIGN_UP(data_at + filesize, 4ULL);
    if (name[0] == '.' && name[1] == '/')
        name += 2;
    *out = (struct cpio_entry){name, c->base + data_at, filesize, mode};
    return 1;
}

int cpio_find(const void *base, u64 len, const char *name, struct cpio_entry *out, const char **why)
{
    struct cpio c;
    int got;

    cpio_open(&c, base, len);
    while ((got = cpio_next(&c, out)) > 0) {
        if (cpio_is_file(out) && strcmp(out->name, name) == 0)
            return 0;
    }
    if (why)
        *why = c.why;
    return got < 0 ? got : E_NOENT;
}
