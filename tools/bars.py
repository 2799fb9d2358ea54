"""Bars that are measured: how long a boot takes, what metadata costs, what destroying costs.

Times on a shared machine jump upwards, never downwards, so the best of a few boots counts. Each
function gives what it saw as a sentence, or raises Unproven.
"""
import re

from machine import Machine, Unproven, boot_to_text

LIMIT = 90
BOOTS = 3

BOOT_MS = 1000         # kernel entry to scheduler up, 4 CPUs, 2 GiB, TCG
LARGE_TIMES = 2        # and at most so many times that at 64 GiB
METADATA_MILLI = 500   # thousandths of a byte a frame
DESTROY_RATIO = 100    # claim against eager, 256 MiB in blocks of 2 MiB


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
