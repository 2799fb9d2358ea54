/*
 * One line for people. kernel/log.c writes it to serial and screen; the hosted port to stderr.
 * Declared here so that every layer can say something without knowing who prints it.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/base.h"

/* Prints the text and a newline, whole lines never mixed. Any context. At most 255 bytes. */
void log_line(const char *fmt, ...) __printf_like(1, 2);

#endif
