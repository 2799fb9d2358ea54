"""The race of the mailing-list thread, acted in a boot (tests/suite_thread.c): it has to panic.

The explorer finds the schedule (make explore SCENARIO=mark); turn gates act it on the real kernel;
and the panic has to name the block that left its list while an idle CPU stood on it. Run by test.py.
"""
import re

from machine import Machine, Unproven, boot_to_text

LIMIT = 90
SAYS = r"^PANIC: (P2 one owner: {}: stale link: the block at pfn 0x[0-9a-f]+ left the free list .*)$"


def prove(strategy):
    machine = Machine(firmware="pvh", cpus=2, nodes=1, mem=128,
                      words=f"console=plain alloc=classic test=thread.{strategy}")
    ending, sentence, text, _ = boot_to_text(machine, LIMIT)
    said = re.search(SAYS.format(strategy), text, re.M)
    if ending != "panic" or not said:
        tail = "\n".join("  | " + line for line in text.rstrip().split("\n")[-25:])
        raise Unproven(f"{ending}: {sentence}; expected a panic over a stale link\n{tail}")
    return said[1]


def jobs(proof):
    """For test.py: (name, function, arguments)."""
    return [(f"thread.{name}", proof, (f"thread.{name}", prove, name)) for name in ("walk", "mark")]
