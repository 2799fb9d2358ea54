/*
 * The IOAPIC, for one line: the serial port's (82093AA data sheet; ACPI 5.2.12.3 and .5). And
 * the old 8259s, which are shut up for good. Owns the mapping (c).
 */
#include "machine.h"
#include "lib/acpi.h"
#include "lib/log.h"

#define SELECT      0 /* byte offset of the index register */
#define WINDOW      0x10
#define VERSION     1
#define REDIRECT(n) (0x10 + 2 * (n))
#define LOW_ACTIVE  (1u << 13)
#define LEVEL       (1u << 15)
#define MASKED      (1u << 16)

static volatile u32 *regs; /* (c) volatile: device registers. NULL: there is none */
static unsigned nr_pins;
static const struct topology *topology;

static u32 ioapic_read(unsigned reg)
{
    regs[SELECT / 4] = reg;
    return regs[WINDOW / 4];
}

static void ioapic_write(unsigned reg, u32 v)
{
    regs[SELECT / 4] = reg;
    regs[WINDOW / 4] = v;
}

void ioapic_init(const struct topology *topo)
{
    if (!topo->ioapic_phys)
        return;
    topology = topo;
    regs = mmio_map(topo->ioapic_phys, FRAME_SIZE, PTE_UC);
    nr_pins = (ioapic_read(VERSION) >> 16 & 0xff) + 1;
    for (unsigned pin = 0; pin < nr_pins; pin++)
        ioapic_write(REDIRECT(pin), MASKED);
}

void ioapic_enable_isa(unsigned irq, unsigned vector, u32 apic_id)
{
    u32 gsi = irq, entry = vector; /* ISA: edge, high active */
    if (!regs) {
        log_line("ioapic: there is none, so no interrupt %u", irq);
        return;
    }
    for (unsigned i = 0; i < topology->nr_iso; i++) {
        const struct topo_irq_override *o = &topology->iso[i];
        if (o->irq != irq)
            continue;
        gsi = o->gsi; /* flags: ACPI table 5.26; 3 is low active, 0xc level */
        if ((o->flags & 3) == 3)
            entry |= LOW_ACTIVE;
        if ((o->flags & 0xc) == 0xc)
            entry |= LEVEL;
    }
    unsigned pin = gsi - topology->ioapic_gsi_base;
    if (pin >= nr_pins) {
        log_line("ioapic: interrupt %u is GSI %u, which it does not have", irq, gsi);
        return;
    }
    ioapic_write(REDIRECT(pin) + 1, apic_id << 24);
    ioapic_write(REDIRECT(pin), entry);
}

/* To vectors of their own, so that a late or spurious one is not taken for an exception. */
void pic_mask_all(void)
{
    static const u8 init[] = {0x11, VECTOR_PIC, 0x04, 0x01}; /* ICW1 to ICW4 (8259A) */
    for (unsigned i = 0; i < sizeof(init); i++) {
        outb(i ? 0x21 : 0x20, init[i]);
        outb(i ? 0xa1 : 0xa0, i == 1 ? VECTOR_PIC + 8 : i == 2 ? 2 : init[i]);
    }
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}
