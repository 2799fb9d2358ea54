"""The machine that Limpid boots in: a QEMU command line, and what its end means.

Machine says what is wanted (CPUs, nodes, memory, firmware, words for the kernel), command() puts
it into QEMU's language, Boot runs it under a time limit, ending_of() names how it ended.
Used by run.py (for people), test.py and outside.py. Next: console.py, ktap.py.
"""
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("B") or "build"
ELF = f"{BUILD}/limpid.elf"
ISO = f"{BUILD}/limpid.iso"
GUESTS = f"{BUILD}/guests.cpio"

FIRMWARES = ("bios", "uefi", "pvh")
ACCELS = ("tcg", "kvm")
OVMF = (
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
)
# MONITOR off: with it OVMF parks its CPUs in MWAIT, which under TCG never sleeps.
MODEL = "max,-monitor"
MIB = 1 << 20
SPARSE_ABOVE = 4096  # MiB: beyond this the host's memory is not promised, only touched
MAX_NODES = 64       # arch.h
CMDLINE_MAX = 2047   # lib/bootinfo.h, without the NUL


class Wrong(Exception):
    """A knob or an environment that cannot work; the text is the one line that people see."""


class Unproven(Exception):
    """A proof did not hold; the text says how."""


def number(name, text, low, high):
    if not re.fullmatch(r"[0-9]+", text) or not low <= int(text) <= high:
        raise Wrong(f"{name}={text}: expected a whole number from {low} to {high}")
    return int(text)


def one_of(name, text, choices):
    if text not in choices:
        raise Wrong(f"{name}={text}: expected one of {', '.join(choices)}")
    return text


def flag(name, text):
    if text not in ("", "0", "1"):
        raise Wrong(f"{name}={text}: expected 1, or nothing")
    return text == "1"


def size_mib(name, text):
    m = re.fullmatch(r"([0-9]+)([MGT])i?B?", text, re.IGNORECASE)
    if not m:
        raise Wrong(f"{name}={text}: expected a size like 512M, 2G or 1T")
    return int(m[1]) << {"M": 0, "G": 10, "T": 20}[m[2].upper()]


class Node:
    """One node: MiB of memory and CPUs, either of which may be none."""

    def __init__(self, mem=0, cpus=()):
        self.mem, self.cpus = mem, list(cpus)


def even_nodes(cpus, nodes, mem):
    """An even number of MiB each, the first node takes the rest. CPUs evenly; with fewer CPUs than
    nodes, the last nodes are memory only."""
    each, with_cpus = mem // nodes // 2 * 2, min(nodes, cpus)
    layout = []
    for n in range(nodes):
        share = range(n * cpus // with_cpus, (n + 1) * cpus // with_cpus) if n < with_cpus else ()
        layout.append(Node(mem - each * (nodes - 1) if n == 0 else each, share))
    return layout


def ranges(cpus):
    """[0, 1, 2, 5] as ["0-2", "5"]: how QEMU and the kernel write them."""
    runs = []
    for cpu in cpus:
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return [str(a) if a == b else f"{a}-{b}" for a, b in runs]


def ring(nodes):
    """Distances of nodes that are linked in a ring: {(from, to): distance}."""
    hops = {(a, b): min(abs(a - b), nodes - abs(a - b))
            for a in range(nodes) for b in range(nodes) if a != b}
    return {pair: min(11 + 10 * n, 254) for pair, n in hops.items()}


class Machine:
    """What is wanted. Sizes in MiB. Nodes are even shares of cpus and mem, or what `layout` says;
    a single even one is told to nobody (no SRAT)."""

    def __init__(self, cpus=4, nodes=2, mem=1024, firmware="bios", accel="tcg", words="",
                 slit=True, layout=None, distances=None, hmat=False, model=MODEL,
                 options=""):
        self.cpus, self.nodes, self.mem = cpus, nodes, mem
        if layout:
            self.cpus, self.nodes = sum(len(n.cpus) for n in layout), len(layout)
            self.mem = sum(n.mem for n in layout)
        self.is_odd = bool(layout or distances or hmat or options) or model != MODEL
        self.srat = bool(layout) or nodes > 1
        self.layout = layout or even_nodes(self.cpus, self.nodes, self.mem)
        # QEMU makes a SLIT only when told distances.
        self.distances = distances or (ring(self.nodes) if slit and not layout else {})
        self.hmat, self.model = hmat, model
        self.options = options  # of the machine: ",name=value"
        self.firmware, self.accel, self.words = firmware, accel, words
        self.elf = ELF
        self.ram_dir = None  # a directory: RAM is files there, one a node (outside.py)
        self.gdb = False
        self.serial = "stdio"
        self.check()

    @classmethod
    def from_knobs(cls, env=os.environ):
        """The knobs of the Makefile; an empty one is its default."""
        def get(name):
            return env.get(name, "").strip()
        m = cls(
            cpus=number("CPUS", get("CPUS") or "4", 1, 255),
            nodes=number("NODES", get("NODES") or "2", 1, MAX_NODES),
            mem=size_mib("MEM", get("MEM") or "1G"),
            firmware=one_of("FIRMWARE", get("FIRMWARE") or "bios", FIRMWARES),
            accel=one_of("ACCEL", get("ACCEL") or "tcg", ACCELS),
            words=get("APPEND"),
        )
        if m.mem // m.nodes < 32:
            raise Wrong(f"MEM={m.mem}M NODES={m.nodes}: expected at least 32M a node")
        m.gdb = flag("GDB", get("GDB"))
        return m

    def check(self):
        if not all(n.mem or n.cpus for n in self.layout):
            raise Wrong("a node has neither memory nor a CPU")
        if self.mem > 960 * 1024:
            raise Wrong(f"MEM={self.mem}M: expected at most 960G (QEMU's 40 physical bits)")
        if any(c in self.words for c in "\n\r\0"):
            raise Wrong("APPEND: expected one line")
        if len(self.words.encode()) > CMDLINE_MAX - 64:
            raise Wrong(f"APPEND: expected at most {CMDLINE_MAX - 64} bytes")

    def kernel_words(self):
        # Memory that the host only lends must not be scrubbed without need: it would be taken.
        told = re.search(r"(^|\s)scrub=(\S*,)?(on|off|hold)\b", self.words)
        hold = self.mem > SPARSE_ABOVE and not told
        return (self.words + (" scrub=hold" if hold else "")).strip()

    def knobs(self):
        """As one types them; empty if no knobs make this machine."""
        if self.is_odd:
            return ""
        return f"CPUS={self.cpus} NODES={self.nodes} MEM={self.mem}M FIRMWARE={self.firmware}"

    def distance(self, a, b):
        """What the kernel should come to know: without a SLIT all others are 20 away."""
        return 10 if a == b else self.distances.get((a, b), 20)

    def ram_object(self, node, mib):
        if self.ram_dir:
            path = os.path.join(self.ram_dir, f"ram{node}")
            return (f"memory-backend-file,id=ram{node},size={mib}M,mem-path={path},"
                    "share=on,discard-data=on")
        sparse = ",reserve=off" if self.mem > SPARSE_ABOVE else ""
        return f"memory-backend-ram,id=ram{node},size={mib}M{sparse}"

    def numa(self):
        """The nodes in QEMU's words."""
        c = []
        for n, node in enumerate(self.layout):
            text = f"node,nodeid={n}"
            if node.mem:
                c += ["-object", self.ram_object(n, node.mem)]
                text += f",memdev=ram{n}"
            c += ["-numa", text + "".join(f",cpus={cpu}" for cpu in ranges(node.cpus)) +
                  (f",initiator={n}" if self.hmat and node.cpus else "")]
        for (a, b), far in sorted(self.distances.items()):
            c += ["-numa", f"dist,src={a},dst={b},val={far}"]
        if self.hmat:  # the least that QEMU takes: how fast each CPU's node reaches each memory
            for a, b in ((a, b) for a, x in enumerate(self.layout) if x.cpus
                         for b, y in enumerate(self.layout) if y.mem):
                to = f"hmat-lb,initiator={a},target={b},hierarchy=memory,data-type=access-"
                c += ["-numa", f"{to}latency,latency={5 if a == b else 10}",
                      "-numa", f"{to}bandwidth,bandwidth={200 if a == b else 100}M"]
        return c

    def command(self):
        """QEMU's command line as a list."""
        c = ["qemu-system-x86_64", "-machine",
             "q35" + self.options + (",hmat=on" if self.hmat else ""), "-accel", self.accel]
        c += ["-cpu", self.model, "-smp", str(self.cpus), "-m", f"{self.mem}M"]
        if self.srat:
            c += self.numa()
        elif self.ram_dir or self.mem > SPARSE_ABOVE:
            c += ["-object", self.ram_object(0, self.mem), "-machine", "memory-backend=ram0"]
        c += ["-net", "none", "-display", "none", "-no-reboot",
              "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        if self.serial == "terminal":  # Ctrl-A X ends QEMU, Ctrl-A H says what else there is
            c += ["-serial", "mon:stdio"]
        else:
            c += ["-monitor", "none", "-serial", self.serial]
        words = self.kernel_words()
        if self.firmware == "pvh":
            c += ["-kernel", self.elf, "-initrd", GUESTS]
            if words:
                c += ["-append", words]
        else:
            if self.firmware == "uefi":
                c += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={ovmf() or OVMF[0]}"]
            c += ["-cdrom", ISO]
            if words:  # in QEMU's option lists a comma is written twice
                c += ["-fw_cfg",
                      "name=opt/limpid/cmdline,string=" + words.replace(",", ",,")]
        if self.gdb:
            c += ["-S", "-gdb", "tcp::1234"]
        return c

    def check_host(self):
        """What only this machine can answer, before QEMU answers it worse."""
        if not shutil.which("qemu-system-x86_64"):
            raise Wrong("qemu-system-x86_64 is not there: make doctor says how to get it")
        if self.accel == "kvm" and not os.access("/dev/kvm", os.W_OK):
            raise Wrong("ACCEL=kvm: /dev/kvm cannot be written here; expected tcg")
        if self.firmware == "uefi" and not ovmf():
            raise Wrong("FIRMWARE=uefi: no OVMF_CODE*.fd here (Debian package ovmf)")


def ovmf():
    """The firmware's file, None if it is not there."""
    return next((path for path in OVMF if os.path.exists(path)), None)


def shell_line(command):
    return " ".join(shlex.quote(word) for word in command)


# What the kernel writes to isa-debug-exit (arch.h, enum exit_code) leaves QEMU as value * 2 + 1.
ENDINGS = {
    0x10 * 2 + 1: ("pass", "left with EXIT_PASS"),
    0x11 * 2 + 1: ("fail", "left with EXIT_FAIL"),
    0x12 * 2 + 1: ("panic", "the kernel panicked"),
    0x13 * 2 + 1: ("harness", "left with EXIT_HARNESS: the tests themselves went wrong"),
    0x14 * 2 + 1: ("nothing-ran", "no test has that name, or all that have were skipped"),
}


def ending_of(status, timed_out=False):
    """(word, sentence) for how a boot ended."""
    if timed_out:
        return "hang", "no end within the time limit"
    if status in ENDINGS:
        return ENDINGS[status]
    if status == 0:
        return "crash", "QEMU left with status 0: a triple fault, or it was closed by hand"
    if status < 0:
        return "qemu", f"QEMU was ended by signal {-status}"
    return "qemu", f"QEMU itself failed with status {status}"


LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec is no time for it
PR_SET_PDEATHSIG, PR_SET_THP_DISABLE = 1, 41  # linux/prctl.h


def before_exec(sparse):
    """In the child. QEMU must not outlive the runner, and where memory is sparse, one touched
    page must not take 2 MiB of the host."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if sparse:
        LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


class Boot:
    """A QEMU that runs. It dies with this object: `with Boot(machine, 60) as boot: ...`"""

    def __init__(self, machine, seconds, **popen):
        self.machine = machine
        self.deadline = time.monotonic() + seconds if seconds else None
        self.timed_out = False
        if os.environ.get("V") == "1":
            print("  QEMU    " + shell_line(machine.command()), flush=True)
        self.process = subprocess.Popen(
            machine.command(), cwd=ROOT,
            preexec_fn=lambda: before_exec(machine.mem > SPARSE_ABOVE), **popen)

    def left(self):
        """Seconds until the limit, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def wait(self):
        """QEMU's status; past the limit it is ended, and timed_out is set."""
        try:
            self.process.wait(self.left())
        except subprocess.TimeoutExpired:
            self.timed_out = True
            self.end()
        return self.process.returncode

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ending(self):
        return ending_of(self.process.returncode, self.timed_out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def boot_to_text(machine, seconds):
    """One boot without input: (ending word, its sentence, the serial text, seconds it took)."""
    machine.check_host()
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        with Boot(machine, seconds, stdin=subprocess.DEVNULL, stdout=out,
                  stderr=subprocess.STDOUT) as boot:
            boot.wait()
            word, sentence = boot.ending()
        out.seek(0)
        text = plain(out.read().decode("utf-8", "replace"))
    return word, sentence, text, time.monotonic() - started


ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>cM78]")


KERNEL_SPEAKS = "Limpid, "  # how the kernel's first line begins


def from_kernel(text):
    """Without what firmware and GRUB drew, if the kernel came to speak at all."""
    return text[max(0, text.find(KERNEL_SPEAKS)):]


def plain(text):
    """Serial text as lines: no terminal escapes (GRUB and firmware draw), no carriage returns."""
    return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def with_symbols(text):
    """A panic's backtrace with the names behind its addresses, if binutils can tell them."""
    def name(m):
        call = hex(int(m[2], 16) - 1)  # it returns to the next line, or behind the function
        run = subprocess.run(["addr2line", "-psfe", ELF, call], cwd=ROOT, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=False)
        return f"{m[1]}{m[2]} {run.stdout.decode().strip()}"
    if not shutil.which("addr2line"):
        return text
    return re.sub(r"^( +)(0xffffffff8[0-9a-f]{7})$", name, text, flags=re.M)


def main_guard(main):
    """Runs main(): its result is the exit status, Wrong becomes one line and status 2."""
    try:
        sys.exit(main())
    except Wrong as wrong:
        print(f"limpid: {wrong}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `make list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
