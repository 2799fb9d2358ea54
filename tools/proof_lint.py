"""Do the places that docs/proof.md and the models name still exist? Part of `make lint`.

The page argues step by step. Under each step stand its places, in these words:

    code: mm/claim.c:claim_take_locked, ...     functions, or macros, that are defined there
    model: claim.pml:claiming, ...              labels, inlines, proctypes
    mutants: 35, 61   rules: 6, 10              patches of tests/mutants/; rules that it keeps

Each of the 17 rules has to be kept by a step with all three, has to have a switch in the models
(tools/model.py) and a mutant whose mistake names it; each mutant has to be in the page. Each step
of a model that prints names the function for which it stands.
"""
import os
import re
import sys

from machine import ROOT, main_guard

PAGE = "docs/proof.md"
MODELS = "tests/model"
MUTANTS = "tests/mutants"
RULES = range(1, 18)
KINDS = ("code", "model", "mutants", "rules")


class Tree:
    """The files as they are; a test puts others in their place."""

    def __init__(self, instead=None):
        self.instead = instead or {}

    def read(self, path):
        """None: there is no such file."""
        if path in self.instead:
            return self.instead[path]
        try:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def names(self, folder, end):
        found = {f for f in os.listdir(os.path.join(ROOT, folder)) if f.endswith(end)}
        for path, text in self.instead.items():
            if os.path.dirname(path) == folder and path.endswith(end):
                found.discard(os.path.basename(path))
                if text is not None:
                    found.add(os.path.basename(path))
        return sorted(found)


def wrong_function(tree, path, name):
    """None if `name` is defined in `path`."""
    text = tree.read(path)
    if text is None:
        return f"there is no {path}"
    # At the beginning of a line, with its body: a prototype or a call does not count.
    definition = rf"^(?:[A-Za-z_][^\n;={{}}]*[\s*])?{re.escape(name)}\([^;{{}}]*\)\s*\{{"
    if re.search(definition, text, re.M) or re.search(rf"^#define {re.escape(name)}\b", text, re.M):
        return None
    return f"{path} defines no {name}()"


def wrong_transition(tree, file, name):
    text = tree.read(f"{MODELS}/{file}")
    if text is None:
        return f"there is no {MODELS}/{file}"
    if re.search(rf"^ *{re.escape(name)}:(?!:)", text, re.M) or \
            re.search(rf"^(?:active )?(?:inline|proctype) {re.escape(name)}\(", text, re.M):
        return None
    return f"{MODELS}/{file} has no label, inline or proctype {name}"


def mutants_of(tree):
    """{number: (file, mistake)}."""
    found = {}
    for file in tree.names(MUTANTS, ".patch"):
        head = (tree.read(f"{MUTANTS}/{file}") or "").split("\n")[0]
        found[int(file.split("-")[0])] = (file, head)
    return found


def steps_of(page):
    """[(line, {kind: [word, ...]})] of the page: indented lines of places are one step's."""
    steps, last = [], None
    for number, line in enumerate(page.split("\n"), 1):
        found = re.findall(r"(\w+): +(.+?)(?= +\w+: |$)", line) if line.startswith("    ") else []
        if not found or any(kind not in KINDS for kind, _ in found):
            last = None
            continue
        if last is None:
            last = (number, {})
            steps.append(last)
        for kind, words in found:
            last[1].setdefault(kind, []).extend(w.strip() for w in words.split(","))
    return steps


def check_models(tree, errors):
    for file in tree.names(MODELS, ".pml"):
        for number, line in enumerate(tree.read(f"{MODELS}/{file}").split("\n"), 1):
            for path, name in re.findall(r'"@\S+ (\S+?):(\w+) \| ', line):
                wrong = wrong_function(tree, path, name)
                if wrong:
                    errors.append(f"{MODELS}/{file}:{number}: {wrong}")


def check_step(tree, number, places, mutants, errors):
    for word in places.get("code", []):
        path, _, name = word.partition(":")
        wrong = wrong_function(tree, path, name)
        if wrong:
            errors.append(f"{PAGE}:{number}: {wrong}")
    for word in places.get("model", []):
        file, _, name = word.partition(":")
        wrong = wrong_transition(tree, file, name)
        if wrong:
            errors.append(f"{PAGE}:{number}: {wrong}")
    for word in places.get("mutants", []):
        if not word.isdigit() or int(word) not in mutants:
            errors.append(f"{PAGE}:{number}: there is no mutant {word}")


def check(tree=None):
    """What is wrong, one line each."""
    tree, errors = tree or Tree(), []
    page = tree.read(PAGE)
    if page is None:
        return [f"there is no {PAGE}"]
    mutants, steps = mutants_of(tree), steps_of(page)
    kept, named = set(), set()
    for number, places in steps:
        check_step(tree, number, places, mutants, errors)
        named.update(int(w) for w in places.get("mutants", []) if w.isdigit())
        if all(places.get(kind) for kind in ("code", "model", "mutants")):
            kept.update(int(w) for w in places.get("rules", []) if w.isdigit())
    switches = "".join(tree.read(f"{MODELS}/{file}") for file in tree.names(MODELS, ".pml"))
    runner = tree.read("tools/model.py") or ""
    for rule in RULES:
        if rule not in kept:
            errors.append(f"{PAGE}: no step with code, model and mutants keeps rule {rule}")
        if not re.search(rf"DROP_RULE_{rule}\b", switches) or f'("{rule}", ' not in runner:
            errors.append(f"{MODELS}: rule {rule} has no switch, or tools/model.py does not use it")
        if not any(f"rule {rule}:" in head for _, head in mutants.values()):
            errors.append(f"{MUTANTS}: no mutant breaks rule {rule}")
    for number, (file, _) in sorted(mutants.items()):
        if number not in named:
            errors.append(f"{PAGE}: mutant {file} is not in it")
    check_models(tree, errors)
    return errors


def main():
    errors = check()
    for error in errors:
        print(error)
    print(f"proof: {len(errors)} errors" if errors else "proof: every place is there")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main_guard(main))
