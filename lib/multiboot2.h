/*
 * The boot information of a multiboot2 loader (Multiboot2 specification 2.0, section 3.6) as a
 * pure function over bytes. What the header of the image asks for is in arch/x86_64/boot.
 */
#ifndef LIB_MULTIBOOT2_H
#define LIB_MULTIBOOT2_H

#include "lib/bootinfo.h"

#define MULTIBOOT2_MAGIC 0x36d76289u /* in EAX at entry (section 3.3) */

/*
 * Reads the boot information at `data`, of which at least 8 and at most `len` bytes may be read.
 * 0; E_FORMAT if it is no boot information at all, and then `out` is an empty bootinfo.
 * A tag that is broken costs itself and one warning. The memory map comes out settled
 * (bootinfo_settle_ram). The copies are complete: data is not needed afterwards.
 */
int multiboot2_parse(const void *data, u64 len, parse_warn_fn warn, void *ctx,
                     struct bootinfo *out);

#endif
