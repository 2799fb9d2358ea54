"""`make mutants`: real mistakes, one a patch in tests/mutants/, each of which a test has to find.

A patch begins with one line that says what is wrong and which tests find it, cheapest first:

    # mistake: a clean frame is scrubbed again; killed by: blocks, corpus

A mistake that only some schedules show is killed by "explore SCENARIO ...", first of all: the
explorer has to find it, within its bound and its time, whatever else finds it, too.

Each is applied to a private copy of the tree (build/mutants/), where make builds what the mistake
touches and nothing else. The tests that the patch names run first; if they pass, all the others
do, and the mutant has survived if those pass, too. A hunk is found by its text, not by its line
number, so a patch stands edits around it. T=NN or T=part-of-a-name: only those.
"""
import concurrent.futures
import os
import queue
import re
import resource
import shutil
import subprocess
import sys
import threading
import time

from machine import BUILD, ROOT, Wrong, main_guard

FOLDER = os.path.join(ROOT, "tests/mutants")
JOBS = min(2, os.cpu_count() or 1)
CPU_LIMIT = 120  # seconds of processor time, of all threads: more is a hang, which is found, too
WALL_LIMIT = 300
COPIED = ("Makefile", "lib", "arch", "mm", "sched", "guest", "tests/host", "tests/ktest.h", "tools",
          "tests/model")

# name: the program that make builds, and its arguments. In the order of what they cost.
TESTS = {
    "blocks": ("host/mm/test_blocks",),
    "protocol": ("host/mm/test_protocol",),
    "corpus": ("host/fuzz_mm/test_corpus_mm",),
    "random": ("host/mm/test_random",),
    "guest": ("host/guest/test_guest_memory",),
    "guest_threads": ("host/guest/test_guest_threads",),
    "heaps": ("host/mm/test_heaps",),
    "threads": ("host/mm/test_threads",),
    "tsan": ("host/tsan/test_threads",),
}
# explore NAME [...]: scenarios of the explorer, each until it is exhausted or its time is over.
EXPLORE = "host/explore/test_explore"
EXPLORE_ARGS = ("bound=3", "seconds=6")


# ---- patches -----------------------------------------------------------------------------------
class Mutant:
    def __init__(self, file):
        self.file = file
        with open(os.path.join(FOLDER, file), encoding="utf-8") as f:
            text = f.read()
        head, _, self.diff = text.partition("\n")
        m = re.fullmatch(r"# mistake: (.+); killed by: (.+)", head)
        if not m:
            raise Wrong(f"tests/mutants/{file}: expected '# mistake: ...; killed by: ...'")
        self.mistake = m[1]
        self.killers = [killer.strip() for killer in m[2].split(",")]
        self.by_explorer = any(killer.startswith("explore ") for killer in self.killers)
        if self.by_explorer and not self.killers[0].startswith("explore "):
            raise Wrong(f"tests/mutants/{file}: the explorer comes first")
        for killer in self.killers:
            if killer not in TESTS and not re.fullmatch(r"explore( \w+)+", killer):
                raise Wrong(f"tests/mutants/{file}: no test is called '{killer}'")

    def hunks(self):
        """(path, line, old lines, new lines) of each."""
        path, found = None, []
        for line in self.diff.split("\n"):
            if line.startswith("+++ "):
                path = re.sub(r"^\+\+\+ (b/)?", "", line).split("\t")[0]
            elif line.startswith("--- "):
                pass
            elif line.startswith("@@"):
                found.append((path, int(re.match(r"@@ -(\d+)", line)[1]), [], []))
            elif found and line[:1] in (" ", "-", "+"):
                if line[0] != "+":
                    found[-1][2].append(line[1:])
                if line[0] != "-":
                    found[-1][3].append(line[1:])
        if not found:
            raise Wrong(f"tests/mutants/{self.file}: no change in it")
        return found

    def changed(self, root):
        """{path: its text with the mistake in it}."""
        texts = {}
        for path, at, old, new in self.hunks():
            if path not in texts:
                with open(os.path.join(root, path), encoding="utf-8") as f:
                    texts[path] = f.read().split("\n")
            lines = texts[path]
            places = [i for i in range(len(lines) - len(old) + 1) if lines[i:i + len(old)] == old]
            if not places:
                raise Wrong(f"tests/mutants/{self.file} does not fit {path}:\n  " +
                            "\n  ".join(old))
            here = min(places, key=lambda i: abs(i + 1 - at))
            lines[here:here + len(old)] = new
        return {path: "\n".join(lines) for path, lines in texts.items()}


def content(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def all_mutants():
    files = sorted(f for f in os.listdir(FOLDER) if f.endswith(".patch"))
    numbers = [f.split("-")[0] for f in files]
    if len(set(numbers)) != len(numbers):
        raise Wrong("tests/mutants: a number is used twice")
    return [Mutant(f) for f in files]


def check_all():
    """Every patch fits the tree; how many there are. For make test."""
    mutants = all_mutants()
    for m in mutants:
        m.changed(ROOT)
    return len(mutants)


# ---- a private copy of the tree ------------------------------------------------------------------
def write_if_other(path, data):
    try:
        with open(path, "rb") as f:
            if f.read() == data:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


class Copy:
    """Kept between runs: only what differs is written, so make rebuilds only that."""

    def __init__(self, number):
        self.root = os.path.join(ROOT, BUILD, "mutants", str(number))
        self.dirty = {}
        wanted = set()
        for name in COPIED:
            top = os.path.join(ROOT, name)
            if os.path.isfile(top):
                wanted.add(name)
            for folder, folders, names in os.walk(top):
                folders[:] = [f for f in folders if f != "__pycache__"]
                wanted.update(os.path.relpath(os.path.join(folder, n), ROOT) for n in names)
        makefile = content(os.path.join(ROOT, "Makefile"))
        wanted.update(re.findall(r"^include (\S+)", makefile, re.M))  # wherever they stand
        for name in wanted:
            with open(os.path.join(ROOT, name), "rb") as f:
                write_if_other(os.path.join(self.root, name), f.read())
        for folder, folders, names in os.walk(self.root):
            if folder == self.root and "build" in folders:
                folders.remove("build")
            for n in names:
                path = os.path.join(folder, n)
                if os.path.relpath(path, self.root) not in wanted:
                    os.remove(path)

    def apply(self, mutant):
        self.restore()
        for path, text in mutant.changed(ROOT).items():
            write_if_other(os.path.join(self.root, path), text.encode())
            self.dirty[path] = True

    def restore(self):
        for path in self.dirty:
            with open(os.path.join(ROOT, path), "rb") as f:
                write_if_other(os.path.join(self.root, path), f.read())
        self.dirty = {}

    def run(self, command):
        def limit():
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            done = subprocess.run(command, cwd=self.root, timeout=WALL_LIMIT, preexec_fn=limit,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False)
        except subprocess.TimeoutExpired as hung:
            return None, (hung.stdout or b"").decode("utf-8", "replace")
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def build(self, goal):
        # Without CI: a mistake may leave a function unused, and is no reason not to build.
        env = {k: v for k, v in os.environ.items()
               if k not in ("B", "T", "CI", "MAKEFLAGS", "MFLAGS")}
        done = subprocess.run(["make", "-s", "B=build", f"build/{goal}"], cwd=self.root, env=env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        return done.returncode == 0, done.stdout.decode("utf-8", "replace")


# ---- killing ---------------------------------------------------------------------------------------
def program_of(test):
    if test.startswith("explore "):
        return EXPLORE, (*EXPLORE_ARGS, *test.split()[1:])
    return TESTS[test][0], TESTS[test][1:]


def first_reason(status, text):
    """One line of why a test did not pass."""
    for line in text.split("\n"):
        if line.startswith("explore: "):
            return line.split(": ", 2)[2][:110]
        if re.search(r"promise broken|^panic: |mm_check: |AddressSanitizer|runtime error|"
                     r"ThreadSanitizer|^violation|: failed: |FAILED", line):
            return re.sub(r"^\S+?:\d+: ", "", line.strip())[:110]
    if status is None or status in (-24, -9):
        return "it hangs"
    return f"status {status}"


def try_test(copy, test):
    """None if the test passes, else why it does not."""
    goal, args = program_of(test)
    built, text = copy.build(goal)
    if not built:
        raise Wrong(f"{test} cannot be built:\n{text[-3000:]}")
    status, text = copy.run([os.path.join("build", goal), *args])
    return None if status == 0 else first_reason(status, text)


def kill(copy, mutant):
    """(test, reason), or None: it survived."""
    copy.apply(mutant)
    rest = [t for t in TESTS if t not in mutant.killers and t != "tsan"]
    for test in mutant.killers + rest:
        if mutant.by_explorer and not test.startswith("explore "):
            return None  # whatever finds it elsewhere: it is the explorer's
        reason = try_test(copy, test)
        if reason:
            return test, reason
    return None


def main():
    chosen = (os.environ.get("T") or "").strip()
    everyone = all_mutants()
    mutants = [m for m in everyone if not chosen or m.file.startswith(chosen + "-") or
               (not chosen.isdigit() and chosen in m.file)]
    if not mutants:
        raise Wrong(f"T={chosen}: no such mutant")
    check_all()
    copies = queue.Queue()
    for n in range(JOBS):
        copies.put(Copy(n))
    started = time.monotonic()
    printing = threading.Lock()
    survived = []

    def with_copy(work, what):
        copy = copies.get()
        try:
            return work(copy, what)
        finally:
            copies.put(copy)

    def healthy(copy, test):
        """Without a mistake the test has to pass, or its failing says nothing."""
        copy.restore()
        reason = try_test(copy, test)
        if reason:
            raise Wrong(f"{test} fails without any mistake: {reason}")

    def one(copy, mutant):
        killer = kill(copy, mutant)
        with printing:
            name = mutant.file[:-len(".patch")]
            if killer:
                print(f"killed    {name:<34} by {killer[0]}: {killer[1]}")
                if killer[0] not in mutant.killers:
                    print(f"          which it does not say: {', '.join(mutant.killers)}")
            else:
                survived.append(name)
                print(f"SURVIVED  {name:<34} {mutant.mistake}")
            sys.stdout.flush()

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        needed = {killer for m in mutants for killer in m.killers}
        list(pool.map(lambda test: with_copy(healthy, test), sorted(needed)))
        print(f"# {len(needed)} tests pass without a mistake, {time.monotonic() - started:.0f} s")
        list(pool.map(lambda mutant: with_copy(one, mutant), mutants))
    explored = [m for m in mutants if m.by_explorer]
    print(f"# {time.monotonic() - started:.0f} s; {len(explored)} of them are about schedules, and the "
          f"explorer finds {sum(m.file[:-6] not in survived for m in explored)} of these")
    print(f"mutants: {len(mutants) - len(survived)} killed, {len(survived)} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    main_guard(main)
