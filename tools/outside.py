"""The outside proof: the guest's RAM is files on the host, so the host can look for itself.

secret     a guest fills its memory with a secret: the files hold it (so the search can find).
           Killed and scrubbed: no two secrets in a row are left anywhere in the files.
unscrubbed the same with scrub=off: killed, and all of it is still there. The control.
prober     started at once after the kill, mid-scrub, in more than half of that node's memory.
"""
import os
import random
import re
import shutil
import string
import tempfile
import time

from console import Console, Lost
from machine import MIB, Machine, Unproven, with_symbols

NODE_MIB = 512  # of each of two nodes
GUEST_MIB = 256
PROBER_MIB = 448  # most of its node: it has to meet the dirt,
OVERLAP_MIB = PROBER_MIB + GUEST_MIB - NODE_MIB  # this much of it if nobody scrubs meanwhile
LIMIT = 120
COVERED = 0.90
REFUSED = "was not zero"  # guest/check.c, of each frame


class RamDir:
    """A directory for RAM files: in shared memory if there is room, else a temporary one."""

    def __enter__(self):
        where = None
        try:
            if shutil.disk_usage("/dev/shm").free > 3 * NODE_MIB * MIB:
                where = "/dev/shm"
        except OSError:
            pass
        self.path = tempfile.mkdtemp(prefix="limpid-ram-", dir=where)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def count(ram_dir, pattern):
    """How often it stands in the RAM, counted without overlap. A hole in a file is zeroes."""
    total = 0
    for name in sorted(os.listdir(ram_dir)):
        with open(os.path.join(ram_dir, name), "rb") as ram:
            rest = b""  # too short to hold the pattern, long enough to hold all but its end
            while chunk := ram.read(16 * MIB):
                chunk = rest + chunk
                total += chunk.count(pattern)
                rest = chunk[1 - len(pattern):]
    return total


def covered(ram_dir, secret):
    """The part of the guest's memory that the repeated secret fills."""
    pattern = secret.encode() * 4
    return count(ram_dir, pattern) * len(pattern) / (GUEST_MIB * MIB)


def new_secret(seed):
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=16))


def machine_for(words, ram_dir):
    m = Machine(cpus=4, nodes=2, mem=2 * NODE_MIB, firmware="pvh",
                words=("console=plain " + words).strip())
    m.ram_dir = ram_dir
    return m


def start_secretive(console, secret):
    """Starts it and waits, from outside, until it has filled its memory. Its id."""
    console.send(f"start secretive mem={GUEST_MIB}M node=1 secret={secret} linger &")
    m = console.expect(r"guest (\d+) secretive started|start secretive: .*")
    if not m[1]:
        raise Unproven(m[0])
    console.prompt()
    return m[1]


def wait_filled(console, secret):
    ram_dir = console.machine.ram_dir
    part = covered(ram_dir, secret)
    while part < COVERED and console.left() > 0:
        console.read(0.2)
        part = covered(ram_dir, secret)
    if part < COVERED:
        raise Unproven(f"the secret covers {part:.1%} of the guest's memory, "
                       f"expected at least {COVERED:.0%}")
    # Wait until it has stopped growing too: the guest sleeps then.
    while console.left() > 0:
        time.sleep(0.2)
        again = covered(ram_dir, secret)
        if again == part:
            return part
        part = again
    raise Unproven("the guest never came to rest")


def prove_secret(seed):
    """What was seen, as one sentence."""
    secret = new_secret(seed)
    with RamDir() as ram, Console(machine_for("", ram), LIMIT) as console:
        try:
            console.prompt()
            ident = start_secretive(console, secret)
            before = wait_filled(console, secret)
            console.command(f"kill {ident}")
            console.command("wait clean")
            left = count(ram, (secret * 2).encode())
            if left:
                raise Unproven(f"{left} repeated secrets are left after `wait clean`")
            refuse_refusals(console)
            console.off()
        except (Lost, Unproven) as wrong:
            raise with_tail(wrong, console)
    return f"covered {before:.1%} while it lived, 0 left after the scrub"


def prove_unscrubbed(seed):
    secret = new_secret(seed)
    with RamDir() as ram, Console(machine_for("scrub=off", ram), LIMIT) as console:
        try:
            console.prompt()
            ident = start_secretive(console, secret)
            before = wait_filled(console, secret)
            console.command(f"kill {ident}")
            wait_dead(console, ident)
            time.sleep(1)  # time enough for a scrubber that should not be there
            after = covered(ram, secret)
            if after < before * 0.999:
                raise Unproven(f"scrub=off, but {before:.1%} became {after:.1%} after the kill")
            console.off()
        except (Lost, Unproven) as wrong:
            raise with_tail(wrong, console)
    return f"scrub=off: covered {before:.1%} alive, {after:.1%} after its death"


def wait_dead(console, ident):
    """Until the prompt's list says that its memory is back."""
    while console.left() > 0:
        text = console.command("guests")
        line = next((l for l in text.split("\n") if re.match(rf"\s*{ident}\s", l)), "")
        if not line or "dead" in line:
            return
    raise Unproven(f"guest {ident} never died")


def prove_prober(rounds, seed):
    """Kill and probe, `rounds` times in one boot. In every second round the idle CPUs are held
    back by a rate, and the age bound does not help them, so that on a host as slow as may be the
    prober must meet dirt: most of what it takes beyond what was clean.
    """
    met = 0
    with RamDir() as ram, Console(machine_for("", ram), LIMIT + 20 * rounds) as console:
        try:
            console.prompt()
            for i in range(rounds):
                slow = i % 2 == 0
                dirt = probe_once(console, new_secret(f"{seed}.{i}"), "age=off rate=8M" if slow else "")
                if slow and dirt < OVERLAP_MIB / 2:
                    raise Unproven(f"the prober met {dirt:.0f} MiB of dirt, expected at least "
                                   f"{OVERLAP_MIB // 2}: it was not started mid-scrub")
                met += dirt
            refuse_refusals(console)
            console.off()
        except (Lost, Unproven) as wrong:
            raise with_tail(wrong, console)
    return (f"{rounds} rounds of {PROBER_MIB} MiB, 0 leaks; it met {met:.0f} MiB of dirt, "
            "which was cleared as it was taken")


def probe_once(console, secret, limit):
    """One round; gives how many MiB takers had to clear."""
    console.command("wait clean")
    ident = start_secretive(console, secret)
    wait_filled(console, secret)
    before = cleared_by_takers(console)
    if limit:
        console.command(f"scrub {limit}")
    # In one write: the prober is asked for while the idle CPUs still scrub.
    console.send(f"kill {ident}\nstart prober mem={PROBER_MIB}M node=1")
    console.prompt()  # of kill
    m = console.expect(r"prober: (\d+) leaks in (\d+) frames|start prober: .*")
    if m[1] != "0":
        raise Unproven(m[0])
    if int(m[2]) < PROBER_MIB * MIB // 4096:
        raise Unproven(f"{m[0]}, expected at least {PROBER_MIB * MIB // 4096} frames")
    console.prompt()  # of start: the prober's memory is back
    if limit:
        console.command("scrub age=10s rate=off")
    return cleared_by_takers(console) - before


def cleared_by_takers(console):
    """MiB, from the line of sums: idle local and remote, takers local and remote, ..."""
    stats = console.command("stats")
    m = re.search(r"^all +\S+ +\S+ +(\S+) +(\S+)", stats, re.M)
    if not m:
        raise Unproven("stats has no line of sums")
    return float(m[1]) + float(m[2])


def refuse_refusals(console):
    """No frame that was not zero may have come as far as the check before mapping."""
    stats = console.command("stats")
    m = re.search(r"leaks found by the check before mapping: (\d+)", stats)
    if not m or m[1] != "0" or REFUSED in console.text:
        raise Unproven(m[0] if m else "stats does not say how many leaks the check found")


def with_tail(wrong, console):
    end = with_symbols("\n".join(console.text.rstrip().split("\n")[-20:]))
    tail = "\n".join("    | " + line for line in end.split("\n"))
    return Unproven(f"{wrong}\n{tail}")


assert PROBER_MIB > NODE_MIB / 2
