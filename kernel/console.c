/*
 * The way in: bytes from the serial port, made into lines.
 *
 * Owns the ring of received bytes, guarded by console_lock (RANK_CONSOLE_IN, interrupts off:
 * on_serial_byte() is an interrupt handler). One reader, the thread "main".
 *
 * The same with and without a terminal: what is read is echoed either way, so a log of a piped
 * run reads like a session.
 *
 * Next: commands.c, which gets the lines.
 */
#include "kernel/console.h"
#include "lib/errors.h"
#include "lib/string.h"
#include "sched/sched.h"

#define RING_SIZE 16384u /* a pasted script; a power of two */

#define KEY_CTRL_C    0x03
#define KEY_BACKSPACE 0x08
#define KEY_CTRL_U    0x15
#define KEY_ESCAPE    0x1b
#define KEY_DELETE    0x7f

static struct spinlock console_lock = SPINLOCK("console input", RANK_CONSOLE_IN);
static struct waitq console_wait; /* the reader, for a byte */
static u8 ring[RING_SIZE];        /* (console_lock) */
static u32 ring_head, ring_tail;  /* (console_lock) written and read so far, modulo 2^32 */
static u64 ring_lost;             /* (console_lock) bytes that came while it was full */
static bool command_runs;         /* (console_lock) */
static bool interrupted;          /* (console_lock) Ctrl-C came while a command ran */
static bool skip_lf;              /* reader: a CR ended the last line, its LF may follow */

void console_input_init(void)
{
    waitq_init(&console_wait, "console");
    serial_enable_input();
}

/* arch/: a byte has come. Interrupts off. */
void on_serial_byte(u8 byte)
{
    bool irqs = spin_lock_irqsave(&console_lock);
    if (byte == KEY_CTRL_C && command_runs)
        interrupted = true;
    else if (ring_head - ring_tail == RING_SIZE)
        ring_lost++;
    else
        ring[ring_head++ % RING_SIZE] = byte;
    spin_unlock_irqrestore(&console_lock, irqs);
    waitq_wake_all(&console_wait); /* after the lock: its rank is below */
}

bool console_input_waiting(void)
{
    bool irqs = spin_lock_irqsave(&console_lock);
    bool any = ring_head != ring_tail;
    spin_unlock_irqrestore(&console_lock, irqs);
    return any;
}

static u8 console_read_byte(void)
{
    waitq_wait(&console_wait, console_input_waiting());
    bool irqs = spin_lock_irqsave(&console_lock);
    u8 byte = ring[ring_tail++ % RING_SIZE];
    u64 lost = ring_lost;
    ring_lost = 0;
    spin_unlock_irqrestore(&console_lock, irqs);
    if (lost)
        log_line("console: %lu bytes of input came faster than they were read and are lost", lost);
    return byte;
}

/* A terminal's arrow and function keys, ESC [ ... letter: no editing here, so they are dropped. */
static void console_skip_escape(void)
{
    u8 c = console_read_byte();
    if (c != '[' && c != 'O')
        return;
    do {
        c = console_read_byte();
    } while (c < 0x40 || c > 0x7e); /* ECMA-48 5.4: the final byte */
}

int console_read_line(char *buf, size_t size)
{
    size_t n = 0;
    bool too_long = false;

    for (;;) {
        u8 c = console_read_byte();
        if (c == '\n' && skip_lf) {
            skip_lf = false;
            continue;
        }
        skip_lf = c == '\r';
        switch (c) {
        case '\r':
        case '\n':
            console_write("\n", 1);
            buf[n] = 0;
            if (!too_long)
                return (int)n;
            log_line("line refused: longer than %zu bytes", size - 1);
            return E_NOSPC;
        case KEY_CTRL_C:
            console_write("^C\n", 3);
            buf[0] = 0;
            return 0;
        case KEY_BACKSPACE:
        case KEY_DELETE:
            if (n > 0) {
                n--;
                console_write("\b \b", 3);
            }
            continue;
        case KEY_CTRL_U:
            for (; n > 0; n--)
                console_write("\b \b", 3);
            continue;
        case KEY_ESCAPE:
            console_skip_escape();
            continue;
        case '\t':
            c = ' ';
            break;
        default:
            if (c < ' ')
                continue;
        }
        if (n + 1 == size) {
            too_long = true;
            continue;
        }
        buf[n++] = (char)c;
        console_write((const char *)&c, 1);
    }
}

void console_command_begin(void)
{
    bool irqs = spin_lock_irqsave(&console_lock);
    command_runs = true;
    interrupted = false;
    spin_unlock_irqrestore(&console_lock, irqs);
}

void console_command_end(void)
{
    bool irqs = spin_lock_irqsave(&console_lock);
    command_runs = false;
    spin_unlock_irqrestore(&console_lock, irqs);
}

bool console_interrupted(void)
{
    bool irqs = spin_lock_irqsave(&console_lock);
    bool yes = interrupted;
    spin_unlock_irqrestore(&console_lock, irqs);
    return yes;
}
