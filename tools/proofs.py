"""Proofs that need a build of mm/ of their own (tests/host/proofs.mk).

    proofs.py fuzz       libFuzzer on mm/, TIME= seconds; keeps what is new
    proofs.py coverage   which lines of mm/ the kept corpus reaches

And for test.py, under host.: the corpus replayed, real threads under ThreadSanitizer, a planted
race that it has to see, and the patches of tests/mutants/, each of which has to fit the tree.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import mutants
from machine import BUILD, ROOT, Unproven, Wrong, main_guard, number

CORPUS = "tests/host/fuzz_mm/corpus"
UNCOVERED = "tests/host/fuzz_mm/uncovered.txt"
MAX_LEN = 900         # bytes of an input: some 150 operations
MAX_BYTES = 240 * 1024  # of all that is kept
MIN_LINES = 95.0      # percent of mm/


def run(command, limit=240, **env):
    """Its status (None: it hung) and its text."""
    try:
        done = subprocess.run(command, cwd=ROOT, env=dict(os.environ, **env), timeout=limit,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    except subprocess.TimeoutExpired as hung:
        return None, (hung.stdout or b"").decode("utf-8", "replace")
    return done.returncode, done.stdout.decode("utf-8", "replace")


def program(path):
    return os.path.join(ROOT, BUILD, path)


# ---- ThreadSanitizer -------------------------------------------------------------------------------
def run_tsan(path, *args):
    command = [program(path), *args]
    status, text = run(command)
    if "unexpected memory mapping" in text:  # more address randomisation than its shadow can stand
        status, text = run(["setarch", "-R", *command])
    return status, text


def prove_tsan(name, seed, *cases):
    status, text = run_tsan(f"host/tsan/{name}", f"seed={seed}", *cases)
    if "ThreadSanitizer" in text:
        raise Unproven("ThreadSanitizer speaks:\n" + "\n".join(text.split("\n")[:45]))
    counts = re.search(rf"^{name}: (\d+) passed, 0 failed$", text, re.M)
    if status != 0 or not counts:
        raise Unproven(f"status {status}\n{text[-2000:]}")
    return f"{counts[1]} cases, silent"


def prove_tsan_classic(seed):
    """The strategies of classic that are safe; the other two race, which is what they show."""
    return prove_tsan("test_heaps", seed, "case_storms", "case_storm_of_changes")


def prove_tsan_speaks():
    status, text = run_tsan("host/tsan/planted_race")
    if status == 0 or "WARNING: ThreadSanitizer: data race" not in text or \
            "planted_reader" not in text:
        raise Unproven(f"the planted race was not seen: status {status}\n{text[-1000:]}")
    return "it sees the planted race"


def prove_mutants_apply():
    return f"{mutants.check_all()} patches fit the tree"


# ---- the explorer's own test --------------------------------------------------------------------
# What it leaves out must lead nowhere else. So it searches three times, and all three have to come
# to the same ends: as it does; with every step as a switch point; with no state cut off. The last
# is for scenarios in which nobody enters a store: those are small enough.
SMALL = ["take_scrub", "merge_scrub", "two_zones", "help", "retire_wait", "whole", "bell",
         "retire_bell", "far_bell", "doze", "age_kept"]


def explore_ends(*words):
    """{scenario: how many ends, and their sum}, up to one preemption."""
    status, text = run([program("host/explore/test_explore"), "bound=1", "seconds=30",
                        "executions=1", "ends", *words], limit=1200)
    ends = dict(re.findall(r"^(\w+) +ends: (.+)$", text, re.M))
    exhausted = re.findall(r"^(\w+) +bound 1 exhausted:", text, re.M)
    if status != 0 or not ends or set(ends) != set(exhausted):
        raise Unproven(f"{' '.join(words)}: status {status}\n{text[-2000:]}")
    return ends


def prove_explore_ends():
    plain = explore_ends()
    for words, wanted in ((["every"], list(plain)), (["uncut", *SMALL], SMALL)):
        slow = explore_ends(*words)
        wrong = [f"{name}: {plain[name]}; with {words[0]} {slow.get(name)}" for name in wanted
                 if slow.get(name) != plain[name]]
        if wrong:
            raise Unproven("the search leaves something out\n" + "\n".join(wrong))
    return f"the same ends of {len(plain)} scenarios, whatever is left out"


def jobs(proof, seed):
    return [("host.explore_ends", proof, ("host.explore_ends", prove_explore_ends)),
            ("host.tsan", proof, ("host.tsan", prove_tsan, "test_threads", seed)),
            ("host.tsan_guest", proof,
             ("host.tsan_guest", prove_tsan, "test_guest_threads", seed)),
            ("host.tsan_classic", proof, ("host.tsan_classic", prove_tsan_classic, seed)),
            ("host.tsan_speaks", proof, ("host.tsan_speaks", prove_tsan_speaks)),
            ("host.mutants_apply", proof, ("host.mutants_apply", prove_mutants_apply))]


def prove_mutants_die():
    status, text = run([sys.executable, os.path.join(ROOT, "tools/mutants.py")], limit=3600, T="")
    last = text.rstrip().split("\n")[-1]
    if status != 0:
        raise Unproven("\n".join(line for line in text.split("\n")
                                 if not line.startswith("killed")) or last)
    return last


def prove_coverage():
    status, text = run([sys.executable, os.path.join(ROOT, "tools/proofs.py"), "coverage"])
    if status != 0:
        raise Unproven(text)
    return text.rstrip().split("\n")[-1]


def soak_jobs(proof):
    return [("soak.mutants", proof, ("soak.mutants", prove_mutants_die)),
            ("soak.coverage", proof, ("soak.coverage", prove_coverage))]


# ---- the fuzzer --------------------------------------------------------------------------------------
def files(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def content(path):
    with open(path, "rb") as f:
        return f.read()


def seeds_into(folder):
    """A first input for each shape of machine; the rest libFuzzer finds."""
    for i in range(32):
        head = bytes([(i * 37 + 3) % 256, i % 8, i % 16, 0])
        body = bytes((i * 89 + j * 131 + j * j * 7 >> 1) & 255 for j in range(300))
        with open(os.path.join(folder, f"seed{i}"), "wb") as f:
            f.write(head + body)


def fuzz():
    seconds = number("TIME", os.environ.get("TIME") or "60", 1, 86400)
    kept = os.path.join(ROOT, CORPUS)
    os.makedirs(kept, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="limpid-fuzz-") as work:
        new, least, seeds = (os.path.join(work, n) for n in ("new", "least", "seeds"))
        for folder in (new, least, seeds):
            os.mkdir(folder)
        seeds_into(seeds)
        more = [os.environ["FUZZ_MORE"]] if os.environ.get("FUZZ_MORE") else []
        status, text = run([program("fuzz/fuzz_mm"), f"-max_total_time={seconds}", "-timeout=20",
                            f"-max_len={MAX_LEN}", "-print_final_stats=1",
                            f"-artifact_prefix={program('fuzz')}/crash-mm-", new, kept, seeds,
                            *more], limit=None)
        if status != 0:
            crash = re.search(r"Test unit written to (\S+)", text)
            why = [l for l in text.split("\n") if re.search("promise broken|panic:|ERROR|mm_check:"
                                                            "|runtime error", l)]
            print(f"FAIL  mm: {(why or ['the fuzzer failed'])[0]}")
            print(f"  again: LIMPID_FUZZ_TRACE=1 {BUILD}/fuzz/fuzz_mm {crash[1] if crash else ''}")
            print(f"  fixed: keep it as {CORPUS}/found-WHAT")
            return 1
        tried = re.search(r"stat::number_of_executed_units: *(\d+)", text)
        # Into an empty folder: what reaches nothing new falls out. By edges, not by how often.
        status, text = run([program("fuzz/fuzz_mm"), "-set_cover_merge=1", f"-max_len={MAX_LEN}",
                            least, kept, new, seeds, *more], limit=None)
        if status != 0 or not files(least):
            raise Wrong(f"-set_cover_merge=1 failed\n{text[-2000:]}")
        for name in files(kept):
            if "-" not in name:
                os.remove(os.path.join(kept, name))
        for name in files(least):
            shutil.copy(os.path.join(least, name), os.path.join(kept, name[:12]))
    size = sum(len(content(os.path.join(kept, n))) for n in files(kept))
    print(f"ok    mm: {tried[1] if tried else 0} inputs tried, {len(files(kept))} kept, "
          f"{size} bytes")
    if size > MAX_BYTES:
        print(f"the corpus has {size} bytes, expected at most {MAX_BYTES}")
    return 0 if size <= MAX_BYTES else 1


# ---- coverage ------------------------------------------------------------------------------------------
def lines_of_mm():
    """{file: {line: how often it ran}} of one replay of the corpus."""
    build = program("coverage")
    for folder, _, names in os.walk(build):
        for name in names:
            if name.endswith(".gcda"):
                os.remove(os.path.join(folder, name))
    status, text = run([os.path.join(build, "test_corpus_mm")])
    if status != 0:
        raise Wrong(f"the corpus fails: status {status}\n{text[-2000:]}")
    notes = [os.path.join(f, n) for f, _, names in os.walk(build) for n in names
             if n.endswith(".gcda")]
    counts = {}
    done = subprocess.run(["gcov", "--json-format", "--stdout", *notes], cwd=ROOT, check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for document in done.stdout.decode().split("\n"):
        for file in json.loads(document)["files"] if document.strip() else []:
            path = os.path.relpath(os.path.join(ROOT, file["file"]), ROOT)
            if not re.match(r"mm/.*\.[ch]$", path):
                continue
            lines = counts.setdefault(path, {})
            for line in file["lines"]:
                n = line["line_number"]
                lines[n] = lines.get(n, 0) + line["count"]
    return counts


def read_reasons():
    """{(file, text of the line): reason} from UNCOVERED: a reason, then the lines under it."""
    reasons, why, file = {}, None, None
    with open(os.path.join(ROOT, UNCOVERED), encoding="utf-8") as f:
        for number_, line in enumerate(f, 1):
            line = line.rstrip()
            if not line or line.startswith("#"):
                continue
            head = re.fullmatch(r"(mm/\S+): (.+)", line)
            if head:
                file, why = head[1], head[2]
            elif line.startswith("    ") and why:
                reasons[(file, line.strip())] = why
            else:
                raise Wrong(f"{UNCOVERED}:{number_}: expected 'mm/file: reason', or four blanks "
                            "and a line of that file")
    return reasons


def coverage():
    counts, reasons = lines_of_mm(), read_reasons()
    missing, used, all_lines, all_hit = [], set(), 0, 0
    for path in sorted(counts):
        source = content(os.path.join(ROOT, path)).decode().split("\n")
        hit = sum(1 for n in counts[path].values() if n)
        all_lines, all_hit = all_lines + len(counts[path]), all_hit + hit
        print(f"{path:<26} {hit:>4} of {len(counts[path]):>4} lines "
              f"{100 * hit / len(counts[path]):6.1f} %")
        for n in sorted(line for line, ran in counts[path].items() if not ran):
            key = (path, source[n - 1].strip())
            if key in reasons:
                used.add(key)
            else:
                missing.append(f"{path}:{n}: not reached, and no reason: {key[1]}")
    stale = [f"{UNCOVERED}: reached now, or gone: {file}: {text}"
             for file, text in reasons if (file, text) not in used]
    percent = 100 * all_hit / all_lines if all_lines else 0
    print("\n".join(missing + stale))
    print(f"mm/: {percent:.1f} % of {all_lines} lines, {len(used)} are missed for a reason")
    if percent < MIN_LINES:
        print(f"expected {MIN_LINES} % at least")
    return 1 if missing or stale or percent < MIN_LINES else 0


def main():
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb not in ("fuzz", "coverage"):
        raise Wrong(f"proofs.py {verb}: expected fuzz or coverage")
    return fuzz() if verb == "fuzz" else coverage()


if __name__ == "__main__":
    main_guard(main)
