/*
 * What the boot loader said, made into one struct bootinfo, and what is free after it. Runs on
 * the boot map, which has physical 0 to 4 GiB at the same address. Owns nothing: the results
 * are copies, but for the module, which stays where the loader put it.
 */
#include "machine.h"
#include "lib/log.h"
#include "lib/multiboot2.h"
#include "lib/printf.h"
#include "lib/pvh.h"
#include "lib/string.h"

#define FW_CFG_CMDLINE "opt/limpid/cmdline"

void machine_warn(void *ctx, const char *fmt, ...)
{
    char line[200];
    (void)ctx;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    log_line("%s", line);
}

static const void *boot_map(void *ctx, u64 phys, u64 len)
{
    (void)ctx;
    return phys && phys < 4 * GIB && len <= 4 * GIB - phys ? (const void *)phys : NULL;
}

static void boot_append_cmdline(struct bootinfo *out)
{
    char *text = out->cmdline;
    size_t len = strlen(text);
    size_t room = sizeof(out->cmdline) - 1 - len;
    static char extra[BOOT_CMDLINE_MAX];
    size_t n = fw_cfg_read(FW_CFG_CMDLINE, extra, sizeof(extra) - 1);
    if (!n)
        return;
    extra[n] = 0;
    n = strlen(extra);
    if (n + 1 > room) {
        log_line("boot: the command line with %s is longer than %lu bytes; the latter is ignored",
                 FW_CFG_CMDLINE, sizeof(out->cmdline) - 1);
        return;
    }
    if (len)
        text[len++] = ' ';
    memcpy(text + len, extra, n + 1);
}

/* What a loader says of places that cannot be true would cost the boot where it is used. */
static void boot_check_places(struct bootinfo *out)
{
    struct framebuffer *fb = &out->fb;
    u64 fb_end = fb->phys + (u64)fb->pitch * fb->height;
    if (out->module_end && !bootinfo_usable(out, out->module_start, out->module_end)) {
        log_line("boot: the module at %#lx is not in usable memory, left out", out->module_start);
        out->module_start = out->module_end = 0;
    }
    if (fb->phys && (fb_end > 1ULL << cpu_features.phys_bits ||
                     bootinfo_touches_usable(out, fb->phys, fb_end))) {
        log_line("boot: the framebuffer at %#lx cannot be there: no screen", fb->phys);
        *fb = (struct framebuffer){0};
    }
}

void boot_info_collect(u32 magic, u64 info_phys, struct bootinfo *out)
{
    int err = 0;
    if (magic == MULTIBOOT2_MAGIC) {
        const void *info = boot_map(NULL, info_phys, 8);
        u32 len = info ? *(const u32 *)info : 0; /* total_size (multiboot2, 3.6.2) */
        err = info && boot_map(NULL, info_phys, len)
                  ? multiboot2_parse(info, len, machine_warn, NULL, out)
                  : -1;
    } else if (magic == PVH_MAGIC) {
        err = pvh_parse(info_phys, boot_map, machine_warn, NULL, out);
    } else {
        panic("boot: neither multiboot2 nor PVH (magic %#x)", magic);
    }
    if (err || !out->nr_ram)
        panic("boot: the loader left no memory map");
    boot_check_places(out);
    boot_append_cmdline(out);
}

void boot_memmap_build(const struct bootinfo *info, struct memmap *free)
{
    int err = 0;
    free->nr = 0;
    u64 limit = MIN(DIRECT_MAP_SIZE, 1ULL << cpu_features.phys_bits);
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        if (r->type == RAM_USABLE && r->start < limit)
            err |= memmap_add(free, r->start, MIN(r->end, limit), 0);
    }
    /* Usable ranges share frames with others at odd borders: rounding inwards took care. */
    err |= memmap_remove(free, 0, MIB); /* real-mode tables, EBDA, the AP trampoline */
    err |= memmap_remove(free, (u64)image_phys_start, (u64)image_phys_end);
    if (info->module_end > info->module_start)
        err |= memmap_remove(free, info->module_start, info->module_end);
    const struct framebuffer *fb = &info->fb;
    if (fb->phys)
        err |= memmap_remove(free, fb->phys, fb->phys + (u64)fb->pitch * fb->height);
    if (err)
        log_line("boot: the memory map has too many ranges; some memory stays unused");
}
