"""gdb helpers for a stopped Limpid: `make gdb` loads them, `help limpid` lists them.

They only read memory, by the names and types of the debug information: nothing runs in the kernel,
no lock is taken. What another CPU was changing when the machine stopped may be half changed; a
zone whose lock is held is marked.
"""
import gdb

FRAME_KIB = 4
BITS = 512
LIST_NAMES = ("any", "clean")
NOT_LISTED = 0xff


def value(expression):
    return gdb.parse_and_eval(expression)


def static(file, name):
    """A static variable of one source file."""
    return value(f"'{file}'::{name}")


def text(pointer):
    return pointer.string() if int(pointer) else "none"


def address(pointer):
    return int(pointer.cast(gdb.lookup_type("unsigned long")))


def words(value_of_map):
    """A struct map512 as one number, bit 0 first."""
    return sum(int(value_of_map["w"][w]) << 64 * w for w in range(BITS // 64))


def count(bits):
    return bin(bits).count("1")


def ranges(bits):
    """The set bits as `0-3,8`."""
    out, i = [], 0
    while i < BITS:
        if bits >> i & 1:
            first = i
            while i + 1 < BITS and bits >> i + 1 & 1:
                i += 1
            out.append(str(first) if first == i else f"{first}-{i}")
        i += 1
    return ",".join(out) or "none"


def zones():
    nr = int(value("mm_zone_count"))
    if nr == 0:
        raise gdb.GdbError("there are no zones yet: mm_init() has not run")
    table = value("mm_zones")
    return [table[i] for i in range(nr)]


def cpus():
    """(id, struct cpu) of each CPU that is known; before machine_init() that is the first one."""
    table = static("arch/x86_64/cpu.c", "cpus")
    return [(i, table[i].dereference()) for i in range(int(value("nr_cpus"))) if int(table[i])]


def zone_of(pfn):
    for z in zones():
        if int(z["start"]) <= pfn < int(z["end"]):
            return z
    raise gdb.GdbError(f"pfn {pfn:#x} belongs to no zone")


def holder(lock):
    cpu = int(lock["holder"])
    return f"held by cpu {cpu - 1}" if cpu else ""


class Claim:
    def __init__(self, cpu, record):
        self.cpu = cpu
        self.zone = record["zone"].dereference()
        self.pb = int(record["pb"])
        self.mask = words(record["mask"])
        self.begun = int(record["begun"])
        self.aged = bool(record["aged"])


def claims():
    table = static("mm/claim.c", "claims")
    return [Claim(i, table[i]) for i, _ in cpus() if int(table[i]["zone"])]


class Store:
    """What one CPU keeps of one pageblock, or one frame on its way back."""

    def __init__(self, cpu, kind, zone, pb, bits, clean):
        self.cpu, self.kind, self.zone, self.pb = cpu, kind, zone, pb
        self.bits, self.clean = bits, clean


def stores():
    table = static("mm/store.c", "mm_stores")
    found = []
    for cpu, _ in cpus():
        record = table[cpu]
        for kind, name in enumerate(LIST_NAMES):
            s = record["store"][kind]
            if int(s["zone"]):
                found.append(Store(cpu, name, s["zone"].dereference(), int(s["pb"]),
                                   words(s["frames"]), bool(s["clean"])))
        behind = {}
        for n in range(int(record["behind"]["nr_words"])):
            word = record["behind"]["word"][n]
            pb, w = divmod(int(word["word"]), BITS // 64)
            at = (int(word["zone"]), pb)
            behind[at] = behind.get(at, 0) | int(word["frames"]) << 64 * w
        for at, bits in sorted(behind.items()):
            found.append(Store(cpu, "freed", zones()[at[0]], at[1], bits, False))
    return found


def same_zone(a, b):
    return int(a["index"]) == int(b["index"])


def pb_pfn(zone, pb):
    return (int(zone["first_pb"]) + pb) * BITS


class Limpid(gdb.Command):
    """What Limpid's memory and CPUs look like: limpid zones, pageblock, claims, stores, cpus, threads"""

    def __init__(self):
        super().__init__("limpid", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


Limpid()


def command(function):
    """Makes `limpid NAME` of NAME_(); its docstring is the help."""
    class Sub(gdb.Command):
        __doc__ = function.__doc__

        def __init__(self):
            super().__init__("limpid " + function.__name__.rstrip("_"), gdb.COMMAND_DATA)

        def invoke(self, argument, _from_tty):
            try:
                function(argument)
            except gdb.MemoryError as wrong:
                raise gdb.GdbError(f"{wrong}; is the kernel's memory mapped already?")
    return Sub()


def zones_line(name, numbers, remark=""):
    kib = [n * FRAME_KIB for n in numbers]
    print("%-9s %10u %10u %10u %8u %9u %10u %8u%s" % (name, *kib, "  " + remark if remark else ""))


@command
def zones_(_):
    """The table that the prompt's `zones` prints, out of the same counters; KiB."""
    print("zone:node %10s %10s %10s %8s %9s %10s %8s" %
          ("KiB", "clean", "dirty", "stored", "in flight", "allocated", "retired"))
    kept = stores()
    total = [0] * 7
    for z in zones():
        stored = sum(count(s.bits) for s in kept if same_zone(s.zone, z))
        free, dirty = int(z["nr_free"]), int(z["nr_dirty"])
        numbers = [int(z["total"]), free - dirty, dirty, stored, int(z["in_flight"]),
                   int(z["outside"]) - stored, int(z["retired"])]
        total = [a + b for a, b in zip(total, numbers)]
        gate = int(z["waiters"])
        remark = ", ".join(filter(None, [
            "lock " + holder(z["lock"]) if holder(z["lock"]) else "",
            f"gate shut by {gate}" if gate else ""]))
        zones_line(f"{int(z['index'])}:{int(z['node'])}", numbers, remark)
    zones_line("all", total)


@command
def claims_(_):
    """What idle CPUs have taken out of the zones to scrub it: one line a claim."""
    found = claims()
    for c in found:
        print(f"cpu {c.cpu}: zone {int(c.zone['index'])} (node {int(c.zone['node'])}), pageblock "
              f"at pfn {pb_pfn(c.zone, c.pb):#x}, {count(c.mask)} frames ({ranges(c.mask)}), "
              f"clear {c.begun}{', aged step' if c.aged else ''}")
    print(f"{len(found)} claims, {sum(count(c.mask) for c in found)} frames in flight")


@command
def stores_(_):
    """What CPUs keep at hand, and what was freed and is on its way back: one line a pageblock."""
    found = stores()
    for s in found:
        print(f"cpu {s.cpu}: {s.kind}, zone {int(s.zone['index'])}, pageblock at pfn "
              f"{pb_pfn(s.zone, s.pb):#x}, {count(s.bits)} frames "
              f"{'clean' if s.clean else 'dirty'} ({ranges(s.bits)})")
    print(f"{len(found)} stores, {sum(count(s.bits) for s in found)} frames stored")


def pageblock_state(whole, part, everything, pb):
    """The rows of the table at the top of mm/zone.h."""
    if whole and part:
        return "wholly free, clean and dirty mixed"
    if whole:
        return "wholly free, all dirty" if everything else "wholly free, all clean"
    if int(pb["nr_free"]):
        return "partly free"
    return "nothing free" + (", some of it claimed or stored" if part else "")


@command
def pageblock_(argument):
    """limpid pageblock PFN: the pageblock of that frame; PFN may be an expression."""
    if not argument:
        raise gdb.GdbError("usage: limpid pageblock PFN")
    pfn = int(value(argument))
    z = zone_of(pfn)
    i = pfn // BITS - int(z["first_pb"])
    pb = z["pb"][i]
    bit = pfn // BITS % BITS
    gig = z["gig"][pfn // BITS // BITS - int(z["first_gib"])]
    whole, any_dirt, everything, part = (words(gig[name]) >> bit & 1
                                         for name in ("free", "dirty", "all", "part"))
    print(f"pageblock {i} of zone {int(z['index'])} (node {int(z['node'])}), pfn "
          f"{pb_pfn(z, i):#x} to {pb_pfn(z, i) + BITS - 1:#x}: "
          f"{pageblock_state(whole, part, everything, pb)}")
    print(f"  upper storey: free {whole}, dirty {any_dirt}, all {everything}, part {part}")
    if part or not whole:
        free = words(pb["free"])
        dirty = words(pb["dirty"]) & free
        print(f"  free  {int(pb['nr_free'])}: {ranges(free)}")
        print(f"  dirty {int(pb['nr_dirty'])}: {ranges(dirty)}")
        lists = [LIST_NAMES[n] for n in range(2) if int(pb["listed"][n]) != NOT_LISTED]
        print(f"  on lists: {', '.join(lists) or 'none'}; claims and stores on it: {int(pb['out'])}")
    for c in claims():
        if same_zone(c.zone, z) and c.pb == i:
            print(f"  claimed by cpu {c.cpu}: {ranges(c.mask)}")
    for s in stores():
        if same_zone(s.zone, z) and s.pb == i:
            print(f"  stored by cpu {s.cpu} ({s.kind}): {ranges(s.bits)}")
    bad = [int(z["bad"][n]["pfn"]) for n in range(int(z["nr_bad"]))]
    if any(b // BITS == pfn // BITS for b in bad):
        print("  bad: " + ", ".join(str(b % BITS) for b in bad if b // BITS == pfn // BITS))


def thread_state(thread):
    return str(thread["state"]).removeprefix("THREAD_").lower()


@command
def cpus_(_):
    """Each CPU: its node, its thread, the locks that it holds and the one that it waits for."""
    for i, c in cpus():
        if not bool(c["online"]):
            print(f"cpu {i} (node {int(c['node'])}): not online")
            continue
        thread = "none yet"
        if int(c["current"]):
            t = c["current"].dereference()
            thread = f"{t['name'].string()}, {thread_state(t)}"
        state = "" if int(c["current"]) != int(c["idle"]) else ", idle " + \
            str(static("mm/bell.c", "states")[i].cast(gdb.lookup_type("enum cpu_state"))) \
            .removeprefix("CPU_").lower()
        print(f"cpu {i} (node {int(c['node'])}): thread {thread}{state}, preemption "
              f"{'off' if int(c['preempt_count']) else 'on'}")
        for n in range(int(c["nr_locks_held"])):
            lock = c["locks_held"][n]
            print(f"  holds {text(lock['name'])} (rank {int(lock['rank'])}.{int(lock['sub'])})")
        if int(c["waits_for"]):
            lock = c["waits_for"]
            print(f"  waits for {text(lock['name'])} (rank {int(lock['rank'])}."
                  f"{int(lock['sub'])}), {holder(lock) or 'held by nobody'}")


@command
def threads_(_):
    """Every thread: its CPU, its state, its kernel stack pointer while it does not run."""
    head = static("sched/thread.c", "threads_all")
    kind = gdb.lookup_type("struct thread")
    offset = next(f.bitpos // 8 for f in kind.fields() if f.name == "all")
    at = head["next"]
    while int(at) and int(at) != int(head.address):
        t = gdb.Value(address(at) - offset).cast(kind.pointer()).dereference()
        print(f"thread {int(t['id'])} {t['name'].string()}: cpu {int(t['cpu'])}, "
              f"{thread_state(t)}, rsp {int(t['arch']['rsp']):#x}")
        at = at["next"]

