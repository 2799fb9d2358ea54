/*
 * The words of a command line. The kernel's command line and the prompt share one grammar:
 *
 *   words are separated by blanks (space, tab, CR, LF);
 *   a word is KEY or KEY=VALUE; KEY ends at the first '=';
 *   '...' and "..." keep blanks, ';' and the other quote as they are; there is no escape sign.
 *   Quotes may stand around a part of a word: run='a b' and 'run=a b' are the same word.
 *
 * Nothing is allocated: words_parse() cuts the text up where it stands. Pure.
 */
#ifndef LIB_WORDS_H
#define LIB_WORDS_H

#include "lib/base.h"
#include "lib/errors.h"

#define WORDS_MAX       32
#define WORDS_ERROR_MAX 160 /* room enough for any text that comes from here */

struct word {
    const char *key;
    const char *value; /* NULL: a bare word; "" for KEY= */
};

struct words {
    struct word word[WORDS_MAX];
    unsigned nr;
    char error[WORDS_ERROR_MAX]; /* after a call that failed: one line, no newline */
};

/*
 * Cuts `text` into words; keys and values point into it. 0, or w->error says why:
 * E_FORMAT (an open quote, a word that begins with '='), E_NOSPC (more than WORDS_MAX words).
 * On an error w has the words before it.
 */
int words_parse(struct words *w, char *text);

/*
 * Cuts the first command off *rest, up to a ';' that is not quoted, and moves *rest behind it.
 * NULL when nothing is left. A command may come out blank.
 */
char *words_next_command(char **rest);

/* The last word with this key (what is appended wins), or NULL. */
const struct word *words_find(const struct words *w, const char *key);
/* Its value; "" for a bare word; NULL if there is none. */
const char *words_value(const struct words *w, const char *key);
/* True if the key stands there as a bare word. */
bool words_has(const struct words *w, const char *key);

/*
 * The first word from number `from` on whose key is not among the names in `known` (one text,
 * blanks between the names), or NULL: so that an unknown key is refused by its name.
 */
const struct word *words_unknown(const struct words *w, unsigned from, const char *known);

/*
 * The value of a key as a number; *out is left alone if the key is not there. 0, or E_INVAL and
 * w->error says what was expected.
 */
int words_number(struct words *w, const char *key, u64 *out);   /* parse_number() */
int words_bytes(struct words *w, const char *key, u64 *out);    /* parse_bytes() */
int words_duration(struct words *w, const char *key, u64 *out); /* parse_duration() */

/* Each takes the whole text or refuses it: 0, or E_INVAL and *out is left alone. */
int parse_number(const char *text, u64 *out);   /* 42, 0x2a */
int parse_bytes(const char *text, u64 *out);    /* 4096, 64K, 512M, 2G, 1T: powers of 1024;
                                                   bare numbers are bytes; small letters too */
int parse_duration(const char *text, u64 *out); /* 10s, 5ms, 20us, 100ns, 2m; in nanoseconds;
                                                   only 0 needs no unit */

#define EXPECTED_NUMBER   "a number such as 42 or 0x2a"
#define EXPECTED_BYTES    "a size such as 4096, 64K, 512M or 2G"
#define EXPECTED_DURATION "a time such as 10s, 5ms or 20us"

#endif
