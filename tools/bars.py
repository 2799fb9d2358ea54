"""Bars that are measured: how long a boot takes, what metadata costs, what destroying costs, what
a machine at rest costs.

Times on a shared machine jump upwards, never downwards, so the best of a few boots counts. Each
function gives what it saw as a sentence, or raises Unproven.
"""
import os
import re
import time

from console import Console, Lost
from machine import Machine, Unproven, boot_to_text

LIMIT = 90
BOOTS = 3

BOOT_MS = 1000         # kernel entry to scheduler up, 4 CPUs, 2 GiB, TCG
LARGE_TIMES = 2        # and at most so many times that at 64 GiB
METADATA_MILLI = 500   # thousandths of a byte a frame
DESTROY_RATIO = 100    # claim against eager, 256 MiB in blocks of 2 MiB
REST_PERCENT = 10      # of one host CPU, for 255 CPUs that have nothing to do
REST_SECONDS = 4


def boot(mem, words):
    m = Machine(cpus=4, nodes=2, mem=mem, firmware="pvh", words=f"console=plain {words} exit")
    ending, sentence, text, _ = boot_to_text(m, LIMIT)
    if ending != "pass":
        raise Unproven(f"{m.knobs()}: {ending}: {sentence}\n" +
                       "\n".join("    | " + line for line in text.rstrip().split("\n")[-15:]))
    return text


def find(pattern, text):
    m = re.search(pattern, text)
    if not m:
        raise Unproven(f"no line like '{pattern}'")
    return m


def up_and_metadata(mem):
    """(ms, thousandths of a byte a frame), the best of a few boots."""
    best = None
    for _ in range(BOOTS):
        text = boot(mem, "run=zones")
        ms = int(find(r"kernel entry to scheduler up: (\d+) ms", text)[1])
        m = find(r"metadata: (\d+)\.(\d{3}) byte a frame", text)
        best = min(best, ms) if best is not None else ms
        metadata = int(m[1]) * 1000 + int(m[2])
    return best, metadata


def prove_boot():
    small, metadata = up_and_metadata(2048)
    large, metadata_large = up_and_metadata(64 * 1024)
    seen = (f"up after {small} ms at 2 GiB, {large} ms at 64 GiB; metadata "
            f"{metadata / 1000:.3f} and {metadata_large / 1000:.3f} byte a frame")
    if small >= BOOT_MS:
        raise Unproven(f"{seen}; expected less than {BOOT_MS} ms")
    if large >= LARGE_TIMES * small:
        raise Unproven(f"{seen}; expected less than {LARGE_TIMES} times as long at 64 GiB")
    if max(metadata, metadata_large) > METADATA_MILLI:
        raise Unproven(f"{seen}; expected at most {METADATA_MILLI / 1000} byte")
    return seen


def prove_destroy():
    text = boot(2048, "run='wait clean; bench destroy'")
    m = find(r"bench destroy: claim [\d.]+ ms, eager [\d.]+ ms, ratio (\d+)", text)
    if "256 MiB in 128 blocks" not in text:
        raise Unproven("the bench did not free 256 MiB in blocks of 2 MiB")
    if int(m[1]) < DESTROY_RATIO:
        raise Unproven(f"{m[0]}; expected at least {DESTROY_RATIO}")
    return m[0]


def cpu_seconds(pid):
    """What a process and its threads have had of the host's CPUs."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def prove_rest():
    """All CPUs that there can be, nothing to do: what QEMU still takes of the host."""
    machine = Machine(cpus=255, nodes=5, mem=512, firmware="pvh", words="console=plain run=zones")
    try:
        with Console(machine, LIMIT) as console:
            console.prompt()  # run='s own, then the real one
            console.prompt()
            if "all free memory is clean" not in console.command("wait clean"):
                raise Unproven(f"not clean:\n{console.text}")
            if not re.search("every other CPU sleeps .*; 0 free frames are dirty",
                             console.command("wait asleep")):
                raise Unproven(f"not asleep:\n{console.text}")
            time.sleep(0.5)  # the one that asked goes to sleep, too
            began, before = time.monotonic(), cpu_seconds(console.process.pid)
            time.sleep(REST_SECONDS)
            used = cpu_seconds(console.process.pid) - before
            percent = 100 * used / (time.monotonic() - began)
            up = find(r"kernel entry to scheduler up: (\d+) ms", console.text)[1]
            find("on 5 nodes, 255 CPUs", console.text)
            console.off()
    except Lost as lost:
        raise Unproven(f"{lost}\n{console.text}") from None
    seen = f"255 CPUs up after {up} ms; at rest QEMU takes {percent:.1f}% of one host CPU"
    if percent >= REST_PERCENT:
        raise Unproven(f"{seen}, expected less than {REST_PERCENT}%")
    return seen
