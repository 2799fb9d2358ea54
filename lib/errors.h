/*
 * Errors: a function that can fail returns 0 (or a count) or one of these, negative.
 * The same numbers cross the hypercall boundary (guest/abi.h).
 */
#ifndef LIB_ERRORS_H
#define LIB_ERRORS_H

#define ERROR_LIST(X)                         \
    X(E_NOMEM, 1, "out of memory")            \
    X(E_INVAL, 2, "invalid argument")         \
    X(E_FAULT, 3, "bad address")              \
    X(E_NOENT, 4, "no such thing")            \
    X(E_EXIST, 5, "exists already")           \
    X(E_NOSPC, 6, "no space left in a table") \
    X(E_FORMAT, 7, "malformed data")          \
    X(E_NOSYS, 8, "no such call")             \
    X(E_DIRTY, 9, "a frame was not zero")     \
    X(E_KILLED, 10, "killed")                 \
    X(E_BUSY, 11, "busy")

enum error {
#define X(name, number, text) name = -(number),
    ERROR_LIST(X)
#undef X
};

/* The text of an error, "ok" for 0 and above, "unknown error" for what is not in the list. */
const char *error_text(int error);

#endif
