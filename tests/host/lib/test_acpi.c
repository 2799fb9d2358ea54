/* lib/acpi: whole sets of tables, and each of them broken in turn. */
#include "lib/acpi.h"
#include "tests/host/lib/parse.h"

enum { ROOT = 0x10000, MADT = 0x20000, SRAT = 0x30000, SLIT = 0x40000, OTHER = 0x50000 };
enum { MEM_ENABLED = 1, MEM_HOTPLUG = 2 };

static struct topology topo;
static struct bytes rsdp, madt, srat, slit;

static void sum_up(struct bytes *b, size_t len, size_t at)
{
    u8 sum = 0;
    b->data[at] = 0;
    for (size_t i = 0; i < len; i++)
        sum = (u8)(sum + b->data[i]);
    b->data[at] = (u8)-sum;
}

static struct bytes table(const char *signature, u8 revision)
{
    struct bytes b = {0};
    bytes_add(&b, signature, 4);
    bytes_32(&b, 0); /* length */
    bytes_8(&b, revision);
    bytes_8(&b, 0); /* checksum */
    bytes_add(&b, "LIMPIDTESTSET1\0\0\0\0\0\0\0\0\0\0\0", 26);
    return b;
}

static void place(u64 phys, struct bytes *b)
{
    if (b->len >= 36) {
        bytes_put_32(b, 4, (u32)b->len);
        sum_up(b, b->len, 9);
    }
    phys_add(phys, *b);
    *b = (struct bytes){0};
}

static void madt_cpu(u8 apic_id, u32 flags)
{
    bytes_8(&madt, 0);
    bytes_8(&madt, 8);
    bytes_8(&madt, 0);
    bytes_8(&madt, apic_id);
    bytes_32(&madt, flags);
}

static void madt_x2apic(u32 apic_id, u32 flags)
{
    bytes_8(&madt, 9);
    bytes_8(&madt, 16);
    bytes_16(&madt, 0);
    bytes_32(&madt, apic_id);
    bytes_32(&madt, flags);
    bytes_32(&madt, 0);
}

static void madt_ioapic(u32 phys, u32 gsi_base)
{
    bytes_8(&madt, 1);
    bytes_8(&madt, 12);
    bytes_16(&madt, 0);
    bytes_32(&madt, phys);
    bytes_32(&madt, gsi_base);
}

static void srat_cpu(u32 domain, u8 apic_id, u32 flags)
{
    bytes_8(&srat, 0);
    bytes_8(&srat, 16);
    bytes_8(&srat, (u8)domain);
    bytes_8(&srat, apic_id);
    bytes_32(&srat, flags);
    bytes_8(&srat, 0);
    bytes_8(&srat, (u8)(domain >> 8));
    bytes_8(&srat, (u8)(domain >> 16));
    bytes_8(&srat, (u8)(domain >> 24));
    bytes_32(&srat, 0);
}

static void srat_x2apic(u32 domain, u32 apic_id, u32 flags)
{
    bytes_8(&srat, 2);
    bytes_8(&srat, 24);
    bytes_16(&srat, 0);
    bytes_32(&srat, domain);
    bytes_32(&srat, apic_id);
    bytes_32(&srat, flags);
    bytes_64(&srat, 0);
}

static void srat_mem(u32 domain, u64 start, u64 len, u32 flags)
{
    bytes_8(&srat, 1);
    bytes_8(&srat, 40);
    bytes_32(&srat, domain);
    bytes_16(&srat, 0);
    bytes_64(&srat, start);
    bytes_64(&srat, len);
    bytes_32(&srat, 0);
    bytes_32(&srat, flags);
    bytes_64(&srat, 0);
}

static void slit_set(u64 n, const char *distances, size_t len)
{
    bytes_free(&slit);
    slit = table("SLIT", 1);
    bytes_64(&slit, n);
    bytes_add(&slit, distances, len);
}

static void begin(void)
{
    phys_clear();
    warnings_clear();
    bytes_free(&rsdp);
    bytes_free(&madt);
    bytes_free(&srat);
    bytes_free(&slit);
    madt = table("APIC", 4);
    bytes_32(&madt, 0xfee00000);
    bytes_32(&madt, 1);
    srat = table("SRAT", 3);
    bytes_32(&srat, 1);
    bytes_64(&srat, 0);
}

static void place_root(bool xsdt)
{
    struct bytes root = table(xsdt ? "XSDT" : "RSDT", 1);
    const u64 at[] = {OTHER, MADT, SRAT, SLIT};
    const struct bytes *have[] = {NULL, &madt, &srat, &slit};
    for (unsigned i = 0; i < 4; i++) {
        if (have[i] && have[i]->len == 0)
            continue;
        if (xsdt)
            bytes_64(&root, at[i]);
        else
            bytes_32(&root, (u32)at[i]);
    }
    struct bytes other = table("FACP", 1);
    place(OTHER, &other);
    place(ROOT, &root);
}

static void make_rsdp(bool xsdt)
{
    bytes_add(&rsdp, "RSD PTR ", 8);
    bytes_8(&rsdp, 0);
    bytes_add(&rsdp, "LIMPID", 6);
    bytes_8(&rsdp, xsdt ? 2 : 0);
    bytes_32(&rsdp, xsdt ? 0 : ROOT);
    if (xsdt) {
        bytes_32(&rsdp, 36);
        bytes_64(&rsdp, ROOT);
        bytes_32(&rsdp, 0);
    }
    sum_up(&rsdp, 20, 8);
    if (xsdt)
        sum_up(&rsdp, 36, 32);
}

static void parse_as_is(u32 boot)
{
    acpi_parse(rsdp.data, rsdp.len, boot, phys_map, warning_add, NULL, &topo);
    /* What must hold whatever came in. */
    CHECK(topo.nr_cpus >= 1 && topo.nr_cpus <= TOPO_CPUS_MAX);
    CHECK(topo.nr_nodes >= 1 && topo.nr_nodes <= TOPO_NODES_MAX);
    CHECK_EQ(topo.cpu[0].apic_id, boot);
    CHECK(topo.lapic_phys != 0);
    for (unsigned i = 0; i < topo.nr_cpus; i++) {
        CHECK(topo.cpu[i].node < topo.nr_nodes);
        for (unsigned j = 0; j < i; j++)
            CHECK(topo.cpu[i].apic_id != topo.cpu[j].apic_id);
    }
    for (unsigned i = 0; i < topo.nr_mem; i++) {
        CHECK(topo.mem[i].start < topo.mem[i].end && topo.mem[i].node < topo.nr_nodes);
        CHECK(i == 0 || topo.mem[i - 1].end <= topo.mem[i].start);
    }
    for (unsigned i = 0; i < topo.nr_nodes; i++) {
        CHECK(i == 0 || topo.node_domain[i - 1] < topo.node_domain[i]);
        for (unsigned j = 0; j < topo.nr_nodes; j++)
            CHECK(i == j ? topo.distance[i][j] == 10 : topo.distance[i][j] >= 10);
    }
}

static void parse(bool xsdt, u32 boot)
{
    make_rsdp(xsdt);
    place_root(xsdt);
    if (madt.len)
        place(MADT, &madt);
    if (srat.len)
        place(SRAT, &srat);
    if (slit.len)
        place(SLIT, &slit);
    parse_as_is(boot);
}

/* 4 CPUs on the domains 2 and 7, node 0's memory in pieces around the PCI hole. */
static void two_nodes(void)
{
    begin();
    for (u8 i = 0; i < 4; i++) {
        madt_cpu(i, 1);
        srat_cpu(i < 2 ? 7 : 2, i, 1);
    }
    madt_ioapic(0xfec00000, 0);
    srat_mem(7, 0, 0xa0000, MEM_ENABLED);
    srat_mem(7, 0x100000, 0x7ff00000, MEM_ENABLED);
    srat_mem(7, 0x100000000, 0x40000000, MEM_ENABLED);
    srat_mem(2, 0x140000000, 0x80000000, MEM_ENABLED);
    srat_mem(0, 0, 0, MEM_ENABLED);        /* no length: no range */
    srat_mem(1, 0x500000000, 0x100000, 0); /* disabled */
    srat_cpu(3, 200, 1);                   /* no such CPU */
    srat_mem(7, 0x8000000000, 0x100000000, MEM_ENABLED | MEM_HOTPLUG);
    slit_set(8,
             "\x0a\x14\x14\x14\x14\x14\x14\x14\x14\x0a\x14\x14\x14\x14\x14\x14"
             "\x14\x14\x0a\x14\x14\x14\x14\x1f\x14\x14\x14\x0a\x14\x14\x14\x14"
             "\x14\x14\x14\x14\x0a\x14\x14\x14\x14\x14\x14\x14\x14\x0a\x14\x14"
             "\x14\x14\x14\x14\x14\x14\x0a\x14\x14\x14\x1f\x14\x14\x14\x14\x0a",
             64);
}

static void check_two_nodes(void)
{
    CHECK_QUIET();
    CHECK_EQ(topo.nr_cpus, 4);
    CHECK_EQ(topo.nr_nodes, 2);
    CHECK_EQ(topo.node_domain[0], 2);
    CHECK_EQ(topo.node_domain[1], 7);
    CHECK_EQ(topo.cpu[0].node, 1);
    CHECK_EQ(topo.cpu[3].node, 0);
    CHECK_EQ(topo.nr_mem, 5);
    CHECK_EQ(topo.mem[3].node, 0);
    CHECK_EQ(topo.mem[3].start, 0x140000000);
    CHECK_EQ(topo.mem[4].node, 1);
    CHECK(topo.have_srat && topo.have_slit);
    CHECK_EQ(topo.distance[0][1], 31);
    CHECK_EQ(topo.distance[1][0], 31);
    CHECK_EQ(topo.ioapic_phys, 0xfec00000);
    CHECK_EQ(topo.lapic_phys, 0xfee00000);
}

static void acpi_good_rsdt(void)
{
    two_nodes();
    parse(false, 0);
    check_two_nodes();
}

static void acpi_good_xsdt(void)
{
    two_nodes();
    parse(true, 0);
    check_two_nodes();
}

static void acpi_nothing(void)
{
    begin();
    acpi_parse(NULL, 0, 5, phys_map, warning_add, NULL, &topo);
    CHECK_QUIET();
    CHECK_EQ(topo.nr_cpus, 1);
    CHECK_EQ(topo.cpu[0].apic_id, 5);
    CHECK_EQ(topo.nr_nodes, 1);
    CHECK_EQ(topo.distance[0][0], 10);
    CHECK(!topo.have_srat && !topo.have_slit);
    CHECK_EQ(topo.nr_mem, 0);
}

static void acpi_madt_only(void)
{
    begin();
    bytes_free(&srat);
    madt_cpu(4, 1);
    madt_cpu(9, 1);
    madt_cpu(7, 0);    /* disabled */
    madt_cpu(8, 2);    /* online capable: not yet there */
    madt_cpu(0xff, 1); /* "every CPU" */
    madt_x2apic(0x1234, 1);
    madt_x2apic(0x1235, 0);
    madt_x2apic(9, 1); /* again */
    madt_ioapic(0xfec10000, 24);
    madt_ioapic(0xfec00000, 0);
    bytes_add(&madt, "\x02\x0a\x00\x00\x02\x00\x00\x00\x05\x00", 10); /* IRQ 0 is GSI 2 */
    bytes_add(&madt, "\x05\x0c\x00\x00\x00\x00\xe0\xfe\x01\x00\x00\x00", 12);
    bytes_add(&madt, "\x63\x03\x00", 3); /* a type nobody knows */
    parse(false, 9);
    CHECK_WARNED(1, "APIC id 9 is there twice");
    CHECK_EQ(topo.nr_cpus, 3);
    CHECK_EQ(topo.cpu[0].apic_id, 9);
    CHECK_EQ(topo.cpu[1].apic_id, 4);
    CHECK_EQ(topo.cpu[2].apic_id, 0x1234);
    CHECK_EQ(topo.ioapic_phys, 0xfec00000);
    CHECK_EQ(topo.nr_iso, 1);
    CHECK_EQ(topo.iso[0].gsi, 2);
    CHECK_EQ(topo.iso[0].flags, 5);
    CHECK_EQ(topo.lapic_phys, 0x1fee00000);
}

static void acpi_boot_cpu_missing(void)
{
    begin();
    madt_cpu(1, 1);
    bytes_free(&srat);
    parse(false, 3);
    CHECK_WARNED(1, "lacks the boot CPU");
    CHECK_EQ(topo.nr_cpus, 2);
    CHECK_EQ(topo.cpu[1].apic_id, 1);
}

static void acpi_too_many_cpus(void)
{
    begin();
    for (u32 i = 0; i < 300; i++) {
        madt_x2apic(i, 1);
        srat_x2apic(i % 4, i, 1);
    }
    parse(false, 299);
    CHECK_EQ(warned.nr, 2); /* left out, and the boot CPU among them */
    CHECK_EQ(topo.nr_cpus, TOPO_CPUS_MAX);
    CHECK_EQ(topo.nr_nodes, 4);
    CHECK_EQ(topo.cpu[0].node, 3);
}

static void acpi_cpu_only_and_memory_only_nodes(void)
{
    begin();
    madt_cpu(0, 1);
    madt_cpu(1, 1);
    srat_cpu(0, 0, 1);
    srat_cpu(5, 1, 1);
    srat_mem(0, 0, 0x40000000, MEM_ENABLED);
    srat_mem(9, 0x100000000, 0x40000000, MEM_ENABLED);
    parse(true, 0);
    CHECK_QUIET();
    CHECK_EQ(topo.nr_nodes, 3);
    CHECK_EQ(topo.cpu[1].node, 1);
    CHECK_EQ(topo.mem[1].node, 2);
    CHECK_EQ(topo.distance[0][2], 20);
    CHECK(!topo.have_slit);
}

static void acpi_old_srat(void)
{
    begin(); /* revision 1: a domain has 8 bits, noise above them */
    srat.data[8] = 1;
    madt_cpu(0, 1);
    srat_cpu(0xabcdef01, 0, 1);
    srat_mem(0x77777701, 0, 0x1000000, MEM_ENABLED);
    parse(false, 0);
    CHECK_QUIET();
    CHECK_EQ(topo.nr_nodes, 1);
    CHECK_EQ(topo.node_domain[0], 1);
}

static void acpi_odd_srat(void)
{
    begin();
    madt_cpu(0, 1);
    madt_cpu(1, 1);
    srat_cpu(0, 0, 1);
    srat_cpu(1, 0, 1); /* two nodes for one CPU, none for the other */
    srat_mem(0, 0, 0x40000000, MEM_ENABLED);
    srat_mem(1, 0x20000000, 0x40000000, MEM_ENABLED);       /* overlaps */
    srat_mem(1, 0xfffffffffffff000, 0x100000, MEM_ENABLED); /* wraps */
    parse(false, 0);
    CHECK_EQ(warned.nr, 4);
    CHECK_HAS(warned.text, "overlaps");
    CHECK_HAS(warned.text, "past the end");
    CHECK_HAS(warned.text, "two nodes");
    CHECK_HAS(warned.text, "not in the SRAT");
    CHECK_EQ(topo.nr_mem, 1);
    CHECK_EQ(topo.cpu[0].node, 0);

    begin(); /* nothing in it */
    madt_cpu(0, 1);
    parse(false, 0);
    CHECK_WARNED(1, "no CPU and no memory");
    CHECK(!topo.have_srat);

    begin(); /* more domains than fit */
    madt_cpu(0, 1);
    for (u32 i = 0; i < TOPO_NODES_MAX + 1; i++)
        srat_mem(i, (u64)i << 30, 1 << 30, MEM_ENABLED);
    parse(false, 0);
    CHECK_WARNED(1, "domains");
    CHECK(!topo.have_srat);
    CHECK_EQ(topo.nr_nodes, 1);
    CHECK_EQ(topo.nr_mem, 0);
}

static void acpi_entries_past_the_end(void)
{
    begin();
    madt_cpu(0, 1);
    madt_cpu(1, 1);
    bytes_8(&madt, 0);
    bytes_8(&madt, 8); /* 8 bytes, says it; 2 are there */
    srat_cpu(0, 0, 1);
    srat_cpu(0, 1, 1);
    bytes_8(&srat, 1);
    bytes_8(&srat, 0); /* no length: would loop for ever */
    parse(false, 0);
    CHECK_WARNED(2, "broken entry");
    CHECK_EQ(topo.nr_cpus, 2);
    CHECK(topo.have_srat);

    begin(); /* shorter than their type */
    bytes_add(&madt, "\x00\x04\x00\x00", 4);
    madt_cpu(0, 1);
    bytes_add(&srat, "\x01\x08\x00\x00\x00\x00\x00\x00", 8);
    srat_cpu(0, 0, 1);
    parse(false, 0);
    CHECK_WARNED(2, "left out");
    CHECK_EQ(topo.nr_cpus, 1);
    CHECK(topo.have_srat);

    begin(); /* the same flaw many times: one line, and how many more there are */
    bytes_free(&srat);
    for (unsigned i = 0; i < 100; i++)
        madt_cpu(7, 1);
    parse(false, 7);
    CHECK_WARNED(2, "98 more entries");
    CHECK_EQ(topo.nr_cpus, 1);

    begin(); /* tables with nothing behind the header */
    madt.len = srat.len = 36;
    parse(false, 0);
    CHECK_EQ(warned.nr, 2);
    CHECK_EQ(topo.nr_cpus, 1);
}

static void slit_case(u64 n, const char *distances, size_t len, bool good, const char *warning)
{
    begin();
    madt_cpu(0, 1);
    madt_cpu(1, 1);
    srat_cpu(0, 0, 1);
    srat_cpu(1, 1, 1);
    slit_set(n, distances, len);
    parse(false, 0);
    CHECK_EQ(topo.have_slit, good);
    if (warning)
        CHECK_WARNED(1, warning);
    else
        CHECK_QUIET();
    if (!good)
        CHECK_EQ(topo.distance[0][1], 20);
}

static void acpi_slits(void)
{
    slit_case(2, "\x0a\x15\x15\x0a", 4, true, NULL);
    CHECK_EQ(topo.distance[0][1], 21);
    slit_case(2, "\x0a\xff\xff\x0a", 4, true, NULL);
    CHECK_EQ(topo.distance[0][1], 255);
    slit_case(2, "\x0a\x15\x16\x0a", 4, true, "differ by direction");
    CHECK_EQ(topo.distance[1][0], 22);
    slit_case(2, "\x0b\x15\x15\x0a", 4, false, "distance of 11");
    slit_case(2, "\x0a\x09\x15\x0a", 4, false, "distance of 9");
    slit_case(2, "\x0a\x15\x15", 3, false, "for 2 domains");
    slit_case(0, "", 0, false, "for 0 domains");
    slit_case(0x100000001, "\x0a\x15\x15\x0a", 4, false, "domains left out");
    slit_case(1, "\x0a", 1, true, "lacks domain 1");
    CHECK_EQ(topo.distance[0][1], 20);
}

static void acpi_broken_tables(void)
{
    static const u64 where[] = {MADT, SRAT, SLIT};
    for (unsigned which = 0; which < 3; which++) {
        for (unsigned how = 0; how < 3; how++) {
            two_nodes();
            make_rsdp(false);
            place_root(false);
            place(MADT, &madt);
            place(SRAT, &srat);
            place(SLIT, &slit);
            for (unsigned i = 0; i < nr_pieces; i++) {
                if (piece[i].phys != where[which])
                    continue;
                if (how == 0)
                    piece[i].bytes.data[piece[i].bytes.len - 1] ^= 1; /* the sum is wrong */
                else
                    bytes_put_32(&piece[i].bytes, 4, how == 1 ? 20 : 100000);
            }
            parse_as_is(0);
            CHECK_EQ(topo.nr_cpus, where[which] == MADT ? 1 : 4);
            CHECK_EQ(topo.have_srat, where[which] != SRAT);
            CHECK_EQ(topo.have_slit, where[which] == MADT);
            CHECK_WARNED(1, where[which] == MADT   ? ": one CPU"
                            : where[which] == SRAT ? ": one node"
                                                   : ": all other nodes count as equally far");
        }
    }
}

static void acpi_broken_roots(void)
{
    two_nodes(); /* the RSDP's sum */
    make_rsdp(false);
    rsdp.data[10] ^= 1;
    parse_as_is(0);
    CHECK_WARNED(1, "the RSDP is broken: one CPU, one node");

    two_nodes(); /* an XSDT that is none: the RSDT serves */
    make_rsdp(true);
    bytes_put_32(&rsdp, 16, ROOT);
    bytes_put_32(&rsdp, 24, 0x666000);
    sum_up(&rsdp, 20, 8);
    sum_up(&rsdp, 36, 32);
    place_root(false);
    place(MADT, &madt);
    parse_as_is(0);
    CHECK_HAS(warned.text, "the RSDT is used");
    CHECK_EQ(topo.nr_cpus, 4);

    two_nodes(); /* the long half of the RSDP is broken: its XSDT is not looked at */
    make_rsdp(true);
    bytes_put_32(&rsdp, 16, ROOT);
    sum_up(&rsdp, 20, 8);
    rsdp.data[33] ^= 1;
    place_root(false);
    place(MADT, &madt);
    parse_as_is(0);
    CHECK_HAS(warned.text, "the RSDT is used");
    CHECK_EQ(topo.nr_cpus, 4);

    two_nodes(); /* the root points nowhere */
    make_rsdp(false);
    parse_as_is(0);
    CHECK_WARNED(1, "the RSDT at 0x10000 cannot be read: one CPU, one node");
    CHECK_EQ(topo.nr_cpus, 1);

    two_nodes(); /* no MADT among the tables, and SRAT and SLIT nowhere */
    make_rsdp(false);
    place_root(false);
    for (unsigned i = 0; i < nr_pieces; i++) {
        if (piece[i].phys != ROOT)
            continue;
        bytes_put_32(&piece[i].bytes, 40, OTHER);
        sum_up(&piece[i].bytes, piece[i].bytes.len, 9);
    }
    parse_as_is(0);
    CHECK_WARNED(3, "no APIC table: one CPU");
    CHECK_HAS(warned.text, "names 0x30000, where nothing can be read");
    CHECK_HAS(warned.text, "1 more entries have flaws like those");

    two_nodes(); /* names tables twice */
    parse(false, 0);
    for (unsigned i = 0; i < nr_pieces; i++) {
        if (piece[i].phys != ROOT)
            continue;
        bytes_32(&piece[i].bytes, MADT);
        bytes_put_32(&piece[i].bytes, 4, (u32)piece[i].bytes.len);
        sum_up(&piece[i].bytes, piece[i].bytes.len, 9);
    }
    parse_as_is(0);
    CHECK_WARNED(1, "a second APIC");
}

static void acpi_finds_rsdp(void)
{
    begin();
    make_rsdp(false);
    u8 *area = calloc(1, 1024);
    memcpy(area + 8, rsdp.data, rsdp.len); /* not on a boundary */
    CHECK(acpi_find_rsdp(area, 1024) == NULL);
    memcpy(area + 512, rsdp.data, rsdp.len);
    CHECK(acpi_find_rsdp(area, 1024) == area + 512);
    area[520] ^= 1;
    CHECK(acpi_find_rsdp(area, 1024) == NULL);
    CHECK(acpi_find_rsdp(area, 10) == NULL);
    memcpy(area + 1008, rsdp.data, 16); /* cut off by the end */
    CHECK(acpi_find_rsdp(area, 1024) == NULL);
    bytes_free(&rsdp);
    make_rsdp(true);
    memcpy(area + 992, rsdp.data, 32); /* the same, but for the half that is new */
    CHECK(acpi_find_rsdp(area, 1024) == NULL);
    memcpy(area + 976, rsdp.data, 36);
    CHECK(acpi_find_rsdp(area, 1024) == area + 976);
    free(area);
}

/* Turned over bytes under a right sum: whatever they say, the outcome can be booted. */
static void acpi_noise(void)
{
    for (unsigned round = 0; round < 20000; round++) {
        two_nodes();
        struct bytes *noisy[] = {&madt, &srat, &slit};
        for (unsigned n = 1 + check_random() % 8; n; n--) {
            struct bytes *b = noisy[check_random() % 3];
            b->data[8 + check_random() % (b->len - 8)] = (u8)(check_random() >> check_random() % 9);
        }
        parse(check_random() % 2, 0);
    }
}

int main(int argc, char **argv)
{
    check_start(argc, argv);
    RUN(acpi_good_rsdt);
    RUN(acpi_good_xsdt);
    RUN(acpi_nothing);
    RUN(acpi_madt_only);
    RUN(acpi_boot_cpu_missing);
    RUN(acpi_too_many_cpus);
    RUN(acpi_cpu_only_and_memory_only_nodes);
    RUN(acpi_old_srat);
    RUN(acpi_odd_srat);
    RUN(acpi_entries_past_the_end);
    RUN(acpi_slits);
    RUN(acpi_broken_tables);
    RUN(acpi_broken_roots);
    RUN(acpi_finds_rsdp);
    RUN(acpi_noise);
    begin();
    bytes_free(&madt);
    bytes_free(&srat);
    return check_done();
}
