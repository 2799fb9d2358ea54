/*
 * ACPI tables as pure functions over bytes: RSDP, RSDT/XSDT, MADT (CPUs, IOAPIC), SRAT (which
 * CPU and which memory belongs to which node), SLIT (distances). ACPI specification 6.5,
 * sections 5.2.5 (RSDP), 5.2.12 (MADT), 5.2.16 (SRAT), 5.2.17 (SLIT).
 *
 * A broken table costs its feature and one warning, never the boot.
 */
#ifndef LIB_ACPI_H
#define LIB_ACPI_H

#include "lib/base.h"
#include "lib/bootinfo.h"

#define TOPO_CPUS_MAX  256
#define TOPO_NODES_MAX 64
#define TOPO_MEM_MAX   128
#define TOPO_ISO_MAX   24

struct topo_cpu {
    u32 apic_id;
    unsigned node; /* dense node number */
};

struct topo_mem {
    u64 start, end; /* bytes */
    unsigned node;  /* dense node number */
};

struct topo_irq_override { /* MADT interrupt source override, for ISA IRQs */
    u8 irq;
    u32 gsi;
    u16 flags;
};

struct topology {
    struct topo_cpu cpu[TOPO_CPUS_MAX]; /* enabled CPUs only, MADT order, the boot CPU first */
    unsigned nr_cpus;                   /* at least 1 */
    struct topo_mem mem[TOPO_MEM_MAX];  /* enabled SRAT ranges of non-zero length, disjoint */
    unsigned nr_mem;                    /* 0 without SRAT: all memory is node 0 */
    unsigned nr_nodes;                  /* at least 1; dense 0 .. nr_nodes - 1 */
    u32 node_domain[TOPO_NODES_MAX];    /* the proximity domain behind a node number */
    u8 distance[TOPO_NODES_MAX][TOPO_NODES_MAX]; /* 10 to oneself; without SLIT 20 to others */
    bool have_srat, have_slit;
    u64 lapic_phys;  /* 0xfee00000 unless the MADT says otherwise */
    u64 ioapic_phys; /* 0: none */
    u32 ioapic_gsi_base;
    struct topo_irq_override iso[TOPO_ISO_MAX];
    unsigned nr_iso;
};

/*
 * Reads the tables from an RSDP of `rsdp_len` bytes. `boot_apic_id` is the APIC id of the CPU
 * that runs this; it becomes cpu[0], and is added if the MADT does not have it. Always leaves a
 * topology that can be booted. rsdp NULL: one CPU, one node.
 */
void acpi_parse(const void *rsdp, u64 rsdp_len, u32 boot_apic_id, phys_map_fn map,
                parse_warn_fn warn, void *ctx, struct topology *out);

/*
 * Searches [base, base + len) on 16-byte boundaries for a valid RSDP (ACPI 5.2.5.1), all of it:
 * 20 or, from revision 2 on, 36 bytes. NULL: none.
 */
const void *acpi_find_rsdp(const void *base, u64 len);

#endif
