/*
 * Bytes and strings under their C names. In the kernel lib/string.c implements them; a hosted
 * build takes libc's, so this header may be included on both sides.
 */
#ifndef LIB_STRING_H
#define LIB_STRING_H

#include "lib/base.h"

#if __STDC_HOSTED__
#include <string.h>
#else
/* Copies and fills of 8 bytes and more run in 8-byte strokes: under TCG byte strokes are slow. */
void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
#endif

/*
 * Copies src into dst, of `size` bytes, cut if it does not fit and always ended by a NUL (size 0:
 * nothing is written). The length of src: size or more means that it was cut.
 */
static inline size_t str_copy(char *dst, const char *src, size_t size)
{
    size_t len = strlen(src);
    if (size) {
        size_t n = MIN(len, size - 1);
        memcpy(dst, src, n);
        dst[n] = 0;
    }
    return len;
}

#endif
