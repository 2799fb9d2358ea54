"""Odd machines: each is a row that boots, knows its own shape, works, and comes to rest clean.

A row says what QEMU is told (machine.py). From the same description it is worked out what the
kernel must say of its nodes, CPUs, memory and distances. Then on every node a guest writes a secret
and another one looks for it; then every CPU has to be asleep with nothing dirty, while the one that
asks is busy: dirt that nobody was rung for shows. Last the walker. Run by test.py.
"""
import os
import re
import time
from functools import partial

from console import Console, Lost
from machine import Machine, Node, Unproven, boot_to_text, ranges, ring

LIMIT = 240  # seconds a boot, on a host that is busy

# Lines that complain begin with one of these. None is expected.
COMPLAINT = re.compile(r"^(ACPI|acpi|smp|cpu|boot|ioapic|mm|sched|memory map|command line):")
UP = re.compile(r"^(\d+) MiB in (\d+) zones? on (\d+) nodes?, (\d+) CPUs?$", re.M)
NODE = re.compile(r"^  node (\d+): CPUs (\S+), (\d+)\.\d MiB, distances((?: \d+)+)"
                  r"((?:\n    and from node \d+ on(?: \d+)+)*)$", re.M)
ZONE = re.compile(r"^(\d+:\d+|all) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$")
PROBER = re.compile(r"^prober: (\d+) leaks in (\d+) frames$", re.M)
ASLEEP = re.compile(r"^every other CPU sleeps after \d+ ms and dirt on (\d+) nodes; "
                    r"(\d+) free frames are dirty$", re.M)


def tell(wrong, text, lines=40):
    tail = "\n".join("    | " + line for line in text.rstrip().split("\n")[-lines:])
    return Unproven(f"{wrong}\n{tail}")


# ---- what the kernel says of the machine ---------------------------------------------------------
def lost_mib(machine, node):
    """What firmware, image, module, metadata, odd borders and the stacks of all CPUs may cost a
    node of its memory."""
    if node.mem == 0:
        return 0
    return {"pvh": 8, "bios": 8, "uefi": 48}[machine.firmware] + node.mem // 8000 + \
        machine.cpus // 16


def check_topology(machine, text):
    up = UP.search(text)
    head = f"topology: {machine.cpus} CPU{'' if machine.cpus == 1 else 's'}, " \
           f"{machine.nodes} node{'' if machine.nodes == 1 else 's'}" + \
           ("" if machine.srat else " (no SRAT)")
    if not up or head not in text.split("\n"):
        raise Unproven(f"did not say `{head}`")
    if (int(up[3]), int(up[4])) != (machine.nodes, machine.cpus):
        raise Unproven(f"says {up[0]}")
    said = {int(m[1]): m for m in NODE.finditer(text)}
    if sorted(said) != list(range(machine.nodes)):
        raise Unproven(f"tells of the nodes {sorted(said)}, expected {machine.nodes}")
    for n, node in enumerate(machine.layout):
        m = said[n]
        if m[2] != (",".join(ranges(node.cpus)) or "none"):
            raise Unproven(f"node {n}: CPUs {m[2]}, expected {','.join(ranges(node.cpus))}")
        if not node.mem - lost_mib(machine, node) <= int(m[3]) <= node.mem:
            raise Unproven(f"node {n}: {m[3]} MiB, QEMU gave it {node.mem}")
        far = [int(d) for d in re.sub(r"\n.* on", "", m[4] + m[5]).split()]
        if far != [machine.distance(n, to) for to in range(machine.nodes)]:
            raise Unproven(f"node {n}: distances {far}")


def check_zones(machine, text, zones):
    """Every table adds up; the last one's rows."""
    tables = []
    for line in text.split("\n"):
        if line.startswith("zone:node "):
            tables.append([])
        elif (m := ZONE.match(line)) and tables:
            tables[-1].append((m[1], [int(x) for x in m.groups()[1:]]))
    if not tables:
        raise Unproven("no table of zones")
    for rows in tables:
        for name, row in rows:
            if row[0] != sum(row[1:]):
                raise Unproven(f"zone {name} does not add up: {row}")
        if rows[-1][0] != "all" or rows[-1][1] != [sum(c) for c in zip(*(r for _, r in rows[:-1]))]:
            raise Unproven(f"the sum is not the sum: {rows}")
    names = [name for name, _ in tables[-1][:-1]]
    if zones and names != zones:
        raise Unproven(f"zones {names}, expected {zones}")
    for n, node in enumerate(machine.layout):
        if bool(node.mem) != any(name.endswith(f":{n}") for name in names):
            raise Unproven(f"node {n} has {node.mem} MiB; zones {names}")
    return tables[-1]


def check_quiet(text, expected=()):
    said = [line for line in text.split("\n") if COMPLAINT.match(line)]
    if said != list(expected):
        raise Unproven(f"complains: {said}, expected {list(expected)}")


# ---- a row -----------------------------------------------------------------------------------------
class Row:
    def __init__(self, name, zones=None, words="", secret=8, says=(), **machine):
        self.name, self.zones, self.words, self.secret = name, zones, words, secret
        self.says = says  # the complaints that it is to have
        self.shape = machine

    def machine(self, words):
        shape = {"firmware": "pvh", **self.shape}
        return Machine(words=f"console=plain {self.words} {words}".replace("  ", " "), **shape)

    def script(self, machine):
        """A secret and its seeker on every node, at most eight of them; then rest. A node without
        memory has them on its CPUs, and their memory is another's."""
        step = -(-machine.nodes // 8)
        guests = []
        for n, node in list(enumerate(machine.layout))[::step]:
            where = f"node={n}" if node.mem else f"cpu={node.cpus[0]}"
            guests.append(f"start secretive mem={self.secret}M {where} secret=of-node-{n}; "
                          f"start prober mem={self.secret * 2}M {where}")
        self.probes = len(guests)
        parts = ["topology", "wait asleep", *guests, "wait asleep", "wait clean", "zones", "check",
                 "off"]
        return f"run='{'; '.join(parts)}'"

    def prove(self):
        machine = self.machine("")
        machine = self.machine(self.script(machine))
        ending, sentence, text, seconds = boot_to_text(machine, LIMIT)
        try:
            if ending != "pass":
                raise Unproven(f"{ending}: {sentence}")
            check_topology(machine, text)
            check_quiet(text, self.says)
            self.check_work(machine, text)
            rest = check_zones(machine, text, self.zones)[-1][1]
            if ASLEEP.findall(text) != 2 * [(str(sum(n.mem > 0 for n in machine.layout)), "0")]:
                raise Unproven(f"dirt was left with everybody asleep: {ASLEEP.findall(text)}")
            if rest[2] or rest[4]:
                raise Unproven(f"{rest[2]} KiB are dirty at the end, {rest[4]} KiB in flight")
            if "check: 0 things wrong" not in text:
                raise Unproven("the walker found something wrong, or never ran")
        except Unproven as wrong:
            raise tell(f"{self.name}: {wrong}", text) from None
        return f"{machine.cpus} CPUs, {machine.nodes} nodes, {machine.mem} MiB; {seconds:.1f} s"

    def check_work(self, machine, text):
        probes = PROBER.findall(text)
        if len(probes) != self.probes or len(re.findall("^secretive: filled", text, re.M)) != \
                self.probes:
            raise Unproven(f"{len(probes)} probers came to an end, expected {self.probes}")
        # Not all that a guest has is looked at: its image and stack are its own.
        if any(leaks != "0" or int(frames) < self.secret * 2 * 256 - 64
               for leaks, frames in probes):
            raise Unproven(f"probers said {probes}")


class Held(Row):
    """Memory that is not to be touched: scrubbing is held, by the runner itself above 4 GiB. What
    QEMU takes of the host's memory is looked at before it ends."""

    RSS_MIB = 700
    UP_MS = 5000

    def __init__(self, name, commands="", **kwargs):
        super().__init__(name, **kwargs)
        self.commands = commands

    def script(self, machine):
        self.probes = sum(1 for n in machine.layout if n.mem)
        return ""

    def prove(self):
        machine = self.machine("run='topology'")
        self.script(machine)
        started = time.monotonic()
        console = None
        try:
            with Console(machine, LIMIT) as console:
                console.prompt()  # the command's own, and then the real one
                console.prompt()
                for n, node in enumerate(machine.layout):
                    if node.mem:
                        console.command(f"start secretive mem={self.secret}M node={n} secret=held")
                        console.command(f"start prober mem={self.secret * 2}M node={n}")
                if "idle scrubbing is off" not in console.command("wait clean"):
                    raise Unproven("scrubbing is not held")
                console.command("zones")
                console.command("check")
                rss = peak_mib(console.process.pid)
                console.off()
            text = console.text
            check_topology(machine, text)
            check_quiet(text)
            self.check_work(machine, text)
            rows = check_zones(machine, text, self.zones)
            up = re.search(r"scheduler up: (\d+) ms", text)
            if not up or int(up[1]) > self.UP_MS:
                raise Unproven(f"up after {up and up[1]} ms, expected {self.UP_MS} at most")
            if "check: 0 things wrong" not in text:
                raise Unproven("the walker found something wrong, or never ran")
            if rss > self.RSS_MIB:
                raise Unproven(f"QEMU took {rss} MiB of this host, expected {self.RSS_MIB} at most")
        except (Unproven, Lost) as wrong:
            raise tell(f"{self.name}: {wrong}", console.text if console else "") from None
        return (f"{machine.mem} MiB in {len(rows) - 1} zones, up after {up[1]} ms; QEMU took {rss} "
                f"MiB of this host; {time.monotonic() - started:.1f} s")


def peak_mib(pid):
    """The most memory that a process has ever had, in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmHWM:\s*(\d+) kB", f.read(), re.M)[1]) // 1024


class Refused(Row):
    """A machine that will not do: one line says why, and the status is a panic's, not a hang."""

    def __init__(self, name, line, **kwargs):
        super().__init__(name, **kwargs)
        self.line = line

    def prove(self):
        ending, sentence, text, _ = boot_to_text(self.machine("run=off"), LIMIT)
        if ending != "panic" or self.line not in text.split("\n"):
            raise tell(f"{self.name}: {ending}: {sentence}; expected a panic and `{self.line}`",
                       text)
        return f"refused: {self.line}"


# ---- the rows --------------------------------------------------------------------------------------
def nodes(*shares):
    """Nodes from pairs (MiB, number of CPUs), CPUs numbered in that order."""
    layout, cpu = [], 0
    for mem, count in shares:
        layout.append(Node(mem, range(cpu, cpu + count)))
        cpu += count
    return layout


MEMORY_ONLY = nodes((128, 2), (128, 0))
CPU_ONLY = nodes((96, 1), (0, 2), (160, 1))
CPU_ONLY_FIRST = nodes((0, 2), (160, 2))
# q35 has memory below 2 GiB and from 4 GiB on; told to, it ends lower, and little memory is enough.
LOW = ",max-ram-below-4g=128M"
SPLIT = nodes((192, 2), (64, 2))
FIVE = nodes((64, 1), (64, 2), (80, 1), (64, 0), (0, 1))
FAR = {**{pair: 20 + 7 * abs(pair[0] - pair[1]) for pair in ring(5)}, (0, 4): 11, (4, 0): 11}
SCATTERED = [Node(96, [0, 3, 5]), Node(96, [1, 2, 4])]

ROWS = [
    Row("memory-only", layout=MEMORY_ONLY),
    Row("memory-only-bios", layout=MEMORY_ONLY, firmware="bios"),
    Row("cpu-only", layout=CPU_ONLY),
    Row("cpu-only-first", layout=CPU_ONLY_FIRST),
    Row("cpu-only-uefi", layout=CPU_ONLY, firmware="uefi"),
    Row("cpus-scattered", layout=SCATTERED),
    Row("split", layout=SPLIT, options=LOW, zones=["0:0", "1:0", "2:1"]),
    Row("split-bios", layout=SPLIT, options=LOW, zones=["0:0", "1:0", "2:1"], firmware="bios"),
    Row("split-uefi", layout=SPLIT, options=LOW, firmware="uefi"),
    Row("3cpu-no-srat", cpus=3, nodes=1, mem=200),
    Row("3cpu-no-srat-bios", cpus=3, nodes=1, mem=200, firmware="bios"),
    Row("5-nodes-no-slit", layout=FIVE),
    Row("5-nodes-slit", layout=FIVE, distances=FAR),
    Row("5-nodes-slit-bios", layout=FIVE, distances=FAR, firmware="bios"),
    Row("one-way-slit", layout=nodes((96, 2), (96, 2)), distances={(0, 1): 31, (1, 0): 17},
        says=["ACPI: SLIT distances differ by direction, kept so"]),
    Row("hmat", layout=nodes((96, 2), (96, 2)), hmat=True),
    Row("hmat-cpu-only-uefi", layout=CPU_ONLY, hmat=True, firmware="uefi"),
    Row("64-cpus", cpus=64, nodes=4, mem=256),
    Row("64-cpus-uefi", cpus=64, nodes=4, mem=256, firmware="uefi"),
    Row("64-nodes", layout=nodes(*[(16, 1)] * 64), distances=ring(64), secret=4),
    Row("255-cpus", cpus=255, nodes=5, mem=320),
    Row("odd-memory", layout=nodes((101, 2), (154, 2))),
    Row("odd-memory-bios", cpus=2, nodes=1, mem=213, firmware="bios"),
    Row("32M", cpus=2, nodes=1, mem=32, secret=4),
    Row("32M-bios", cpus=2, nodes=1, mem=32, secret=4, firmware="bios"),
    Row("epyc", cpus=2, nodes=1, mem=128, model="EPYC"),
    Row("qemu64", cpus=2, nodes=1, mem=128, model="qemu64"),
    Row("plain-cpu", cpus=2, nodes=1, mem=128, model="max,-monitor,-smep,-smap,-umip,-pdpe1gb,-svm"),
    Row("plain-cpu-bios", cpus=2, nodes=1, mem=128, firmware="bios",
        model="max,-monitor,-smep,-smap,-umip,-pdpe1gb,-svm"),
    Refused("no-nx", "Limpid: this CPU has no NX bit", cpus=1, nodes=1, mem=64, model="qemu64,-nx"),
    Refused("no-long-mode", "Limpid: this CPU has no long mode", cpus=1, nodes=1, mem=64,
            model="qemu32"),
    Refused("17M", "Limpid: the memory ends before the image does", cpus=1, nodes=1, mem=17),
    Held("hole", layout=nodes((2560, 2), (512, 2)), words="scrub=hold",
         zones=["0:0", "1:0", "2:1"]),
    Held("zone-1G", layout=nodes((3072, 2), (256, 2)), words="scrub=hold zone=1G",
         zones=["0:0", "1:0", "2:0", "3:1"]),
    Held("64G-bios", layout=nodes((40 << 10, 2), (24 << 10, 2)), words="zone=16G",
         firmware="bios"),
    Held("960G", cpus=4, nodes=2, mem=960 << 10, words="scrub=eager,hold"),
    Held("960G-told-nothing", cpus=4, nodes=1, mem=960 << 10),
]


def jobs(proof):
    """For test.py: (name, function, arguments), in which `proof` makes an outcome of prove()."""
    return [(f"odd.{row.name}", proof, (f"odd.{row.name}", partial(row.prove))) for row in ROWS]
