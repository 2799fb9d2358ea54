"""`make lint` and `make fmt`: the house rules that a machine can check.

Errors: format (clang-format), the direction of includes, tabs, trailing blanks, words that mean
"unfinished", and places that docs/proof.md names and that are not there. Notes, which fail nothing:
files past 500 lines.
"""
import os
import re
import shutil
import subprocess
import sys

import proof_lint
from machine import ROOT, main_guard

FORMAT_VERSION = 14  # other versions of clang-format write the same style a little differently
LONG = 500

# Downwards only: a layer includes itself and what stands before it.
LAYERS = ["lib", "arch", "mm", "sched", "guest", "kernel"]
# The machine is one door, "arch.h"; guests also see what a trap looks like.
DOORS = {"arch.h": None, "trap.h": {"guest"}}
# What mm/ may not see, so that it compiles on the host, unchanged: everything but itself, the
# pure part of lib/ and the door.
MM_LIB = {"base.h", "errors.h", "list.h", "lock_ranks.h", "log.h", "map512.h", "string.h",
          "printf.h"}
SEE_ALL = re.compile(r"^(kernel/main\.c|tests/)")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
HOSTED_TOO = {("lib/string.h", "string.h")}  # behind #if __STDC_HOSTED__
FREESTANDING = {"stdbool.h", "stddef.h", "stdint.h", "stdarg.h", "limits.h"}
# Written in two halves: this file is checked too.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def tracked(*patterns):
    """The files of the tree, new ones that git does not know yet included."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
                         cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [f for f in sorted(set(out.split("\n"))) if f and os.path.isfile(f"{ROOT}/{f}")]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def check_include(path, kind, name):
    """None, or what is wrong with this include."""
    layer = path.split("/")[0]
    if SEE_ALL.match(path) or layer not in LAYERS:
        return None
    if path.startswith("guest/images/"):  # guests are programs of their own: the ABI is all
        return None if not name.startswith(("mm/", "sched/", "kernel/", "arch")) else \
            "a guest sees the ABI, not the kernel"
    if kind == "<":
        return None if name in FREESTANDING or (path, name) in HOSTED_TOO else "no libc inside the kernel"
    first = name.split("/")[0]
    if "/" not in name:  # beside the file, or a door of the machine
        if layer == "arch":
            return None if os.path.exists(f"{ROOT}/arch/x86_64/{name}") else "no such header there"
        if name not in DOORS:
            return 'includes are written from the top of the tree; the machine is "arch.h"'
        if DOORS[name] and layer not in DOORS[name]:
            return f"only {', '.join(sorted(DOORS[name]))} may see {name}"
        if layer == "lib":
            return "lib/ knows no machine"
        return None
    if first not in LAYERS:
        return f"'{first}' is no layer"
    if first == "arch" and layer != "arch":
        return 'the machine is "arch.h"'
    if LAYERS.index(first) > LAYERS.index(layer):
        return f"{layer}/ must not see {first}/ ({' < '.join(LAYERS)})"
    if layer == "mm" and first == "lib" and name.split("/")[1] not in MM_LIB:
        return f"mm/ sees of lib/ only {', '.join(sorted(MM_LIB))}"
    return None


def check_text(errors):
    for path in tracked():
        if not path.endswith((".c", ".h", ".asm", ".py", ".sh", ".md", ".cfg", ".ld", ".S")) and \
                os.path.basename(path) not in ("Makefile", "run"):
            continue
        text = read(path)
        if text and not text.endswith("\n"):
            errors.append(f"{path}: no newline at the end")
        for i, line in enumerate(text.split("\n"), 1):
            if "\t" in line and not path.endswith((".mk", "Makefile")):
                errors.append(f"{path}:{i}: a tab")
            if line != line.rstrip():
                errors.append(f"{path}:{i}: a blank at the end of the line")
            if UNFINISHED.search(line):
                errors.append(f"{path}:{i}: unfinished? {line.strip()}")
            if path.endswith((".c", ".h")):
                m = INCLUDE.match(line)
                wrong = m and check_include(path, m[1], m[2])
                if wrong:
                    errors.append(f"{path}:{i}: includes {m[2]}: {wrong}")


def clang_format_version():
    out = subprocess.run(["clang-format", "--version"], stdout=subprocess.PIPE,
                         check=True).stdout.decode()
    m = re.search(r"version (\d+)", out)
    return int(m[1]) if m else 0


def check_format(errors, fix):
    files = tracked("*.c", "*.h")
    if not files:
        return
    if not shutil.which("clang-format"):
        errors.append("clang-format is not there (make doctor)")
        return
    version = clang_format_version()
    if version != FORMAT_VERSION and not fix:
        print(f"lint: format not checked: clang-format is {version}, the tree is written "
              f"with {FORMAT_VERSION}")
        return
    command = ["clang-format", "--style=file"] + (["-i"] if fix else ["--dry-run", "-Werror"])
    run = subprocess.run(command + files, cwd=ROOT, stderr=subprocess.PIPE, check=False)
    places = {}
    for path, line in re.findall(r"^(\S+?):(\d+):\d+: error: ", run.stderr.decode(), re.M):
        places.setdefault(path, []).append(line)
    for path, lines in places.items():
        some = ", ".join(lines[:5]) + (", ..." if len(lines) > 5 else "")
        errors.append(f"{path}: format, lines {some} (make fmt mends it)")
    if run.returncode and not places:
        errors.append(f"clang-format: status {run.returncode}")


def note_long():
    for path in tracked("*.c", "*.h", "*.asm", "*.py", "*.sh"):
        lines = read(path).count("\n")
        if lines > LONG:
            print(f"lint: note: {path}: {lines} lines; past {LONG} wants a reason")


def main():
    errors = []
    if "--fix" in sys.argv:
        check_format(errors, fix=True)
    else:
        check_text(errors)
        check_format(errors, fix=False)
        errors += proof_lint.check()
        note_long()
    for error in errors:
        print(error)
    print(f"lint: {len(errors)} errors" if errors else "lint: clean")
    return 1 if errors else 0


main_guard(main)
