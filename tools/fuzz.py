"""`make fuzz`: libFuzzer on every target of tests/host/fuzz/, TIME= seconds each.

What is kept, in tests/host/fuzz/corpus/NAME/, is what `make test` replays: a small set of the
inputs found so far that reaches all that any of them reaches, and beside it the hand-made ones
("seed-", tools/fuzz_seeds.py), those of real firmware ("real-") and what once broke a promise
("found-"), which stay whatever they reach. A promise that breaks leaves its input in
build/fuzz/crash-NAME-*, and the line to see it again is printed. T=NAME: only that target.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from machine import BUILD, ROOT, Wrong, main_guard, number

CORPUS = "tests/host/fuzz/corpus"
MAX_BYTES = 300 * 1024  # of all that is kept
KEPT_NAMES = re.compile(r"(seed|real|found)-")
# Of an input: as long as the largest hand-made one, since long ones are slow and many.
MAX_LEN = {"acpi": 6144, "multiboot2": 2560, "pvh": 4608, "memmap": 1024, "cpio": 1024,
           "elf64": 2048, "words": 200}
TARGETS = tuple(MAX_LEN)


def run(target, *args):
    """One run of a fuzzer; its text, or None and the text if it found something."""
    program = os.path.join(BUILD, "fuzz", "fuzz_" + target)
    env = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1")
    done = subprocess.run([program, *args], cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def files(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def size_of(folder):
    return sum(os.path.getsize(os.path.join(folder, f)) for f in files(folder))


def fuzz(target, seconds, seeds):
    """True if every promise held."""
    kept = os.path.join(ROOT, CORPUS, target)
    os.makedirs(kept, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="limpid-fuzz-") as work:
        new = os.path.join(work, "new")
        os.mkdir(new)
        ok, text = run(target, f"-max_total_time={seconds}", f"-max_len={MAX_LEN[target]}",
                       f"-artifact_prefix={BUILD}/fuzz/crash-{target}-", "-print_final_stats=1",
                       "-timeout=10", new, kept, seeds)
        m = re.search(r"stat::number_of_executed_units: *(\d+)", text)
        if not ok:
            crash = re.search(r"Test unit written to (\S+)", text)
            why = [l for l in text.split("\n") if "promise broken" in l or "ERROR" in l
                   or "runtime error" in l]
            print(f"FAIL  {target}: {(why or ['the fuzzer failed'])[0]}")
            print(f"  again: {BUILD}/fuzz/fuzz_{target} {crash[1] if crash else ''}")
            print(f"  fixed: keep it as {CORPUS}/{target}/found-WHAT")
            return False
        for name in files(seeds):
            shutil.copy(os.path.join(seeds, name), kept)
        merge(target, kept, new, os.path.join(work, "merged"))
    print(f"ok    {target:<10} {int(m[1]) if m else 0:>9} inputs tried, {len(files(kept))} kept, "
          f"{size_of(kept)} bytes")
    return True


def merge(target, kept, new, merged):
    """Adds to the kept ones what reaches something new. Where that has grown too large, begins
    again from nothing: then only the smallest input for each thing that is reached stays."""
    if size_of(kept) > MAX_BYTES // 3:
        os.mkdir(merged)
    else:
        shutil.copytree(kept, merged)
    ok, text = run(target, "-merge=1", "-use_counters=0", f"-max_len={MAX_LEN[target]}", merged,
                   kept, new)
    if not ok or not files(merged):
        raise Wrong(f"{target}: -merge=1 failed\n{text[-2000:]}")
    wanted = {read(os.path.join(merged, name)) for name in files(merged)}
    for name in files(kept):
        if not KEPT_NAMES.match(name) and read(os.path.join(kept, name)) not in wanted:
            os.remove(os.path.join(kept, name))
    have = {read(os.path.join(kept, name)) for name in files(kept)}
    for name in files(merged):
        path = os.path.join(merged, name)
        if read(path) not in have:
            shutil.copy(path, os.path.join(kept, name[:12]))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    seconds = number("TIME", os.environ.get("TIME") or "60", 1, 86400)
    only = os.environ.get("T") or ""
    if only and only not in TARGETS:
        raise Wrong(f"T={only}: expected one of {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory(prefix="limpid-seeds-") as seeds:
        subprocess.run([sys.executable, os.path.join(ROOT, "tools/fuzz_seeds.py"), seeds],
                       check=True)
        good = [fuzz(t, seconds, os.path.join(seeds, t)) for t in TARGETS if only in ("", t)]
    total = sum(size_of(os.path.join(ROOT, CORPUS, t)) for t in TARGETS)
    if total > MAX_BYTES:
        print(f"the corpus has {total} bytes, expected at most {MAX_BYTES}")
    return 0 if all(good) and total <= MAX_BYTES else 1


main_guard(main)
