"""`make test`: every test there is, one line a boot or program, and one line of counts at the end.

    test.py all        what T= selects, or everything
    test.py host       only what runs on this machine
    test.py soak       N rounds of every boot of the matrix, and the long proofs
    test.py list       what T= takes
    test.py --check    only looks at the knobs

A test is a case in the kernel, a case (or program) on the host, a story, or an outside proof.
Each failure is followed by the line that runs just it again. Serial logs stay in build/log/.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import threading
import time

import bars
import broken_tables
import compare
import debug_test
import ktap
import lines_test
import model
import odd_machines
import outside
import proofs
import selftest
import thread_test
from machine import BUILD, ROOT, Machine, Unproven, Wrong, boot_to_text, from_kernel, \
    main_guard, number, shell_line, with_symbols

LOGS = os.path.join(ROOT, BUILD, "log")
SUITE_LIMIT = 360  # seconds for one boot with tests
STORY_LIMIT = 180
HOST_LIMIT = 400
EXPLORE_LIMIT = 1800
JOBS = min(2, os.cpu_count() or 1)  # boots at the same time
TAIL = 25  # serial lines that are shown of a boot that died


class Outcome:
    """What one boot or program came to, and the lines to print about it."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.lines = []
        self.seconds = 0.0
        self.remark = ""
        self.said = []  # all that a hosted program printed

    def fail(self, text, again):
        self.failed += 1
        self.lines += text.split("\n")
        self.lines.append(f"  again: {again}")


def save_log(name, text):
    os.makedirs(LOGS, exist_ok=True)
    path = os.path.join(LOGS, re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") + ".txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return os.path.relpath(path, ROOT)


def tail(text):
    lines = from_kernel(text).rstrip().split("\n")
    panic = next((i for i, line in enumerate(lines) if line.startswith("PANIC: ")), None)
    # A panic begins with what matters, any other death ends with it.
    begin = max(0, len(lines) - TAIL if panic is None else panic - 5)
    end = with_symbols("\n".join(lines[begin:begin + TAIL]))
    return "\n".join("  | " + line for line in end.split("\n"))


# ---- the kernel's own suites ---------------------------------------------------------------------
def kernel_suite(name, machine, selector, seed, seconds=None):
    out = Outcome(name)
    machine.words = f"console=plain test={selector} seed={seed} {machine.words}".strip()
    again = f"SEED={seed} {machine.knobs()}"
    row = re.sub(r"^soak\.\d+\.", "", name)
    ending, sentence, text, out.seconds = boot_to_text(machine, seconds or SUITE_LIMIT)
    log = save_log(name, text)
    report, reasons = ktap.judge(text, ending, sentence)
    out.passed, out.skipped = report.count("pass"), report.count("skip")
    for case in report.cases:
        if case.status == "fail":
            notes = "".join(f"\n  # {note}" for note in case.notes[-12:]
                            if "make test" not in note)
            target = row if machine.is_odd else case.name
            out.fail(f"not ok {case.name}{notes}", f"make test T={target} {again}")
    if reasons:
        # Not a case that failed but the boot: a panic, a crash, a hang, a plan not kept.
        during = f" while {report.running} ran" if report.running else ""
        out.fail("\n".join(f"{name}: {r}{during}" for r in reasons) +
                 f"\n  the end of {log}:\n{tail(text)}",
                 f"make test T={row if machine.is_odd else again_of(report, selector)} {again}")
    return out


def again_of(report, selector):
    """The case that was running, if running it alone says more than running them all."""
    return report.running if report.running and report.running != "rest.no_dirt" else selector


def story(name, machine):
    """As `make run </dev/null` does it: the story must end with a prober that found nothing."""
    out = Outcome(name)
    again = f"make run {machine.knobs()} </dev/null"
    machine.words = f"console=plain exit {machine.words}".strip()
    ending, sentence, text, out.seconds = boot_to_text(machine, STORY_LIMIT)
    log = save_log(name, text)
    probes = re.findall(r"prober: (\d+) leaks in (\d+) frames", text)
    problem = None
    if ending != "pass":
        problem = f"{ending}: {sentence}"
    elif not probes:
        problem = "no line `prober: K leaks in N frames`"
    elif outside.REFUSED in text:
        problem = "the check before mapping refused a frame"
    elif any(leaks != "0" for leaks, _ in probes) or int(probes[-1][1]) == 0:
        problem = f"prober said {probes}"
    if problem:
        out.fail(f"{name}: {problem}; the end of {log}:\n{tail(text)}", again)
    else:
        out.passed = 1
        out.remark = f"prober: 0 leaks in {probes[-1][1]} frames"
    return out


def prove_story_leaks():
    """Under `readonly` the story must end badly, with a warning: the prober reads the secret."""
    ending, sentence, text, _ = boot_to_text(
        Machine(firmware="pvh", words="console=plain exit scrub=readonly"), STORY_LIMIT)
    probes = re.findall(r"prober: (\d+) leaks in (\d+) frames", text)
    if ending != "fail" or not probes or int(probes[-1][0]) == 0:
        raise Unproven(f"expected a story that fails by a prober with leaks; {ending}: {sentence}, "
                       f"it said {probes}\n{tail(text)}")
    if "** WARNING: scrub=readonly LEAKS" not in text:
        raise Unproven("no banner says that this strategy leaks")
    return f"as expected, and with a warning: {probes[-1][0]} leaks in {probes[-1][1]} frames"


def proof(name, prove, *args):
    out = Outcome(name)
    started = time.monotonic()
    try:
        out.remark = prove(*args)
        out.passed = 1
    except Unproven as wrong:
        row = re.sub(r"^soak\.\d+\.", "", name)
        out.fail(f"{name}: {wrong}",
                 f"make test T={row}" + (f" SEED={args[-1]}" if args else ""))
    out.seconds = time.monotonic() - started
    return out


# ---- on this machine -------------------------------------------------------------------------------
def host_program(path, seed, case=None, more=(), limit=None):
    """One hosted test. It counts its cases itself (tests/host/check.h) and says which failed; one
    that dies on the way, by a sanitizer say, is a failure whatever it had counted."""
    name = "host." + os.path.basename(path)
    out = Outcome(name)
    # The explorer goes by the time it is given, not by the clock: on a busy host it takes long.
    limit = limit or (EXPLORE_LIMIT if path.endswith("test_explore") else HOST_LIMIT)
    command = [os.path.join(ROOT, path), f"seed={seed}", *more] + ([case] if case else [])
    started = time.monotonic()
    try:
        run = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=limit, check=False)
        text, status = run.stdout.decode("utf-8", "replace"), run.returncode
    except subprocess.TimeoutExpired as hung:
        text, status = (hung.stdout or b"").decode("utf-8", "replace"), None
    out.seconds = time.monotonic() - started
    log = save_log(name + ("." + case if case else ""), text)
    out.said = text.split("\n")
    counts = re.findall(r"^test_\w+: (\d+) passed, (\d+) failed$", text, re.M)
    broken = re.findall(r"^(\w+): FAILED, (\d+) checks", text, re.M)
    if counts:
        out.passed = int(counts[-1][0])
    for each, checks in broken:
        why = "".join("\n  " + line for line in text.split("\n") if f": {each}: " in line)
        out.fail(f"not ok {name}.{each}, {checks} checks{why}",
                 f"make test T={name}.{each} SEED={seed}")
    if status is None:
        reason = f"hang: no end within {limit} s"
    elif not counts:
        reason = f"ended with status {status} and without its counts"
    elif (status == 0) != (out.passed > 0 and counts[-1][1] == "0"):
        reason = f"status {status}, which is not what its counts say"
    elif int(counts[-1][1]) != len(broken):
        reason = f"{counts[-1][1]} cases failed, {len(broken)} were named"
    else:
        return out
    if status is None or not broken:
        out.fail(f"{name}: {reason}; the end of {log}:\n{tail(text)}",
                 f"make test T={name} SEED={seed}")
    return out


def tool_tests():
    out = Outcome("tools")
    started = time.monotonic()
    for name, case in selftest.CASES + lines_test.CASES:
        try:
            case()
            out.passed += 1
        except AssertionError as wrong:
            out.fail(f"not ok tools.{name}: {wrong}", "make test T=tools")
    out.seconds = time.monotonic() - started
    return out


def host_programs():
    """What the Makefile built: one program for each tests/host/*/test_*.c."""
    found = []
    for part in ("lib", "mm", "guest", "fuzz", "fuzz_mm", "explore"):
        folder = os.path.join(ROOT, "tests/host", part)
        for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if re.fullmatch(r"test_\w+\.c", file):
                found.append(f"{BUILD}/host/{part}/{file[:-2]}")
    return found


def explore_jobs(seed):
    """Each scenario of the explorer by itself, for longer than `make test` has time for."""
    def explore(name):
        out = host_program(f"{BUILD}/host/explore/test_explore", seed, name,
                           ("seconds=240", "executions=1000000"), 2 * EXPLORE_LIMIT)
        out.name = "explore." + name
        said = re.search(rf"^{name} +(.*)", "\n".join(out.said), re.M)
        out.remark = said[1] if said else ""
        return out
    names = []
    folder = os.path.join(ROOT, "tests/host/explore")
    for file in sorted(f for f in os.listdir(folder) if f.startswith("scenario_")):
        with open(os.path.join(folder, file), encoding="utf-8") as f:
            names += re.findall(r'^    \.name = "(\w+)"', f.read(), re.M)
    return [("explore." + name, explore, (name,)) for name in names]


def host_source(program):
    """tests/host/lib/test_cpio.c of build/host/lib/test_cpio."""
    return os.path.join(ROOT, "tests", *program[len(BUILD) + 1:].split("/")) + ".c"


# ---- what is run -----------------------------------------------------------------------------------
def host_jobs(seed):
    # A second for each scenario of the explorer; explore_jobs() has hours of them.
    def more(program):
        return ("seconds=1",) if program.endswith("test_explore") else ()
    return [("tools", tool_tests, ())] + [
        ("host." + os.path.basename(p), host_program, (p, seed, None, more(p)))
        for p in host_programs()] + proofs.jobs(proof, seed)


def kernel_jobs(seed, firmware="boot,lib,mm,policy,accounting,guest,touch"):
    """The shapes of machine that every commit boots. On the odd ones what depends on the shape;
    odd_machines.py has more of them."""
    def suite(name, selector="all", **shape):
        return name, kernel_suite, (name, Machine(**shape), selector, seed)
    odd = "mm,policy,accounting"
    # `firmware`: the suites in which one has a part. By PVH this shape runs all; in make soak always.
    return [
        suite("kernel.pvh-1cpu", firmware="pvh", cpus=1, nodes=1, mem=512),
        suite("kernel.pvh-4cpu-2node", firmware="pvh", cpus=4, nodes=2, mem=1024, slit=False),
        suite("kernel.bios-4cpu-2node", firmware, firmware="bios", cpus=4, nodes=2, mem=1024),
        suite("kernel.uefi-4cpu-2node", firmware, firmware="uefi", cpus=4, nodes=2, mem=1024),
        suite("kernel.pvh-8cpu-4node", firmware="pvh", cpus=8, nodes=4, mem=2048),
        suite("kernel.classic-4cpu-2node", firmware="pvh", cpus=4, nodes=2, mem=1024,
              words="alloc=classic"),
        suite("kernel.memory-only", odd, firmware="pvh", layout=odd_machines.MEMORY_ONLY),
        suite("kernel.cpu-only", odd, firmware="pvh", layout=odd_machines.CPU_ONLY),
        suite("kernel.5-nodes", odd, firmware="pvh", layout=odd_machines.FIVE,
              distances=odd_machines.FAR),
        suite("kernel.split-3cpu", odd, firmware="pvh", cpus=3, nodes=1, mem=300,
              options=odd_machines.LOW, model="qemu64"),
        # The leak that `readonly` is there to show; and guests under `onmap`, all of them.
        suite("kernel.readonly", "readonly", firmware="pvh", cpus=2, nodes=1, mem=256),
        suite("kernel.onmap", "guest,touch,pressure", firmware="pvh", cpus=4, nodes=2, mem=1024,
              words="scrub=onmap"),
    ]


def story_jobs():
    return [(f"story.{fw}", story, (f"story.{fw}", Machine(firmware=fw)))
            for fw in ("bios", "uefi")] + [
        ("story.pvh-1cpu", story,
         ("story.pvh-1cpu", Machine(firmware="pvh", cpus=1, nodes=1, mem=512))),
        ("story.onmap", story, ("story.onmap", Machine(firmware="pvh", words="scrub=onmap"))),
        ("story.readonly", proof, ("story.readonly", prove_story_leaks))]


def outside_jobs(seed, rounds):
    return [
        ("outside.secret", proof, ("outside.secret", outside.prove_secret, seed)),
        ("outside.unscrubbed", proof, ("outside.unscrubbed", outside.prove_unscrubbed, seed)),
        ("outside.prober", proof, ("outside.prober", outside.prove_prober, rounds, seed)),
    ]


def bar_jobs():
    return [("bars.boot", proof, ("bars.boot", bars.prove_boot)),
            ("bars.destroy", proof, ("bars.destroy", bars.prove_destroy)),
            ("bars.rest", proof, ("bars.rest", bars.prove_rest))]


def matrix(seed, **suites):
    """Every boot that differs by its machine or its tables."""
    return kernel_jobs(seed, **suites) + story_jobs() + broken_tables.jobs(proof) + odd_machines.jobs(proof)


def everything(seed):
    return (matrix(seed) + outside_jobs(seed, 3) + host_jobs(seed) + debug_test.jobs(proof) +
            thread_test.jobs(proof) +
            selftest.runner_jobs(proof, kernel_suite) + model.jobs(proof, long=False) +
            lines_test.jobs(proof) + compare.jobs(proof) + bar_jobs())


def selected_jobs(selector, seed):
    """T=: one of the runner's own names, a group of them, or cases in the kernel."""
    own = everything(seed)
    hits = [job for job in own if job[0] == selector or job[0].startswith(selector + ".")]
    if hits:
        return hits
    for name, function, args in host_jobs(seed):  # host.test_x.case
        if selector.startswith(name + "."):
            return [(name, function, args + (selector[len(name) + 1:],))]
    if selector.split(".")[0] in {job[0].split(".")[0] for job in own}:
        raise Wrong(f"T={selector}: expected one of " + ", ".join(job[0] for job in own))
    env = dict(os.environ)
    env["FIRMWARE"] = env.get("FIRMWARE") or "pvh"  # the fast way in, unless asked
    machine = Machine.from_knobs(env)
    return [(selector, kernel_suite, (selector, machine, selector, seed))]


def soak_jobs(rounds, seed):
    """Every boot of the matrix N times, each time with another seed; then the long proofs."""
    jobs = []
    for i in range(rounds):
        for name, function, args in matrix(seed + i, firmware="all"):
            name = f"soak.{i + 1}.{name}"
            jobs.append((name, function, (name,) + args[1:]))
    return jobs + outside_jobs(seed, 20) + host_jobs(seed) + explore_jobs(seed) + \
        proofs.soak_jobs(proof) + model.jobs(proof, long=True)


def run_jobs(jobs):
    """Runs them, JOBS at a time; prints each as it ends. The exit status."""
    passed = failed = skipped = 0
    failures = []
    printing = threading.Lock()
    width = max(len(name) for name, _, _ in jobs)

    def one(job):
        name, function, args = job
        try:
            out = function(*args)
        except (Wrong, OSError) as wrong:
            out = Outcome(name)
            out.fail(f"{name}: {wrong}", "make test T=" + name)
        with printing:
            counts = f"{out.passed} passed" + (f", {out.failed} FAILED" if out.failed else "") + \
                (f", {out.skipped} skipped" if out.skipped else "")
            print(f"{'FAIL' if out.failed else 'ok  '}  {out.name:<{width}}  "
                  f"{out.seconds:6.1f} s  {counts}" + (f"  ({out.remark})" if out.remark else ""))
            for line in out.lines:
                print("      " + line)
            sys.stdout.flush()
        return out

    # What is timed runs alone, after the rest.
    shared = [job for job in jobs if not job[0].startswith("bars.")]
    alone = [job for job in jobs if job[0].startswith("bars.")]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        outcomes = list(pool.map(one, shared)) + [one(job) for job in alone]
    for out in outcomes:
        passed, failed = passed + out.passed, failed + out.failed
        skipped += out.skipped
        failures += [line.strip() for line in out.lines if line.startswith("  again: ")]
    if failures:
        print("\nTo run a failure again:")
        for line in dict.fromkeys(failures):
            print("  " + line[len("again: "):])
        print()
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


# ---- list ------------------------------------------------------------------------------------------
def list_all():
    """Suites and cases, read out of tests/: no boot needed to know them."""
    for file in sorted(os.listdir(os.path.join(ROOT, "tests"))):
        if not file.endswith(".c"):
            continue
        with open(os.path.join(ROOT, "tests", file), encoding="utf-8") as f:
            source = f.read()
        for by_name, suite, array in re.findall(
                r"KTEST_SUITE(_BY_NAME)?\(\s*(\w+),\s*(\w+)\s*\)", source):
            body = re.search(r"struct ktest " + array + r"\[\]\s*=\s*\{(.*?)\n\};", source, re.S)
            for case in re.findall(r"\{\s*(?:\.name\s*=\s*)?\"(\w+)\"", body[1] if body else ""):
                print(f"{suite}.{case}" + ("  (goes wrong on purpose)" if by_name else ""))
    for name, function, args in everything(1):
        print(name)
        if function == host_program:
            with open(host_source(args[0]), encoding="utf-8") as f:
                for case in re.findall(r"^\s*RUN\((\w+)\);", f.read(), re.M):
                    print(f"{name}.{case}")
    return 0


def main():
    verb = sys.argv[1] if len(sys.argv) > 1 else "all"
    knob = os.environ.get
    seed = number("SEED", knob("SEED") or "1", 0, 2**63 - 1)
    rounds = number("N", knob("N") or "20", 1, 100000)
    selector = (knob("T") or "").strip()
    Machine.from_knobs()
    if selector and not re.fullmatch(r"[\w.,-]+", selector):
        raise Wrong(f"T={selector}: expected suite, suite.case, or a name that make list gives")
    if verb == "--check":
        return 0
    if verb == "list":
        return list_all()
    if verb == "host":
        jobs = host_jobs(seed)
    elif verb == "soak":
        jobs = soak_jobs(rounds, seed)
    elif verb == "all":
        jobs = selected_jobs(selector, seed) if selector else everything(seed)
    else:
        raise Wrong(f"test.py {verb}: expected all, host, soak or list")
    if knob("DRYRUN") == "1":
        for name, function, args in jobs:
            print(name + (": " + shell_line(args[1].command())
                          if function in (kernel_suite, story) else ""))
        return 0
    return run_jobs(jobs)


main_guard(main)
