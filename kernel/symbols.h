/*
 * The names of the kernel's functions, in its own image: for backtraces.
 */
#ifndef KERNEL_SYMBOLS_H
#define KERNEL_SYMBOLS_H

#include "lib/base.h"

struct symbol {
    u64 start;
    const char *name;
};

/*
 * (c) Ascending. Written by tools/symbols.py out of the image as it was linked without them: text
 * stands before rodata in it (linker.ld), so the names move no function.
 */
extern const struct symbol kernel_symbols[];
extern const u64 kernel_nr_symbols;

/* True if it is an address inside the kernel's code. */
bool symbol_is_code(u64 address);

/* The function that the address lies in, and how far; NULL: none. Any context. */
const char *symbol_find(u64 address, u64 *offset);

#endif
