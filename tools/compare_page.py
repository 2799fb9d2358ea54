"""What people read of `make compare`: a page (Markdown and HTML), plots (SVG and PNG, by gnuplot),
and the story of the thread with the figures of this run. Called by compare.py; the story's text is
tools/compare_story.md.
"""
import datetime
import html
import json
import os
import platform
import re
import shutil
import subprocess
import textwrap

from machine import ROOT, Wrong

PROMISES = {
    "P1": "no leak", "P2": "one owner", "P3": "clean means zero", "P4": "scrubbing hides nothing",
    "P5": "no clearing under a lock", "P6": "cleanliness survives", "P7": "free costs no clears",
    "P8": "idle work yields", "P9": "no dirt is forgotten"}
SCENARIOS = {
    "destroy": "a guest of 1 GiB is destroyed",
    "create_now": "a guest of 1 GiB where one has just died; the better of two",
    "create_idle": "the same after a second of idle",
    "churn": "8 guests at a time come and go, 24 in all",
    "one_busy": "half a GiB of dirt on a node whose CPUs are busy, the other idle",
    "all_busy": "the same with every CPU busy, age bound 200 ms",
    "huge": "an order-15 block (128 MiB), asked for in mid-scrub until it is had",
    "speck": "one dirty frame in a clean GiB, then all of it in blocks of 2 MiB",
    "balloon": "two guests inflate and deflate"}
# metric: (what it is, its unit for people, divisor); less is better
COLUMNS = {
    "create": ("create time", "ms", 1000), "destroy": ("destroy time", "ms", 1000),
    "take_p50": ("allocation, p50", "us", 1000), "take_p99": ("allocation, p99", "us", 1000),
    "take_p99.9": ("allocation, p99.9", "us", 1000), "take9_p50": ("2 MiB, p50", "us", 1000),
    "failed": ("failed allocations", "takes", 1),
    "lock_steps": ("longest lock hold", "steps", 1),
    "clears_waited": ("clears waited for", "clears", 1),
    "cleared": ("cleared", "MiB", 1024), "cleared_again": ("cleared though clean", "MiB", 1024),
    "cleared_local": ("cleared by CPUs of the node", "MiB", 1024),
    "cleared_remote": ("cleared by CPUs of another", "MiB", 1024),
    "cleared_at_free": ("cleared by who frees", "MiB", 1024),
    "cleared_by_takers": ("cleared by who takes", "MiB", 1024),
    "cleared_at_map": ("cleared at a guest's first touch", "MiB", 1024),
    "oldest_dirt": ("oldest dirt", "ms", 1), "wake": ("clears before a woken thread ran", "clears", 1),
    "spoilt": ("clean, but not known to be without a look at each", "MiB", 1024),
    "left_dirty": ("left dirty", "MiB", 1024), "clean_after": ("clean again after", "ms", 1000),
}
MORE_IS_BETTER = {"served_clean": ("served without a clear", "blocks", 1)}
# How much fell into a scenario's time, and to whom: not a cost.
NEITHER = {"cleared", "cleared_local", "cleared_remote", "cleared_at_free", "cleared_by_takers",
           "cleared_at_map"}
MARGIN = 1.2
# Differences that say nothing: the resolution of a time, the one clear that the promises allow, the
# sampler's own dirt, pages that guests leave zero.
SLACK = {"take_p50": 64, "take_p99": 64, "wake": 1, "clears_waited": 1, "oldest_dirt": 5,
         "left_dirty": 33 * 1024, "cleared_again": 4 * 1024}


def show(value, divisor):
    value /= divisor
    if value == int(value) and value < 1e6:
        return str(int(value))
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


class Figures:
    """work.csv, to be asked by name."""

    def __init__(self, rows):
        self.of = {(r["scenario"], r["metric"], r["strategy"]): r["value"] for r in rows}

    def get(self, scenario, metric, strategy):
        return self.of.get((scenario, metric, strategy))


def beats(figures, strategies):
    """[(strategy, scenario, metric, its value, claim's, ratio)] past the margin."""
    found = []
    for s in strategies:
        for scenario in SCENARIOS:
            for metric in list(COLUMNS) + list(MORE_IS_BETTER):
                mine, ours = (figures.get(scenario, metric, n) for n in (s.name, "claim"))
                if s.name == "claim" or mine is None or ours is None or metric in NEITHER:
                    continue
                if metric in MORE_IS_BETTER:
                    mine, ours = ours, mine
                if ours > MARGIN * mine and ours - mine > SLACK.get(metric, 0):
                    found.append((s, scenario, metric, mine, ours, ours / mine if mine else None))
    return found


# ---- the page, as blocks that become Markdown and HTML ----------------------------------------------
def text_md(text):
    return text.replace("|", "\\|")


def render_md(blocks):
    out = []
    for kind, *what in blocks:
        if kind == "h":
            out.append("#" * what[0] + " " + what[1])
        elif kind == "p":
            out.append(what[0])
        elif kind == "image":
            out.append(f"![{what[1]}]({what[0]}.svg)")
        else:
            header, rows = what
            out.append("\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header)] +
                                 ["| " + " | ".join(text_md(c) for c in r) + " |" for r in rows]))
    return "\n\n".join(out) + "\n"


def inline_html(text):
    text = html.escape(text, quote=False)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
    return re.sub(r"\[(.+?)\]\((.+?)\)", r'<a href="\2">\1</a>', text)


def render_html(title, blocks):
    out = ["<!doctype html><meta charset=utf-8>", f"<title>{html.escape(title)}</title>",
           "<style>body{font:15px/1.45 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}"
           "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #bbb;"
           "padding:.2em .5em;text-align:left;vertical-align:top}img{max-width:100%}"
           "td b{color:#b03020}</style>"]
    for kind, *what in blocks:
        if kind == "h":
            out.append(f"<h{what[0]}>{inline_html(what[1])}</h{what[0]}>")
        elif kind == "p":
            out.append(f"<p>{inline_html(what[0])}</p>")
        elif kind == "image":
            out.append(f'<p><img src="{what[0]}.svg" alt="{html.escape(what[1])}"></p>')
        else:
            header, rows = what
            out.append("<table><tr>" + "".join(f"<th>{inline_html(c)}</th>" for c in header) +
                       "</tr>" + "".join("<tr>" + "".join(f"<td>{inline_html(c)}</td>" for c in r) +
                                         "</tr>" for r in rows) + "</table>")
    return "\n".join(out) + "\n"


def machine_words():
    model = "a CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        found = re.search(r"^model name\s*: (.+)$", f.read(), re.M)
    if found:
        model = found[1].strip()
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, check=False)
    version = re.search(r"version (\S+)", qemu.stdout.decode())
    load = os.getloadavg()[0]
    return (f"{datetime.date.today():%d %B %Y}, {os.cpu_count()} cores of {model}, Linux "
            f"{platform.release().split('-')[0]}, QEMU {version[1] if version else '?'} (TCG), "
            f"load {load:.1f} at the end")


def cell_text(cells, s, p):
    observed = cells.get((s.name, p), ("?", ""))[0]
    return f"**{observed}**" if observed == "BROKEN" else observed


def matrix_blocks(strategies, cells):
    rows = [[f"`{s.name}`", s.alloc, s.whose] + [cell_text(cells, s, p) for p in PROMISES]
            for s in strategies]
    evidence = [[f"`{s.name}`", p, s.cells[p].reason, cells[(s.name, p)][1]]
                for s in strategies for p in PROMISES
                if cells.get((s.name, p), ("",))[0] == "BROKEN"]
    return [("h", 2, "The promise matrix"),
            ("p", "; ".join(f"{p} {words}" for p, words in PROMISES.items()) + "."),
            ("table", ["strategy", "allocator", "whose"] + list(PROMISES), rows),
            ("image", "matrix", "the promise matrix"),
            ("h", 2, "What breaks, why one may expect it, and how it was seen"),
            ("table", ["strategy", "promise", "why", "seen"], evidence)]


def work_blocks(strategies, figures):
    blocks = [("h", 2, "The same work for all"),
              ("p", "S is 1 GiB. Beside each scenario but `huge` and `speck` runs a sampler that takes "
                    "and frees single frames, now and then 2 MiB: its times are the percentiles, "
                    "without what other threads had of its CPU. Percentiles of `huge` and `speck` "
                    "are of their own requests. Times are of machines under TCG, with more CPUs than "
                    "the host has cores, so only how they compare says something, and the tails "
                    "little; all else is counted. A 2 MiB take on limpid costs some 20 us here, and one "
                    "right behind it 2 us: it is the only call of the round that does not end in the "
                    "CPU's store, and code that has not run since the sampler slept is dear under TCG. "
                    "On real cores `make bench-host` tells what it costs. Steps are basic blocks of `mm/` under a zone lock, "
                    "counted by an image of its own on a smaller machine. What was zero before it "
                    "was dirty (page tables, pages that a guest never wrote) counts as cleared "
                    "though clean, under all strategies alike. A dash: nothing of the kind there, or "
                    "the machine died."),
              ("table", ["scenario", "what"],
               [[f"`{name}`", what] for name, what in SCENARIOS.items()])]
    for metric, (what, unit, divisor) in {**COLUMNS, **MORE_IS_BETTER}.items():
        used = [sc for sc in SCENARIOS
                if any(figures.get(sc, metric, s.name) is not None for s in strategies)]
        rows = []
        for s in strategies:
            values = [figures.get(sc, metric, s.name) for sc in used]
            rows.append([f"`{s.name}`"] + ["-" if v is None else show(v, divisor) for v in values])
        if used:
            blocks += [("h", 3, f"{what[0].upper()}{what[1:]}, {unit}"),
                       ("table", ["strategy"] + [f"`{sc}`" for sc in used], rows)]
    return blocks


def beats_blocks(strategies, figures, cells):
    """A row for each strategy and column: in which scenarios, by how much, and what it breaks."""
    rows = {}
    for s, scenario, metric, mine, ours, ratio in beats(figures, strategies):
        _, unit, divisor = {**COLUMNS, **MORE_IS_BETTER}[metric]
        if metric in MORE_IS_BETTER:
            mine, ours = ours, mine
        rows.setdefault((s.name, metric), []).append(
            f"`{scenario}` {show(mine, divisor)} against {show(ours, divisor)} {unit}" +
            (f" ({ratio:.1f}x)" if ratio else ""))
    explained, honest = [], []
    for (name, metric), where in rows.items():
        broken = [p for p in PROMISES if cells.get((name, p), ("",))[0] == "BROKEN"]
        row = [f"`{name}`", {**COLUMNS, **MORE_IS_BETTER}[metric][0], "; ".join(where)]
        if broken:
            explained.append(row + [", ".join(broken)])
        else:
            honest.append(row)
    blocks = [("h", 2, f"Where another beats `claim` by more than {MARGIN}x"),
              ("p", "Every column of every scenario; beside the figures the promises that the "
                    "strategy breaks: what they are bought with. How much was cleared in a "
                    "scenario's time, and by whom, is not held against anybody; what was cleared "
                    "though clean is."),
              ("table", ["strategy", "column", "it against `claim`", "it breaks"], explained)]
    if honest:
        blocks += [("p", "**And these break nothing that was tested:**"),
                   ("table", ["strategy", "column", "it against `claim`"], honest)]
    else:
        blocks.append(("p", "No strategy that keeps all promises beats it anywhere."))
    return blocks


def page_blocks(strategies, cells, figures, run):
    return ([("h", 1, "Every design of the thread, side by side"),
             ("p", "`make compare` made this page: each strategy is booted, its promises are put to "
                   "the test (`promise` at the prompt), and it does the same work as all others "
                   "(`work`). What was expected stands in `tools/compare_expected.txt`; a cell that "
                   "comes out otherwise fails the run. The story behind it: "
                   "[the thread, with figures](thread-story.md)."),
             ("p", f"{run['machine']}. {len(strategies)} strategies in {run['seconds']} s.")] +
            matrix_blocks(strategies, cells) +
            [("h", 2, "Pictures"), ("image", "destroy", "destroy time by strategy"),
             ("image", "create", "create time by strategy"),
             ("image", "takes", "allocation p99.9 by strategy"),
             ("image", "clears", "who cleared how much"),
             ("image", "locks", "longest lock hold by strategy")] +
            beats_blocks(strategies, figures, cells) + work_blocks(strategies, figures))


# ---- plots -----------------------------------------------------------------------------------------
PLOTS = {  # name: (title, y axis, log, [(scenario, metric, legend)], divisor)
    "destroy": ("Destroying 1 GiB", "ms", True,
                [("destroy", "destroy", "a guest of 1 GiB"),
                 ("churn", "destroy", "in the churn (64 MiB)")], 1000),
    "create": ("Creating a guest of 1 GiB", "ms", False,
               [("create_now", "create", "at once"), ("create_idle", "create", "after a second")],
               1000),
    "takes": ("A frame, p99.9, beside what others do", "us", True,
              [("create_now", "take_p99.9", "create 1 GiB"), ("churn", "take_p99.9", "8 guests churn"),
               ("balloon", "take_p99.9", "balloons")], 1000),
    "clears": ("Cleared for two guests of 1 GiB", "MiB", False,
               [("create_now", "cleared_at_free", "at free"),
                ("create_now", "cleared_by_takers", "by takers"),
                ("create_now", "cleared_at_map", "at the first touch"),
                ("create_now", "cleared", "in all"),
                ("create_now", "cleared_again", "though it was clean")], 1024),
    "locks": ("Longest hold of a zone lock", "steps", True,
              [("churn", "lock_steps", "8 guests churn"), ("speck", "lock_steps", "one large block"),
               ("huge", "lock_steps", "huge order")], 1),
}
COLOURS = ("0x2e6f9e", "0xd08a2e", "0x5b8c3a", "0x8a5aa0", "0x888888")


def gnuplot(out, name, script):
    for kind, terminal in (("svg", 'svg size 900,420 font "sans,12" background "white"'),
                           ("png", 'pngcairo size 900,420 font "sans,10"')):
        text = f'set terminal {terminal}\nset output "{name}.{kind}"\n{script}\n'
        done = subprocess.run(["gnuplot", "-"], cwd=out, input=text.encode(), check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise Wrong(f"gnuplot, {name}: {done.stdout.decode('utf-8', 'replace')}")


def plot_bars(out, name, strategies, figures):
    title, unit, log, series, divisor = PLOTS[name]
    lines = []
    if not any(figures.get(sc, m, s.name) for sc, m, _ in series for s in strategies):
        return
    for s in strategies:
        values = [figures.get(sc, metric, s.name) for sc, metric, _ in series]
        lines.append(" ".join([s.name] + ["nan" if v is None else
                                          f"{max(v / divisor, 1e-3 if log else 0):.4f}"
                                          for v in values]))
    with open(os.path.join(out, name + ".dat"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    bars = ", ".join(f'"{name}.dat" using {i + 2}:xtic(1) title "{legend}" lc rgb {COLOURS[i]}'
                     for i, (_, _, legend) in enumerate(series))
    gnuplot(out, name, f"""set title "{title}"
set ylabel "{unit}{', log scale' if log else ''}"
set style data histogram
set style histogram cluster gap 1
set style fill solid 0.9 noborder
set key top right outside
set grid ytics
set xtics rotate by -35 nomirror scale 0
{'set logscale y' if log else 'set yrange [0:*]'}
plot {bars}""")


def plot_matrix(out, strategies, cells):
    colour = {"holds": "0x8fbf8f", "BROKEN": "0xc0392b", "n/a": "0xdddddd"}
    boxes, labels = [], []
    for y, s in enumerate(strategies):
        for x, p in enumerate(PROMISES):
            observed = cells.get((s.name, p), ("n/a", ""))[0]
            boxes.append(f"{x} {y} {int(colour.get(observed, '0xdddddd'), 16)}")
            labels.append(f'set label "{observed}" at {x},{y} center font "sans,9"')
    with open(os.path.join(out, "matrix.dat"), "w", encoding="utf-8") as f:
        f.write("\n".join(boxes) + "\n")
    ytics = ", ".join(f'"{s.name}" {y}' for y, s in enumerate(strategies))
    xtics = ", ".join(f'"{p}" {x}' for x, p in enumerate(PROMISES))
    gnuplot(out, "matrix", "\n".join(labels) + f"""
set title "The promise matrix"
set yrange [{len(strategies) - 0.4}:-0.6]
set xrange [-0.6:8.6]
set ytics ({ytics}) nomirror scale 0
set xtics ({xtics}) nomirror scale 0
unset key
set style fill solid
plot "matrix.dat" using 1:2:(0.48):(0.46):3 with boxxyerror lc rgb variable""")


# ---- the story -------------------------------------------------------------------------------------
def schedule(out, scenario):
    """The two columns that the explorer found, as a block of text."""
    path = os.path.join(out, "schedules", scenario + ".txt")
    if not os.path.exists(path):
        return "(no schedule)"
    with open(path, encoding="utf-8") as f:
        found = re.search(r"^  A: .*?(?=^  again:)", f.read(), re.M | re.S)
    columns = found[0].rstrip().split("\n") if found else ["(no schedule)"]
    return "\n".join(["```", *(line.rstrip() for line in columns), "```"])


def wrapped(text):
    """Its paragraphs at 100 columns; headings, lists and blocks stay as they are."""
    return "\n\n".join(part if part.startswith(("#", "- ", "```", " ")) else
                       textwrap.fill(part, 100, break_long_words=False, break_on_hyphens=False)
                       for part in text.split("\n\n")).rstrip("\n") + "\n"


def tell_story(out, cells, figures, run):
    """tools/compare_story.md with its {work: scenario metric strategy}, {cell: strategy Pn} and
    {schedule: scenario}."""
    with open(os.path.join(ROOT, "tools/compare_story.md"), encoding="utf-8") as f:
        text = f.read()

    def work(m):
        scenario, metric, strategy = m[1].split()
        if metric not in COLUMNS and metric not in MORE_IS_BETTER:
            raise Wrong(f"tools/compare_story.md: {m[0]}: no such column")
        value = figures.get(scenario, metric, strategy)
        _, unit, divisor = {**COLUMNS, **MORE_IS_BETTER}[metric]
        return "(not measured)" if value is None else f"{show(value, divisor)} {unit}"

    def cell(m):
        name, p = m[1].split()
        observed, evidence = cells.get((name, p), ("not tested", ""))
        return f"{observed}: {evidence}" if evidence else observed

    text = re.sub(r"\{work:\s+([^}]+)\}", work, text)
    text = re.sub(r"\{cell: ([^}]+)\}", cell, text)
    text = wrapped(text.replace("{machine}", run["machine"]))
    return re.sub(r"\{schedule: (\w+)\}", lambda m: schedule(out, m[1]), text)


def note_run(out, seconds):
    """What the page says of the run, kept so that the page can be made again without one."""
    with open(os.path.join(out, "run.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": machine_words(), "seconds": round(seconds)}, f)


def make(out, strategies, cells, rows):
    figures = Figures(rows)
    with open(os.path.join(out, "run.json"), encoding="utf-8") as f:
        run = json.load(f)
    blocks = page_blocks(strategies, cells, figures, run)
    for name, text in (("compare.md", render_md(blocks)),
                       ("index.html", render_html("Limpid: make compare", blocks)),
                       ("thread-story.md", tell_story(out, cells, figures, run))):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(text)
    if not shutil.which("gnuplot"):
        print("compare: no pictures, gnuplot is not there (package gnuplot-nox)")
        return
    plot_matrix(out, strategies, cells)
    for name in PLOTS:
        plot_bars(out, name, strategies, figures)


def keep(out, docs):
    """This run into docs/: the page, the story, the pictures."""
    folder = os.path.join(docs, "compare")
    os.makedirs(folder, exist_ok=True)
    for name in ["matrix", *PLOTS]:
        if not os.path.exists(os.path.join(out, name + ".svg")):
            raise Wrong(f"KEEP=1: there is no {name}.svg")
        shutil.copy(os.path.join(out, name + ".svg"), os.path.join(folder, name + ".svg"))
    for name in ("compare.md", "thread-story.md"):
        with open(os.path.join(out, name), encoding="utf-8") as f:
            text = re.sub(r"\((\w+)\.svg\)", r"(compare/\1.svg)", f.read())
        with open(os.path.join(docs, name), "w", encoding="utf-8") as f:
            f.write(text)
    for name in ("matrix.csv", "work.csv"):
        shutil.copy(os.path.join(out, name), os.path.join(folder, name))
    shutil.copytree(os.path.join(out, "schedules"), os.path.join(folder, "schedules"),
                    dirs_exist_ok=True)
