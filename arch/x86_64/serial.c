/*
 * The first serial port: a 16550 at COM1 (PC16550D data sheet). Output is polled, with a bound,
 * so that a missing or stuck UART costs time and not the machine. Input comes by interrupt.
 * Owns the port; who calls serial_write() serialises (kernel/log.c).
 */
#include "machine.h"
#include "lib/log.h"

#define COM1     0x3f8
#define COM1_IRQ 4
enum { DATA = 0, IER = 1, FCR = 2, IIR = 2, LCR = 3, MCR = 4, LSR = 5, SCRATCH = 7 };
#define LSR_DATA  0x01
#define LSR_EMPTY 0x20

#define POLLS_MAX 200000 /* some tens of ms: longer than any character takes */

static bool present; /* (c) but for serial_write(), which gives up on a stuck UART */

void serial_init(void)
{
    outb(COM1 + SCRATCH, 0x5a);
    if (inb(COM1 + SCRATCH) != 0x5a)
        return;
    outb(COM1 + IER, 0);
    outb(COM1 + LCR, 0x80); /* divisor latch */
    outb(COM1 + DATA, 1);   /* 115200 baud */
    outb(COM1 + IER, 0);
    outb(COM1 + LCR, 0x03); /* 8 bits, no parity, one stop bit */
    outb(COM1 + FCR, 0x07); /* FIFOs on and empty, interrupt at one byte */
    outb(COM1 + MCR, 0x0b); /* DTR, RTS, and OUT2, which lets the interrupt through */
    present = true;
}

void serial_write(const char *s, size_t n)
{
    for (size_t i = 0; i < n && present; i++) {
        unsigned polls = 0;
        while (!(inb(COM1 + LSR) & LSR_EMPTY) && ++polls < POLLS_MAX)
            cpu_relax();
        if (polls == POLLS_MAX)
            present = false;
        else
            outb(COM1 + DATA, (u8)s[i]);
    }
}

void serial_handle(void)
{
    for (unsigned i = 0; i < 1024 && inb(COM1 + LSR) & LSR_DATA; i++)
        on_serial_byte(inb(COM1 + DATA));
    (void)inb(COM1 + IIR);
}

void serial_enable_input(void)
{
    if (!present)
        return;
    ioapic_enable_isa(COM1_IRQ, VECTOR_SERIAL, boot_cpu.apic_id);
    outb(COM1 + IER, 0x01);
}
