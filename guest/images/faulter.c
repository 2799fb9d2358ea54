/*
 * Touches what it may not; secret= says which (without: `null`). It should be killed for it, so
 * reaching the end is the failure: code 1.
 */
#include "guest/images/lib/guest.h"

static uint64_t stack_eat(uint64_t n)
{
    volatile char page[4096];
    page[0] = (char)n;
    return n ? stack_eat(n - 1) + (uint64_t)page[0] : 0;
}

static void read_at(volatile uint64_t address)
{
    *(volatile char *)address;
}

static void write_at(volatile uint64_t address)
{
    *(volatile char *)address = 1;
}

int main(const struct guest_info *info)
{
    const char *what = word(info, "secret");
    what = what ? what : "null";
    say("faulter: %s", what);

    if (text_equal(what, "null"))
        read_at(8);
    else if (text_equal(what, "write"))
        write_at(0x7f0000000000);
    else if (text_equal(what, "text"))
        write_at((uint64_t)main); /* code is not writable */
    else if (text_equal(what, "info"))
        write_at((uint64_t)info);
    else if (text_equal(what, "exec"))
        ((void (*)(void))info->mem_base)(); /* memory is not executable */
    else if (text_equal(what, "stack"))
        stack_eat(1000); /* below the stack nothing is mapped */
    else if (text_equal(what, "noncanonical"))
        read_at(0x0000900000000000);
    else if (text_equal(what, "beyond"))
        write_at(info->mem_base + info->mem_bytes);
    else
        say("faulter: what is secret=%s?", what);
    say("faulter: still alive");
    return 1;
}
