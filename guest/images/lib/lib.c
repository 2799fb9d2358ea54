/* See guest.h. */
#include "guest/images/lib/guest.h"

#include <stdarg.h>

size_t text_length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

bool text_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

const char *word(const struct guest_info *info, const char *key)
{
    const char *w = (const char *)info + info->words_offset;
    const char *end = w + info->words_bytes;

    for (; w < end; w += text_length(w) + 1) {
        size_t n = 0;
        while (key[n] && w[n] == key[n])
            n++;
        if (!key[n] && (w[n] == '=' || !w[n]))
            return w[n] ? w + n + 1 : w + n;
    }
    return NULL;
}

void thread_begin(void);

int64_t thread_run(void (*fn)(uint64_t arg), uint64_t arg, void *top)
{
    uint64_t *begin = (uint64_t *)top - 2;
    begin[0] = (uint64_t)fn;
    begin[1] = arg;
    return hypercall(HC_THREAD_START, (uint64_t)thread_begin, (uint64_t)begin, (uint64_t)begin);
}

uint64_t number_word(const char **text, uint64_t otherwise)
{
    uint64_t n = 0;
    const char *p = *text;
    while (*p >= '0' && *p <= '9')
        n = n * 10 + (uint64_t)(*p++ - '0');
    uint64_t value = p == *text || n == 0 ? otherwise : n;
    *text = *p == 'x' ? p + 1 : p;
    return value;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (*state >> 33) % n;
}

struct line {
    char text[201];
    size_t n;
};

static void line_put(struct line *l, char c)
{
    if (l->n < sizeof(l->text) - 1)
        l->text[l->n++] = c;
}

static void line_put_number(struct line *l, uint64_t v, unsigned base)
{
    char digit[24];
    size_t n = 0;
    do {
        digit[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    while (n)
        line_put(l, digit[--n]);
}

static void line_put_signed(struct line *l, int64_t v)
{
    if (v < 0)
        line_put(l, '-');
    line_put_number(l, v < 0 ? -(uint64_t)v : (uint64_t)v, 10);
}

void say(const char *format, ...)
{
    struct line l = {.n = 0};
    va_list ap;

    va_start(ap, format);
    for (const char *f = format; *f; f++) {
        if (*f != '%') {
            line_put(&l, *f);
            continue;
        }
        f++;
        if (*f == 's')
            for (const char *s = va_arg(ap, const char *); *s; s++)
                line_put(&l, *s);
        else if (*f == 'd')
            line_put_signed(&l, va_arg(ap, int64_t));
        else
            line_put_number(&l, va_arg(ap, uint64_t), *f == 'x' ? 16 : 10);
    }
    va_end(ap);
    l.text[l.n++] = '\n';
    hypercall(HC_CONSOLE_WRITE, (uint64_t)l.text, l.n, 0);
}

/* Words of 8 bytes, which need not be aligned: byte by byte a GiB would take seconds. */
typedef uint64_t __attribute__((aligned(1), may_alias)) loose_u64;

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    char *t = to;
    const char *f = from;
    for (; n >= 8; n -= 8, t += 8, f += 8)
        *(loose_u64 *)t = *(const loose_u64 *)f;
    while (n--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int c, size_t n)
{
    for (char *t = to; n--;)
        *t++ = (char)c;
    return to;
}

uint64_t count_nonzero_frames(const void *start, uint64_t bytes)
{
    const uint64_t *p = start;
    uint64_t found = 0;

    for (uint64_t frame = 0; frame < bytes / GUEST_PAGE; frame++) {
        uint64_t any = 0;
        for (unsigned i = 0; i < GUEST_PAGE / 8; i++)
            any |= *p++;
        found += any != 0;
    }
    return found;
}
