#!/usr/bin/env python3
"""Where fuzzing begins: valid inputs for every target of tests/host/fuzz/, made by hand.

    fuzz_seeds.py OUT           writes OUT/NAME/*: always the same bytes
    fuzz_seeds.py --real OUT    boots QEMU and writes what its firmware and loaders really hand over:
                                OUT/acpi/real-*, OUT/multiboot2/real-*, OUT/pvh/real-*

The layout of each target's input stands at the top of tests/host/fuzz/fuzz_NAME.c.
"""
import os
import struct
import sys
import tempfile

import acpi_tables as acpi
import broken_tables
from broken_tables import BASE
from machine import MIB, Machine, Wrong, boot_to_text, main_guard
from mkcpio import entry as cpio_entry

PHYS_BASE = BASE  # tests/host/fuzz/fuzz.h
REPAIR, SHORT_RSDP, SEARCH, TURN = 1, 2, 4, 8  # fuzz_acpi.c


# ---- acpi ----
def acpi_seeds():
    def seed(tables, flags=REPAIR, boot=0, **kwargs):
        return bytes([flags, boot]) + acpi.image(PHYS_BASE, tables, **kwargs)

    cpus = [acpi.madt_cpu(i) for i in range(4)]
    wide = [acpi.madt_x2apic(i) for i in range(4)]
    extras = [acpi.madt_ioapic(), acpi.madt_ioapic(0xfec10000, 24), acpi.madt_override(0, 2),
              acpi.madt_override(9, 9, 0xd), acpi.madt_lapic(0x1fee00000), b"\4\6\xff\0\0\1"]
    madt = acpi.madt(*cpus, *extras)
    places = [acpi.srat_cpu(i // 2, i) for i in range(4)]
    memory = [acpi.srat_mem(0, 0, 0xa0000), acpi.srat_mem(0, MIB, 2047 * MIB),
              acpi.srat_mem(1, 1 << 32, 1 << 31), acpi.srat_mem(1, 3 << 31, 1 << 30, flags=3),
              acpi.srat_mem(0, 0, 0)]
    srat = acpi.srat(*places, *memory)
    slit = acpi.slit(10, 21, 21, 10)
    yield "two-nodes", seed([madt, srat, slit])
    yield "two-nodes-rsdt", seed([madt, srat, slit], revision=0)
    yield "two-nodes-as-is", seed([madt, srat, slit], flags=0)
    yield "turned", seed([madt, srat, slit], flags=TURN | 0x50, boot=3)
    yield "searched", bytes([SEARCH, 0]) + bytes(48) + acpi.image(PHYS_BASE + 48, [madt])
    yield "short", seed([madt, srat], flags=REPAIR | SHORT_RSDP)
    yield "x2apic", seed([acpi.madt(*wide), acpi.srat(
        *[acpi.srat_x2apic(0x10000 + 7 * i, i) for i in range(4)], *memory)], boot=2)
    yield "old-srat", seed([madt, acpi.srat(*places, *memory, revision=1), slit])
    yield "many-cpus", seed([acpi.madt(*[acpi.madt_x2apic(3 * i) for i in range(260)])], boot=9)
    yield "many-ranges", seed([madt, acpi.srat(
        *[acpi.srat_mem(i % 3, (i ^ 5) * MIB, MIB) for i in range(132)])])
    yield "many-domains", seed([madt, acpi.srat(
        *[acpi.srat_mem(i, i * MIB, MIB) for i in range(65)])])
    yield "odd", seed([acpi.madt(*cpus, cpus[1], b"\x63\3?", acpi.madt_cpu(9, flags=0), b"\0\4\0\0"),
                       acpi.srat(*places[:3], places[0][:2] + b"\7" + places[0][3:], *memory,
                                 acpi.srat_mem(1, 0x80000, MIB), acpi.srat_mem(1, 2**64 - 1, 8)),
                       acpi.slit(10, 9, 21, 10)], also=[0, 0xfffffff0])
    yield "slit-one-way", seed([madt, srat, acpi.slit(10, 21, 31, 10)])
    groups = [("root", broken_tables.ROOT), ("madt", broken_tables.MADTS),
              ("srat", broken_tables.SRATS), ("slit", broken_tables.SLITS)]
    for group, variants in groups:
        for i, (_, data, *_) in enumerate(variants):
            if len(data) <= 2048:
                yield f"broken-{group}-{i:02}", b"\0\0" + data
    yield "slit-short", seed([madt, srat, acpi.slit(10, 21, domains=2**32)])


# ---- multiboot2 ----
def tag(kind, body):
    return struct.pack("<II", kind, 8 + len(body)) + body + bytes(-len(body) % 8)


def mb2(*tags):
    body = b"".join(tags) + tag(0, b"")
    return struct.pack("<II", 8 + len(body), 0) + body


def mb2_map(*ranges, entry=24):
    return tag(6, struct.pack("<II", entry, 0) + b"".join(
        struct.pack("<QQII", start, size, kind, 0) + bytes(entry - 24)
        for start, size, kind in ranges))


MAP = [(0, 0x9fc00, 1), (0x9fc00, 0x400, 2), (0xf0000, 0x10000, 2), (MIB, 0x7fee0000, 1),
       (0x7ffe0000, 0x10000, 3), (0x7fff0000, 0x10000, 4), (0xb0000000, 1 << 28, 2),
       (0x7fefe000, 0x1000, 5), (1 << 32, 1 << 31, 1), (0xfd00000000, 3 << 32, 2)]


def mb2_seeds():
    pixels = tag(8, struct.pack("<QIIIBBH6B", 0xfd000000, 4096, 1024, 768, 32, 1, 0,
                                16, 8, 8, 8, 0, 8))
    rsdp1, rsdp2 = acpi.rsdp(0, 0x7ffe0000, 0), acpi.rsdp(2, 0x7ffe0000, 0x7ffe0100)
    cmdline = tag(1, b"console=plain run='zones; off'\0")
    module = tag(3, struct.pack("<II", 0x2000000, 0x2010000) + b"guests\0")
    yield "whole", mb2(cmdline, module, mb2_map(*MAP), pixels, tag(14, rsdp1), tag(15, rsdp2))
    yield "text", mb2(tag(8, struct.pack("<QIIIBBH", 0xb8000, 160, 80, 25, 16, 2, 0)),
                      tag(14, rsdp1), tag(4, bytes(8)), mb2_map(*MAP[:3]))
    yield "wide-entries", mb2(mb2_map(*MAP, entry=32), module, module)
    yield "out-of-order", mb2(mb2_map(*reversed(MAP)), mb2_map((0x200000, MIB, 2)))
    yield "wrapping", mb2(mb2_map((2**64 - MIB, 2 * MIB, 1), (2**64 - MIB, 2 * MIB, 2), (5, 0, 1)))
    yield "long-words", mb2(tag(1, b"x" * 2100 + b"\0"))
    yield "no-end", mb2(cmdline)[:-8]
    yield "many", mb2(mb2_map(*[(i * 7 % 100 * MIB, MIB // 2, 1 + i % 3) for i in range(90)]))
    yield "map-cut", mb2(tag(6, mb2_map(*MAP)[8:-8]))
    yield "past-the-end", mb2(cmdline, module)[:-24] + struct.pack("<II", 3, 32) + bytes(16)
    yield "wrong-tags", mb2(*[tag(3, b"")] * 20)


# ---- pvh ----
def pvh(version=1, cmdline=b"console=plain exit\0", modules=1, ranges=MAP, rsdp=0xf5ad0,
        front=b"", count=None):
    """Start info, module list, map, command line, one behind the other."""
    at = PHYS_BASE + len(front)
    modlist = at + 56
    memmap = modlist + 32
    text = memmap + 24 * len(ranges)
    info = struct.pack("<IIIIQQQQII", 0x336ec578, version, 0, modules, modlist, text, rsdp, memmap,
                       len(ranges) if count is None else count, 0)
    body = info + struct.pack("<QQQQ", 0x2000000, 0x10000, 0, 0)
    body += b"".join(struct.pack("<QQII", start, size, kind, 0) for start, size, kind in ranges)
    return bytes([len(front) // 8]) + front + body + cmdline + bytes(64)


def pvh_page():
    """The command line ends where a page does: so its end can be read."""
    seed = pvh(cmdline=b"")
    seed = seed[:-64] + b"w" * 50 + b"\0"
    return seed + bytes(0x1000 - (len(seed) - 1) % 0x1000)


def pvh_seeds():
    yield "whole", pvh()
    yield "version-0", pvh(version=0)
    yield "bare", pvh(modules=0, ranges=MAP[:2], rsdp=0)
    yield "behind", pvh(front=bytes(40), modules=3)
    yield "readable-words", pvh_page()
    yield "long-words", pvh(cmdline=b"y" * 4096)
    yield "too-many", pvh(count=5000)
    yield "odd-map", pvh(ranges=list(reversed(MAP)) + [(2**64 - 9, 99, 1), (7, 0, 1)])


# ---- the others ----
def memmap_seeds():
    def ops(mode, *steps):
        return bytes([mode]) + b"".join(struct.pack("<BHH", *s) for s in steps)

    def ranges(*each):
        return b"".join(struct.pack("<QQB", *r) for r in each)

    yield "map", b"\1" + struct.pack("<Q", 0x2000000) + ranges(*MAP)
    yield "map-small", b"\3\x20" + bytes([0, 200, 1, 100, 20, 2, 90, 20, 3, 210, 9, 5, 200, 9, 4])
    yield "map-small-ends", b"\3\x08" + bytes([100, 50, 1, 0, 50, 1, 0, 0, 1, 40, 80, 2])
    yield "map-many", b"\3\0" + bytes(x for i in range(250) for x in (i * 7 & 255, 3, 1 + i % 5))
    yield "ops", ops(0, (0, 10, 900), (0x10, 900, 1000), (1, 50, 60), (2 + 0x20, 55, 70),
                     (3, 3, 1088), (0x8a, 5, 100), (3 + 0x30, 9, 600), (0x81, 7, 7))
    yield "ops-high", ops(4, (0, 0, 1088), (3, 60, 1088), (1, 0, 20), (0x12, 500, 600))
    full = [(4, 0, 1088)]
    yield "ops-full", ops(2, *full, (0, 1, 2), (0, 2, 9), (0x11, 4, 9), (0x22, 4, 5))
    yield "ops-full-wide", ops(6, (0, 1000, 1060), (4, 0, 1020), (1, 1010, 1012), (1, 1020, 1022),
                               (1, 1030, 1032), (1, 1040, 1041), (3, 0, 1045), (0x12, 1050, 1053))


def cpio_seeds():
    end = cpio_entry(0, "TRAILER!!!", b"", 0)
    files = [cpio_entry(1, "prober", b"\177ELF, not really", 0o100755),
             cpio_entry(2, "./secretive", b"12345", 0o100644), cpio_entry(3, "dir", b"", 0o040755),
             cpio_entry(4, "", b"", 0o100644), cpio_entry(5, "prober", b"again", 0o100755)]
    whole = b"".join(files) + end
    yield "whole", whole + bytes(-len(whole) % 512)
    yield "sums", (files[0] + end).replace(b"070701", b"070702")
    yield "no-trailer", files[0] + files[1]
    yield "upper-case", (files[0] + end)[:14] + (files[0] + end)[14:110].upper() + \
        (files[0] + end)[110:]
    yield "no-nul", (files[0] + end)[:110 + 6] + b"!" + (files[0] + end)[110 + 7:]
    yield "past-the-end", (files[1] + end).replace(b"00000005", b"ffffffff", 1)


def elf(*segments, entry=0x401000, kind=2, headers=None):
    """(type, flags, offset, vaddr, filesz, memsz) each; 512 bytes of contents."""
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\177ELF\2\1\1", kind, 62, 1, entry, 64, 0, 0, 64, 56,
                       len(segments) if headers is None else headers, 64, 0, 0)
    body = b"".join(struct.pack("<IIQQQQQQ", t, f, off, va, va, fs, ms, 4096)
                    for t, f, off, va, fs, ms in segments)
    return head + body + bytes(512)


def elf_seeds():
    text, data = (1, 5, 64, 0x401000, 256, 256), (1, 6, 128, 0x402010, 64, 0x3000)
    rodata = (1, 4, 200, 0x400000, 100, 100)
    for i, limit in enumerate((0, 1, 2, 3, 5)):
        yield f"whole-{i}", bytes([limit]) + elf(text, data, rodata)
    yield "notes", b"\0" + elf((4, 4, 0, 0, 8, 8), text, (0x6474e551, 6, 0, 0, 0, 0))
    yield "dynamic", b"\0" + elf(text, (2, 6, 0, 0, 0, 0))
    yield "empty-segment", b"\0" + elf(text, (1, 6, 0, 0, 0, 0))
    yield "overlap", b"\0" + elf(text, (1, 6, 0, 0x401080, 4, 4))
    yield "one-page", b"\0" + elf(text, (1, 6, 0, 0x401800, 4, 4))
    yield "w-and-x", b"\0" + elf((1, 7, 64, 0x401000, 64, 64))
    yield "wraps", b"\5" + elf(text, (1, 6, 0, 2**64 - 4096, 0, 8192))
    yield "many", b"\0" + elf(*[(1, 5, 0, 0x401000 + 4096 * (17 - i), 9, 9) for i in range(17)])
    yield "outside", b"\2" + elf(text, (1, 6, 0, 0x7ff000, 4, 0x2000))
    yield "far-outside", b"\2" + elf(text, (1, 6, 0, 2**64 - 8192, 0, 16384))
    yield "entry-in-bss", b"\0" + elf((1, 5, 64, 0x401000, 16, 256), entry=0x401020)
    yield "past-the-end", b"\0" + elf((1, 5, 64, 0x401000, 0x1000, 0x1000))
    yield "page-0", b"\0" + elf((1, 5, 0, 0x10, 64, 64), entry=0x10)


def words_seeds():
    for i, text in enumerate((
            "console=plain test=all seed=41", "run='check; off' scrub=claim,hold age=10s",
            "start secretive mem=256M node=1 secret=\"a b;c\" linger &", "zones; 'a;b' ;; wait clean;",
            "a='x'\"y\"z ''=b \t\r\n 'open", "=x", "a= b='' ''", "a=1 a=2 a", " ".join("abc" * 12),
            "42", "0x2A", "18446744073709551615", "18446744073709551616", "0xffffffffffffffff1",
            "64K", "16777215t", "16777216T", "512MB", "10s", "5ms", "20us", "100ns", "2m", "0",
            "307445734561m", "18446744074s", ";", "';'", "a;b")):
        yield f"{i:02}", text.encode()


MAKERS = {"acpi": acpi_seeds, "multiboot2": mb2_seeds, "pvh": pvh_seeds, "memmap": memmap_seeds,
          "cpio": cpio_seeds, "elf64": elf_seeds, "words": words_seeds}


# ---- what QEMU's firmware and loaders make ----
def ram_after_boot(firmware, nodes):
    """Boots, leaves at once, and gives what is in RAM below 4 GiB."""
    with tempfile.TemporaryDirectory(prefix="limpid-seeds-") as folder:
        m = Machine(cpus=4, nodes=nodes, mem=512, firmware=firmware,
                    words="console=plain scrub=off run='off'")
        m.ram_dir = folder
        ending, sentence, text, _ = boot_to_text(m, 120)
        if ending != "pass":
            raise Wrong(f"{m.knobs()}: {ending}: {sentence}\n{text}")
        ram = b""
        for node in range(nodes):
            with open(os.path.join(folder, f"ram{node}"), "rb") as f:
                ram += f.read()
    return ram


def real_acpi(ram, rsdp_at):
    """RSDP, roots and tables moved together, so that they fit a small memory."""
    revision, rsdt = ram[rsdp_at + 15], struct.unpack_from("<I", ram, rsdp_at + 16)[0]
    xsdt = struct.unpack_from("<Q", ram, rsdp_at + 24)[0] if revision >= 2 else 0
    root, width = (xsdt, 8) if xsdt else (rsdt, 4)
    length = struct.unpack_from("<I", ram, root + 4)[0]
    tables = []
    for at in range(root + acpi.HEADER, root + length, width):
        where = int.from_bytes(ram[at:at + width], "little")
        size = struct.unpack_from("<I", ram, where + 4)[0]
        # Of the others only the header is ever looked at.
        wanted = ram[where:where + 4] in (b"APIC", b"SRAT", b"SLIT")
        tables.append(ram[where:where + (size if wanted else acpi.HEADER)])
    return bytes([0, 0]) + acpi.image(PHYS_BASE, tables, revision=revision)


def find_rsdp(ram):
    at = 0
    while (at := ram.find(b"RSD PTR ", at)) >= 0:
        length = 36 if ram[at + 15] >= 2 else 20
        rsdt = struct.unpack_from("<I", ram, at + 16)[0]
        if at % 16 == 0 and sum(ram[at:at + length]) & 0xff == 0 and ram[rsdt:rsdt + 4] == b"RSDT":
            return at
        at += 1
    raise Wrong("no RSDP in RAM")


def find_mb2(ram):
    """A total size, a zero, and tags that end just where it says."""
    for at in range(0, 8 * MIB, 8):
        total, zero = struct.unpack_from("<II", ram, at)
        if zero or not 64 <= total <= 65536 or total % 8 or ram[at + total - 8:at + total] != \
                b"\0\0\0\0\x08\0\0\0":
            continue
        tag_at = at + 8
        while tag_at < at + total:
            kind, size = struct.unpack_from("<II", ram, tag_at)
            if size < 8 or kind > 32:
                break
            tag_at += (size + 7) // 8 * 8
        if tag_at == at + total:
            return ram[at:at + total]
    raise Wrong("no multiboot2 information in RAM")


def find_pvh(ram):
    at = ram.find(struct.pack("<II", 0x336ec578, 1))
    if at < 0:
        raise Wrong("no PVH start info in RAM")
    _, _, _, modules, _, cmdline, rsdp, memmap, entries, _ = struct.unpack_from("<IIIIQQQQII", ram, at)
    ranges = [struct.unpack_from("<QQI", ram, memmap + 24 * i) for i in range(entries)]
    return pvh(1, ram[cmdline:ram.index(b"\0", cmdline) + 1], modules, ranges, rsdp)


def real_seeds():
    ram = ram_after_boot("pvh", 2)
    yield "acpi", "real-q35-2node", real_acpi(ram, find_rsdp(ram))
    yield "pvh", "real-qemu", find_pvh(ram)
    ram = ram_after_boot("pvh", 1)
    yield "acpi", "real-q35-1node", real_acpi(ram, find_rsdp(ram))
    yield "multiboot2", "real-grub-bios", find_mb2(ram_after_boot("bios", 2))
    ram = ram_after_boot("uefi", 2)
    yield "multiboot2", "real-grub-uefi", find_mb2(ram)
    yield "acpi", "real-ovmf-2node", real_acpi(ram, find_rsdp(ram))


def write(out, target, name, data):
    os.makedirs(os.path.join(out, target), exist_ok=True)
    with open(os.path.join(out, target, name), "wb") as f:
        f.write(data)


def main():
    args = [a for a in sys.argv[1:] if a != "--real"]
    if len(args) != 1:
        sys.exit(__doc__)
    if "--real" in sys.argv:
        for target, name, data in real_seeds():
            write(args[0], target, name, data)
            print(f"{target}/{name}: {len(data)} bytes")
        return 0
    for target, maker in MAKERS.items():
        for name, data in maker():
            write(args[0], target, "seed-" + name, data)
    return 0


if __name__ == "__main__":
    main_guard(main)
