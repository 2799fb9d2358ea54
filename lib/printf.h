/*
 * Formatted text into a buffer, with the standard names so that the compiler checks the formats.
 * Known: %c %s %d %i %u %x %X %p %%, the lengths hh h l ll z t j, the flags - 0 + space #,
 * width and precision, as numbers or as *. No floating point, no %n. A format that is not
 * known is printed as it stands.
 *
 * Hosted tests compile lib/printf.c under other names (-Dsnprintf=limpid_snprintf) beside libc's.
 */
#ifndef LIB_PRINTF_H
#define LIB_PRINTF_H

#include "lib/base.h"

#include <stdarg.h>

/* Always ends with a NUL if size > 0. The length that it would have had with room enough. */
int vsnprintf(char *restrict buf, size_t size, const char *restrict fmt, va_list ap)
    __printf_like(3, 0);
int snprintf(char *restrict buf, size_t size, const char *restrict fmt, ...) __printf_like(3, 4);

#endif
