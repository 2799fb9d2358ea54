/*
 * The hosted tests' one header: a test program is a list of cases, a case is a function that
 * checks things. A failed check says where and goes on; a case with one fails.
 *
 *     static void case_split(void) { CHECK(2 > 1); CHECK_EQ(f(3), 9); }
 *     int main(int argc, char **argv)
 *     {
 *         check_start(argc, argv);
 *         RUN(case_split);
 *         return check_done();
 *     }
 *
 * Prints "NAME: N passed, M failed" (cases) and exits 1 if any failed or none ran. Arguments
 * choose cases by name; seed=N sets the seed of check_random(), which a failure prints.
 */
#ifndef TESTS_HOST_CHECK_H
#define TESTS_HOST_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *name; /* of the program */
    char **only;      /* cases to run; nr_only 0: all */
    int nr_only;
    const char *running; /* the case */
    unsigned failures;   /* checks of this case */
    unsigned passed, failed;
    uint64_t seed, state;
} check_;

#define CHECK_PRINTED_MAX 10 /* failed checks of one case; the rest are only counted */

__attribute__((unused)) static void check_start(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    check_.name = slash ? slash + 1 : argv[0];
    check_.only = argv + 1;
    check_.nr_only = argc - 1;
    check_.seed = 1;
    if (check_.nr_only > 0 && strncmp(check_.only[0], "seed=", 5) == 0) {
        check_.seed = strtoull(check_.only[0] + 5, NULL, 0);
        check_.only++;
        check_.nr_only--;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
}

__attribute__((format(printf, 4, 5), unused)) static bool check_that(bool ok, const char *file,
                                                                     int line, const char *fmt, ...)
{
    if (ok)
        return true;
    if (check_.failures++ < CHECK_PRINTED_MAX) {
        va_list ap;
        va_start(ap, fmt);
        printf("%s:%d: %s: ", file, line, check_.running);
        vprintf(fmt, ap);
        printf("\n");
        va_end(ap);
    }
    return false;
}

#define CHECK(cond)          check_that((cond), __FILE__, __LINE__, "failed: %s", #cond)
#define CHECK_MSG(cond, ...) check_that((cond), __FILE__, __LINE__, __VA_ARGS__)
/* Leaves the case if it fails: for what the rest of the case stands on. */
#define REQUIRE(cond)     \
    do {                  \
        if (!CHECK(cond)) \
            return;       \
    } while (0)

/* Whole numbers of any type up to 64 bits. */
#define CHECK_EQ(got, want)                                                                        \
    ({                                                                                             \
        intmax_t check_got_ = (intmax_t)(got), check_want_ = (intmax_t)(want);                     \
        check_that(check_got_ == check_want_, __FILE__, __LINE__,                                  \
                   "%s is %" PRIdMAX " (0x%" PRIxMAX "), not %" PRIdMAX " (0x%" PRIxMAX ")", #got, \
                   check_got_, (uintmax_t)check_got_, check_want_, (uintmax_t)check_want_);        \
    })
#define CHECK_STR(got, want)                                                              \
    ({                                                                                    \
        const char *check_got_ = (got), *check_want_ = (want);                            \
        check_that(check_got_ &&strcmp(check_got_, check_want_) == 0, __FILE__, __LINE__, \
                   "%s is \"%s\", not \"%s\"", #got, check_got_ ? check_got_ : "NULL",    \
                   check_want_);                                                          \
    })
/* True if the text contains the part. */
#define CHECK_HAS(got, part)                                                               \
    ({                                                                                     \
        const char *check_got_ = (got), *check_part_ = (part);                             \
        check_that(check_got_ &&strstr(check_got_, check_part_), __FILE__, __LINE__,       \
                   "%s is \"%s\", without \"%s\"", #got, check_got_ ? check_got_ : "NULL", \
                   check_part_);                                                           \
    })

/* The same numbers for the same seed and case, whichever other cases run (splitmix64). */
__attribute__((unused)) static uint64_t check_random(void)
{
    uint64_t z = check_.state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

__attribute__((unused)) static void check_run(const char *name, void (*run)(void))
{
    bool chosen = check_.nr_only == 0;
    for (int i = 0; i < check_.nr_only; i++)
        chosen |= strcmp(check_.only[i], name) == 0;
    if (!chosen)
        return;
    check_.running = name;
    check_.failures = 0;
    check_.state = check_.seed;
    run();
    if (check_.failures) {
        check_.failed++;
        printf("%s: FAILED, %u checks; again: %s seed=%" PRIu64 " %s\n", name, check_.failures,
               check_.name, check_.seed, name);
    } else {
        check_.passed++;
    }
}

#define RUN(fn) check_run(#fn, fn)

__attribute__((unused)) static int check_done(void)
{
    printf("%s: %u passed, %u failed\n", check_.name, check_.passed, check_.failed);
    return check_.failed != 0 || check_.passed == 0;
}

#endif
