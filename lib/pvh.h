/*
 * The start info of a PVH loader (Xen public/arch-x86/hvm/start_info.h): what QEMU's -kernel
 * hands over when it finds an ELF note of type 18. A pure function over bytes; its pointers are
 * physical, so it reads through a phys_map_fn.
 */
#ifndef LIB_PVH_H
#define LIB_PVH_H

#include "lib/bootinfo.h"

#define PVH_MAGIC 0x336ec578u

/*
 * Reads the start info at physical address `info_phys` (in EBX at entry). The first module is
 * what -initrd gave. 0; E_FAULT (cannot be read) or E_FORMAT (no start info), and then `out` is
 * an empty bootinfo. A part that is broken costs itself and one warning. The memory map
 * comes out settled. A start info of version 0 has no memory map: one warning.
 */
int pvh_parse(u64 info_phys, phys_map_fn map, parse_warn_fn warn, void *ctx, struct bootinfo *out);

#endif
