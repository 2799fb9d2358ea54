"""Tests of tools/lines.py and of the verdicts of tools/compare.py, and that the kernel's `bench all`
prints what it can read. Run by test.py with the other tests of the tools."""
import os
import tempfile

import compare
import compare_page
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


# ---- make compare ----------------------------------------------------------------------------------
def as_expected(strategies):
    return {(s.name, p): (s.cells[p].expected, "a number")
            for s in strategies for p in compare.PROMISES}


def test_compare_is_content_with_what_is_expected():
    strategies = compare.read_expected()
    assert not compare.check_table(strategies)
    assert not compare.surprises(strategies, as_expected(strategies))


def test_compare_finds_a_surprise_either_way():
    strategies = compare.read_expected()
    for name, promise, observed in (("claim", "P4", "BROKEN"), ("batch", "P4", "holds"),
                                    ("mark", "P2", "n/a"), ("eager", "P8", "holds")):
        cells = as_expected(strategies)
        cells[(name, promise)] = (observed, "7 of 9")
        wrong = compare.surprises(strategies, cells)
        assert len(wrong) == 1 and f"{name} {promise}: " in wrong[0] and "7 of 9" in wrong[0], wrong
        del cells[(name, promise)]
        assert "missing" in compare.surprises(strategies, cells)[0]
    cells = as_expected(strategies)
    cells[("walk", "P1")] = ("n/a", "two boots died")  # it breaks memory: not every cell can be had
    assert not compare.surprises(strategies, cells)
    cells[("batch", "P1")] = ("n/a", "")
    assert len(compare.surprises(strategies, cells)) == 1


def test_compare_reads_only_a_whole_table():
    with open(compare.EXPECTED, encoding="utf-8") as f:
        good = f.read()
    for what, instead in (("  P3 holds   each frame", "  P3 likely  each frame"),
                          ("  P3 holds   each frame", "# P3 holds   each frame"),
                          ("  P3 holds   each frame", "  P2 holds   each frame")):
        assert what in good
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "expected.txt")
            with open(path, "w", encoding="utf-8") as f:
                f.write(good.replace(what, instead, 1))
            try:
                compare.read_expected(path)
            except Wrong:
                continue
        raise AssertionError(f"was taken: {instead}")


def test_compare_page_names_what_a_figure_is_bought_with():
    strategies = compare.read_expected()
    rows = [{"scenario": "huge", "strategy": n, "metric": "create", "value": v, "unit": "us"}
            for n, v in (("eager", 10), ("claim", 1000), ("locked", 900))]
    figures = compare_page.Figures(rows)
    found = compare_page.beats(figures, strategies)
    assert [(s.name, ratio) for s, _, _, _, _, ratio in found] == [("eager", 100)], found
    page = compare_page.render_md(compare_page.beats_blocks(strategies, figures,
                                                            as_expected(strategies)))
    assert "| `eager` | create time | `huge` 0.01 against 1 ms (100.0x) | P7 |" in page, page
    cells = {key: ("holds", "") for key in as_expected(strategies)}
    assert "these break nothing" in compare_page.render_md(
        compare_page.beats_blocks(strategies, figures, cells))


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
