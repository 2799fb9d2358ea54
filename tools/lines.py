"""Reads the lines that the kernel prints for tools, among whatever else a serial log holds.

    bench: name=destroy value=61230 unit=ns baseline=52101000 ratio=0.001175 against=eager
    work: scenario=churn strategy=claim metric=create value=812 unit=us
    promise: strategy=claim promise=P1 observed=holds evidence="0 bytes leaked of 12288 frames"

    lines.py bench < log      the bench lines as JSON, as build/bench-host.json has them

A line that begins so and is not whole is an error: half a result is none.
"""
import json
import re
import shlex
import sys

from machine import Wrong, main_guard

NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?$")
KEYS = {  # in the order in which the kernel writes them; True: a number
    "bench": {"name": False, "value": True, "unit": False, "baseline": True, "ratio": True,
              "against": False},
    "work": {"scenario": False, "strategy": False, "metric": False, "value": True, "unit": False},
    "promise": {"strategy": False, "promise": False, "observed": False, "evidence": False},
}


def one(kind, text):
    """{key: value} of what follows `kind: `."""
    wants = KEYS[kind]
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError as wrong:
        raise Wrong(f"{kind}: {wrong}: {text}") from None
    if [key for key, _, _ in words] != list(wants):
        raise Wrong(f"{kind}: expected {' '.join(k + '=' for k in wants)}: {text}")
    row = {}
    for key, _, value in words:
        if wants[key] and not NUMBER.match(value):
            raise Wrong(f"{kind}: {key}={value} is no number: {text}")
        row[key] = (float(value) if "." in value else int(value)) if wants[key] else value
        if value == "":
            raise Wrong(f"{kind}: {key}= is empty: {text}")
    return row


def read(kind, text):
    """All lines of a kind, in order."""
    return [one(kind, m[1]) for m in re.finditer(rf"^{kind}: (\w+=.*)$", text, re.M)]


def main():
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in KEYS:
        raise Wrong(f"lines.py {kind}: expected one of {', '.join(KEYS)}")
    rows = read(kind, sys.stdin.read())
    print(json.dumps(rows, indent=1))
    return 0 if rows else 1


if __name__ == "__main__":
    main_guard(main)
