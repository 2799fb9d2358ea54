/*
 * Lines for people, on the serial port and on the screen.
 *
 * Owns the two output devices and what is on the last line of them, guarded by log_lock
 * (RANK_LOG, interrupts off: handlers may have something to say). Whole lines: one that comes
 * while a prompt or a redrawn line stands unfinished begins a line of its own.
 *
 * Next: console.c, the way in; panic.c, which goes around the lock.
 */
#include "kernel/console.h"
#include "arch.h"
#include "lib/printf.h"
#include "lib/string.h"

#define LINE_MAX 256 /* lib/log.h: 255 bytes and the newline */

#define ANSI_BOLD       "\033[1m"
#define ANSI_PLAIN      "\033[0m"
#define ANSI_ERASE_LINE "\r\033[K"

static struct spinlock log_lock = SPINLOCK("log", RANK_LOG);
static bool log_open_line;   /* (log_lock) the last byte written was no newline */
static bool log_redrawn;     /* (log_lock) the open line is log_redraw()'s, on serial only */
static bool log_plain;       /* (c) once the command line is read */
static unsigned log_panicky; /* (a) set by the one CPU that still runs */

static void log_bytes_locked(const char *s, size_t n)
{
    if (n == 0)
        return;
    serial_write(s, n);
    screen_write(s, n);
    log_open_line = s[n - 1] != '\n';
}

/* The next byte will be the first of a line. */
static void log_close_line_locked(void)
{
    if (log_redrawn) {
        serial_write(ANSI_ERASE_LINE, sizeof(ANSI_ERASE_LINE) - 1);
        log_redrawn = false;
    } else if (log_open_line) {
        log_bytes_locked("\n", 1);
    }
}

/* Formats into buf, of LINE_MAX + 1 bytes, and ends it with a newline. Its length. */
static size_t log_format(char *buf, const char *fmt, va_list ap)
{
    int n = vsnprintf(buf, LINE_MAX, fmt, ap);
    size_t len = n < 0 ? 0 : MIN((size_t)n, (size_t)LINE_MAX - 1);
    buf[len++] = '\n';
    return len;
}

void log_line(const char *fmt, ...)
{
    char buf[LINE_MAX + 1];
    va_list ap;

    va_start(ap, fmt);
    size_t len = log_format(buf, fmt, ap);
    va_end(ap);
    /*
     * Without the lock in a panic (only the CPU that set the flag still runs: no ordering), and
     * when a fault inside this very file has something to say.
     */
    if (load_relaxed(&log_panicky) || spin_held(&log_lock)) {
        log_bytes_locked(buf, len);
        return;
    }
    bool irqs = spin_lock_irqsave(&log_lock);
    log_close_line_locked();
    log_bytes_locked(buf, len);
    spin_unlock_irqrestore(&log_lock, irqs);
}

void log_heading(const char *fmt, ...)
{
    char buf[LINE_MAX + 1];
    va_list ap;

    va_start(ap, fmt);
    size_t len = log_format(buf, fmt, ap);
    va_end(ap);
    bool irqs = spin_lock_irqsave(&log_lock);
    log_close_line_locked();
    if (!log_plain) /* the screen knows no escapes */
        serial_write(ANSI_BOLD, sizeof(ANSI_BOLD) - 1);
    log_bytes_locked(buf, len - 1);
    if (!log_plain)
        serial_write(ANSI_PLAIN, sizeof(ANSI_PLAIN) - 1);
    log_bytes_locked("\n", 1);
    spin_unlock_irqrestore(&log_lock, irqs);
}

void log_redraw(const char *fmt, ...)
{
    char buf[LINE_MAX + 1];
    va_list ap;

    if (log_plain)
        return;
    va_start(ap, fmt);
    size_t len = log_format(buf, fmt, ap);
    va_end(ap);
    bool irqs = spin_lock_irqsave(&log_lock);
    log_close_line_locked();
    serial_write(buf, len - 1); /* the screen cannot draw over a line: it gets the last word */
    log_redrawn = true;
    spin_unlock_irqrestore(&log_lock, irqs);
}

void console_write(const char *text, size_t n)
{
    bool irqs = spin_lock_irqsave(&log_lock);
    if (log_redrawn)
        log_close_line_locked();
    log_bytes_locked(text, n);
    spin_unlock_irqrestore(&log_lock, irqs);
}

void log_enter_panic(void)
{
    store_relaxed(&log_panicky, 1); /* read by this CPU: the others are frozen */
    serial_write("\n", 1);          /* whatever line was being written */
}

void log_raw_line(const char *fmt, ...)
{
    char buf[LINE_MAX + 1];
    va_list ap;

    va_start(ap, fmt);
    size_t len = log_format(buf, fmt, ap);
    va_end(ap);
    log_bytes_locked(buf, len);
}

void console_set_plain(void)
{
    log_plain = true;
}

bool console_is_plain(void)
{
    return log_plain;
}
