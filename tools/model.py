"""`make model`: spin exhausts the protocol's models, and shows what each rule is there for.

    model.py                  exhausts every configuration below but the long ones; a table
    model.py quick | long     only those of `make test`; all, the long ones too
    model.py rule NAME...     leaves out rules: the counterexample of each, as two columns
    model.py rules            leaves out each of them; a table; fails if one is not missed

NAME is a rule's number or one of the words that `model.py rules` prints. The models are
tests/model/*.pml. Each is compiled and run under build/model/. A run that was not exhausted, for
want of memory, depth or time, fails. Next: tests/model/claim.pml, docs/proof.md.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import textwrap
import time

from machine import BUILD, ROOT, Unproven, Wrong, main_guard

MODELS = os.path.join(ROOT, "tests/model")
MEMORY_MIB = 2500       # of one run; two run side by side
LONG_MEMORY_MIB = 5500  # of a long one, which runs alone
SECONDS = 900           # the time limit of one run
LONG_SECONDS = 5400
JOBS = min(2, os.cpu_count() or 1)

QUICK, FULL, LONG = range(3)
GATE = "-DSTORES=0"
ONE = "-DSCRUBBERS=1"

# name, model, what is in it, its defines, when; LTL claims ("": assertions, and what is at rest)
EXHAUST = [
    ("gate", "claim", "2 takers, 2 scrubbers, 3 frames", f"-DFRAMES=3 {GATE}", QUICK, ""),
    ("gate4", "claim", "the same with 4 frames", f"-DFRAMES=4 {GATE}", FULL, ""),
    ("stores", "claim", "and with stores, 3 frames", "-DFRAMES=3", QUICK, ""),
    ("stores4", "claim", "stores, 1 scrubber, 4 frames", f"-DFRAMES=4 {ONE}", FULL, ""),
    ("zones", "claim", "two zones, 1 scrubber, 3 frames", f"-DZONES=2 -DFRAMES=3 {ONE}", FULL, ""),
    ("zones4", "claim", "the same with 4 frames, order 0",
     f"-DZONES=2 -DFRAMES=4 {ONE} -DBLOCKS=0", FULL, ""),
    ("retire", "claim", "a bad frame, stores, 1 scrubber", f"-DRETIRE=1 -DFRAMES=3 {ONE}", QUICK, ""),
    ("retire2", "claim", "a bad frame, 2 scrubbers", f"-DRETIRE=1 -DFRAMES=3 {GATE}", FULL, ""),
    ("sweep", "claim", "3 takers, stores, 1 scrubber",
     f"-DTAKERS=3 -DFRAMES=3 {ONE} -DBLOCKS=0", FULL, ""),
    ("all", "claim", "bad frame, stores, 2 scrubbers, 4 frames", "-DRETIRE=1 -DFRAMES=4", LONG, ""),
    ("zones2", "claim", "two zones, 2 scrubbers, 3 frames", "-DZONES=2 -DFRAMES=3", LONG, ""),
    ("store", "store", "owner and sweeper", "", QUICK, ""),
    ("bell-take-free", "bell", "2 CPUs; a free, a take", "-DFREES=1 -DWAKES=0", QUICK, ""),
    ("bell", "bell", "the same with a thread", "-DFREES=1", FULL, ""),
    ("bell-frees", "bell", "2 frees; no hand-over", "-DFREES=2 -DHANDS=0", FULL, ""),
    ("bell-threads", "bell", "a free, 2 threads", "-DFREES=1 -DTAKES=0 -DWAKES=2", FULL, ""),
    ("bell-three", "bell", "3 CPUs; a free, a thread", "-DCPUS=3 -DFREES=1 -DTAKES=0", FULL, ""),
    ("bell-rate", "bell", "a rate limit", "-DRATE=1 -DFREES=1 -DTAKES=0", QUICK, ""),
    ("bell-limit", "bell", "one scrubber at a time", "-DLIMIT=1 -DFREES=2 -DTAKES=0", FULL, ""),
    ("bell-take", "bell", "3 CPUs, 2 frees, a take; no hand-over",
     "-DCPUS=3 -DFREES=2 -DWAKES=0 -DHANDS=0", FULL, ""),
    ("progress", "progress", "2 takers, 1 scrubber", "", QUICK, "takers clears gate returns"),
    ("aged", "aged", "dirt past the bound", "", QUICK, "forgotten"),
]

# name, what goes, model, the switch and the smallest world in which that is seen, LTL
RULES = [
    ("1", "failing without a sweep", "claim", "-DDROP_RULE_1 -DFRAMES=3", ""),
    ("2", "a refill in two lock holds", "claim", "-DDROP_RULE_2 -DFRAMES=3", ""),
    ("3", "a pop that a sweep may halve", "claim", "-DDROP_RULE_3 -DFRAMES=3", ""),
    ("4", "the count down before the take", "claim", f"-DDROP_RULE_4 -DFRAMES=3 {GATE}", ""),
    ("5", "a flag, not a count", "claim", f"-DDROP_RULE_5 -DFRAMES=4 {GATE}", ""),
    ("6", "revoked as the scrubber's flag", "claim", f"-DDROP_RULE_6 -DFRAMES=3 {GATE}", ""),
    ("7", "too little = too few frames", "claim", f"-DDROP_RULE_7 -DFRAMES=3 {GATE}", ""),
    ("8", "one zone after the other", "claim",
     f"-DDROP_RULE_8 -DZONES=2 -DFRAMES=3 {ONE} -DBLOCKS=0", ""),
    ("9", "a return that knows no bad frames", "claim",
     f"-DDROP_RULE_9 -DRETIRE=1 -DFRAMES=3 {GATE}", ""),
    ("10", "a claim holder that is preempted", "progress", "-DDROP_RULE_10", "takers"),
    ("11", "a waiter that is killed", "progress", "-DDROP_RULE_11", "gate"),
    ("12", "a spin through an unfair lock", "progress", "-DDROP_RULE_12", "takers"),
    ("13", "a gate that opens without a bell", "bell", "-DDROP_RULE_13 -DFREES=2 -DWAKES=0", ""),
    ("14", "leaving idle without a look", "bell", "-DDROP_RULE_14 -DFREES=1 -DTAKES=0", ""),
    ("15", "a ring at home only", "bell", "-DDROP_RULE_15 -DFREES=1 -DTAKES=0", ""),
    ("16", "a look before the first clear", "progress", "-DDROP_RULE_16", "clears"),
    ("17", "a return that stamps dirt young", "aged", "-DDROP_RULE_17", "forgotten"),
    # What stands under no number, or is the other half of one.
    ("4-progress", "rule 4 again, as progress", "progress", "-DDROP_RULE_4", "takers"),
    ("8-raise", "a gate shut in one zone only", "claim",
     f"-DDROP_RAISE_ALL -DZONES=2 -DFRAMES=3 {ONE} -DBLOCKS=0 {GATE}", ""),
    ("9-stores", "a retire that leaves the stores alone", "claim",
     f"-DDROP_RETIRE_SWEEP -DRETIRE=1 -DFRAMES=3 {ONE}", ""),
    ("17-turn", "an aged step without its turn", "aged", "-DDROP_AGED_TURN", "forgotten"),
    ("clear-fence", "no sfence before the return", "claim",
     f"-DDROP_CLEAR_FENCE -DFRAMES=3 {GATE}", ""),
    ("serialize", "a sweep that makes nobody pass a fence", "store", "-DDROP_SERIALIZE", ""),
    ("serialize-wait", "a sweep that waits for nobody", "store", "-DDROP_WAIT", ""),
    ("look-again", "a sweep that looks at each CPU once", "claim",
     f"-DDROP_LOOK_AGAIN -DTAKERS=3 -DFRAMES=3 {ONE} -DBLOCKS=0", ""),
    ("late-states", "a ring before the lock is taken", "bell",
     "-DDROP_LATE_STATES -DFREES=1 -DTAKES=0 -DWAKES=0", ""),
    ("sleep-wait", "sleep without waiting for holders", "bell",
     "-DDROP_SLEEP_WAIT -DFREES=1 -DTAKES=0 -DWAKES=0", ""),
    ("leave-wait", "leaving without waiting for holders", "bell",
     "-DDROP_LEAVE_WAIT -DFREES=1 -DTAKES=0", ""),
    ("own-state", "sleep after a kick that was taken", "bell",
     "-DDROP_OWN_STATE -DFREES=2 -DTAKES=0 -DWAKES=0", ""),
    ("sleep-fence", "ASLEEP as a plain store", "bell", "-DDROP_SLEEP_FENCE -DFREES=1 -DTAKES=0 -DWAKES=0", ""),
    ("leave-fence", "BUSY as a plain store", "bell", "-DDROP_LEAVE_FENCE -DFREES=1 -DTAKES=0", ""),
    ("second-look", "no look after ASLEEP", "bell", "-DDROP_SECOND_LOOK -DFREES=1 -DTAKES=0 -DWAKES=0", ""),
    ("sti-hlt", "something between sti and hlt", "bell", "-DDROP_STI_HLT -DFREES=1 -DTAKES=0 -DWAKES=0", ""),
    ("one-look", "the rate asked twice before sleep", "bell",
     "-DDROP_ONE_LOOK -DRATE=1 -DFREES=2 -DTAKES=0 -DWAKES=0", ""),
    ("helper-rings", "a helper that leaves dirt in silence", "bell",
     "-DDROP_HELPER_RINGS -DFREES=2 -DHANDS=0", ""),
]

# The known exceptions: what may be left out, and nothing is violated. Exhausted, too.
EXCEPTIONS = [
    ("7-at-once", "waiting for claims that cannot serve", "claim",
     f"-DDROP_FAIL_AT_ONCE -DFRAMES=3 {GATE}", "costs one clear and no promise: docs/proof.md"),
    ("8-one-zone", "rule 8 where there is one zone", "claim", f"-DDROP_RULE_8 -DFRAMES=3 {ONE}",
     "one zone after the other is all at once: docs/proof.md"),
]

# An assertion of the models, as pan prints it, and the promise behind it.
PROMISES = [
    (r"none\[", "P4 scrubbing hides nothing"),
    (r"late\[", "P4 at most one clear"),
    (r"clears_since", "P8 idle work yields"),
    (r"free&bad|bad&", "P2 retired for good"),
    (r"free&x", "P2 a clear in another's frame"),
    (r"store_clean|content", "P3 clean means zero"),
    (r"retired\)|sweeper_in|owner_in|popped|free&\(", "P2 one owner"),
    (r"nr_dirty", "P9 no dirt is forgotten"),
]
PROGRESS = {"takers": "P4 every take ends", "clears": "P9 claims lead to clears",
            "gate": "P9 the gate opens again", "returns": "P4 returns get the lock",
            "forgotten": "P9 old dirt is scrubbed"}


class Run:
    """One model under one configuration: spin, gcc, pan; what came of it."""

    def __init__(self, model, defines, claims="", shortest=False, long=False):
        self.model, self.defines, self.claims = model, defines.split(), claims.split()
        self.shortest = shortest  # breadth first: the first counterexample is a shortest one
        self.memory = LONG_MEMORY_MIB if long else MEMORY_MIB
        self.limit = LONG_SECONDS if long else SECONDS
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{model} {defines} {claims}".replace("-D", "")).strip("-")
        self.folder = os.path.join(ROOT, BUILD, "model", name)
        self.source = os.path.join(MODELS, model + ".pml")
        self.states = self.depth = 0
        self.seconds = 0.0
        self.violated = self.problem = None

    def command(self, *words):
        try:
            run = subprocess.run(words, cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=self.limit, check=False)
        except FileNotFoundError:
            raise Wrong(f"{words[0]} is not there (make doctor)") from None
        except subprocess.TimeoutExpired:
            return -1, f"no end within {self.limit} s"
        return run.returncode, run.stdout.decode("utf-8", "replace")

    def build(self):
        os.makedirs(self.folder, exist_ok=True)
        for file in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, file))
        status, said = self.command("spin", "-a", *self.defines, self.source)
        if status or "rror" in said:
            return said.strip()
        how = ["-DNFAIR=3"] if self.claims else ["-DSAFETY", "-DNOCLAIM"]
        how += ["-DBFS"] if self.shortest and not self.claims else []
        status, said = self.command("gcc", "-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={self.memory}",
                                    *how, "-o", "pan", "pan.c")
        return said.strip() if status else None

    def pan(self, depth, ltl):
        claim = ["-a", "-f", "-N", ltl] if ltl else []
        status, said = self.command("./pan", f"-m{depth}", "-w22", *claim)
        stored = re.findall(r"^ *(\S+) states, stored", said, re.M)
        self.states += int(float(stored[-1])) if stored else 0
        reached = re.findall(r"depth reached (\d+)", said)
        self.depth = max(self.depth, int(reached[-1]) if reached else 0)
        found = re.search(r"^pan:1: (assertion violated|acceptance cycle|invalid end state)(.*?)"
                          r" \(at depth", said, re.M)
        if found:
            self.violated = promise_of(found[1] + found[2], ltl)
        elif re.search(r"max search depth|out of memory|not completed|no end within", said):
            self.problem = "not exhausted: " + ("too deep" if "depth too" in said else
                                                "no end" if "no end" in said else "no memory")
        elif status or not stored or "errors: 0" not in said:
            self.problem = "\n".join(said.strip().split("\n")[-6:])

    def go(self):
        started = time.monotonic()
        self.problem = self.build()
        for ltl in self.claims or [""]:
            if self.problem or self.violated:
                break
            if not ltl:
                self.pan(10000000, ltl)
            elif not self.shortest:
                self.pan(1000000, ltl)
            else:
                # Depth first, because of fairness: ever deeper, so that what is found is short.
                for depth in [*range(20, 400, 20), 1000, 100000]:
                    self.problem = None
                    self.pan(depth, ltl)
                    if self.violated:
                        break
        self.seconds = time.monotonic() - started
        return self

    def trail(self):
        """The counterexample: (who, place, text) of each step; ("", "", "") where it repeats."""
        trail = [f for f in os.listdir(self.folder) if f.endswith(".trail")]
        if not trail:
            return []
        _, said = self.command("spin", "-t", "-k", trail[0], *self.defines, self.source)
        steps = []
        for line in said.split("\n"):
            m = re.match(r"\s*@(\w+) (\S+) \| (.*)", line)
            if m:
                steps.append((m[1], m[2], re.sub(r"<(\d+)>", lambda f: frames(int(f[1])), m[3])))
            elif "START OF CYCLE" in line:
                steps.append(("", "", ""))
        return steps


def promise_of(wrong, ltl):
    """Which promise pan's words are about."""
    if "acceptance" in wrong:
        return PROGRESS[ltl]
    return next((words for pattern, words in PROMISES if re.search(pattern, wrong)), wrong)


def frames(mask):
    return "{" + ",".join(str(f) for f in range(8) if mask >> f & 1) + "}" if mask else "nothing"


# ---- two columns -----------------------------------------------------------------------------------
COLUMN = 38


def columns(steps):
    lines = ["A: taker, freeing CPU".ljust(COLUMN) + " B: idle scrub".ljust(COLUMN) + "  where",
             ""]
    for who, place, text in steps:
        if not who:
            lines.append("--- from here on again and again ---")
            continue
        left = who[0] == "A"
        cells = textwrap.wrap(f"{who}: {text}", COLUMN - 2, subsequent_indent="    ")
        for i, cell in enumerate(cells):
            a, b = (cell, "") if left else ("", cell)
            where = "  " + place if i == 0 else ""
            lines.append((a.ljust(COLUMN) + " " + b.ljust(COLUMN - 1) + where).rstrip())
    return lines


def show(rule, run):
    name, what, model, _, _ = rule
    print(f"\nWithout rule {name} ({what}), {model}.pml: {run.violated}\n")
    for line in columns(run.trail()):
        print("    " + line)
    print(f"\n    violated: {run.violated}")


# ---- the tables ------------------------------------------------------------------------------------
def in_parallel(work, items):
    """Results as they come, in order."""
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        yield from pool.map(work, items)


def exhaust(levels):
    print(f"{'name':<13} {'model':<9} {'what is in it':<41} {'states':>10} {'depth':>8} "
          f"{'seconds':>8}  result")
    todo = [c for c in EXHAUST if c[4] in levels and c[4] != LONG]
    alone = [c for c in EXHAUST if c[4] in levels and c[4] == LONG]
    passed = failed = 0

    def go(item):
        return Run(item[1], item[3], item[5], long=item[4] == LONG).go()

    for results, items in ((in_parallel(go, todo), todo), (map(go, alone), alone)):
        for run, (name, model, what, _, _, _) in zip(results, items):
            ok = not run.violated and not run.problem
            passed, failed = passed + ok, failed + (not ok)
            result = "holds" if ok else (run.violated or run.problem)
            print(f"{name:<13} {model:<9} {what:<41} {run.states:>10} {run.depth:>8} "
                  f"{run.seconds:>8.1f}  {result}", flush=True)
            if run.violated:
                print("\n".join("    " + line for line in columns(run.trail())))
    print(f"model: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def prove(model, defines, when, claims):
    """For test.py: the remark, or Unproven with the counterexample."""
    run = Run(model, defines, claims, long=when == LONG).go()
    if run.violated:
        raise Unproven("\n".join([run.violated] + columns(run.trail())))
    if run.problem:
        raise Unproven(run.problem)
    return f"{run.states} states, exhausted"


def jobs(proof, long):
    """For test.py: the quick configurations, or all."""
    return [("model." + name, proof, ("model." + name, prove, model, defines, when, claims))
            for name, model, _, defines, when, claims in EXHAUST if long or when == QUICK]


def without(rule, run=None):
    """A model without this rule. `run`: one that was made beside others; what its memory was too
    small for is done again, alone, with more."""
    _, _, model, defines, ltl = rule
    run = run or Run(model, defines, ltl, shortest=True).go()
    if run.problem and not run.violated:
        run = Run(model, defines, ltl, shortest=True, long=True).go()
    return run


def drop(names):
    known = {rule[0]: rule for rule in RULES}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise Wrong(f"RULE={wrong[0]}: expected one of {', '.join(known)}")
    missing = 0
    for name in names:
        run = without(known[name])
        if run.violated:
            show(known[name], run)
        else:
            print(f"rule {name}: not missed. {run.problem or ''}")
            missing += 1
    return 1 if missing else 0


def drop_all():
    print(f"{'rule':<15} {'left out':<40} {'model':<9} {'steps':>5} {'states':>9} {'seconds':>8}"
          "  violated")
    found = missing = 0
    for rule, run in zip(RULES, in_parallel(
            lambda r: Run(r[2], r[3], r[4], shortest=True).go(), RULES)):
        name, what, model, _, _ = rule
        run = without(rule, run)
        found, missing = found + bool(run.violated), missing + (not run.violated)
        steps = len([s for s in run.trail() if s[0]]) if run.violated else 0
        print(f"{name:<15} {what:<40} {model:<9} {steps:>5} {run.states:>9} {run.seconds:>8.1f}  "
              f"{run.violated or 'NOTHING: ' + (run.problem or 'exhausted')}", flush=True)
    surprises = 0
    for rule, run in zip(EXCEPTIONS, in_parallel(lambda r: Run(r[2], r[3]).go(), EXCEPTIONS)):
        name, what, model, _, why = rule
        wrong = run.violated or run.problem
        surprises += bool(wrong)
        print(f"{name:<15} {what:<40} {model:<9} {'':>5} {run.states:>9} {run.seconds:>8.1f}  "
              f"{'SURPRISE: ' + wrong if wrong else 'nothing, as known: ' + why}", flush=True)
    print(f"rules: {found} missed when left out, {missing} not; "
          f"{len(EXCEPTIONS) - surprises} known exceptions hold, {surprises} do not")
    return 1 if missing or surprises else 0


def main():
    words = sys.argv[1:]
    if words[:1] == ["rule"] and len(words) > 1:
        return drop(words[1:])
    if words == ["rules"]:
        return drop_all()
    levels = {"": (QUICK, FULL), "quick": (QUICK,), "long": (QUICK, FULL, LONG)}
    if len(words) < 2 and "".join(words) in levels:
        return exhaust(levels["".join(words)])
    raise Wrong(f"model.py {' '.join(words)}: expected nothing, quick, long, rules or rule NAME")


if __name__ == "__main__":
    main_guard(main)
