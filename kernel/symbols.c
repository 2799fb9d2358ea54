/*
 * From an address to the name of its function. Owns nothing; the table is made by
 * tools/symbols.py. Next: backtrace.c.
 */
#include "kernel/symbols.h"

extern char image_text_start[], image_text_end[]; /* linker.ld */

bool symbol_is_code(u64 address)
{
    return address >= (u64)image_text_start && address < (u64)image_text_end;
}

const char *symbol_find(u64 address, u64 *offset)
{
    u64 low = 0, high = kernel_nr_symbols; /* the one we want is below `high` */
    if (!symbol_is_code(address))
        return NULL;
    while (low < high) {
        u64 middle = low + (high - low) / 2;
        if (kernel_symbols[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    *offset = address - kernel_symbols[low - 1].start;
    return kernel_symbols[low - 1].name;
}
