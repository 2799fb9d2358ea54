"""`make compare`: every strategy of the thread through the nine promises and through the same work.

    compare.py          all of it; T=eager,claim: only these strategies
    compare.py page     the page, plots and story again, from what the last run has left

What is expected stands in tools/compare_expected.txt, a reason for each cell. What is observed
comes out of boots: the kernel's `promise` and `work` (kernel/promise/, kernel/work/), a boot that
panics, or a schedule that the explorer finds. A cell that is not as expected, either way, fails.

Leaves in build/compare/: matrix.csv, work.csv, the serial logs, and what compare_page.py makes of
them: a page, plots, the story with its figures. KEEP=1 copies those into docs/.
"""
import concurrent.futures
import csv
import os
import re
import subprocess
import sys
import threading
import time

import compare_page
import lines
import thread_test
from machine import BUILD, ROOT, Machine, Node, Unproven, Wrong, boot_to_text, from_kernel, main_guard

OUT = os.path.join(ROOT, BUILD, "compare")
EXPECTED = os.path.join(ROOT, "tools/compare_expected.txt")
STEPS_ELF = f"{BUILD}/steps/limpid.elf"
PROMISES = [f"P{i}" for i in range(1, 10)]
OUTCOMES = ("holds", "BROKEN", "n/a")
SCENARIOS = ("destroy", "create_now", "create_idle", "churn", "one_busy", "all_busy", "huge",
             "speck", "balloon")
JOBS = 3  # of boots that only count, and wait a good part of the time; what is timed runs alone
PROMISE_LIMIT, WORK_LIMIT = 120, 180  # seconds for one boot
TRIES = 2  # boots that may die of one promise while another is tested
QUICK = ("claim", "eager", "batch")
# The explorer's scenarios about each strategy (tests/host/explore/scenario_thread.c).
SCENES = {"eager": ["eager"], "ondemand": ["ondemand"], "locked": ["locked"],
          "walk": ["walk", "walk_owner"], "mark": ["mark", "mark_huge"], "batch": ["batch"],
          "overlap": ["overlap", "overlap_any"], "inplace": ["inplace"],
          "claim": ["thread_claim", "thread_pair"]}


# ---- what is expected ----------------------------------------------------------------------------
class Cell:
    def __init__(self, expected, reason):
        self.expected, self.reason = expected, reason


class Strategy:
    """A block of the file: its name, its allocator, whose idea, and a cell for each promise. One that
    dies breaks memory: boots end in a panic that says P2, whatever they were about, and a cell may
    come out n/a because none of them lived long enough."""

    def __init__(self, name, alloc, whose, dies=False):
        self.name, self.alloc, self.whose, self.dies, self.cells = name, alloc, whose, dies, {}

    def allows(self, promise, observed):
        return observed == self.cells[promise].expected or \
            (self.dies and promise != "P2" and observed == "n/a")

    def broken(self):
        return [p for p in PROMISES if self.cells[p].expected == "BROKEN"]


def read_expected(path=EXPECTED):
    strategies, last = [], None
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            line = line.rstrip()
            head = re.fullmatch(r"(\w+) on (\w+)( \(dies\))?: (.+)", line)
            cell = re.fullmatch(r"  (P[1-9]) (holds|BROKEN|n/a) +(.+)", line)
            if not line or line.startswith("#"):
                continue
            if head:
                strategies.append(Strategy(head[1], head[2], head[4], bool(head[3])))
                last = None
            elif cell and strategies and cell[1] not in strategies[-1].cells:
                last = strategies[-1].cells[cell[1]] = Cell(cell[2], cell[3])
            elif last and re.match(r"  {12}", line):  # a reason goes on
                last.reason += " " + line.strip()
            else:
                raise Wrong(f"{os.path.relpath(path, ROOT)}:{n}: expected 'NAME on ALLOCATOR: "
                            "whose', or '  P1 holds|BROKEN|n/a reason', each promise once")
    for s in strategies:
        missing = [p for p in PROMISES if p not in s.cells]
        if missing:
            raise Wrong(f"{os.path.relpath(path, ROOT)}: {s.name} has no {', '.join(missing)}")
    return strategies


# ---- boots -----------------------------------------------------------------------------------------
def promise_machine():
    return Machine(cpus=4, nodes=2, mem=768, firmware="pvh")


def small_machine():
    return Machine(cpus=4, nodes=2, mem=512, firmware="pvh")


def work_machine():
    """A node of its own for S, with an aligned GiB in it; 3.25 GiB in all."""
    return Machine(layout=[Node(512, [0, 1]), Node(2816, [2, 3])], firmware="pvh")


def words_of(strategy, run):
    return f"console=plain alloc={strategy.alloc} scrub={strategy.name} run='{run}' exit"


def boot(machine, name, seconds):
    ending, sentence, text, took = boot_to_text(machine, seconds)
    text = from_kernel(text)
    os.makedirs(os.path.join(OUT, "log"), exist_ok=True)
    with open(os.path.join(OUT, "log", name + ".txt"), "w", encoding="utf-8") as f:
        f.write(text)
    return ending, sentence, text, took


def how_it_died(ending, sentence, text):
    said = re.search(r"^PANIC: (.*)$", text, re.M)
    return f"panic: {said[1]}" if said else f"{ending}: {sentence}"


def check_strategy(strategy, rows, text):
    """The kernel ran what it was told, and not its default."""
    others = {row["strategy"] for row in rows} - {strategy.name}
    if others or "ignored" in text.split("limpid> ")[0]:
        raise Unproven(f"{strategy.name} on {strategy.alloc}: the kernel does not have it")


def run_promises(strategy, elf=STEPS_ELF):
    """{promise: (observed, evidence)}. A boot that dies has answered for the promise that its panic
    names, or else for the one it was at; what is left gets another boot."""
    cells, left, died, boots = {}, list(PROMISES), {}, 0
    if strategy.dies:  # acted by turn gates, in a boot that has to panic
        cells["P2"] = "BROKEN", "panic: " + thread_test.prove(strategy.name)
        left.remove("P2")
    while left:
        boots += 1
        ending, sentence, text = promise_boot(strategy, left, elf, boots)
        for row in lines.read("promise", text):
            # What a panic has told before is worse than what a test sees when none comes.
            cells.setdefault(row["promise"], (row["observed"], with_prober(row, text)))
            left = [p for p in left if p != row["promise"]]
        if ending == "pass":
            if left:
                raise Unproven(f"promise-{strategy.name}-{boots}: no line for {', '.join(left)}")
            continue
        begun = re.findall(r"^promise (P\d), ", text, re.M)
        told = how_it_died(ending, sentence, text)
        blamed = re.match(r"panic: (P\d) ", told)
        if not begun or (not blamed and begun[-1] not in left):
            raise Unproven(f"promise-{strategy.name}-{boots}: {told}")
        at, blamed = begun[-1], blamed[1] if blamed else begun[-1]
        cells.setdefault(blamed, ("BROKEN", told))
        died[at] = died.get(at, 0) + 1
        if at in left and at != blamed and died[at] == TRIES:
            cells[at] = "n/a", f"{TRIES} boots of {TRIES} died of {blamed} while it was tested"
        left = [p for p in left if p not in cells]
    return cells


def promise_boot(strategy, promises, elf, number):
    machine = promise_machine()
    if elf:
        machine.elf = elf
    machine.words = words_of(strategy, "; ".join(f"promise {p}" for p in promises))
    name = f"promise-{strategy.name}-{number}"
    ending, sentence, text, _ = boot(machine, name, PROMISE_LIMIT)
    check_strategy(strategy, lines.read("promise", text), text)
    return ending, sentence, text


def with_prober(row, text):
    """What the guests themselves said that they read, beside the kernel's count of such guests."""
    said = re.findall(r"^prober: (\d+) leaks in (\d+) frames", text, re.M)
    leaks = sum(int(leaks) for leaks, _ in said)
    if row["promise"] != "P1" or not leaks:
        return row["evidence"]
    return f"{leaks} frames ({leaks * 4096} bytes) of another guest read by prober; {row['evidence']}"


def run_work(strategy, machine, name, scenarios=SCENARIOS):
    """[row of work.csv]. A scenario in which the boot dies has one row that says so."""
    rows, left, boots = [], list(scenarios), 0
    while left:
        machine.words = words_of(strategy, "; ".join(f"work {s}" for s in left))
        ending, sentence, text, _ = boot(machine, name + (f"-{boots}" if boots else ""), WORK_LIMIT)
        boots += 1
        found = lines.read("work", text)
        check_strategy(strategy, found, text)
        done = [s for s in left if any(r["scenario"] == s and r["metric"] == "wake" for r in found)]
        rows += [r for r in found if r["scenario"] in done]
        left = [s for s in left if s not in done]
        if ending != "pass" and left:
            print(f"      {strategy.name}: {left[0]}: {how_it_died(ending, sentence, text)}")
            rows.append({"scenario": left.pop(0), "strategy": strategy.name, "metric": "died",
                         "value": 1, "unit": "boots"})
        elif ending != "pass" or left:
            raise Unproven(f"{name}: {how_it_died(ending, sentence, text)}; left: {left}")
    return rows


def steps_rows(strategy):
    machine = small_machine()
    machine.elf = STEPS_ELF
    return [r for r in run_work(strategy, machine, f"steps-{strategy.name}")
            if r["metric"] == "lock_steps"]


# ---- the explorer ----------------------------------------------------------------------------------
def explore(scenario):
    """(the promise that a schedule breaks or None, how many were run, the path of what was said)."""
    os.makedirs(os.path.join(OUT, "schedules"), exist_ok=True)
    path = os.path.join(OUT, "schedules", scenario + ".txt")
    done = subprocess.run([os.path.join(ROOT, BUILD, "host/explore/test_explore"), scenario,
                           "seconds=2"], cwd=ROOT, stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    text = done.stdout.decode("utf-8", "replace")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    broken = re.search(rf"^promise broken.*: {scenario}: (?:panic: )?(P\d)\b", text, re.M)
    ran = re.search(r"(?:found after |: )(\d+) executions", text)
    if done.returncode != 0 or not ran:
        raise Unproven(f"the explorer, scenario {scenario}: status {done.returncode}\n{text[-500:]}")
    return broken[1] if broken else None, int(ran[1]), os.path.relpath(path, OUT)


def run_schedules(strategies, cells, wrong):
    """What the explorer finds is evidence that needs no luck. Where it finds nothing, that is said
    beside P2, which is what its scenarios are about. What stays in build/compare/schedules/ is what
    it said, a broken one in two columns."""
    for s in strategies:
        for scenario in SCENES.get(s.name, []):
            try:
                promise, ran, path = explore(scenario)
            except (Unproven, OSError, subprocess.SubprocessError) as problem:
                wrong.append(f"{s.name}: {problem}")
                continue
            was, seen = cells.get((s.name, promise or "P2"), ("missing", "no boot told"))
            if promise:
                cells[(s.name, promise)] = "BROKEN", \
                    f"{path}, found after {ran} executions; {seen}"
            else:
                cells[(s.name, "P2")] = was, f"{seen}; {ran} schedules of {path} break nothing"


# ---- the verdict -----------------------------------------------------------------------------------
def surprises(strategies, cells):
    wrong = []
    for s in strategies:
        for p in PROMISES:
            observed, evidence = cells.get((s.name, p), ("missing", "no boot told"))
            if not s.allows(p, observed):
                wrong.append(f"{s.name} {p}: expected {s.cells[p].expected} "
                             f"({s.cells[p].reason}), observed {observed}: {evidence}")
    return wrong


def check_table(strategies):
    """The bar: claim breaks nothing, and every other one breaks something."""
    wrong = [f"{s.name} is expected to break nothing" for s in strategies
             if s.name != "claim" and not s.broken()]
    wrong += [f"claim is expected to break {', '.join(s.broken())}" for s in strategies
              if s.name == "claim" and s.broken()]
    if sorted({s.name for s in strategies}) != sorted(ALL):
        wrong.append(f"expected a block for each of {', '.join(ALL)}")
    return wrong


ALL = ("eager", "ondemand", "locked", "walk", "mark", "batch", "overlap", "inplace", "onmap",
       "readonly", "claim")


def write_csv(name, header, rows):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, name), "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)


def write_matrix(strategies, cells):
    write_csv("matrix.csv", ("strategy", "promise", "expected", "observed", "evidence"),
              [(s.name, p, s.cells[p].expected, *cells.get((s.name, p), ("missing", "")))
               for s in strategies for p in PROMISES])


def print_matrix(strategies, cells):
    print(f"{'':<10}" + "".join(f"{p:>8}" for p in PROMISES))
    for s in strategies:
        print(f"{s.name:<10}" + "".join(f"{cells.get((s.name, p), ('?',))[0]:>8}"
                                        for p in PROMISES))


# ---- make compare ----------------------------------------------------------------------------------
def chosen(strategies):
    names = [n for n in (os.environ.get("T") or "").split(",") if n]
    unknown = [n for n in names if n not in {s.name for s in strategies}]
    if unknown:
        raise Wrong(f"T={','.join(unknown)}: expected some of {', '.join(s.name for s in strategies)}")
    return [s for s in strategies if not names or s.name in names]


def count_all(strategies, cells, work, wrong):
    """Boots in which nothing is timed, JOBS at a time."""
    lock = threading.Lock()

    def one(job):
        s, kind = job
        began = time.monotonic()
        try:
            if kind == "promises":
                found = {(s.name, p): cell for p, cell in run_promises(s).items()}
            else:
                found = steps_rows(s)
        except (Unproven, Wrong) as problem:
            with lock:
                wrong.append(f"{s.name}: {problem}")
                print(f"FAIL  {s.name:<9} {kind}: {problem}")
            return
        with lock:
            if kind == "promises":
                cells.update(found)
            else:
                work.extend(found)
            print(f"ok    {s.name:<9} {kind:<9} {time.monotonic() - began:6.1f} s", flush=True)

    jobs = [(s, kind) for s in strategies for kind in ("promises", "steps")]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(one, jobs))


def read_csv(name):
    with open(os.path.join(OUT, name), encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def page_again():
    rows = [dict(row, value=int(row["value"])) for row in read_csv("work.csv")]
    cells = {(r["strategy"], r["promise"]): (r["observed"], r["evidence"])
             for r in read_csv("matrix.csv")}
    there = {name for name, _ in cells}
    compare_page.make(OUT, [s for s in read_expected() if s.name in there], cells, rows)
    if os.environ.get("KEEP") == "1":
        compare_page.keep(OUT, os.path.join(ROOT, "docs"))
    return 0


def main():
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in ("", "page"):
        raise Wrong(f"compare.py {verb}: expected page, or nothing")
    if verb == "page":
        return page_again()
    everything = read_expected()
    wrong = check_table(everything)
    strategies = chosen(everything)
    cells, work, began = {}, [], time.monotonic()
    for s in strategies:
        started = time.monotonic()
        try:
            work += run_work(s, work_machine(), f"work-{s.name}")
            print(f"ok    {s.name:<9} work      {time.monotonic() - started:6.1f} s", flush=True)
        except (Unproven, Wrong) as problem:
            wrong.append(f"{s.name}: {problem}")
            print(f"FAIL  {s.name:<9} work: {problem}")
    count_all(strategies, cells, work, wrong)
    run_schedules(strategies, cells, wrong)
    order = {s.name: i for i, s in enumerate(strategies)}
    work.sort(key=lambda r: (SCENARIOS.index(r["scenario"]), order[r["strategy"]]))
    write_matrix(strategies, cells)
    write_csv("work.csv", ("scenario", "strategy", "metric", "value", "unit"),
              [(r["scenario"], r["strategy"], r["metric"], r["value"], r["unit"]) for r in work])
    print_matrix(strategies, cells)
    wrong += surprises(strategies, cells)
    seconds = time.monotonic() - began
    compare_page.note_run(OUT, seconds)
    compare_page.make(OUT, strategies, cells, work)
    if os.environ.get("KEEP") == "1":
        compare_page.keep(OUT, os.path.join(ROOT, "docs"))
    for text in wrong:
        print(f"NOT AS EXPECTED: {text}")
    print(f"compare: {len(strategies)} strategies, {len(cells)} cells, {len(wrong)} not as "
          f"expected, {seconds:.0f} s; {os.path.relpath(OUT, ROOT)}/index.html")
    return 1 if wrong else 0


# ---- part of make test -----------------------------------------------------------------------------
def prove_table():
    strategies = read_expected()
    wrong = check_table(strategies)
    if wrong:
        raise Unproven("\n".join(wrong))
    return f"{len(strategies)} strategies, {9 * len(strategies)} cells, each with a reason"


def prove_quick(name):
    strategy = next(s for s in read_expected() if s.name == name)
    cells = {(name, p): cell for p, cell in run_promises(strategy, elf=None).items()}
    wrong = surprises([strategy], cells)
    if wrong:
        raise Unproven("\n".join(wrong))
    broken = strategy.broken()
    return "as expected: breaks " + (", ".join(broken) if broken else "nothing")


def prove_work():
    claim = next(s for s in read_expected() if s.name == "claim")
    rows = run_work(claim, small_machine(), "work-quick")
    for scenario in SCENARIOS:
        have = {r["metric"]: r["value"] for r in rows if r["scenario"] == scenario}
        missing = {"elapsed", "take_p99.9", "failed", "cleared", "cleared_again", "clears_waited",
                   "wake"} - set(have)
        if missing or "died" in have:
            raise Unproven(f"work {scenario}: no {', '.join(sorted(missing))}")
        if have["failed"] or have["clears_waited"] > 1 or have["wake"] > 1 or have["clears_locked"]:
            raise Unproven(f"work {scenario} under claim: {have}")
    return f"{len(rows)} figures of {len(SCENARIOS)} scenarios"


def jobs(proof):
    return [("compare.table", proof, ("compare.table", prove_table))] + [
        (f"compare.{name}", proof, (f"compare.{name}", prove_quick, name)) for name in QUICK] + [
        ("compare.work", proof, ("compare.work", prove_work))]


if __name__ == "__main__":
    main_guard(main)
