/*
 * From the RSDP to the topology: finds the RSDP where the loader named none, and lets
 * lib/acpi.c read tables where there is RAM to read. Boot only.
 */
#include "machine.h"
#include "lib/acpi.h"
#include "lib/log.h"
#include "lib/string.h"

#define BIOS_AREA     0xe0000 /* ACPI 5.2.5.1: read-only memory below 1 MiB */
#define BIOS_AREA_END 0x100000
#define EBDA_SEGMENT  0x40e /* where the BIOS keeps the segment of its extended data area */

/* Firmware memory outside the direct map, mapped read-only and cached as tables are found. */
#define WINDOWS_MAX  32
#define WHOLE_WINDOW (2 * MIB) /* a firmware range up to this size is mapped as a whole */
static struct {
    u64 start, end;
    const char *at;
} window[WINDOWS_MAX];
static unsigned nr_windows;

static const void *window_map(u64 start, u64 end)
{
    start = ALIGN_DOWN(start, FRAME_SIZE);
    end = ALIGN_UP(end, FRAME_SIZE);
    if (nr_windows == WINDOWS_MAX)
        return NULL;
    window[nr_windows].start = start;
    window[nr_windows].end = end;
    return window[nr_windows++].at = (const char *)mmio_map(start, end - start, 0);
}

/*
 * Tables lie in ACPI memory, which the direct map has; SeaBIOS leaves them in memory that it
 * calls reserved, and the RSDP in the BIOS area. Whatever else a broken table's addresses say is
 * not read: it might be a device.
 */
static const void *acpi_map(void *ctx, u64 phys, u64 len)
{
    const struct bootinfo *info = ctx;
    if (!len || phys + len < phys)
        return NULL;
    if (direct_map_covers(phys, len))
        return phys_va(phys);
    for (unsigned i = 0; i < nr_windows; i++)
        if (phys >= window[i].start && phys + len <= window[i].end)
            return window[i].at + (phys - window[i].start);
    if (phys >= BIOS_AREA && phys + len <= BIOS_AREA_END)
        return window_map(BIOS_AREA, BIOS_AREA_END) ? acpi_map(ctx, phys, len) : NULL;
    for (unsigned i = 0; i < info->nr_ram; i++) {
        const struct ram_range *r = &info->ram[i];
        if ((r->type != RAM_RESERVED && r->type != RAM_NVS) || phys < r->start ||
            phys + len > r->end)
            continue;
        bool whole = r->end - r->start <= WHOLE_WINDOW;
        if (!window_map(whole ? r->start : phys, whole ? r->end : phys + len))
            return NULL;
        return acpi_map(ctx, phys, len);
    }
    return NULL;
}

static const void *topology_search_rsdp(const struct bootinfo *info)
{
    if (direct_map_covers(EBDA_SEGMENT, 2)) {
        u64 ebda = (u64) * (const u16 *)phys_va(EBDA_SEGMENT) << 4;
        if (ebda >= 0x80000 && ebda < 0xa0000) {
            const void *area = (const void *)mmio_map(ebda, KIB, 0);
            const void *found = acpi_find_rsdp(area, KIB);
            if (found)
                return found;
        }
    }
    return acpi_find_rsdp(acpi_map((void *)info, BIOS_AREA, BIOS_AREA_END - BIOS_AREA),
                          BIOS_AREA_END - BIOS_AREA);
}

/* Devices that the tables put where they cannot be: to write there would cost the boot. */
static void topology_check_devices(const struct bootinfo *info, struct topology *out)
{
    u64 lapic = rdmsr(MSR_APIC_BASE) & PTE_PHYS; /* bits 51 to 12 (SDM3 11.4.4) */
    if (out->lapic_phys != lapic) {
        log_line("ACPI: the local APIC is not at %#lx but, as the CPU says, at %#lx",
                 out->lapic_phys, lapic);
        out->lapic_phys = lapic;
    }
    u64 ioapic = out->ioapic_phys;
    if (ioapic && (bootinfo_touches_usable(info, ioapic, ioapic + FRAME_SIZE) ||
                   ALIGN_DOWN(ioapic, FRAME_SIZE) == lapic)) {
        log_line("ACPI: the IOAPIC at %#lx cannot be there, left out", ioapic);
        out->ioapic_phys = 0;
    }
}

#define RSDP_V2 36 /* bytes (ACPI 5.2.5.3); version 1 has 20 of them, and more follows */

void topology_init(const struct bootinfo *info, struct topology *out)
{
    const void *rsdp = NULL;
    u64 len = RSDP_V2;
    if (info->rsdp_copy_len) {
        rsdp = info->rsdp_copy;
        len = info->rsdp_copy_len;
    } else if (info->rsdp_phys) {
        rsdp = acpi_map((void *)info, info->rsdp_phys, RSDP_V2);
    }
    if (!rsdp)
        rsdp = topology_search_rsdp(info);
    if (!rsdp)
        log_line("acpi: no RSDP: one CPU, one node");
    acpi_parse(rsdp, len, boot_cpu.apic_id, acpi_map, machine_warn, (void *)info, out);
    topology_check_devices(info, out);
}
