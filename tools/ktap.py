"""Reads KTAP 1 out of a serial log, where other lines may stand between, and judges a boot.

A boot of tests passes only if all of this is so: QEMU's status says EXIT_PASS, every plan
(`1..N`) is complete and in order, at least one case ran, and no line says `not ok`.
Cases may be flat (`ok 3 buddy.coalesce`) or nested by indent under their suite's own line.
"""
import re

PLAN = re.compile(r"^( *)1\.\.(\d+)\s*(#.*)?$")
RESULT = re.compile(r"^( *)(ok|not ok) (\d+)(?: -)? *([^#]*?) *(?:# *(SKIP)\b *(.*))?$")
NOTE = re.compile(r"^ *# ?(.*)$")
BEGINS = re.compile(r"^ *# (\w+\.\w+)$")  # tests/ktest.c says which case it begins
BAIL = re.compile(r"^ *Bail out! *(.*)$")
VERSION = re.compile(r"^ *KTAP version \d+$")


class Case:
    def __init__(self, name, status, reason, notes):
        self.name, self.status, self.reason, self.notes = name, status, reason, notes


class Level:
    """The plan and the results of one depth of nesting."""

    def __init__(self):
        self.plan = None
        self.cases = []
        self.next_number = 1


class Report:
    def __init__(self):
        self.cases = []     # leaves, in order
        self.problems = []  # what is wrong with the output itself
        self.running = None  # the case that had begun when the output ended
        self.started = False

    def count(self, status):
        return sum(case.status == status for case in self.cases)


def parse(text):
    report = Report()
    levels = {}  # indent -> Level, while it is open
    notes = []

    def close(indent):
        """The level is over: was its plan kept?"""
        level = levels.pop(indent)
        ran = level.next_number - 1
        if level.plan is None:
            report.problems.append("results without a plan (1..N)")
        elif ran != level.plan:
            report.problems.append(f"plan of {level.plan} cases, {ran} results")
        return level.cases

    for line in text.split("\n"):
        line = line.rstrip()
        if VERSION.match(line):
            if not line.startswith(" "):
                report.started = True
            continue
        if not report.started:
            continue
        if m := PLAN.match(line):
            level = levels.setdefault(len(m[1]), Level())
            if level.plan is not None:
                report.problems.append("two plans at one level")
            level.plan = int(m[2])
            continue
        if m := RESULT.match(line):
            indent, name = len(m[1]), m[4]
            inner = []
            for deeper in sorted((i for i in levels if i > indent), reverse=True):
                inner += close(deeper)
            level = levels.setdefault(indent, Level())
            if int(m[3]) != level.next_number:
                report.problems.append(f"result {m[3]} where {level.next_number} was due: {name}")
            level.next_number += 1
            report.running = None
            status = {"SKIP": "skip"}.get(m[5]) or ("pass" if m[2] == "ok" else "fail")
            if inner:
                for case in inner:
                    if "." not in case.name:
                        case.name = f"{name}.{case.name}"
                if status == "fail" and not any(c.status == "fail" for c in inner):
                    inner.append(Case(name, "fail", "", notes))
                level.cases += inner
            else:
                level.cases.append(Case(name, status, m[6] or "", notes))
            notes = []
            continue
        if m := BAIL.match(line):
            report.problems.append(f"bailed out: {m[1]}")
        elif m := BEGINS.match(line):
            report.running, notes = m[1], []
        elif m := NOTE.match(line):
            notes.append(m[1])
    for indent in sorted(levels, reverse=True):
        report.cases = close(indent) + report.cases
    return report


def judge(text, ending, sentence):
    """(report, reasons): the boot passed if and only if there is no reason."""
    report = parse(text)
    reasons = []
    failed = report.count("fail")
    if ending not in ("pass", "fail"):
        reasons.append(f"{ending}: {sentence}")
    elif (ending == "fail") != (failed > 0):
        reasons.append(f"{sentence}, but {failed} cases said not ok")
    if not report.started:
        reasons.append("no KTAP in the serial output")
    elif not report.cases:
        reasons.append("no case ran")
    reasons += report.problems
    return report, reasons
