"""ACPI tables by hand (ACPI 6.5, chapter 5), right until somebody breaks them.

image() lays RSDP, RSDT, XSDT and tables out as bytes for one place in memory. Used by
broken_tables.py, which boots with them, and fuzz_seeds.py, from which fuzzing begins.
"""
import struct

HEADER = 36
LAPIC, IOAPIC = 0xfee00000, 0xfec00000


def patch(data, at, new):
    """The same bytes, but for those from `at` on."""
    return data[:at] + new + data[at + len(new):]


def resum(data, at, length=None):
    """With the byte at `at` such that the first `length` bytes sum to zero."""
    data = patch(data, at, b"\0")
    return patch(data, at, bytes([-sum(data[:length]) & 0xff]))


def table(signature, revision, body):
    head = struct.pack("<4sIBB6s8sI4sI", signature, HEADER + len(body), revision, 0, b"LIMPID",
                       b"HANDMADE", 1, b"HAND", 1)
    return resum(head + body, 9)


def spoil(data):
    """A wrong checksum."""
    return patch(data, 9, bytes([data[9] ^ 0x55]))


def with_length(data, length):
    return resum(patch(data, 4, struct.pack("<I", length)), 9)


# ---- MADT: 5.2.12 ----
def madt_cpu(apic_id, flags=1):
    return struct.pack("<BBBBI", 0, 8, apic_id, apic_id, flags)


def madt_x2apic(apic_id, flags=1):
    return struct.pack("<BBHIII", 9, 16, 0, apic_id, flags, apic_id)


def madt_ioapic(phys=IOAPIC, gsi=0):
    return struct.pack("<BBBBII", 1, 12, 0, 0, phys, gsi)


def madt_override(irq, gsi, flags=0):
    return struct.pack("<BBBBIH", 2, 10, 0, irq, gsi, flags)


def madt_lapic(phys):
    return struct.pack("<BBHQ", 5, 12, 0, phys)


def madt(*entries, lapic=LAPIC):
    return table(b"APIC", 4, struct.pack("<II", lapic, 1) + b"".join(entries))


# ---- SRAT: 5.2.16 ----
def srat_cpu(domain, apic_id, flags=1):
    return struct.pack("<BBBBIB3sI", 0, 16, domain & 0xff, apic_id, flags, 0,
                       struct.pack("<I", domain)[1:], 0)


def srat_x2apic(domain, apic_id, flags=1):
    return struct.pack("<BBHIIIII", 2, 24, 0, domain, apic_id, flags, 0, 0)


def srat_mem(domain, start, length, flags=1):
    return struct.pack("<BBIHQQIIQ", 1, 40, domain, 0, start, length, 0, flags, 0)


def srat(*entries, revision=3):
    return table(b"SRAT", revision, struct.pack("<IQ", 1, 0) + b"".join(entries))


# ---- SLIT: 5.2.17 ----
def slit(*distances, domains=None):
    n = int(len(distances) ** 0.5) if domains is None else domains
    return table(b"SLIT", 1, struct.pack("<Q", n) + bytes(distances))


# ---- the roots: 5.2.5 to 5.2.8 ----
def rsdp(revision, rsdt, xsdt):
    data = struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"LIMPID", revision, rsdt)
    data = resum(data, 8)
    if revision >= 2:
        data = resum(data + struct.pack("<IQI", 36, xsdt, 0), 32)
    return data


def image(base, tables, revision=2, also=(), edit=lambda name, data: data):
    """The RSDP first, then the roots, then the tables, each at a multiple of 16.

    `also`: addresses that the roots name besides. edit(name, bytes) has the last word on "rsdp",
    "RSDT" and "XSDT".
    """
    count = len(tables) + len(also)
    places = {"rsdp": 0, "RSDT": 64}
    places["XSDT"] = (places["RSDT"] + HEADER + 4 * count + 15) // 16 * 16
    at = (places["XSDT"] + HEADER + 8 * count + 15) // 16 * 16
    named, blob = [], b""
    for each in tables:
        named.append(base + at + len(blob))
        blob += each + bytes(-len(each) % 16)
    named += also
    roots = {
        "rsdp": rsdp(revision, base + places["RSDT"], base + places["XSDT"]),
        "RSDT": table(b"RSDT", 1, b"".join(struct.pack("<I", a & 0xffffffff) for a in named)),
        "XSDT": table(b"XSDT", 1, b"".join(struct.pack("<Q", a) for a in named)),
    }
    head = bytes(at)
    for name, data in roots.items():
        head = patch(head, places[name], edit(name, data))
    return head + blob
