"""Tests of the tools themselves: a runner that cannot fail proves nothing.

Each function test_*() is a case; an AssertionError fails it. Then the same with the real kernel,
which goes wrong in every way there is (tests/suite_selftest.c): what the runner makes of it is
compared with what it was. Run by test.py.
"""
import os
import re
import subprocess
import sys
import tempfile
from functools import partial

import ktap
import machine
import outside
import proof_lint
from machine import BUILD, ROOT, Machine, Node, Unproven, Wrong

GOOD = """KTAP version 1
1..3
# seed 7
ok 1 buddy.split
[    0.1] a line of the kernel between
ok 2 buddy.merge # SKIP needs 2 nodes
ok 3 store.pop
"""
NESTED = """noise before
KTAP version 1
1..2
  KTAP version 1
  # Subtest: buddy
  1..2
  ok 1 split
  # buddy.merge
  # mm/x.c:3: a == b
  not ok 2 merge
not ok 1 buddy
  # Subtest: store
  1..1
  ok 1 pop
ok 2 store
"""


def reasons(text, ending):
    return ktap.judge(text, ending, ending)[1]


def test_ktap_complete_plan_passes():
    report, why = ktap.judge(GOOD, "pass", "")
    assert not why, why
    assert [c.status for c in report.cases] == ["pass", "skip", "pass"]
    assert report.cases[1].reason == "needs 2 nodes"


def test_ktap_nested_names_and_notes():
    report, why = ktap.judge(NESTED, "fail", "")
    assert not why, why
    assert [c.name for c in report.cases] == ["buddy.split", "buddy.merge", "store.pop"]
    assert report.cases[1].status == "fail"
    assert "mm/x.c:3: a == b" in report.cases[1].notes


def test_ktap_short_plan_fails():
    assert reasons(GOOD.replace("ok 3 store.pop\n", ""), "pass")
    assert reasons(GOOD.replace("1..3\n", ""), "pass")
    assert reasons(GOOD.replace("ok 2", "ok 3"), "pass")


def test_ktap_names_the_case_that_never_ended():
    report, why = ktap.judge(GOOD.replace("ok 3 store.pop", "# store.pop\nPANIC: x"), "panic", "")
    assert why and report.running == "store.pop"
    assert reasons(GOOD + "Bail out! no thread\n", "pass")


def test_ktap_nothing_fails():
    assert reasons("", "pass")
    assert reasons("KTAP version 1\n1..0\n", "pass")


def test_ktap_status_must_agree():
    assert reasons(GOOD, "fail")
    assert reasons(NESTED, "pass")
    for ending in ("crash", "hang", "panic", "harness", "nothing-ran", "qemu"):
        assert reasons(GOOD, ending)


def test_endings_are_told_apart():
    words = [machine.ending_of(s)[0] for s in (33, 35, 37, 39, 41, 0, 1, -9)]
    assert words == ["pass", "fail", "panic", "harness", "nothing-ran", "crash", "qemu", "qemu"]
    assert machine.ending_of(33, timed_out=True)[0] == "hang"


def wrong(**knobs):
    try:
        Machine.from_knobs(knobs)
    except Wrong as e:
        return str(e)
    raise AssertionError(f"{knobs} was taken")


def test_knobs_refused_say_what_was_expected():
    for knobs in ({"CPUS": "0"}, {"CPUS": "256"}, {"CPUS": "four"}, {"NODES": "-1"},
                  {"MEM": "12"}, {"MEM": "4K"}, {"FIRMWARE": "efi"}, {"ACCEL": "xen"},
                  {"GDB": "yes"}, {"MEM": "64M", "NODES": "4"}, {"APPEND": "a\nb"}):
        text = wrong(**knobs)
        assert "expected" in text and "\n" not in text, text


def test_memory_and_cpus_are_all_given_out():
    for cpus, nodes, mem in ((1, 1, 64), (8, 4, 2048), (3, 5, 1000), (255, 64, 8192)):
        m = Machine(cpus=cpus, nodes=nodes, mem=mem)
        assert sum(n.mem for n in m.layout) == mem
        assert sorted(c for n in m.layout for c in n.cpus) == list(range(cpus))
        assert 0 in m.layout[0].cpus


def test_layouts_are_told_as_they_are():
    m = Machine(layout=[Node(64, [0, 2, 3]), Node(0, [1]), Node(32)], distances={(0, 1): 31})
    line = " ".join(m.command())
    assert (m.cpus, m.nodes, m.mem) == (4, 3, 96)
    assert "node,nodeid=0,memdev=ram0,cpus=0,cpus=2-3 " in line, line
    assert "node,nodeid=1,cpus=1 " in line and "node,nodeid=2,memdev=ram2 " in line, line
    assert line.count("-numa dist") == 1 and m.distance(0, 1) == 31 and m.distance(1, 2) == 20
    assert "reserve=off" in " ".join(Machine(nodes=1, mem=8192).command())
    try:
        Machine(layout=[Node(64, [0]), Node()])
    except Wrong:
        return
    raise AssertionError("a node of nothing was taken")


def test_words_reach_every_firmware():
    for firmware in machine.FIRMWARES:
        line = Machine(firmware=firmware, words="a=1,2 b").command()
        assert any("a=1,2 b" in w or "a=1,,2 b" in w for w in line), line


def test_sparse_memory_is_held():
    assert Machine(mem=65536).kernel_words() == "scrub=hold"
    assert Machine(mem=65536, words="scrub=eager,on").kernel_words() == "scrub=eager,on"
    assert Machine(mem=65536, words="scrub=eager").kernel_words() == "scrub=eager scrub=hold"
    assert Machine(mem=4096).kernel_words() == ""


def test_outside_search_finds_across_chunks():
    secret = b"0123456789abcdef"
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "ram0"), "wb") as f:
            f.truncate(40 << 20)
            f.seek((16 << 20) - 16)  # across the first chunk's end
            f.write(secret * 2)
            f.seek(39 << 20)
            f.write(secret)
        assert outside.count(d, secret * 2) == 1
        assert outside.count(d, secret) == 3
        assert outside.count(d, b"\x01") == 0


def test_secrets_are_random_enough():
    secrets = {outside.new_secret(seed) for seed in range(100)}
    assert len(secrets) == 100 and all(len(set(s)) > 4 for s in secrets), secrets


def test_proof_lint_misses_what_is_renamed():
    """docs/proof.md names functions, transitions and mutants: each renamed or gone is an error."""
    tree = proof_lint.Tree()
    assert proof_lint.check(tree) == []
    mutant = next(f for f in tree.names(proof_lint.MUTANTS, ".patch") if f.startswith("35-"))
    rule = next(f for f in tree.names(proof_lint.MUTANTS, ".patch") if "-rule-16-" in f)
    for path, old, new, said in (
            ("mm/claim.c", "claim_take_locked", "claim_grab_locked", "no claim_take_locked()"),
            ("mm/wait.c", "void gate_raise_locked(", "void gate_lift_locked(", "no gate_raise_locked()"),
            ("tests/model/claim.pml", "claiming:", "grabbing:", "proctype claiming"),
            ("tests/model/bell.pml", "inline wake(", "inline rouse(", "proctype wake"),
            ("tests/model/aged.pml", "DROP_RULE_17", "DROP_AGE", "rule 17 has no switch"),
            ("tests/mutants/" + mutant, None, None, "there is no mutant 35"),
            ("tests/mutants/" + rule, "rule 16:", "", "no mutant breaks rule 16"),
            ("docs/proof.md", "rules: 16", "", "keeps rule 16"),
            ("mm/store.c", None, None, "there is no mm/store.c")):
        text = tree.read(path)
        assert old is None or old in text, (path, old)
        errors = proof_lint.check(proof_lint.Tree({path: old and text.replace(old, new)}))
        assert any(said in error for error in errors), (path, said, errors)
    gone = proof_lint.check(proof_lint.Tree({"docs/proof.md": tree.read("docs/proof.md").replace(
        "mutants: 18, 19, 22,", "mutants: 18, 22,")}))
    assert len(gone) == 1 and "19-sweeper" in gone[0], gone


CASES = [(name[5:], f) for name, f in sorted(globals().items()) if name.startswith("test_")]


# ---- with the real kernel ------------------------------------------------------------------------
HANG_LIMIT = 10  # seconds: time enough to get as far as the case


class Silent(Machine):
    """All goes well, and not a byte of it is heard."""

    def command(self):
        return [("null" if word == "stdio" else word) for word in super().command()]


class Stopped(Machine):
    """Nothing ever runs."""

    def command(self):
        return super().command() + ["-S"]


# The selector, what it must come to (passed, failed, skipped), what must be said of it, and the
# machine if it needs more than one CPU. Where a boot comes to its end, that all CPUs fell asleep
# with nothing dirty is one more result.
FOUR_CPUS = {"cpus": 4, "mem": 256}
BOOTS = {
    "passes": ("selftest.passes", (2, 0, 0), []),
    "fails": ("selftest.fails", (1, 1, 0),
              ["^not ok selftest.fails$", "failed: two is 2, not three",
               "again: make test T=selftest.fails SEED=7 CPUS=1"]),
    "leaks": ("selftest.leaks", (1, 1, 0),
              ["^not ok selftest.leaks$", "left behind: 1 frames more allocated"]),
    "skips": ("selftest.skips", (1, 1, 1), ["^runner.skips: nothing-ran: "]),
    "errs": ("selftest.errs", (0, 2, 0),
             ["^not ok selftest.errs$", "left behind: 1 locks held", "^runner.errs: harness: ",
              "^runner.errs: bailed out: "]),
    "panics": ("selftest.panics", (0, 1, 0),
               ["^runner.panics: panic: .* while selftest.panics ran$",
                "PANIC: selftest: a case that panics",
                "again: make test T=selftest.panics SEED=7 CPUS=1"]),
    "hangs": ("selftest.hangs", (0, 1, 0),
              ["^runner.hangs: hang: no end within the time limit while selftest.hangs ran$"]),
    "triple-faults": ("selftest.triple_faults", (0, 1, 0),
                      ["^runner.triple-faults: crash: .*status 0.* while selftest.triple_faults"]),
    "leaves-early": ("selftest.leaves_early", (0, 1, 0),
                     ["^runner.leaves-early: plan of 1 cases, 0 results while selftest.leaves_early"]),
    "no-such-case": ("selftest.no_such_case", (0, 1, 0),
                     ["^runner.no-such-case: nothing-ran: ", "no such suite or case"]),
    # A guest's thread goes on using what another one has given back (tests/ktest_guest.c). Without
    # the flush it can, and the test sees it; with the check there is no way around the flush.
    "stale-translations": ("selftest.stale_translations", (1, 1, 0),
                           ["^not ok selftest.stale_translations$",
                            "failed: holder of 8: exited with code [23]"], FOUR_CPUS),
    "flush-left-out": ("selftest.flush_left_out", (0, 1, 0),
                       ["PANIC: P1 no leak: .* was unmapped and not flushed"], FOUR_CPUS),
    "flush-too-short": ("selftest.flush_too_short", (0, 1, 0),
                        ["PANIC: P1 no leak: .* was unmapped and not flushed"], FOUR_CPUS),
    "cpu-not-asked": ("selftest.cpu_not_asked", (0, 1, 0),
                      [r"PANIC: P1 no leak: CPU \d may still use .* flushed (\d+) of \d+ unmaps"],
                      FOUR_CPUS),
    "silent": ("selftest.passes", (0, 1, 0), ["^runner.silent: no KTAP in the serial output$"]),
    "stopped": ("selftest.passes", (0, 1, 0),
                ["^runner.stopped: hang: ", "^runner.stopped: no KTAP in the serial output$"]),
}


def prove_boot(kind, kernel_suite):
    """One boot through the function that boots them all."""
    selector, counts, said, *shape = BOOTS[kind]
    make = {"silent": Silent, "stopped": Stopped}.get(kind, Machine)
    machine = make(firmware="pvh", nodes=1, **(shape[0] if shape else {"cpus": 1, "mem": 64}))
    limit = {"hangs": HANG_LIMIT, "stopped": 3}.get(kind)
    out = kernel_suite(f"runner.{kind}", machine, selector, 7, limit)
    text = "\n".join(out.lines)
    missing = [s for s in said if not re.search(s, text, re.M)]
    if (out.passed, out.failed, out.skipped) != counts or missing:
        raise Unproven(f"counted {out.passed} passed, {out.failed} failed, {out.skipped} skipped, "
                       f"expected {counts}; not said: {missing}; said:\n{text}")
    reasons = re.findall(rf"^runner.{kind}: (.*)$|^(not ok .*)$", text, re.M)
    return "; ".join(a or b for a, b in reasons) or "passed"


def prove_whole_runner():
    """`make test T=...` itself: its exit status and its last line."""
    for case, status, last in (("passes", 0, "2 passed, 0 failed"), ("fails", 1, "1 passed, 1 failed"),
                               ("panics", 1, "0 passed, 1 failed"), ("nothing", 1, "0 passed, 1 failed")):
        env = dict(os.environ, T=f"selftest.{case}", CPUS="1", NODES="1", MEM="64M", B=BUILD,
                   SEED="3", FIRMWARE="pvh", APPEND="", DRYRUN="", GDB="")
        run = subprocess.run([sys.executable, os.path.join(ROOT, "tools/test.py"), "all"], env=env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.STDOUT, timeout=120, check=False)
        if run.returncode != status or run.stdout.rstrip().split("\n")[-1] != last:
            raise Unproven(f"T=selftest.{case}: status {run.returncode}, expected {status} and "
                           f"`{last}`:\n{run.stdout}")
    return "its status and its last line say so, too"


def runner_jobs(proof, kernel_suite):
    """For test.py: (name, function, arguments)."""
    return [(f"runner.{kind}", proof, (f"runner.{kind}", partial(prove_boot, kind, kernel_suite)))
            for kind in BOOTS] + [("runner.whole", proof, ("runner.whole", prove_whole_runner))]
