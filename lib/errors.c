/* The texts of lib/errors.h. */
#include "lib/errors.h"

const char *error_text(int error)
{
    if (error >= 0)
        return "ok";
    switch (error) {
#define X(name, number, text) \
    case name:                \
        return text;
        ERROR_LIST(X)
#undef X
    default:
        return "unknown error";
    }
}
