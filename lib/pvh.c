/* See lib/pvh.h. Xen public/arch-x86/hvm/start_info.h, version 1. */
#include "lib/pvh.h"
#include "lib/bytes.h"
#include "lib/errors.h"
#include "lib/string.h"

enum { /* offsets and sizes of the public structures */
       INFO_VERSION = 4,
       INFO_NR_MODULES = 12,
       INFO_MODLIST = 16,
       INFO_CMDLINE = 24,
       INFO_RSDP = 32,
       INFO_MEMMAP = 40, /* from version 1 on */
       INFO_MEMMAP_ENTRIES = 48,
       INFO_SIZE_V0 = 40,
       INFO_SIZE_V1 = 56,
       MODULE_SIZE = 32,       /* u64 paddr, size, cmdline_paddr, reserved */
       MEMMAP_ENTRY_SIZE = 24, /* u64 addr, size; u32 type, reserved */
};

#define PVH_ENTRIES_MAX 4096u /* a count above it is nonsense */

struct parse {
    struct bootinfo *out;
    phys_map_fn map;
    parse_warn_fn warn;
    void *ctx;
};

/* The length is not told: page by page, so that nothing behind the text has to be readable. */
static void pvh_read_cmdline(const struct parse *p, u64 phys)
{
    unsigned len = 0;
    while (len < BOOT_CMDLINE_MAX - 1) {
        u64 at = phys + len;
        unsigned n = (unsigned)MIN(FRAME_SIZE - at % FRAME_SIZE, BOOT_CMDLINE_MAX - 1 - len);
        const char *text = p->map(p->ctx, at, n);
        if (!text) {
            parse_warn(p->warn, p->ctx, "PVH: the command line at %#llx cannot be read, cut",
                       (unsigned long long)at);
            break;
        }
        for (unsigned i = 0; i < n; i++) {
            if (!text[i]) {
                p->out->cmdline[len] = 0;
                return;
            }
            p->out->cmdline[len++] = text[i];
        }
    }
    if (len == BOOT_CMDLINE_MAX - 1)
        parse_warn(p->warn, p->ctx, "PVH: the command line is longer than %u bytes, cut", len);
    p->out->cmdline[len] = 0;
}

static void pvh_read_module(const struct parse *p, u64 list, u32 nr)
{
    const u8 *m = p->map(p->ctx, list, MODULE_SIZE);
    if (!m) {
        parse_warn(p->warn, p->ctx, "PVH: the module list at %#llx cannot be read",
                   (unsigned long long)list);
        return;
    }
    u64 start = read_le64(m), size = read_le64(m + 8);
    if (size == 0 || start + size < start) {
        parse_warn(p->warn, p->ctx, "PVH: module of %llu bytes at %#llx left out",
                   (unsigned long long)size, (unsigned long long)start);
        return;
    }
    p->out->module_start = start;
    p->out->module_end = start + size;
    if (nr > 1)
        parse_warn(p->warn, p->ctx, "PVH: %u modules, only the first is used", nr);
}

static void pvh_read_memmap(const struct parse *p, u64 phys, u32 nr)
{
    if (nr > PVH_ENTRIES_MAX) {
        parse_warn(p->warn, p->ctx, "PVH: a memory map of %u entries, %u are read", nr,
                   PVH_ENTRIES_MAX);
        nr = PVH_ENTRIES_MAX;
    }
    const u8 *e = nr ? p->map(p->ctx, phys, (u64)nr * MEMMAP_ENTRY_SIZE) : NULL;
    if (!e) {
        parse_warn(p->warn, p->ctx, "PVH: no memory map at %#llx", (unsigned long long)phys);
        return;
    }
    for (u32 i = 0; i < nr; i++, e += MEMMAP_ENTRY_SIZE)
        bootinfo_add_ram(p->out, read_le64(e), read_le64(e + 8), read_le32(e + 16), p->warn,
                         p->ctx);
}

int pvh_parse(u64 info_phys, phys_map_fn map, parse_warn_fn warn, void *ctx, struct bootinfo *out)
{
    struct parse p = {out, map, warn, ctx};

    memset(out, 0, sizeof(*out));
    out->loader = "PVH";
    const u8 *info = map(ctx, info_phys, INFO_SIZE_V0);
    if (!info)
        return E_FAULT;
    if (read_le32(info) != PVH_MAGIC)
        return E_FORMAT;
    u32 version = read_le32(info + INFO_VERSION), nr_modules = read_le32(info + INFO_NR_MODULES);
    u64 modlist = read_le64(info + INFO_MODLIST), cmdline = read_le64(info + INFO_CMDLINE);

    out->rsdp_phys = read_le64(info + INFO_RSDP);
    if (cmdline)
        pvh_read_cmdline(&p, cmdline);
    if (nr_modules)
        pvh_read_module(&p, modlist, nr_modules);
    const u8 *v1 = version >= 1 ? map(ctx, info_phys, INFO_SIZE_V1) : NULL;
    if (v1)
        pvh_read_memmap(&p, read_le64(v1 + INFO_MEMMAP), read_le32(v1 + INFO_MEMMAP_ENTRIES));
    else
        parse_warn(warn, ctx, "PVH: start info of version %u without a memory map", version);
    bootinfo_settle_ram(out, warn, ctx);
    return 0;
}
