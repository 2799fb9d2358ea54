"""Tests of the tools themselves: a runner that cannot fail proves nothing.

Each function test_*() is a case; an AssertionError fails it. Run by test.py.
"""
import os
import tempfile

import ktap
import machine
import outside
from machine import Machine, Wrong

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
        assert sum(m.node_mem(n) for n in range(nodes)) == mem
        assert sorted(c for n in range(nodes) for c in m.node_cpus(n)) == list(range(cpus))
        assert 0 in m.node_cpus(0)


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


CASES = [(name[5:], f) for name, f in sorted(globals().items()) if name.startswith("test_")]
