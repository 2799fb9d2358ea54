/*
 * acpi: two bytes that choose, then a physical memory whose first bytes are the RSDP. A table's
 * checksum stops almost every random change, so by choice they are put right first.
 *
 * Promises: a topology that can be booted, whatever came in; the CPUs, nodes, ranges and distances
 * are those that the accepted tables name, by a walk of our own; a bit turned over in an accepted
 * table costs a warning.
 */
#include "lib/acpi.h"
#include "tests/host/fuzz/fuzz.h"

enum { REPAIR = 1, SHORT_RSDP = 2, SEARCH = 4, TURN = 8 }; /* bits of the first byte */

static struct topology topo;
static u8 *memory;
static size_t memory_len;

/* ---- checksums put right ---- */

static void repair(size_t at, size_t len, size_t sum_at)
{
    u8 sum = 0;
    memory[at + sum_at] = 0;
    for (size_t i = 0; i < len; i++)
        sum = (u8)(sum + memory[at + i]);
    memory[at + sum_at] = (u8)-sum;
}

/* The table at a physical address; false: none there that could be right. */
static bool repair_table(u64 where, size_t *at, size_t *len)
{
    u64 off = where - PHYS_BASE;
    if (where < PHYS_BASE || off > memory_len || memory_len - off < 36)
        return false;
    u32 says = read_le32(memory + off + 4);
    if (says < 36 || says > memory_len - off)
        return false;
    *at = (size_t)off;
    *len = says;
    repair(*at, *len, 9);
    return true;
}

static void repair_root(u64 where, size_t entry)
{
    size_t at, len, table_at, table_len;
    if (!repair_table(where, &at, &len))
        return;
    for (size_t e = 36; e + entry <= len; e += entry)
        repair_table(entry == 8 ? read_le64(memory + at + e) : read_le32(memory + at + e),
                     &table_at, &table_len);
    repair(at, len, 9); /* a table may have lain in the root */
}

static void repair_all(void)
{
    if (memory_len < 20)
        return;
    repair_root(read_le32(memory + 16), 4);
    if (memory_len >= 36)
        repair_root(read_le64(memory + 24), 8);
    repair(0, 20, 8);
    if (memory_len >= 36)
        repair(0, 36, 32);
}

/* ---- what the accepted tables say ---- */

/* The table that was read with this signature, if there was a good one. */
static const struct phys_map *accepted(const char *signature)
{
    for (unsigned i = 0; i < phys.nr_maps; i++) {
        const struct phys_map *m = &phys.map[i];
        u8 sum = 0;
        if (m->len < 36 || memcmp(m->copy, signature, 4) || read_le32(m->copy + 4) != m->len)
            continue;
        for (u64 k = 0; k < m->len; k++)
            sum = (u8)(sum + m->copy[k]);
        if (sum == 0)
            return m;
    }
    return NULL;
}

/* The next whole entry of {u8 type, u8 length}, NULL at the end. */
static const u8 *next(const struct phys_map *m, u64 *at)
{
    const u8 *e = m->copy + *at;
    if (*at >= m->len || m->len - *at < 2 || e[1] < 2 || e[1] > m->len - *at)
        return NULL;
    *at += e[1];
    return e;
}

static bool entry_cpu(const u8 *e, u32 *id)
{
    if (e[0] == 0 && e[1] >= 8 && e[3] != 0xff && e[4] & 1) {
        *id = e[3];
        return true;
    }
    *id = e[0] == 9 && e[1] >= 16 ? read_le32(e + 4) : ~0u;
    return *id != ~0u && e[8] & 1;
}

static const struct topo_cpu *cpu_of(u32 id)
{
    for (unsigned i = 0; i < topo.nr_cpus; i++)
        if (topo.cpu[i].apic_id == id)
            return &topo.cpu[i];
    return NULL;
}

static void madt_check(const struct phys_map *m, u32 boot)
{
    static bool seen[TOPO_CPUS_MAX];
    unsigned named = 0;
    u32 id;
    memset(seen, 0, sizeof(seen));
    u64 at = 44;
    for (const u8 *e; m && m->len >= 44 && (e = next(m, &at));) {
        if (!entry_cpu(e, &id))
            continue;
        const struct topo_cpu *cpu = cpu_of(id);
        FUZZ_CHECK(cpu || topo.nr_cpus == TOPO_CPUS_MAX, "APIC id %u is lost", id);
        if (cpu && !seen[cpu - topo.cpu]) {
            seen[cpu - topo.cpu] = true;
            named++;
        }
    }
    FUZZ_CHECK(topo.nr_cpus == named + !seen[0], "%u CPUs, %u are named", topo.nr_cpus, named);
    FUZZ_CHECK(topo.cpu[0].apic_id == boot, "the first is not the boot CPU");
}

struct place {
    bool is_cpu;
    u32 id, domain;
    u64 start, len;
};

static bool entry_place(const u8 *e, bool wide, struct place *p)
{
    *p = (struct place){0};
    switch (e[0]) {
    case 0:
        if (e[1] < 16)
            return false;
        p->is_cpu = true;
        p->id = e[3];
        p->domain = e[2] + (wide ? (read_le32(e + 8) >> 8) * 256u : 0);
        return e[4] & 1;
    case 1:
        if (e[1] < 40)
            return false;
        p->domain = read_le32(e + 2) & (wide ? ~0u : 0xffu);
        p->start = read_le64(e + 8);
        p->len = read_le64(e + 16);
        return e[28] & 1 && p->len && p->start + p->len > p->start;
    case 2:
        if (e[1] < 24)
            return false;
        p->is_cpu = true;
        p->id = read_le32(e + 8);
        p->domain = read_le32(e + 4);
        return e[12] & 1;
    }
    return false;
}

static void srat_check(const struct phys_map *m)
{
    static bool placed[TOPO_CPUS_MAX];
    static bool named_nodes[TOPO_NODES_MAX];
    unsigned nr_mem = 0;
    u64 at = 48;
    FUZZ_CHECK(m && m->len >= 48, "an SRAT out of nothing");
    memset(placed, 0, sizeof(placed));
    memset(named_nodes, 0, sizeof(named_nodes));
    for (const u8 *e; (e = next(m, &at));) {
        struct place p;
        if (!entry_place(e, m->copy[8] >= 2, &p))
            continue;
        const struct topo_cpu *cpu = p.is_cpu ? cpu_of(p.id) : NULL;
        for (unsigned n = 0; n < topo.nr_nodes; n++)
            named_nodes[n] |= topo.node_domain[n] == p.domain && (cpu || !p.is_cpu);
        if (cpu && !placed[cpu - topo.cpu]) {
            placed[cpu - topo.cpu] = true;
            FUZZ_CHECK(topo.node_domain[cpu->node] == p.domain, "APIC id %u: its node", p.id);
        }
        for (unsigned i = 0; !p.is_cpu && i < topo.nr_mem; i++)
            nr_mem += topo.mem[i].start == p.start && topo.mem[i].end == p.start + p.len &&
                      topo.node_domain[topo.mem[i].node] == p.domain;
    }
    FUZZ_CHECK(nr_mem >= topo.nr_mem, "%u ranges, %u are named", topo.nr_mem, nr_mem);
    for (unsigned n = 0; n < topo.nr_nodes; n++)
        FUZZ_CHECK(named_nodes[n], "nobody names node %u", n);
    for (unsigned i = 0; i < topo.nr_cpus; i++)
        FUZZ_CHECK(placed[i] || topo.cpu[i].node == 0, "a CPU on no node is on %u",
                   topo.cpu[i].node);
}

static u8 distance_want(const struct phys_map *m, unsigned a, unsigned b)
{
    u64 n = m && topo.have_slit ? read_le64(m->copy + 36) : 0, from = topo.node_domain[a],
        to = topo.node_domain[b];
    if (from < n && to < n)
        return m->copy[44 + from * n + to];
    return a == b ? 10 : 20;
}

/* ---- what must hold whatever came in ---- */

static void topology_check(u32 boot)
{
    FUZZ_CHECK(topo.nr_cpus >= 1 && topo.nr_cpus <= TOPO_CPUS_MAX, "%u CPUs", topo.nr_cpus);
    FUZZ_CHECK(topo.nr_nodes >= 1 && topo.nr_nodes <= TOPO_NODES_MAX, "%u nodes", topo.nr_nodes);
    FUZZ_CHECK(topo.nr_mem <= TOPO_MEM_MAX && topo.nr_iso <= TOPO_ISO_MAX, "its tables");
    FUZZ_CHECK(topo.cpu[0].apic_id == boot, "the first is not the boot CPU");
    FUZZ_CHECK(topo.lapic_phys != 0, "no local APIC");
    for (unsigned i = 0; i < topo.nr_cpus; i++) {
        FUZZ_CHECK(topo.cpu[i].node < topo.nr_nodes, "CPU %u is on node %u", i, topo.cpu[i].node);
        FUZZ_CHECK(cpu_of(topo.cpu[i].apic_id) == &topo.cpu[i], "CPU %u is there twice", i);
    }
    for (unsigned i = 0; i < topo.nr_mem; i++) {
        const struct topo_mem *m = &topo.mem[i];
        FUZZ_CHECK(m->start < m->end && m->node < topo.nr_nodes, "range %u", i);
        FUZZ_CHECK(i == 0 || m[-1].end <= m->start, "range %u overlaps or is out of order", i);
    }
    for (unsigned a = 0; a < topo.nr_nodes; a++) {
        FUZZ_CHECK(a == 0 || topo.node_domain[a - 1] < topo.node_domain[a], "node %u: order", a);
        for (unsigned b = 0; b < topo.nr_nodes; b++) {
            u8 d = topo.distance[a][b];
            FUZZ_CHECK(a == b ? d == 10 : d >= 10, "from %u to %u is %u", a, b, d);
        }
    }
    if (!topo.have_srat)
        FUZZ_CHECK(topo.nr_nodes == 1 && topo.nr_mem == 0 && !topo.have_slit, "nodes of nothing");
    FUZZ_CHECK(fuzz_warnings <= 24, "%u warnings", fuzz_warnings);
}

static void parse(const void *rsdp, size_t rsdp_len, u32 boot)
{
    void *allocation;
    const u8 *copy = fuzz_copy(rsdp, rsdp_len, 0, &allocation);
    phys_begin(memory, memory_len);
    fuzz_warnings = 0;
    memset(&topo, 0xaa, sizeof(topo));
    acpi_parse(rsdp ? copy : NULL, rsdp_len, boot, phys_read, fuzz_warn, NULL, &topo);
    topology_check(boot);
    free(allocation);
}

/* One bit of an accepted table turned over: at least a line must say so. */
static void turn_check(size_t rsdp_len, u32 boot, unsigned choice)
{
    static const char *const signatures[] = {"APIC", "SRAT", "SLIT", "XSDT"};
    const struct phys_map *m = accepted(signatures[choice % 4]);
    if (!m || m->len <= 36 || rsdp_len > memory_len)
        return;
    size_t at = (size_t)(m->phys - PHYS_BASE) + 36 + choice * 7 % (size_t)(m->len - 36);
    phys_end();
    memory[at] ^= (u8)(1u << choice / 4 % 8);
    parse(memory, rsdp_len, boot);
    FUZZ_CHECK(fuzz_warnings, "a bit at %zu turned over, and nobody says so", at);
}

FUZZ_TARGET(acpi)
{
    struct input in = {data, size};
    unsigned flags = (unsigned)input_number(&in, 1), boot = (unsigned)input_number(&in, 1);
    void *allocation;

    memory_len = in.left;
    memory = fuzz_copy(in.at, in.left, 0, &allocation);
    if (flags & REPAIR)
        repair_all();
    size_t rsdp_len = flags & SHORT_RSDP ? 20 : 36;
    const u8 *rsdp = memory;
    if (flags & SEARCH)
        rsdp = acpi_find_rsdp(memory, memory_len);
    if (rsdp)
        rsdp_len = MIN(rsdp_len, memory_len - (size_t)(rsdp - memory));
    if (rsdp && flags & SEARCH && rsdp[15] >= 2 && !(flags & SHORT_RSDP))
        FUZZ_CHECK(rsdp_len == 36, "found, but cut off by the end");
    if (!rsdp) { /* nothing found: one CPU, and not a word */
        parse(NULL, 0, boot);
        FUZZ_CHECK(topo.nr_cpus == 1 && fuzz_warnings == 0, "out of nothing");
    } else {
        parse(rsdp, rsdp_len, boot);
        madt_check(accepted("APIC"), boot);
        if (topo.have_srat)
            srat_check(accepted("SRAT"));
        for (unsigned a = 0; a < topo.nr_nodes; a++)
            for (unsigned b = 0; b < topo.nr_nodes; b++)
                FUZZ_CHECK(topo.distance[a][b] == distance_want(accepted("SLIT"), a, b),
                           "from %u to %u is %u", a, b, topo.distance[a][b]);
        if (flags & TURN && rsdp == memory && fuzz_warnings == 0)
            turn_check(rsdp_len, boot, flags >> 4 | boot << 4);
    }
    phys_end();
    free(allocation);
    return 0;
}
