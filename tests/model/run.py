"""`make model`: spin exhausts the protocol's models, and shows what each rule is there for.

    run.py [quick]            exhausts every configuration (quick: the small ones); a table
    run.py rule NAME [NAME]   leaves out rules: the counterexample of each, as two columns
    run.py rules              leaves out all of them, one by one; a table; fails if one is not missed

NAME is a rule's number or one of the words that `run.py rules` lists. The models are the *.pml
beside this file. Each is compiled and run under build/model/; a run that was not exhausted, by
memory, depth or time, fails. Next: claim.pml, docs/proof.md.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import textwrap
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../tools"))
from machine import BUILD, ROOT, Wrong, main_guard  # noqa: E402  (a path first)

MEMORY_MIB = 2500    # of one run; two run side by side
SECONDS = 600        # the time limit of one run
JOBS = min(2, os.cpu_count() or 1)

# model, configuration, its defines, claims of LTL ("" = assertions and what is at rest), quick?
GATE = "-DSTORES=0"
ONE = "-DSCRUBBERS=1"
EXHAUST = [
    ("claim", "gate: 2 takers, 2 scrubbers, 4 frames", f"-DFRAMES=4 {GATE}", "", False),
    ("claim", "gate: the same, 3 frames", f"-DFRAMES=3 {GATE}", "", True),
    ("claim", "stores: 2 takers, 2 scrubbers, 3 frames", "-DFRAMES=3", "", True),
    ("claim", "stores: 1 scrubber, 4 frames", f"-DFRAMES=4 {ONE}", "", False),
    ("claim", "two zones: 1 scrubber, 4 frames", f"-DZONES=2 -DFRAMES=4 {ONE} -DBLOCKS=0", "", False),
    ("claim", "two zones: 1 scrubber, 3 frames", f"-DZONES=2 -DFRAMES=3 {ONE}", "", False),
    ("claim", "retire: stores, 1 scrubber, 3 frames", f"-DRETIRE=1 -DFRAMES=3 {ONE}", "", True),
    ("claim", "retire: 2 scrubbers, 3 frames", f"-DRETIRE=1 -DFRAMES=3 {GATE}", "", False),
    ("claim", "three takers: stores, 3 frames",
     f"-DTAKERS=3 -DFRAMES=3 {ONE} -DBLOCKS=0", "", False),
    ("store", "owner and sweeper", "", "", True),
    ("bell", "2 CPUs: 1 free, 1 take, 1 thread", "-DFREES=1", "", True),
    ("bell", "2 CPUs: 2 frees, 1 take, 1 thread", "-DFREES=2", "", False),
    ("bell", "2 CPUs: 2 threads, 1 free", "-DFREES=1 -DTAKES=0 -DWAKES=2", "", False),
    ("bell", "3 CPUs: 1 free, 1 thread", "-DCPUS=3 -DFREES=1 -DTAKES=0", "", False),
    ("bell", "rate limit", "-DRATE=1 -DFREES=1 -DTAKES=0", "", True),
    ("bell", "one scrubber at a time", "-DLIMIT=1 -DFREES=2 -DTAKES=0", "", False),
    ("progress", "takers and a scrubber", "", "takers clears gate returns", True),
    ("aged", "dirt past the bound", "", "forgotten", True),
]

# What the full protocol has in one: for make soak.
LONG = [
    ("claim", "all: stores, retire, 2 scrubbers, 4 frames", "-DRETIRE=1 -DFRAMES=4", "", False),
    ("claim", "two zones: 2 scrubbers, 3 frames", "-DZONES=2 -DFRAMES=3", "", False),
    ("bell", "3 CPUs: 1 free, 1 take, 1 thread", "-DCPUS=3 -DFREES=1", "", False),
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
    ("13", "a gate that opens without a bell", "bell", "-DDROP_RULE_13 -DFREES=1", ""),
    ("14", "leaving idle without a look", "bell", "-DDROP_RULE_14 -DFREES=1", ""),
    ("15", "a ring at home only", "bell", "-DDROP_RULE_15 -DFREES=1", ""),
    ("16", "a look before the first clear", "progress", "-DDROP_RULE_16", "clears"),
    ("17", "a return that stamps dirt young", "aged", "-DDROP_RULE_17", "forgotten"),
    # What stands under no number, or is the other half of one.
    ("4-progress", "rule 4 again, as progress", "progress", "-DDROP_RULE_4", "takers"),
    ("9-stores", "a retire that leaves the stores alone", "claim",
     f"-DDROP_RETIRE_SWEEP -DRETIRE=1 -DFRAMES=3 {ONE}", ""),
    ("17-turn", "an aged step without its turn", "aged", "-DDROP_AGED_TURN", "forgotten"),
    ("clear-fence", "no sfence before the return", "claim",
     f"-DDROP_CLEAR_FENCE -DFRAMES=3 {GATE}", ""),
    ("serialize", "a sweep that makes nobody pass a fence", "store", "-DDROP_SERIALIZE", ""),
    ("serialize-wait", "a sweep that waits for nobody", "store", "-DDROP_WAIT", ""),
    ("look-again", "a sweep that looks at each CPU once", "claim",
     f"-DDROP_LOOK_AGAIN -DTAKERS=3 -DFRAMES=3 {ONE} -DBLOCKS=0", ""),
    ("ring-fence", "no fence before the states are read", "bell", "-DDROP_RING_FENCE -DFREES=1", ""),
    ("sleep-fence", "ASLEEP as a plain store", "bell", "-DDROP_SLEEP_FENCE -DFREES=1", ""),
    ("leave-fence", "BUSY as a plain store", "bell", "-DDROP_LEAVE_FENCE -DFREES=1", ""),
    ("second-look", "no look after ASLEEP", "bell", "-DDROP_SECOND_LOOK -DFREES=1", ""),
    ("sti-hlt", "something between sti and hlt", "bell", "-DDROP_STI_HLT -DFREES=1", ""),
    ("one-look", "the rate asked twice before sleep", "bell",
     "-DDROP_ONE_LOOK -DRATE=1 -DFREES=1 -DTAKES=0", ""),
    ("helper-rings", "a helper that leaves dirt in silence", "bell",
     "-DDROP_HELPER_RINGS -DLIMIT=1 -DFREES=2 -DTAKES=0", ""),
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
    (r"acceptance", "progress"),
]
PROGRESS = {"takers": "P4 every take ends", "clears": "P9 claims lead to clears",
            "gate": "P9 the gate opens again", "returns": "P4 returns get the lock",
            "forgotten": "P9 old dirt is scrubbed"}


class Run:
    """One model under one configuration: spin, gcc, pan; what came of it."""

    def __init__(self, model, defines, ltl="", shortest=False):
        self.model, self.defines, self.ltl = model, defines.split(), ltl
        self.shortest = shortest  # breadth first: the first counterexample is a shortest one
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{model} {defines} {ltl}".replace("-D", "")).strip("-")
        self.folder = os.path.join(ROOT, BUILD, "model", name)
        self.source = os.path.join(HERE, model + ".pml")
        self.states = self.depth = 0
        self.seconds = 0.0
        self.violated = self.problem = None

    def command(self, *words, limit=SECONDS):
        try:
            run = subprocess.run(words, cwd=self.folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=limit, check=False)
        except FileNotFoundError:
            raise Wrong(f"{words[0]} is not there (make doctor)") from None
        except subprocess.TimeoutExpired:
            return -1, f"no end within {limit} s"
        return run.returncode, run.stdout.decode("utf-8", "replace")

    def build(self):
        os.makedirs(self.folder, exist_ok=True)
        for file in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, file))
        status, said = self.command("spin", "-a", *self.defines, self.source)
        if status or "rror" in said:
            return said.strip()
        how = ["-DNFAIR=3"] if self.ltl else ["-DSAFETY", "-DNOCLAIM"]
        how += ["-DBFS"] if self.shortest and not self.ltl else []
        status, said = self.command("gcc", "-O2", "-w", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MIB}",
                                    *how, "-o", "pan", "pan.c")
        return said.strip() if status else None

    def pan(self, depth):
        claim = ["-a", "-f", "-N", self.ltl] if self.ltl else []
        status, said = self.command("./pan", f"-m{depth}", "-w22", *claim)
        stored = re.findall(r"^ *(\S+) states, stored", said, re.M)
        self.states += int(float(stored[-1])) if stored else 0
        reached = re.findall(r"depth reached (\d+)", said)
        self.depth = max(self.depth, int(reached[-1]) if reached else 0)
        found = re.search(r"^pan:1: (assertion violated|acceptance cycle|invalid end state)(.*?)"
                          r" \(at depth", said, re.M)
        if found:
            self.violated = self.name_of(found[1] + found[2])
        elif status or not stored or "errors: 0" not in said:
            self.problem = "\n".join(said.strip().split("\n")[-6:])
        elif re.search(r"max search depth|out of memory|not completed", said):
            self.problem = "not exhausted: " + ("too deep" if "depth too" in said else "memory")

    def name_of(self, wrong):
        if "acceptance" in wrong:
            return PROGRESS[self.ltl]
        text = wrong.replace("assertion violated", "").strip()
        return next((words for pattern, words in PROMISES if re.search(pattern, text)), text)

    def go(self):
        started = time.monotonic()
        self.problem = self.build()
        if self.ltl and self.shortest and not self.problem:
            # Depth first with fairness: ever deeper, so that what is found is short.
            for depth in [*range(20, 400, 20), 1000, 100000]:
                self.problem = None
                self.pan(depth)
                if self.violated:
                    break
        elif not self.problem:
            self.pan(10000000 if not self.ltl else 1000000)
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


def exhaust(configurations):
    todo = [(model, what, defines, ltl) for model, what, defines, claims, _ in configurations
            for ltl in (claims.split() or [""])]
    print(f"{'model':<9} {'configuration':<44} {'states':>10} {'depth':>8} {'seconds':>8}  result")
    passed = failed = 0
    for (model, what, _, ltl), run in zip(todo, in_parallel(
            lambda item: Run(item[0], item[2], item[3]).go(), todo)):
        ok = not run.violated and not run.problem
        passed, failed = passed + ok, failed + (not ok)
        what += f": {ltl}" if ltl else ""
        result = "holds" if ok else (run.violated or run.problem)
        print(f"{model:<9} {what:<44} {run.states:>10} {run.depth:>8} {run.seconds:>8.1f}  {result}",
              flush=True)
        if run.violated:
            print("\n".join("    " + line for line in columns(run.trail())))
    print(f"model: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def drop(names):
    known = {rule[0]: rule for rule in RULES}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise Wrong(f"RULE={wrong[0]}: expected one of {', '.join(known)}")
    missing = 0
    for name in names:
        _, _, model, defines, ltl = known[name]
        run = Run(model, defines, ltl, shortest=True).go()
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
        found, missing = found + bool(run.violated), missing + (not run.violated)
        steps = len([s for s in run.trail() if s[0]]) if run.violated else 0
        print(f"{name:<15} {what:<40} {model:<9} {steps:>5} {run.states:>9} {run.seconds:>8.1f}  "
              f"{run.violated or 'NOTHING: ' + (run.problem or 'exhausted')}", flush=True)
    print(f"rules: {found} missed when left out, {missing} not")
    return 1 if missing else 0


def main():
    words = sys.argv[1:]
    if words[:1] == ["rule"] and len(words) > 1:
        return drop(words[1:])
    if words == ["rules"]:
        return drop_all()
    if words in ([], ["quick"], ["long"]):
        wanted = EXHAUST + LONG if words == ["long"] else \
            [c for c in EXHAUST if c[4]] if words else EXHAUST
        return exhaust(wanted)
    raise Wrong(f"run.py {' '.join(words)}: expected nothing, quick, long, rules or rule NAME")


if __name__ == "__main__":
    main_guard(main)
