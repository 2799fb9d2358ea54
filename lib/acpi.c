/*
 * See lib/acpi.h. Every table is mapped, measured and summed before a byte of it counts, and every
 * entry is measured before it is read. Section numbers are those of ACPI 6.5.
 */
#include "lib/acpi.h"
#include "lib/bytes.h"
#include "lib/string.h"

#define RSDP_V2        36u       /* 5.2.5.3: from revision 2 on; 20 before */
#define HEADER_SIZE    36u       /* 5.2.6 */
#define TABLE_SIZE_MAX (1 * MIB) /* far above any table that is read here */

/* What one entry of a table can have wrong: the first of a kind has a line, the rest a count. */
enum flaw {
    FLAW_ADDRESS, /* of a table */
    FLAW_TWICE,   /* a table or a CPU */
    FLAW_SHORT,   /* an entry, for its type */
    FLAW_IOAPIC,
    FLAW_OVERRIDE,
    FLAW_WRAP,
    FLAW_OVERLAP,
    FLAW_ROOM,
    FLAW_TWO_NODES,
    FLAW_DOMAIN,
    NR_FLAWS
};

struct parse {
    phys_map_fn map;
    parse_warn_fn warn;
    void *ctx;
    struct topology *out;
    unsigned flaws[NR_FLAWS];
};

#define flaw_warn(p, kind, ...)                           \
    do {                                                  \
        if ((p)->flaws[kind]++ == 0)                      \
            parse_warn((p)->warn, (p)->ctx, __VA_ARGS__); \
    } while (0)

struct table { /* len 0: there is none */
    const u8 *data;
    u32 len;
};

struct tables {
    struct table madt, srat, slit;
};

static bool sums_to_zero(const void *data, u64 len)
{
    const u8 *p = data;
    u8 sum = 0;
    for (u64 i = 0; i < len; i++)
        sum = (u8)(sum + p[i]);
    return sum == 0;
}

/* ---- RSDP, RSDT and XSDT: 5.2.5 to 5.2.8 ---- */

static bool rsdp_is_valid(const void *p)
{
    return memcmp(p, "RSD PTR ", 8) == 0 && sums_to_zero(p, 20);
}

const void *acpi_find_rsdp(const void *base, u64 len)
{
    const u8 *p = base;
    for (u64 at = 0; len >= 20 && at <= len - 20; at += 16) {
        if (rsdp_is_valid(p + at) && (p[at + 15] < 2 || len - at >= RSDP_V2))
            return p + at;
    }
    return NULL;
}

/* Maps the table at phys, which must have that signature. `cost`: what a broken one costs. */
static struct table table_get(const struct parse *p, u64 phys, const char *signature,
                              const char *cost)
{
    struct table none = {NULL, 0};
    const u8 *head = p->map(p->ctx, phys, HEADER_SIZE);
    if (!head) {
        parse_warn(p->warn, p->ctx, "ACPI: the %s at %#llx cannot be read: %s", signature,
                   (unsigned long long)phys, cost);
        return none;
    }
    if (memcmp(head, signature, 4) != 0) {
        parse_warn(p->warn, p->ctx, "ACPI: no %s at %#llx: %s", signature, (unsigned long long)phys,
                   cost);
        return none;
    }
    u32 len = read_le32(head + 4);
    if (len < HEADER_SIZE || len > TABLE_SIZE_MAX) {
        parse_warn(p->warn, p->ctx, "ACPI: %s with a length of %u left out: %s", signature, len,
                   cost);
        return none;
    }
    const u8 *data = p->map(p->ctx, phys, len);
    if (!data) {
        parse_warn(p->warn, p->ctx, "ACPI: %s of %u bytes cannot be read to its end, left out: %s",
                   signature, len, cost);
        return none;
    }
    if (!sums_to_zero(data, len)) {
        parse_warn(p->warn, p->ctx, "ACPI: %s with a wrong checksum left out: %s", signature, cost);
        return none;
    }
    return (struct table){data, len};
}

#define COST_ROOT "one CPU, one node"
#define COST_MADT "one CPU"
#define COST_SRAT "one node"
#define COST_SLIT "all other nodes count as equally far"

/* Looks at every table that the root names and takes the first of each kind. */
static void tables_find(struct parse *p, struct table root, u32 entry, struct tables *t)
{
    const struct {
        const char *signature, *cost;
        struct table *table;
    } wanted[] = {{"APIC", COST_MADT, &t->madt},
                  {"SRAT", COST_SRAT, &t->srat},
                  {"SLIT", COST_SLIT, &t->slit}};
    bool named[ARRAY_SIZE(wanted)] = {false};

    if ((root.len - HEADER_SIZE) % entry)
        parse_warn(p->warn, p->ctx, "ACPI: the root table ends inside an entry");
    for (u32 at = HEADER_SIZE; root.len - at >= entry; at += entry) {
        u64 phys = entry == 8 ? read_le64(root.data + at) : read_le32(root.data + at);
        const u8 *head = phys ? p->map(p->ctx, phys, HEADER_SIZE) : NULL;
        if (!head) {
            flaw_warn(p, FLAW_ADDRESS,
                      "ACPI: the root table names %#llx, where nothing can be read",
                      (unsigned long long)phys);
            continue;
        }
        for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++) {
            if (memcmp(head, wanted[i].signature, 4) != 0)
                continue;
            if (named[i])
                flaw_warn(p, FLAW_TWICE, "ACPI: a second %s left out", wanted[i].signature);
            else
                *wanted[i].table = table_get(p, phys, wanted[i].signature, wanted[i].cost);
            named[i] = true;
        }
    }
    if (!named[0])
        parse_warn(p->warn, p->ctx, "ACPI: no APIC table: %s", COST_MADT);
}

/* The tables of the root, the 64-bit one if there is a good one. One line if there is neither. */
static void root_read(struct parse *p, const u8 *rsdp, u64 rsdp_len, struct tables *t)
{
    if (rsdp_len < 20 || !rsdp_is_valid(rsdp)) {
        parse_warn(p->warn, p->ctx, "ACPI: the RSDP is broken: %s", COST_ROOT);
        return;
    }
    u32 rsdt = read_le32(rsdp + 16);
    if (rsdp[15] >= 2) {
        const char *cost = rsdt ? "the RSDT is used" : COST_ROOT;
        u32 len = rsdp_len >= RSDP_V2 ? read_le32(rsdp + 20) : 0;
        if (len >= RSDP_V2 && len <= rsdp_len && sums_to_zero(rsdp, len)) {
            struct table root = table_get(p, read_le64(rsdp + 24), "XSDT", cost);
            if (root.len) {
                tables_find(p, root, 8, t);
                return;
            }
        } else {
            parse_warn(p->warn, p->ctx, "ACPI: the second half of the RSDP is broken: %s", cost);
        }
        if (!rsdt)
            return;
    }
    struct table root = table_get(p, rsdt, "RSDT", COST_ROOT);
    if (root.len)
        tables_find(p, root, 4, t);
}

/*
 * The entries of MADT and SRAT begin with {u8 type, u8 length}. Moves *at to the next one; NULL
 * at the end, or with a warning if an entry is too short or goes past the end.
 */
static const u8 *entry_next(const struct parse *p, struct table t, u32 *at)
{
    if (*at == t.len)
        return NULL;
    const u8 *e = t.data + *at;
    u32 left = t.len - *at;
    if (left < 2 || e[1] < 2 || e[1] > left) {
        parse_warn(p->warn, p->ctx, "ACPI: %.4s has a broken entry at offset %u, rest left out",
                   (const char *)t.data, *at);
        return NULL;
    }
    *at += e[1];
    return e;
}

/* True if the entry is as long as its type must be. */
static bool entry_fits(struct parse *p, struct table t, const u8 *e, u8 len)
{
    if (e[1] < len)
        flaw_warn(p, FLAW_SHORT, "ACPI: %.4s entry of type %u with %u bytes left out",
                  (const char *)t.data, e[0], e[1]);
    return e[1] >= len;
}

/* ---- MADT: 5.2.12 ---- */

static struct topo_cpu *cpu_find(struct topology *topo, u32 apic_id)
{
    for (unsigned i = 0; i < topo->nr_cpus; i++) {
        if (topo->cpu[i].apic_id == apic_id)
            return &topo->cpu[i];
    }
    return NULL;
}

static void cpu_add(struct parse *p, u32 apic_id, u32 flags, unsigned *left_out)
{
    struct topology *topo = p->out;
    if (!(flags & 1)) /* 5.2.12.2: not enabled; it may be plugged in one day */
        return;
    if (cpu_find(topo, apic_id))
        flaw_warn(p, FLAW_TWICE, "ACPI: APIC id %u is there twice, one left out", apic_id);
    else if (topo->nr_cpus == TOPO_CPUS_MAX)
        ++*left_out;
    else
        topo->cpu[topo->nr_cpus++] = (struct topo_cpu){apic_id, 0};
}

static void ioapic_add(struct parse *p, u64 phys, u32 gsi_base)
{
    struct topology *topo = p->out;
    if (phys == 0) {
        flaw_warn(p, FLAW_IOAPIC, "ACPI: IOAPIC without an address left out");
        return;
    }
    /* The ISA interrupts are all that is used: the IOAPIC that serves the lowest ones. */
    if (!topo->ioapic_phys || gsi_base < topo->ioapic_gsi_base) {
        topo->ioapic_phys = phys;
        topo->ioapic_gsi_base = gsi_base;
    }
}

/* False if it says nothing at all. */
static bool madt_read(struct parse *p, struct table t)
{
    struct topology *topo = p->out;
    unsigned left_out = 0;
    u32 at = 44;

    if (t.len < at) {
        parse_warn(p->warn, p->ctx, "ACPI: APIC of %u bytes left out: %s", t.len, COST_MADT);
        return false;
    }
    if (read_le32(t.data + 36))
        topo->lapic_phys = read_le32(t.data + 36);
    for (const u8 *e; (e = entry_next(p, t, &at));) {
        switch (e[0]) {
        case 0:                                         /* 5.2.12.2 local APIC */
            if (entry_fits(p, t, e, 8) && e[3] != 0xff) /* 0xff means every CPU */
                cpu_add(p, e[3], read_le32(e + 4), &left_out);
            break;
        case 1: /* 5.2.12.3 IOAPIC */
            if (entry_fits(p, t, e, 12))
                ioapic_add(p, read_le32(e + 4), read_le32(e + 8));
            break;
        case 2: /* 5.2.12.5 interrupt source override */
            if (!entry_fits(p, t, e, 10))
                break;
            if (topo->nr_iso == TOPO_ISO_MAX) {
                flaw_warn(p, FLAW_OVERRIDE, "ACPI: more than %u interrupt overrides", TOPO_ISO_MAX);
                break;
            }
            topo->iso[topo->nr_iso++] =
                (struct topo_irq_override){e[3], read_le32(e + 4), read_le16(e + 8)};
            break;
        case 5: /* 5.2.12.8 local APIC address override */
            if (entry_fits(p, t, e, 12) && read_le64(e + 4))
                topo->lapic_phys = read_le64(e + 4);
            break;
        case 9: /* 5.2.12.12 local x2APIC */
            if (entry_fits(p, t, e, 16) && read_le32(e + 4) != ~0u)
                cpu_add(p, read_le32(e + 4), read_le32(e + 8), &left_out);
            break;
        }
    }
    if (left_out)
        parse_warn(p->warn, p->ctx, "ACPI: %u CPUs above %u left out", left_out, TOPO_CPUS_MAX);
    return true;
}

/* The boot CPU goes to the front, the others keep their order. */
static void boot_cpu_to_front(const struct parse *p, u32 apic_id, bool have_madt)
{
    struct topology *topo = p->out;
    struct topo_cpu *boot = cpu_find(topo, apic_id);
    if (!boot) {
        if (have_madt)
            parse_warn(p->warn, p->ctx, "ACPI: the MADT lacks the boot CPU, APIC id %u", apic_id);
        if (topo->nr_cpus < TOPO_CPUS_MAX)
            topo->nr_cpus++;
        boot = &topo->cpu[topo->nr_cpus - 1];
    }
    for (; boot > topo->cpu; boot--)
        boot[0] = boot[-1];
    topo->cpu[0] = (struct topo_cpu){apic_id, 0};
}

/* ---- SRAT: 5.2.16 ---- */

struct affinity { /* one entry, whatever its type */
    u32 domain;
    bool is_cpu;
    u32 apic_id;
    u64 start, end;
};

/*
 * Makes an affinity of an entry. False: it says nothing about a CPU or memory that is there.
 * Before revision 2 a domain had 8 bits and the bytes above them were reserved.
 */
static bool affinity_read(struct parse *p, struct table t, const u8 *e, struct affinity *a)
{
    bool wide = t.data[8] >= 2;
    *a = (struct affinity){0};
    switch (e[0]) {
    case 0: /* 5.2.16.1 local APIC */
        if (!entry_fits(p, t, e, 16) || !(read_le32(e + 4) & 1))
            return false;
        a->is_cpu = true;
        a->apic_id = e[3];
        a->domain = e[2] | (wide ? (u32)e[9] << 8 | (u32)e[10] << 16 | (u32)e[11] << 24 : 0);
        return true;
    case 1: /* 5.2.16.2 memory */
        if (!entry_fits(p, t, e, 40) || !(read_le32(e + 28) & 1) || !read_le64(e + 16))
            return false;
        a->domain = wide ? read_le32(e + 2) : e[2];
        a->start = read_le64(e + 8);
        a->end = a->start + read_le64(e + 16);
        if (a->end > a->start)
            return true;
        flaw_warn(p, FLAW_WRAP, "ACPI: SRAT range at %#llx goes past the end, left out",
                  (unsigned long long)a->start);
        return false;
    case 2: /* 5.2.16.3 local x2APIC */
        if (!entry_fits(p, t, e, 24) || !(read_le32(e + 12) & 1))
            return false;
        a->is_cpu = true;
        a->apic_id = read_le32(e + 8);
        a->domain = read_le32(e + 4);
        return true;
    default:
        return false;
    }
}

/* Dense numbers follow the order of the domains. False: no room. */
static bool domain_add(struct topology *topo, u32 domain)
{
    unsigned at = 0;
    while (at < topo->nr_nodes && topo->node_domain[at] < domain)
        at++;
    if (at < topo->nr_nodes && topo->node_domain[at] == domain)
        return true;
    if (topo->nr_nodes == TOPO_NODES_MAX)
        return false;
    for (unsigned i = topo->nr_nodes++; i > at; i--)
        topo->node_domain[i] = topo->node_domain[i - 1];
    topo->node_domain[at] = domain;
    return true;
}

static unsigned domain_node(const struct topology *topo, u32 domain)
{
    unsigned node = 0;
    while (topo->node_domain[node] != domain)
        node++;
    return node;
}

static void mem_add(struct parse *p, const struct affinity *a, unsigned node)
{
    struct topology *topo = p->out;
    unsigned at = topo->nr_mem;
    for (unsigned i = 0; i < topo->nr_mem; i++) {
        if (a->start < topo->mem[i].end && topo->mem[i].start < a->end) {
            flaw_warn(p, FLAW_OVERLAP, "ACPI: SRAT range at %#llx overlaps another, left out",
                      (unsigned long long)a->start);
            return;
        }
    }
    if (topo->nr_mem == TOPO_MEM_MAX) {
        flaw_warn(p, FLAW_ROOM, "ACPI: more than %u SRAT ranges, the one at %#llx left out",
                  TOPO_MEM_MAX, (unsigned long long)a->start);
        return;
    }
    for (; at > 0 && topo->mem[at - 1].start > a->start; at--)
        topo->mem[at] = topo->mem[at - 1];
    topo->mem[at] = (struct topo_mem){a->start, a->end, node};
    topo->nr_mem++;
}

static void srat_read(struct parse *p, struct table t)
{
    struct topology *topo = p->out;
    const u32 first = 48; /* after the header and 12 reserved bytes */
    struct affinity a;

    if (t.len < first) {
        parse_warn(p->warn, p->ctx, "ACPI: SRAT of %u bytes left out: %s", t.len, COST_SRAT);
        return;
    }

    /* First which domains there are: the node numbers follow their order. */
    topo->nr_nodes = 0;
    u32 at = first;
    struct parse quiet = *p; /* the second pass says what is wrong */
    quiet.warn = NULL;
    for (const u8 *e; (e = entry_next(&quiet, t, &at));) {
        if (!affinity_read(&quiet, t, e, &a) || (a.is_cpu && !cpu_find(topo, a.apic_id)))
            continue;
        if (!domain_add(topo, a.domain)) {
            parse_warn(p->warn, p->ctx, "ACPI: SRAT with more than %u domains left out: %s",
                       TOPO_NODES_MAX, COST_SRAT);
            topo->nr_nodes = 1;
            topo->node_domain[0] = 0;
            return;
        }
    }
    if (topo->nr_nodes == 0) {
        parse_warn(p->warn, p->ctx, "ACPI: SRAT names no CPU and no memory: %s", COST_SRAT);
        topo->nr_nodes = 1;
        return;
    }

    bool placed[TOPO_CPUS_MAX] = {false};
    at = first;
    for (const u8 *e; (e = entry_next(p, t, &at));) {
        if (!affinity_read(p, t, e, &a))
            continue;
        struct topo_cpu *cpu = a.is_cpu ? cpu_find(topo, a.apic_id) : NULL;
        if (!a.is_cpu) {
            mem_add(p, &a, domain_node(topo, a.domain));
        } else if (cpu) {
            unsigned node = domain_node(topo, a.domain);
            if (placed[cpu - topo->cpu] && cpu->node != node)
                flaw_warn(p, FLAW_TWO_NODES, "ACPI: APIC id %u is on two nodes, the first counts",
                          a.apic_id);
            else
                cpu->node = node;
            placed[cpu - topo->cpu] = true;
        }
    }
    unsigned homeless = 0;
    for (unsigned i = 0; i < topo->nr_cpus; i++)
        homeless += !placed[i];
    if (homeless)
        parse_warn(p->warn, p->ctx, "ACPI: %u CPUs not in the SRAT, taken for node 0", homeless);
    topo->have_srat = true;
}

/* ---- SLIT: 5.2.17 ---- */

static void slit_read(struct parse *p, struct table t)
{
    struct topology *topo = p->out;
    u64 n = t.len >= 44 ? read_le64(t.data + 36) : 0;

    /* n * n bytes of a table of at most 1 MiB: the division keeps the product from wrapping. */
    if (n == 0 || n > (t.len - 44) / n) {
        parse_warn(p->warn, p->ctx, "ACPI: SLIT of %u bytes for %llu domains left out: %s", t.len,
                   (unsigned long long)n, COST_SLIT);
        return;
    }
    const u8 *matrix = t.data + 44;
    bool odd = false;
    for (u64 i = 0; i < n; i++) {
        for (u64 j = 0; j < n; j++) {
            u8 d = matrix[i * n + j];
            if (i == j ? d != 10 : d < 10) {
                parse_warn(p->warn, p->ctx,
                           "ACPI: SLIT with a distance of %u from domain %llu to %llu left out: %s",
                           d, (unsigned long long)i, (unsigned long long)j, COST_SLIT);
                return;
            }
            odd |= d != matrix[j * n + i];
        }
    }
    if (odd)
        parse_warn(p->warn, p->ctx, "ACPI: SLIT distances differ by direction, kept so");
    for (unsigned a = 0; a < topo->nr_nodes; a++) {
        u32 from = topo->node_domain[a];
        if (from >= n) {
            flaw_warn(p, FLAW_DOMAIN, "ACPI: SLIT lacks domain %u, taken for 20 away", from);
            continue;
        }
        for (unsigned b = 0; b < topo->nr_nodes; b++) {
            if (topo->node_domain[b] < n)
                topo->distance[a][b] = matrix[from * n + topo->node_domain[b]];
        }
    }
    topo->have_slit = true;
}

void acpi_parse(const void *rsdp, u64 rsdp_len, u32 boot_apic_id, phys_map_fn map,
                parse_warn_fn warn, void *ctx, struct topology *out)
{
    struct parse p = {map, warn, ctx, out, {0}};
    struct tables t = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

    memset(out, 0, sizeof(*out));
    out->lapic_phys = 0xfee00000; /* SDM3 11.4.1 */
    out->nr_nodes = 1;
    for (unsigned i = 0; i < TOPO_NODES_MAX; i++) {
        for (unsigned j = 0; j < TOPO_NODES_MAX; j++)
            out->distance[i][j] = i == j ? 10 : 20; /* 5.2.17: 10 is local; 20 is the custom */
    }
    if (rsdp)
        root_read(&p, rsdp, rsdp_len, &t);
    bool have_madt = t.madt.len && madt_read(&p, t.madt);
    boot_cpu_to_front(&p, boot_apic_id, have_madt);
    if (t.srat.len)
        srat_read(&p, t.srat);
    if (t.slit.len && out->have_srat)
        slit_read(&p, t.slit);

    unsigned repeated = 0;
    for (unsigned i = 0; i < NR_FLAWS; i++)
        repeated += p.flaws[i] ? p.flaws[i] - 1 : 0;
    if (repeated)
        parse_warn(warn, ctx, "ACPI: %u more entries have flaws like those", repeated);
}
