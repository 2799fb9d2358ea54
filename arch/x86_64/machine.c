/*
 * The machine as a whole: its bring-up after the topology is known, and its end.
 */
#include "machine.h"
#include "lib/acpi.h"
#include "lib/log.h"

#define EXIT_PORT 0xf4 /* isa-debug-exit: QEMU ends with status value * 2 + 1 */

void machine_init(const struct topology *topo)
{
    pic_mask_all();
    cpus_create(topo);
    smp_prepare();
    machine_check_init();
    apic_init(topo->lapic_phys);
    ioapic_init(topo);
    apic_timer_calibrate();
}

void machine_exit(enum exit_code code)
{
    irqs_off();
    outb(EXIT_PORT, (u8)code);
    /* Still here: no QEMU, or one without the device. */
    static const char text[] = "machine: stopped; there is no isa-debug-exit device to leave by\n";
    serial_write(text, sizeof(text) - 1);
    screen_write(text, sizeof(text) - 1);
    machine_freeze_others();
    for (;;)
        __asm__ volatile("cli; hlt");
}
