"""When it goes wrong: boots that panic on purpose and must tell all of it, and one gdb session.

Each way of `crash KIND` (kernel/crash.c) is a boot. Whatever breaks, the panic names what broke
and tells of every CPU: node, thread, state, locks, and its calls by name. The names are compared
with what the debug information says of the same addresses. The gdb session goes through `make gdb`,
and its tables must be those that the kernel prints itself. Run by test.py.
"""
import os
import re
import subprocess
import tempfile
import time
from functools import partial

from machine import BUILD, ELF, ROOT, Boot, Machine, Unproven, boot_to_text, plain

LIMIT = 60
CPUS, NODES = 4, 2

PANIC = re.compile(r"^PANIC: (.*)$", re.M)
PROMISE = re.compile(r"^  broken promise: (.*)$", re.M)
OWNER = re.compile(r"^  on cpu (\d+), \d+ ms after kernel entry$", re.M)
CPU = re.compile(r"^cpu (\d+) \(node (\d+)\): thread (.*)$")
CALL = re.compile(r"^    0x([0-9a-f]{16}) ([\w.]+)\+0x([0-9a-f]+)(  <- a trap came here)?$")
END = re.compile(r"^end of the panic on cpu (\d+): (.*)$", re.M)


class Section:
    """What was told of one CPU."""

    def __init__(self, node, thread):
        self.node, self.thread = node, thread
        self.lines = []
        self.calls = []  # (address, name, offset, a trap came here)

    def names(self):
        return [name.split(".")[0] for _, name, _, _ in self.calls]

    def says(self, pattern):
        return any(re.search(pattern, line) for line in self.lines)


class Panic:
    def __init__(self, text):
        panics = PANIC.findall(text)
        if len(panics) != 1:
            raise Unproven(f"{len(panics)} lines `PANIC: ...`, expected one")
        self.message = panics[0]
        self.text = text[PANIC.search(text).start():]
        self.promise = first(PROMISE, self.text)
        self.owner = int(first(OWNER, self.text))
        self.cpus = {}
        section = None
        for line in self.text.split("\n"):
            if m := CPU.match(line):
                section = Section(int(m[2]), m[3])
                if int(m[1]) in self.cpus:
                    raise Unproven(f"told twice of cpu {m[1]}")
                self.cpus[int(m[1])] = section
            elif END.match(line):
                break
            elif section:
                section.lines.append(line)
                if m := CALL.match(line):
                    section.calls.append((int(m[1], 16), m[2], int(m[3], 16), bool(m[4])))
        end = END.search(self.text)
        if not end or int(end[1]) != self.owner or end[2] != self.message:
            raise Unproven("the last line does not say again who panicked and why")


def first(pattern, text):
    m = pattern.search(text)
    if not m:
        raise Unproven(f"nothing like `{pattern.pattern}`")
    return m[1]


def check_complete(panic, silent):
    """Every CPU is told of: `silent` ones without calls, all others with them, by name."""
    if sorted(panic.cpus) != list(range(CPUS)):
        raise Unproven(f"told of the CPUs {sorted(panic.cpus)}, expected all {CPUS}")
    if list(panic.cpus)[0] != panic.owner:
        raise Unproven("the CPU that panicked does not come first")
    for cpu, section in panic.cpus.items():
        if section.node != cpu * NODES // CPUS:
            raise Unproven(f"cpu {cpu} is said to be of node {section.node}")
        # None yet: it has just come up.
        if not re.match(r"\S+, (running|ready|blocked|dead)|none yet", section.thread):
            raise Unproven(f"cpu {cpu}: thread {section.thread}: no state")
        if not section.says(r"^  holds (no lock|lock '.+' \(rank \d+\.\d+\))$") and \
                not section.says("telling this broke"):
            raise Unproven(f"cpu {cpu}: nothing about its locks")
        user = section.says(r"^    ring 3, rip 0x[0-9a-f]+$")
        if cpu in silent:
            if section.calls or not section.says("does not answer the NMI"):
                raise Unproven(f"cpu {cpu} is dead, but its calls are told")
        elif not section.calls and not user:
            raise Unproven(f"cpu {cpu}: no calls")
        # It keeps no frame pointer, so its caller is the one that is easily missed.
        if "clear_frame_stream" in section.names() and \
                not {"scrub_claimed", "scrub_clear"} & set(section.names()):
            raise Unproven(f"cpu {cpu}: nobody called clear_frame_stream()")


def check_names(panic):
    """The debug information names the same functions at these addresses."""
    calls = [(section, call) for section in panic.cpus.values() for call in section.calls]
    # Behind a call: the call itself is what belongs to the function. The first of a frozen CPU
    # and where a trap came are instructions themselves.
    where = []
    for section, call in calls:
        exact = call[3] or (call is section.calls[0] and section is not panic.cpus[panic.owner])
        where.append(call[0] if exact else call[0] - 1)
    run = subprocess.run(["addr2line", "-afie", ELF] + [hex(a) for a in where], cwd=ROOT,
                         stdout=subprocess.PIPE, check=True)
    said = re.split(r"^0x[0-9a-f]+\n", run.stdout.decode(), flags=re.M)[1:]
    known = 0
    for (_, (address, name, _, _)), lines in zip(calls, said):
        functions = lines.split("\n")[0::2]  # inlined ones first, then the function itself
        outer = [f for f in functions if f][-1]
        if outer == "??" or outer.startswith("..@"):
            continue  # assembly; a label of a macro
        known += 1
        if outer.split(".")[0] != name.split(".")[0]:
            raise Unproven(f"{address:#x} is told as {name}, the debug information says {outer}")
    if known < len(calls) / 2:
        raise Unproven(f"only {known} of {len(calls)} calls are in the debug information")
    return known


def in_order(wanted, names):
    it = iter(names)
    return all(any(n == w for n in it) for w in wanted)


class Crash:
    """One kind: what it says, and what the panicking CPU's calls are, innermost first."""

    def __init__(self, kind, message, calls, before="", promise="none of P1 to P9", lock=None,
                 silent=(), also=None, words=""):
        self.kind, self.message, self.calls, self.before = kind, message, calls, before
        self.promise, self.lock, self.silent, self.also = promise, lock, silent, also
        self.words = words

    def prove(self):
        words = f"console=plain {self.words} run='{self.before}crash {self.kind}; off'"
        machine = Machine(firmware="pvh", cpus=CPUS, nodes=NODES, mem=256, words=words)
        ending, sentence, text, _ = boot_to_text(machine, LIMIT)
        try:
            if ending != "panic":
                raise Unproven(f"{ending}: {sentence}")
            panic = Panic(text)
            if not re.search(self.message, panic.message):
                raise Unproven(f"said `{panic.message}`, expected `{self.message}`")
            if not panic.promise.startswith(self.promise):
                raise Unproven(f"promise `{panic.promise}`, expected `{self.promise}`")
            check_complete(panic, self.silent)
            owner = panic.cpus[panic.owner]
            if not in_order(self.calls, owner.names()):
                raise Unproven(f"calls {owner.names()}, expected {self.calls} among them")
            if self.lock and not owner.says(f"^  holds lock '{self.lock}'"):
                raise Unproven(f"nothing about the lock '{self.lock}' that it holds")
            if self.also:
                self.also(panic)
            known = check_names(panic)
        except Unproven as wrong:
            tail = "\n".join("    | " + line for line in text.rstrip().split("\n")[-70:])
            raise Unproven(f"crash {self.kind}: {wrong}\n{tail}") from None
        return f"{CPUS} CPUs told of, {known} names right"


def also_hang_other(panic):
    hung = [n for n, s in panic.cpus.items() if s.says("^  holds lock 'crash outer'")]
    if len(hung) != 1 or "crash_hang" not in panic.cpus[hung[0]].names():
        raise Unproven("no CPU hangs in crash_hang() with its lock")
    wanted = rf"^  waits for lock 'crash outer' .*, which cpu {hung[0]} holds$"
    if not any(s.says(wanted) and "crash_wait" in s.names() for s in panic.cpus.values()):
        raise Unproven("no CPU is said to wait for that lock in crash_wait()")


def also_ends(why):
    def check(panic):
        if not panic.cpus[panic.owner].says(why + ".*: the trace ends"):
            raise Unproven(f"the trace does not end because it `{why}`")
    return check


def also_trapped(function):
    def check(panic):
        calls = panic.cpus[panic.owner].calls
        if not any(trap and name.split(".")[0] == function for _, name, _, trap in calls):
            raise Unproven(f"no trap is said to have come in {function}()")
    return check


def also_recursion(panic):
    also_trapped("crash_recurse")(panic)
    if not panic.cpus[panic.owner].says(r"and the same \d\d+ times more"):
        raise Unproven("the recursion is not told in one line")


def also_telling_breaks(panic):
    if not any(s.says("telling this broke: page fault") and s.calls for s in panic.cpus.values()):
        raise Unproven("telling never broke, or it was not gone on with")


def also_ring3(panic):
    section = panic.cpus[3]
    if ", in ring 3" not in section.thread or not section.says(r"^    ring 3, rip 0x[0-9a-f]+$"):
        raise Unproven(f"cpu 3 runs a guest, but is told of as {section.thread}")


CRASHES = [
    Crash("panic", "this is what a panic looks like", ["crash_panic", "crash", "kernel_main"]),
    Crash("panic", "this is what a panic looks like", ["crash_panic"], also=also_ring3,
          before="start spinner mem=2M cpu=3 &; wait clean; check; "),
    Crash("double-free", "^P2 one owner: double free", ["limpid_free", "crash_double_free"],
          promise="P2, one owner", lock="zone"),
    Crash("lock-order", "^lock order: crash inner .* taken under crash outer",
          ["spin_lock", "crash_lock_order"], lock="crash outer"),
    Crash("page-fault", "^page fault in the kernel: writing 0x7ffffffffff8",
          ["trap_handle", "crash_page_fault", "crash"], also=also_trapped("crash_page_fault")),
    Crash("bad-call", "^page fault in the kernel: executing 0 ", ["trap_handle", "crash_bad_call"]),
    Crash("stack-overflow", "^stack overflow: guard page",
          ["trap_handle_paranoid", "crash_recurse", "crash_stack_overflow", "kernel_main"],
          also=also_recursion),
    Crash("corrupt-stack", "the chain of stack frames is broken", ["crash_corrupt_stack"],
          also=also_ends("the frame pointer 0xffffc0de00000008 is not on this stack")),
    Crash("hang-other", r"cpu \d hangs with a lock held", ["crash_hang_other"],
          also=also_hang_other),
    Crash("lost-cpu", "cpu 1 is gone", ["crash_lost_cpu"], silent=(1,)),
    Crash("broken-records", "nonsense", ["crash_broken_records"], also=also_telling_breaks),
    Crash("lost-write", "^P2 one owner: walk: pfn .* was cleared under its owner",
          ["crash_lost_write"], promise="P2, one owner", words="scrub=walk,off scrubbers=1"),
    Crash("two-at-once", "the (first|second) of two", []),
]


# ---- gdb -----------------------------------------------------------------------------------------
class GdbMachine(Machine):
    """As GDB=1 has it, but on a socket of its own: several may run at a time."""

    def __init__(self, socket, **shape):
        super().__init__(**shape)
        self.gdb, self.socket = True, socket

    def command(self):
        return [f"unix:{self.socket},server=on,wait=off" if word == "tcp::1234" else word
                for word in super().command()]


# The kernel is about to print its zones, all dirty, and nothing moves: scrubbing is off. Then it is
# on, a CPU comes back with what it has scrubbed, and still has the claim. Then the kernel is about
# to print its zones for the third time, all clean, and nothing moves any more.
WORDS = "console=plain scrub=off run='zones; scrub on; wait clean; zones; zones; off'"
SESSION = """
echo @zones0\\n
limpid zones
hbreak table_zones
continue
echo @dirty\\n
limpid zones
delete
hbreak claim_return_locked
continue
echo @zone1\\n
output z->index
echo \\n@claims1\\n
limpid claims
echo @zones1\\n
limpid zones
echo @cpus1\\n
limpid cpus
delete
hbreak table_zones
ignore $bpnum 1
continue
echo @zones2\\n
limpid zones
echo @claims2\\n
limpid claims
echo @stores2\\n
limpid stores
echo @pageblock2\\n
limpid pageblock mm_zones[1].start
echo @nowhere2\\n
limpid pageblock 0
echo @threads2\\n
limpid threads
echo @end\\n
detach
quit
"""


def make_gdb(socket):
    """What the session printed: {marker: text}."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    try:
        run = subprocess.run(["make", "--no-print-directory", "gdb", f"B={BUILD}",
                              f"GDB_AT={socket}"], cwd=ROOT, env=env, input=SESSION.encode(),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT,
                             check=False)
    except subprocess.TimeoutExpired as hung:
        raise Unproven("gdb: no end within the time limit:\n" +
                       (hung.stdout or b"").decode("utf-8", "replace")) from None
    text = run.stdout.decode("utf-8", "replace").replace("(gdb) ", "")
    parts = re.split(r"^@(\w+)\n", text, flags=re.M)
    if run.returncode or "end" not in parts:
        raise Unproven(f"gdb: status {run.returncode}:\n{text}")
    return dict(zip(parts[1::2], parts[2::2]))


def zone_lines(text):
    return [line.split() for line in text.split("\n") if re.match(r"(\d+:\d+|all) +\d", line)]


def check_session(said, serial):
    if "is the kernel's memory mapped already?" not in said["zones0"]:
        raise Unproven(f"limpid zones before the kernel has begun: {said['zones0']}")
    # The zone of that claim is whole at this moment; another one may be half changed if locked.
    here = said["zone1"].strip()
    claims = re.findall(r"^cpu \d: zone (\d+) \(node \d+\), pageblock at pfn 0x\w+, (\d+) frames ",
                        said["claims1"], re.M)
    zones = {row[0].split(":")[0]: row for row in zone_lines(said["zones1"])}
    if here not in zones or len(zones) != NODES + 1:
        raise Unproven(f"stopped with a claim of zone {here}, but the zones are {said['zones1']}")
    for index, row in zones.items():
        if index == "all" or ("lock" in row and index != here):
            continue
        in_flight = 4 * sum(int(frames) for zone, frames in claims if zone == index)
        if in_flight != int(row[5]) or (index == here and in_flight == 0):
            raise Unproven(f"claims {claims} of zone {index}, which says {row}")
        if int(row[1]) != sum(map(int, row[2:8])):
            raise Unproven(f"zone {row[0]} does not add up: {row}")
    if not re.search(r"^  holds zone \(rank \d+\.\d\)", said["cpus1"], re.M):
        raise Unproven("no CPU holds a zone lock in claim_return_locked()")

    tables = [zone_lines(table) for table in serial.split("zone:node")[1:]]
    if len(tables) != 3 or zone_lines(said["dirty"]) != tables[0] or \
            zone_lines(said["zones2"]) != tables[2]:
        raise Unproven(f"gdb and the kernel do not agree:\n{said['dirty']}\n{said['zones2']}\n"
                       f"{serial}")
    stored = sum(int(row[4]) for row in zone_lines(said["zones2"])[:-1])
    if f"{stored // 4} frames stored" not in said["stores2"]:
        raise Unproven(f"{stored} KiB are stored, but the stores say: {said['stores2']}")
    if "0 claims, 0 frames in flight" not in said["claims2"]:
        raise Unproven("there are claims when all is clean")
    if not re.search(r"^pageblock \d+ of zone 1 \(node 1\), .*: ", said["pageblock2"], re.M):
        raise Unproven(f"limpid pageblock: {said['pageblock2']}")
    if "pfn 0x0 belongs to no zone" not in said["nowhere2"]:
        raise Unproven("limpid pageblock 0 is not refused")
    if not re.search(r"^thread \d+ main: cpu 0, running", said["threads2"], re.M):
        raise Unproven(f"limpid threads: {said['threads2']}")


def prove_gdb():
    with tempfile.TemporaryDirectory(prefix="limpid-gdb-") as folder:
        socket = os.path.join(folder, "gdb")
        machine = GdbMachine(socket, firmware="pvh", cpus=CPUS, nodes=NODES, mem=256, words=WORDS)
        machine.check_host()
        with open(os.path.join(folder, "serial"), "w+b") as serial, \
                Boot(machine, 2 * LIMIT, stdin=subprocess.DEVNULL, stdout=serial,
                     stderr=subprocess.STDOUT) as boot:
            while not os.path.exists(socket) and boot.process.poll() is None and boot.left():
                time.sleep(0.05)
            said = make_gdb(socket)
            boot.wait()
            word, sentence = boot.ending()
            serial.seek(0)
            text = plain(serial.read().decode("utf-8", "replace"))
    if word != "pass":
        raise Unproven(f"after gdb had detached: {word}: {sentence}\n{text}")
    check_session(said, text)
    return "attached, three stops, its zones are the kernel's"


def jobs(proof):
    """For test.py: (name, function, arguments), in which `proof` makes an outcome of prove()."""
    named = [("debug." + c.kind + (".guest" if c.before else ""), c.prove) for c in CRASHES]
    named.append(("debug.gdb", prove_gdb))
    return [(name, proof, (name, partial(prove))) for name, prove in named]
