/*
 * What people see and type. log.c writes, console.c reads. lib/log.h has log_line().
 */
#ifndef KERNEL_CONSOLE_H
#define KERNEL_CONSOLE_H

#include "lib/base.h"
#include "lib/log.h"

#define CONSOLE_LINE_MAX 512 /* with the NUL */

/* ---- log.c ---- */

/* No colours and no redrawing from now on (the word console=plain). */
void console_set_plain(void);
bool console_is_plain(void);

/* Text as it stands, no newline added: the prompt, the echo. Thread context. */
void console_write(const char *text, size_t n);

/* A line that opens a part of the story: bold where colours are welcome. */
void log_heading(const char *fmt, ...) __printf_like(1, 2);

/*
 * A line that the next one of its kind draws over, for progress on a terminal. Nothing at all
 * if the console is plain. What is said last should be said by log_line() again.
 */
void log_redraw(const char *fmt, ...) __printf_like(1, 2);

/* Without a lock and as it stands: for a panic, when every other CPU is frozen. */
void log_raw_line(const char *fmt, ...) __printf_like(1, 2);
/* From now on log_line() takes the raw way too: whoever holds the lock is frozen. */
void log_enter_panic(void);

/* ---- console.c ---- */

/* Before the first read: received bytes wait in a ring from now on. */
void console_input_init(void);

/*
 * One line without its end, echoed as it is typed. LF, CR and CRLF end it. The length, or
 * E_NOSPC: it was longer than `size`, all of it is refused and a line says so.
 */
int console_read_line(char *buf, size_t size);

/* Has a byte arrived that nobody has read? */
bool console_input_waiting(void);

/*
 * Around a command: a Ctrl-C that comes while it runs is not input but a wish that
 * console_interrupted() tells; the command may end early, or kill what it waits for.
 */
void console_command_begin(void);
void console_command_end(void);
bool console_interrupted(void);

#endif
