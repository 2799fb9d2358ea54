/* lib/printf.c, under names of its own, against libc's snprintf. */
#include "lib/base.h"
#include "tests/host/check.h"

int limpid_snprintf(char *buf, size_t size, const char *fmt, ...);

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-truncation"

/* Same text, same length, for every buffer size up to the whole. */
#define SAME(...)                                                                                  \
    do {                                                                                           \
        char ours_[200], theirs_[200];                                                             \
        int want_ = snprintf(theirs_, sizeof(theirs_), __VA_ARGS__);                               \
        CHECK_EQ(limpid_snprintf(ours_, sizeof(ours_), __VA_ARGS__), want_);                       \
        CHECK_STR(ours_, theirs_);                                                                 \
        for (int size_ = 0; size_ <= want_ + 1 && size_ < 40; size_++) {                           \
            memset(ours_, '#', sizeof(ours_));                                                     \
            CHECK_EQ(limpid_snprintf(ours_, (size_t)size_, __VA_ARGS__), want_);                   \
            CHECK(size_ == 0 || strlen(ours_) == (size_t)(size_ - 1 < want_ ? size_ - 1 : want_)); \
            CHECK(size_ == 0 || strncmp(ours_, theirs_, (size_t)size_ - 1) == 0);                  \
            CHECK(ours_[size_] == '#');                                                            \
        }                                                                                          \
    } while (0)

static void printf_text(void)
{
    SAME("plain");
    SAME("%s|%10s|%-10s|%.2s|%10.3s|%-10.1s|%.0s", "abc", "abc", "abc", "abc", "abcdef", "xyz",
         "q");
    SAME("%c%c|%5c|%-5c|", 'a', 'b', 'c', 'd');
    SAME("100%% of %s", "it");
    SAME("%*s|%-*s|%.*s|%*d", 7, "r", 7, "l", 2, "cut", -6, 42);
    SAME("%s", "");
    char open_end[3] = {'a', 'b', 'c'}; /* no NUL: the precision keeps us inside */
    SAME("%.3s", open_end);
    char buf[20];
    limpid_snprintf(buf, sizeof(buf), "%s", (char *)NULL);
    CHECK_STR(buf, "(null)");
    limpid_snprintf(buf, sizeof(buf), "%y %d", 5);
    CHECK_HAS(buf, "%y");
}

static void printf_numbers(void)
{
    SAME("%d %i %u", -5, 7, 3000000000u);
    SAME("%ld %lld %lu %llu %zu", -1L, INT64_MIN, ~0UL, ~0ULL, (size_t)77);
    SAME("%x %X %lx %#x %#lX %#x", 0xbeef, 0xbeef, 0xdeadbeefcafeUL, 255, 255UL, 0);
    SAME("%5d|%-5d|%05d|%+d|% d|%+5d|%05d", 42, 42, 42, 42, 42, 42, -42);
    SAME("%.5d|%8.3d|%-8.3d|%08.3d|%.0d|%5.0d|%.0x", 42, -7, 7, 7, 0, 0, 0);
    SAME("%08lx|%016llx|%#010x|%-#10x|", 0xabcUL, 0x123ULL, 0xabc, 0xabc);
    SAME("%hhd %hhu %hd %hu %hhx", 300, 300, 70000, 70000, -1);
    SAME("%p %20p|%-20p|", (void *)0x1234, (void *)0xffff800000000000UL, (void *)1);
    SAME("%d", INT32_MIN);
    SAME("%jd %td", (intmax_t)-9, (ptrdiff_t)-10);
}

static void printf_random(void)
{
    static const char flags[] = "-0+ #", sizes[][3] = {"", "l", "ll", "z", "h", "hh"};
    static const char kinds[] = "duxXi";
    for (unsigned round = 0; round < 20000; round++) {
        char fmt[40] = "<%";
        char kind = kinds[check_random() % 5];
        for (unsigned n = check_random() % 3; n; n--) {
            char flag = flags[check_random() % 5];
            bool is_signed = kind == 'd' || kind == 'i';
            /* C leaves '+' and ' ' of unsigned numbers and '#' of decimals undefined. */
            if (is_signed ? flag != '#'
                          : (flag == '-' || flag == '0' || (flag == '#' && kind != 'u')))
                strncat(fmt, &flag, 1);
        }
        if (check_random() % 2)
            sprintf(fmt + strlen(fmt), "%u", (unsigned)(check_random() % 30));
        if (check_random() % 3 == 0)
            sprintf(fmt + strlen(fmt), ".%u", (unsigned)(check_random() % 25));
        sprintf(fmt + strlen(fmt), "%s%c>", sizes[check_random() % 6], kind);
        uint64_t v = check_random() >> check_random() % 64;
        if (check_random() % 4 == 0)
            v = -v;
        SAME(fmt, v);
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(printf_text);
    RUN(printf_numbers);
    RUN(printf_random);
    return check_done();
}
