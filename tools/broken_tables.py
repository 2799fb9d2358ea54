"""Boots with broken ACPI tables: each costs what it describes and one line, never the boot.

QEMU's own tables are right, so hand-made ones are loaded into the guest's RAM (-device loader) and
the word rsdp= tells the kernel to read those. Every variant says which lines it must be told with,
and how many CPUs and nodes must be left; any other complaint is a failure, too. A wrong memory map
cannot be had this way: for that there are tests/host/lib and tests/host/fuzz.
"""
import re
import tempfile
from functools import partial

import acpi_tables as acpi
from machine import MIB, Machine, Unproven, boot_to_text

LIMIT = 30
MEM = 128  # MiB
BASE = 0x3000000  # in usable memory, away from the image (16 MiB) and the module (at the end)
NOWHERE = 0x80000000  # neither memory nor a device
HALF = MEM * MIB // 2

# Lines that complain begin with one of these.
COMPLAINT = re.compile(r"^(ACPI|acpi|smp|cpu|boot|ioapic|screen|memory map|command line):")
NO_IOAPIC = "ioapic: there is none, so no interrupt 4"

CPUS = [acpi.madt_cpu(i) for i in range(4)]
IOAPIC = acpi.madt_ioapic()
SRAT_CPUS = [acpi.srat_cpu(i // 2, i) for i in range(4)]
SRAT_MEM = [acpi.srat_mem(0, 0, HALF), acpi.srat_mem(1, HALF, HALF)]
MADT = acpi.madt(*CPUS, IOAPIC)
SRAT = acpi.srat(*SRAT_CPUS, *SRAT_MEM)
SLIT = acpi.slit(10, 21, 21, 10)


def tables(madt=MADT, srat=SRAT, slit=SLIT, **kwargs):
    return acpi.image(BASE, [madt, srat, slit], **kwargs)


def edited(name, change):
    """A change to one of rsdp, RSDT, XSDT."""
    return tables(edit=lambda at, data: change(data) if at == name else data)


def madt(*entries, **kwargs):
    return tables(madt=acpi.madt(*entries, IOAPIC, **kwargs))


def srat(*entries):
    return tables(srat=acpi.srat(*entries))


# name, tables, the lines it costs, and what is left: CPUs, nodes
ROOT = [
    ("right", tables(), [], 4, 2),
    ("right, by an RSDT", tables(revision=0), [], 4, 2),
    ("RSDP: checksum", edited("rsdp", lambda d: acpi.patch(d, 10, b"?")),
     ["ACPI: the RSDP is broken: one CPU, one node", NO_IOAPIC], 1, 1),
    ("RSDP: checksum of its second half", edited("rsdp", lambda d: acpi.patch(d, 33, b"?")),
     ["ACPI: the second half of the RSDP is broken: the RSDT is used"], 4, 2),
    ("XSDT: checksum", edited("XSDT", acpi.spoil),
     ["ACPI: XSDT with a wrong checksum left out: the RSDT is used"], 4, 2),
    ("XSDT: length", edited("XSDT", lambda d: acpi.with_length(d, 20)),
     ["ACPI: XSDT with a length of 20 left out: the RSDT is used"], 4, 2),
    ("RSDT: nowhere", edited("rsdp", lambda d: acpi.rsdp(0, NOWHERE, 0)),
     [f"ACPI: the RSDT at {NOWHERE:#x} cannot be read: one CPU, one node", NO_IOAPIC], 1, 1),
    ("names a table that is nowhere", tables(also=[NOWHERE]),
     [f"ACPI: the root table names {NOWHERE:#x}, where nothing can be read"], 4, 2),
    ("names a table at the very end", tables(also=[2**64 - 16]),
     ["ACPI: the root table names 0xfffffffffffffff0, where nothing can be read"], 4, 2),
    ("ends inside an entry",
     edited("XSDT", lambda d: acpi.with_length(d + b"\1\2\3", len(d) + 3)),
     ["ACPI: the root table ends inside an entry"], 4, 2),
    ("names a table twice", tables(also=[BASE + tables(also=[0]).index(MADT)]),
     ["ACPI: a second APIC left out"], 4, 2),
    ("names no MADT", acpi.image(BASE, [SRAT, SLIT]),
     ["ACPI: no APIC table: one CPU", NO_IOAPIC], 1, 2),
]
MADTS = [
    ("checksum", tables(madt=acpi.spoil(MADT)),
     ["ACPI: APIC with a wrong checksum left out: one CPU", NO_IOAPIC], 1, 2),
    ("length 8", tables(madt=acpi.with_length(MADT, 8)),
     ["ACPI: APIC with a length of 8 left out: one CPU", NO_IOAPIC], 1, 2),
    ("length 2^31 - 1", tables(madt=acpi.with_length(MADT, 2**31 - 1)),
     ["ACPI: APIC with a length of 2147483647 left out: one CPU", NO_IOAPIC], 1, 2),
    ("entry past the end", tables(madt=acpi.madt(*CPUS, IOAPIC, b"\0\x28\4\4")),
     [f"ACPI: APIC has a broken entry at offset {len(MADT)}, rest left out"], 4, 2),
    ("entry without length", tables(madt=acpi.madt(*CPUS, IOAPIC, bytes(6))),
     [f"ACPI: APIC has a broken entry at offset {len(MADT)}, rest left out"], 4, 2),
    ("entry too short for its type", madt(*CPUS, b"\0\4\7\7"),
     ["ACPI: APIC entry of type 0 with 4 bytes left out"], 4, 2),
    ("unknown types", madt(CPUS[0], b"\x63\3?", b"\xff\2", *CPUS[1:], b"\x80\6????"), [], 4, 2),
    ("a disabled CPU", madt(*CPUS[:3], acpi.madt_cpu(3, flags=0)), [], 3, 2),
    ("an APIC id twice", madt(*CPUS, CPUS[2]),
     ["ACPI: APIC id 2 is there twice, one left out"], 4, 2),
    ("an APIC id 200 times", madt(*CPUS, *[CPUS[2]] * 200),
     ["ACPI: APIC id 2 is there twice, one left out",
      "ACPI: 199 more entries have flaws like those"], 4, 2),
    ("without the boot CPU", madt(*CPUS[1:]),
     ["ACPI: the MADT lacks the boot CPU, APIC id 0"], 4, 2),
    ("a CPU that is not there", madt(*CPUS, acpi.madt_cpu(9)),
     ["ACPI: 1 CPUs not in the SRAT, taken for node 0",
      "smp: CPU 4 (APIC id 9) did not come; going on without it", "boot: 4 of 5 CPUs came"], 5, 2),
    ("an APIC id too wide for this mode", madt(*CPUS, acpi.madt_x2apic(0x100)),
     ["ACPI: 1 CPUs not in the SRAT, taken for node 0",
      "cpu: APIC id 256 needs x2APIC mode, which the firmware left off: not used"], 4, 2),
    ("local APIC in memory", madt(*CPUS, lapic=0x4000000),
     ["ACPI: the local APIC is not at 0x4000000 but, as the CPU says, at 0xfee00000"], 4, 2),
    ("local APIC outside of everything", madt(*CPUS, acpi.madt_lapic(2**63)),
     ["ACPI: the local APIC is not at 0x8000000000000000 but, as the CPU says, at 0xfee00000"],
     4, 2),
    ("IOAPIC in memory", tables(madt=acpi.madt(*CPUS, acpi.madt_ioapic(0x4000000))),
     ["ACPI: the IOAPIC at 0x4000000 cannot be there, left out", NO_IOAPIC], 4, 2),
    ("an interrupt that the IOAPIC lacks", madt(*CPUS, acpi.madt_override(4, 200)),
     ["ioapic: interrupt 4 is GSI 200, which it does not have"], 4, 2),
]
SRATS = [
    ("checksum", tables(srat=acpi.spoil(SRAT)),
     ["ACPI: SRAT with a wrong checksum left out: one node"], 4, 1),
    ("length 40", tables(srat=acpi.with_length(SRAT[:40], 40)),
     ["ACPI: SRAT of 40 bytes left out: one node"], 4, 1),
    ("entry past the end", tables(srat=acpi.srat(*SRAT_CPUS, *SRAT_MEM, b"\1\x28\2")),
     [f"ACPI: SRAT has a broken entry at offset {len(SRAT)}, rest left out"], 4, 2),
    ("entry without length", tables(srat=acpi.srat(*SRAT_CPUS, *SRAT_MEM, bytes(16))),
     [f"ACPI: SRAT has a broken entry at offset {len(SRAT)}, rest left out"], 4, 2),
    ("unknown types", srat(b"\x77\5???", *SRAT_CPUS, b"\xfe\2", *SRAT_MEM), [], 4, 2),
    ("ranges out of order", srat(*reversed(SRAT_CPUS + SRAT_MEM)), [], 4, 2),
    ("ranges that overlap", srat(*SRAT_CPUS, SRAT_MEM[0], acpi.srat_mem(1, HALF // 2, HALF)),
     [f"ACPI: SRAT range at {HALF // 2:#x} overlaps another, left out"], 4, 2),
    ("a range that wraps", srat(*SRAT_CPUS, *SRAT_MEM, acpi.srat_mem(1, 2**64 - 4096, 8192)),
     ["ACPI: SRAT range at 0xfffffffffffff000 goes past the end, left out"], 4, 2),
    ("empty and disabled entries",
     srat(acpi.srat_mem(7, 0, 0), acpi.srat_cpu(8, 3, flags=0), *SRAT_CPUS,
          acpi.srat_mem(9, 0, HALF, flags=0), *SRAT_MEM), [], 4, 2),
    ("a node of memory that is not there", srat(*SRAT_CPUS, *SRAT_MEM, acpi.srat_mem(5, 2**41, HALF)),
     ["ACPI: SLIT lacks domain 5, taken for 20 away"], 4, 3),
    ("a CPU on two nodes", srat(*SRAT_CPUS, acpi.srat_cpu(1, 0), *SRAT_MEM),
     ["ACPI: APIC id 0 is on two nodes, the first counts"], 4, 2),
    ("a CPU on no node", srat(*SRAT_CPUS[:3], *SRAT_MEM),
     ["ACPI: 1 CPUs not in the SRAT, taken for node 0"], 4, 2),
    ("65 domains", srat(*SRAT_CPUS, *[acpi.srat_mem(i, i * MIB, MIB) for i in range(65)]),
     ["ACPI: SRAT with more than 64 domains left out: one node"], 4, 1),
    ("200 ranges", srat(*SRAT_CPUS, *[acpi.srat_mem(i & 1, i * MIB, MIB) for i in range(200)]),
     ["ACPI: more than 128 SRAT ranges, the one at 0x8000000 left out",
      "ACPI: 71 more entries have flaws like those"], 4, 2),
]
FAR = "all other nodes count as equally far"
SLITS = [
    ("checksum", tables(slit=acpi.spoil(SLIT)),
     [f"ACPI: SLIT with a wrong checksum left out: {FAR}"], 4, 2),
    ("for fewer domains than there are", tables(slit=acpi.slit(10)),
     ["ACPI: SLIT lacks domain 1, taken for 20 away"], 4, 2),
    ("for more domains than it has", tables(slit=acpi.slit(10, 21, 21, domains=2)),
     [f"ACPI: SLIT of 47 bytes for 2 domains left out: {FAR}"], 4, 2),
    ("for 2^32 + 1 domains", tables(slit=acpi.slit(10, 21, 21, 10, domains=2**32 + 1)),
     [f"ACPI: SLIT of 48 bytes for 4294967297 domains left out: {FAR}"], 4, 2),
    ("nearer than oneself", tables(slit=acpi.slit(10, 3, 21, 10)),
     [f"ACPI: SLIT with a distance of 3 from domain 0 to 1 left out: {FAR}"], 4, 2),
    ("far from oneself", tables(slit=acpi.slit(10, 21, 21, 40)),
     [f"ACPI: SLIT with a distance of 40 from domain 1 to 1 left out: {FAR}"], 4, 2),
    ("farther one way", tables(slit=acpi.slit(10, 21, 31, 10)),
     ["ACPI: SLIT distances differ by direction, kept so"], 4, 2),
]


class TableMachine(Machine):
    """One with these bytes at BASE."""

    def __init__(self, path):
        super().__init__(cpus=4, nodes=1, mem=MEM, firmware="pvh",
                         words=f"console=plain rsdp={BASE:#x} run='check; off'")
        self.path = path

    def command(self):
        return super().command() + [
            "-device", f"loader,file={self.path},addr={BASE:#x},force-raw=on"]


def boot(name, data, lines, cpus, nodes):
    """One variant. Raises Unproven if anything is not as it must be."""
    with tempfile.NamedTemporaryFile(prefix="limpid-tables-") as file:
        file.write(data)
        file.flush()
        ending, sentence, text, _ = boot_to_text(TableMachine(file.name), LIMIT)
    said = [line for line in text.split("\n") if COMPLAINT.match(line)]
    left = re.search(r"on (\d+) nodes?, (\d+) CPUs?$", text, re.M)
    wrong = None
    if ending != "pass":
        wrong = f"{ending}: {sentence}"
    elif "scheduler up" not in text or not left:
        wrong = "the scheduler never said that it is up"
    elif "check: 0 things wrong" not in text:
        wrong = "the walker found something wrong, or never ran"
    elif said != lines:
        wrong = f"said {said}, expected {lines}"
    elif (int(left[2]), int(left[1])) != (cpus, nodes):
        wrong = f"{left[2]} CPUs on {left[1]} nodes, expected {cpus} on {nodes}"
    if wrong:
        tail = "\n".join("    | " + line for line in text.rstrip().split("\n")[-15:])
        raise Unproven(f"{name}: {wrong}\n{tail}")


def prove(variants):
    for variant in variants:
        boot(*variant)
    return f"{len(variants)} boots"


def jobs(proof):
    """For test.py: (name, function, arguments), in which `proof` makes an outcome of prove()."""
    groups = [("broken.root", ROOT), ("broken.madt", MADTS), ("broken.srat", SRATS),
              ("broken.slit", SLITS)]
    return [(name, proof, (name, partial(prove, variants))) for name, variants in groups]


assert all(len(v[1]) <= 64 * 1024 for group in (ROOT, MADTS, SRATS, SLITS) for v in group)
