/* What the parser tests share: collected warnings, bytes put together, a physical memory. */
#ifndef TESTS_HOST_LIB_PARSE_H
#define TESTS_HOST_LIB_PARSE_H

#include "lib/bootinfo.h"
#include "tests/host/check.h"

static struct {
    unsigned nr;
    char text[4000]; /* all of them, a line each */
} warned;

__attribute__((unused)) static void warnings_clear(void)
{
    warned.nr = 0;
    warned.text[0] = 0;
}

__attribute__((unused)) static void warning_add(void *ctx, const char *fmt, ...)
{
    (void)ctx;
    char line[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    warned.nr++;
    CHECK(strlen(line) < 255 && !strchr(line, '\n'));
    size_t at = strlen(warned.text);
    snprintf(warned.text + at, sizeof(warned.text) - at, "%s\n", line);
}

#define CHECK_WARNED(n, part)         \
    do {                              \
        CHECK_EQ(warned.nr, n);       \
        CHECK_HAS(warned.text, part); \
    } while (0)

#define CHECK_QUIET() CHECK_MSG(warned.nr == 0, "unexpected: %s", warned.text)

/* ---- bytes, little-endian, in a buffer that is as large as it must be and no larger ---- */

struct bytes {
    uint8_t *data;
    size_t len;
};

__attribute__((unused)) static void bytes_add(struct bytes *b, const void *data, size_t len)
{
    b->data = realloc(b->data, b->len + len + (b->len + len == 0));
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
}

__attribute__((unused)) static void bytes_zero(struct bytes *b, size_t len)
{
    for (; len; len--)
        bytes_add(b, "", 1);
}

__attribute__((unused)) static void bytes_8(struct bytes *b, uint8_t v)
{
    bytes_add(b, &v, 1);
}

__attribute__((unused)) static void bytes_16(struct bytes *b, uint16_t v)
{
    bytes_add(b, &v, 2);
}

__attribute__((unused)) static void bytes_32(struct bytes *b, uint32_t v)
{
    bytes_add(b, &v, 4);
}

__attribute__((unused)) static void bytes_64(struct bytes *b, uint64_t v)
{
    bytes_add(b, &v, 8);
}

__attribute__((unused)) static void bytes_put_32(struct bytes *b, size_t at, uint32_t v)
{
    memcpy(b->data + at, &v, 4);
}

__attribute__((unused)) static void bytes_align(struct bytes *b, size_t align)
{
    while (b->len % align)
        bytes_8(b, 0);
}

__attribute__((unused)) static void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){NULL, 0};
}

/* ---- a physical memory of a few pieces, each an allocation of its own for the sanitizer ---- */

#define PIECES_MAX 64

static struct {
    uint64_t phys;
    struct bytes bytes;
} piece[PIECES_MAX];
static unsigned nr_pieces;

__attribute__((unused)) static void phys_add(uint64_t phys, struct bytes b)
{
    piece[nr_pieces].phys = phys;
    piece[nr_pieces++].bytes = b;
}

__attribute__((unused)) static void phys_clear(void)
{
    while (nr_pieces)
        bytes_free(&piece[--nr_pieces].bytes);
}

__attribute__((unused)) static const void *phys_map(void *ctx, uint64_t phys, uint64_t len)
{
    (void)ctx;
    for (unsigned i = 0; i < nr_pieces; i++) {
        uint64_t off = phys - piece[i].phys;
        if (off <= piece[i].bytes.len && len <= piece[i].bytes.len - off)
            return piece[i].bytes.data + off;
    }
    return NULL;
}

#endif
