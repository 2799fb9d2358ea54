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
    struct ram_range ram[BOOT_RANGES_MAX]; /* sorted, disjoint: bootinfo_settle_ram() */
    unsigned nr_ram;
    unsigned ram_flaws;           /* ranges that were empty, wrapped or one too many */
    u64 module_start, module_end; /* guests.cpio, bytes; 0, 0: none */
    u64 rsdp_phys;                /* 0: none told */
    u8 rsdp_copy[36];             /* multiboot2 gives a copy, not an address */
    unsigned rsdp_copy_len;       /* 0: none; 20 (ACPI 1) or 36 */
    struct framebuffer fb;
};

/* Told of each thing that was wrong and what it cost; never fatal. May be NULL. */
typedef void (*parse_warn_fn)(void *ctx, const char *fmt, ...) __printf_like(2, 3);

/* Gives a pointer to [phys, phys + len), or NULL if that is not readable memory. */
typedef const void *(*phys_map_fn)(void *ctx, u64 phys, u64 len);

/*
 * Adds one range of the firmware's map, `type` in the numbers of ACPI 15.4 (E820): 1 usable,
 * 3 ACPI, 4 NVS, 5 bad, anything else reserved. Empty, wrapping or one too many: a warning for
 * the first of them; bootinfo_settle_ram() says how many there were. In lib/memmap.c, both.
 */
void bootinfo_add_ram(struct bootinfo *info, u64 start, u64 bytes, u32 type, parse_warn_fn warn,
                      void *ctx);
/*
 * Sorts the ranges and makes them disjoint: where two overlap, the more restrictive type wins
 * (usable < ACPI < NVS < reserved < bad). Neighbours of one type are joined. One warning if they
 * were out of order and one if any overlapped.
 */
void bootinfo_settle_ram(struct bootinfo *info, parse_warn_fn warn, void *ctx);

/* True if one usable range has all of [start, end), in frames that are wholly usable. */
bool bootinfo_usable(const struct bootinfo *info, u64 start, u64 end);
/* True if any usable range has a byte of [start, end). */
bool bootinfo_touches_usable(const struct bootinfo *info, u64 start, u64 end);

/*
 * From now on the RSDP at `phys` counts, not the firmware's. BOOT_RSDP_BYTES from there on, in
 * which its tables should lie, become ACPI memory: read, never allocated. False, and nothing is
 * changed, if they are not usable memory, or the module's. The map must be settled.
 */
#define BOOT_RSDP_BYTES (64 * KIB)
bool bootinfo_use_rsdp(struct bootinfo *info, u64 phys);

#endif
