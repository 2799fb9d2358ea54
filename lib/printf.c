/* See lib/printf.h. One pass over the format; numbers are built backwards in a small buffer. */
#include "lib/printf.h"

#define INT_MAX __INT_MAX__ /* the freestanding limits.h wants a libc behind it */

struct sink {
    char *buf;
    size_t size;
    size_t len; /* what was meant to be written, cut or not */
};

static void sink_put(struct sink *s, char c)
{
    if (s->len + 1 < s->size)
        s->buf[s->len] = c;
    s->len++;
}

static void sink_fill(struct sink *s, char c, int n)
{
    while (n-- > 0)
        sink_put(s, c);
}

struct spec {
    bool minus, zero, plus, space, alt;
    int width;     /* at least this many characters */
    int precision; /* -1: none */
    int size;      /* of an integer argument, bytes */
};

/* Pads `len` characters at `text` to the width with blanks. */
static void sink_field(struct sink *s, const struct spec *f, const char *text, int len)
{
    if (!f->minus)
        sink_fill(s, ' ', f->width - len);
    for (int i = 0; i < len; i++)
        sink_put(s, text[i]);
    if (f->minus)
        sink_fill(s, ' ', f->width - len);
}

/* Digits of v; `prefix` ("", "-", "0x") goes before the zeroes that fill it up. */
static void sink_number(struct sink *s, const struct spec *f, u64 v, unsigned base,
                        const char *digits, const char *prefix)
{
    char text[24];
    int len = 0, prefix_len = 0;
    for (; v; v /= base)
        text[len++] = digits[v % base];
    while (prefix[prefix_len])
        prefix_len++;

    /* A precision says how many digits at least; 0 digits for 0 with precision 0. */
    int want = f->precision >= 0 ? f->precision : 1;
    if (f->zero && !f->minus && f->precision < 0)
        want = MAX(want, f->width - prefix_len);
    int zeroes = MAX(want - len, 0);
    int pad = f->width - prefix_len - zeroes - len;

    if (!f->minus)
        sink_fill(s, ' ', pad);
    while (*prefix)
        sink_put(s, *prefix++);
    sink_fill(s, '0', zeroes);
    while (len)
        sink_put(s, text[--len]);
    if (f->minus)
        sink_fill(s, ' ', pad);
}

static int read_digits(const char **fmt)
{
    int n = 0;
    for (; **fmt >= '0' && **fmt <= '9'; (*fmt)++)
        n = n > (INT_MAX - 9) / 10 ? INT_MAX / 2 : n * 10 + (**fmt - '0');
    return n;
}

/* The length letters; size_t, ptrdiff_t, intmax_t and long are all 8 bytes here. */
static int read_size(const char **fmt)
{
    switch (**fmt) {
    case 'h':
        (*fmt)++;
        if (**fmt != 'h')
            return sizeof(short);
        (*fmt)++;
        return sizeof(char);
    case 'l':
        (*fmt)++;
        if (**fmt == 'l')
            (*fmt)++;
        return sizeof(long);
    case 'z':
    case 't':
    case 'j':
        (*fmt)++;
        return sizeof(size_t);
    default:
        return sizeof(int);
    }
}

static bool read_flag(struct spec *f, char c)
{
    switch (c) {
    case '-':
        return f->minus = true;
    case '0':
        return f->zero = true;
    case '+':
        return f->plus = true;
    case ' ':
        return f->space = true;
    case '#':
        return f->alt = true;
    default:
        return false;
    }
}

static s64 signed_value(u64 v, int size)
{
    switch (size) {
    case 1:
        return (signed char)v;
    case 2:
        return (short)v;
    case 4:
        return (int)v;
    default:
        return (s64)v;
    }
}

static u64 unsigned_value(u64 v, int size)
{
    return size == 8 ? v : v & ((1ULL << (size * 8)) - 1);
}

int vsnprintf(char *restrict buf, size_t size, const char *restrict fmt, va_list ap)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    struct sink s = {buf, size, 0};
    const char *p = fmt;

    while (*p) {
        if (*p != '%') {
            sink_put(&s, *p++);
            continue;
        }
        const char *start = p++;
        struct spec f = {.precision = -1};
        while (read_flag(&f, *p))
            p++;
        if (*p == '*') {
            p++;
            f.width = va_arg(ap, int);
            if (f.width < 0) {
                f.minus = true;
                f.width = f.width < -INT_MAX ? INT_MAX : -f.width;
            }
        } else {
            f.width = read_digits(&p);
        }
        if (*p == '.') {
            p++;
            if (*p == '*') {
                p++;
                f.precision = va_arg(ap, int);
            } else {
                f.precision = read_digits(&p);
            }
        }
        f.size = read_size(&p);

        u64 v = 0;
        switch (*p) {
        case 'd':
        case 'i':
        case 'u':
        case 'x':
        case 'X':
            v = f.size == 8 ? va_arg(ap, u64) : va_arg(ap, unsigned);
            break;
        }
        switch (*p) {
        case 'd':
        case 'i': {
            s64 n = signed_value(v, f.size);
            const char *sign = n < 0 ? "-" : f.plus ? "+" : f.space ? " " : "";
            sink_number(&s, &f, n < 0 ? 0 - (u64)n : (u64)n, 10, lower, sign);
            break;
        }
        case 'u':
            sink_number(&s, &f, unsigned_value(v, f.size), 10, lower, "");
            break;
        case 'x':
            v = unsigned_value(v, f.size);
            sink_number(&s, &f, v, 16, lower, f.alt && v ? "0x" : "");
            break;
        case 'X':
            v = unsigned_value(v, f.size);
            sink_number(&s, &f, v, 16, upper, f.alt && v ? "0X" : "");
            break;
        case 'p':
            sink_number(&s, &f, (u64)va_arg(ap, void *), 16, lower, "0x");
            break;
        case 'c': {
            char c = (char)va_arg(ap, int);
            sink_field(&s, &f, &c, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(ap, const char *);
            if (!text)
                text = "(null)";
            int len = 0;
            /* With a precision the text need not end in a NUL: look no further. */
            while ((f.precision < 0 || len < f.precision) && text[len])
                len++;
            sink_field(&s, &f, text, len);
            break;
        }
        case '%':
            sink_put(&s, '%');
            break;
        default: /* not known: as it stands, and the rest is ordinary text */
            while (start < p)
                sink_put(&s, *start++);
            continue;
        }
        p++;
    }
    if (size)
        buf[MIN(s.len, size - 1)] = 0;
    return s.len > INT_MAX ? INT_MAX : (int)s.len;
}

int snprintf(char *restrict buf, size_t size, const char *restrict fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, size, fmt, ap);
    va_end(ap);
    return n;
}
