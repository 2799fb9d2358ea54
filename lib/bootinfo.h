/*
 * What a boot loader tells, whichever it was. lib/multiboot2.c and lib/pvh.c fill it; both are
 * pure functions over bytes.
 */
#ifndef LIB_BOOTINFO_H
#define LIB_BOOTINFO_H

#include "lib/base.h"

#define BOOT_RANGES_MAX  256
#define BOOT_CMDLINE_MAX 2048 /* with the NUL */

/* What a range of the firmware's memory map is. What we do not know is reserved. */
enum ram_type {
    RAM_RESERVED,
    RAM_USABLE,
    RAM_ACPI, /* ACPI tables (reclaimable): mapped and read, never allocated */
    RAM_NVS,  /* ACPI NVS: never touched */
    RAM_BAD,
};

struct ram_range {
    u64 start, end; /* bytes, end exclusive, start < end */
    enum ram_type type;
};

struct framebuffer {
    u64 phys; /* 0: none */
    u32 pitch, width, height;
    u8 bpp;
    u8 red_shift, green_shift, blue_shift;
};

struct bootinfo {
    const char *loader; /* "multiboot2" or "PVH" */
    char cmdline[BOOT_CMDLINE_MAX];
    struct ram_range ram[BOOT_RANGES_MAX]; /* as the firmware gave it, sane ranges only */
    unsigned nr_ram;
    u64 module_start, module_end; /* guests.cpio, bytes; 0, 0: none */
    u64 rsdp_phys;                /* 0: none told */
    u8 rsdp_copy[36];             /* multiboot2 gives a copy, not an address */
    unsigned rsdp_copy_len;       /* 0: none; 20 (ACPI 1) or 36 */
    struct framebuffer fb;
};

/* Told of each thing that was wrong and what it cost; never fatal. May be NULL. */
typedef void (*parse_warn_fn)(void *ctx, const char *fmt, ...) __printf_like(2, 3);

#endif
