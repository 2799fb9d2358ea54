"""Tests of tools/lines.py, and that the kernel's `bench all` prints what it can read.
Run by test.py with the other tests of the tools."""
import lines
from machine import Machine, Unproven, Wrong, boot_to_text

LOG = """limpid> bench all
bench: name=destroy value=61230 unit=ns baseline=52101000 ratio=0.001175 against=eager
bench destroy: claim 0.061 ms, eager 52.101 ms, ratio 850
guest 1 x: bench: name=no value=1
promise: strategy=claim promise=P4 observed=holds evidence="0 of 24 refused; 1 clear waited for"
work: scenario=huge strategy=batch metric=failed value=7 unit=takes
"""
BENCH_ROWS = {"alloc.order0", "alloc.order9", "alloc.two-cpus", "alloc.beside-scrub.p50",
              "alloc.beside-scrub.p99.9", "scrub.one-cpu", "scrub.all-cpus", "destroy",
              "create.after-idle", "wake"}


def test_lines_are_read_among_others():
    assert lines.read("bench", LOG) == [{
        "name": "destroy", "value": 61230, "unit": "ns", "baseline": 52101000, "ratio": 0.001175,
        "against": "eager"}]
    assert lines.read("promise", LOG)[0]["evidence"] == "0 of 24 refused; 1 clear waited for"
    assert lines.read("work", LOG)[0]["value"] == 7
    assert lines.read("work", "") == []


def test_lines_that_are_not_whole_are_refused():
    for broken in ("work: scenario=huge strategy=batch metric=failed value=7",
                   "work: scenario=huge strategy=batch metric=failed value=x unit=takes",
                   "work: strategy=batch scenario=huge metric=failed value=7 unit=takes",
                   "work: scenario= strategy=batch metric=failed value=7 unit=takes",
                   'promise: strategy=a promise=P1 observed=holds evidence="cut'):
        try:
            lines.read(broken.partition(":")[0], broken)
        except Wrong:
            continue
        raise AssertionError(f"was taken: {broken}")


CASES = [(name[5:], f) for name, f in sorted(globals().items()) if name.startswith("test_")]


def prove_bench():
    """Both allocators' `bench all`: every row is there, and the rest of what is said is no error."""
    said = []
    for words, rows in (("", BENCH_ROWS), *MORE_BENCH):
        machine = Machine(cpus=4, nodes=2, mem=768, firmware="pvh",
                          words=f"console=plain {words} run='wait clean; bench all' exit")
        ending, sentence, text, _ = boot_to_text(machine, 120)
        if ending != "pass":
            raise Unproven(f"{words or 'default'}: {ending}: {sentence}\n{text[-2000:]}")
        found = lines.read("bench", text)
        missing = rows - {row["name"] for row in found}
        if missing:
            raise Unproven(f"{words or 'default'}: no row {', '.join(sorted(missing))}")
        wake = [row["value"] for row in found if row["name"] == "wake"]
        if not words and wake != [1] and wake != [0]:
            raise Unproven(f"a woken thread waited for {wake} clears, expected 1 at most")
        said.append(f"{words or 'claim'}: {len(found)} rows")
    return "; ".join(said)


MORE_BENCH = [("alloc=classic", BENCH_ROWS)]  # words, rows that must be there: other allocators


def jobs(proof):
    return [("bench.lines", proof, ("bench.lines", prove_bench))]
