/*
 * The kernel's own memcpy and friends; the compiler calls the first four by itself. Built for the
 * kernel only. 8-byte string instructions, because QEMU's TCG runs them 6 times faster than the
 * byte ones, and no processor is slow at them. The direction flag is clear (psABI 3.2.1).
 */
#include "lib/string.h"

static inline u64 load64(const void *p)
{
    return *(const u64 __attribute__((aligned(1), may_alias)) *)p;
}

static inline void store64(void *p, u64 v)
{
    *(u64 __attribute__((aligned(1), may_alias)) *)p = v;
}

/*
 * Forwards, n >= 8. The last 8 bytes are loaded before anything is stored and stored last, so
 * that an overlap with dst below src is no problem and no single bytes are left over.
 */
static inline void copy_up(u8 *d, const u8 *s, size_t n)
{
    u64 tail = load64(s + n - 8);
    u8 *end = d + n - 8;
    size_t words = n / 8;
    __asm__ volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(words)::"memory");
    store64(end, tail);
}

/* n < 8: all of it is in registers before the first store, so any overlap will do. */
static inline void copy_small(u8 *d, const u8 *s, size_t n)
{
    if (n >= 4) {
        u32 a, b;
        __builtin_memcpy(&a, s, 4);
        __builtin_memcpy(&b, s + n - 4, 4);
        __builtin_memcpy(d, &a, 4);
        __builtin_memcpy(d + n - 4, &b, 4);
    } else if (n) {
        u8 a = s[0], b = s[n / 2], c = s[n - 1];
        d[0] = a;
        d[n / 2] = b;
        d[n - 1] = c;
    }
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
    if (n >= 8)
        copy_up(dst, src, n);
    else
        copy_small(dst, src, n);
    return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
    u8 *d = dst;
    const u8 *s = src;
    if (n < 8) {
        copy_small(d, s, n);
    } else if ((u64)d - (u64)s >= n) { /* below src (it wraps), or no overlap */
        copy_up(d, s, n);
    } else {
        u64 head = load64(s);
        while (n >= 8) {
            n -= 8;
            store64(d + n, load64(s + n));
        }
        store64(d, head);
    }
    return dst;
}

void *memset(void *dst, int c, size_t n)
{
    u8 *d = dst;
    u64 fill = 0x0101010101010101ULL * (u8)c;
    if (n >= 8) {
        u8 *end = d + n - 8;
        size_t words = n / 8;
        __asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(fill) : "memory");
        store64(end, fill);
    } else if (n >= 4) {
        __builtin_memcpy(d, &fill, 4);
        __builtin_memcpy(d + n - 4, &fill, 4);
    } else if (n) {
        d[0] = d[n / 2] = d[n - 1] = (u8)c;
    }
    return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const u8 *p = a, *q = b;
    for (; n >= 8 && load64(p) == load64(q); n -= 8) {
        p += 8;
        q += 8;
    }
    for (; n; n--, p++, q++) {
        if (*p != *q)
            return *p - *q;
    }
    return 0;
}

size_t strlen(const char *s)
{
    const char *end = s;
    while (*end)
        end++;
    return (size_t)(end - s);
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++) {
        if (*a != *b || !*a)
            return (u8)*a - (u8)*b;
    }
    return 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return NULL;
    }
}
