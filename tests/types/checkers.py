"""What each type checker says of `should_fail.py`, as a table: `nox -s checkers`.

The table counts, for each checker, the wrong configs that it rejects. A line that it misses or rejects beyond what
`passes` expects is named, and the exit status is 1.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).parent / "should_fail.py"
PYTHON = "3.13"
"""`evolve` is typed from this version on (`detcfg/config/evolving.py`)."""


def marked() -> set[int]:
    return {
        number for number, line in enumerate(FILE.read_text().splitlines(), 1) if line.endswith("# error")
    }


def _lines(*command: str) -> set[int]:
    """The lines that a checker of one error a line rejects."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = re.findall(r"should_fail\.py:(\d+):(?:\d+:)? *error", done.stdout, re.IGNORECASE)
    if not lines:
        raise RuntimeError(f"{command[0]} finds nothing:\n{done.stdout}{done.stderr}")
    return {int(line) for line in lines}


def mypy(python: str = PYTHON) -> set[int]:
    options = ["--python-version", python, "--no-error-summary", "--hide-error-context"]
    return _lines(sys.executable, "-m", "mypy", *options, str(FILE))


def zuban(python: str = PYTHON) -> set[int]:
    return _lines(
        "zuban", "mypy", "--python-version", python, "--python-executable", sys.executable, str(FILE)
    )


def ty(python: str = PYTHON) -> set[int]:
    options = ["--python-version", python, "--python", sys.prefix, "--output-format", "concise"]
    return _lines("ty", "check", *options, str(FILE))


def pyrefly(python: str = PYTHON) -> set[int]:
    options = [
        "--python-version",
        python,
        "--python-interpreter-path",
        sys.executable,
        "--search-path",
        str(ROOT),
    ]
    done = subprocess.run(
        ["pyrefly", "check", *options, "--output-format", "json", str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {one["line"] for one in json.loads(done.stdout)["errors"] if one["severity"] == "error"}


def pyright(python: str = PYTHON, module: str = "pyright") -> set[int]:
    options = ["--outputjson", "--pythonversion", python, "--pythonpath", sys.executable]
    done = subprocess.run(
        [sys.executable, "-m", module, *options, str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.lstrip().startswith("{"):  # basedpyright begins with an empty line
        raise FileNotFoundError(f"{module} does not start: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


def basedpyright(python: str = PYTHON) -> set[int]:
    return pyright(python, module="basedpyright")


CHECKERS: dict[str, Callable[[str], set[int]]] = {
    "pyright": pyright,
    "basedpyright": basedpyright,
    "mypy": mypy,
    "pyrefly": pyrefly,
    "ty": ty,
    "zuban": zuban,
}


def passes(checker: str, python: str = PYTHON) -> set[int]:
    """The wrong lines that a checker is known to let pass."""
    lines = dict(enumerate(FILE.read_text().splitlines(), 1))
    known: tuple[str, ...] = ()
    if checker == "zuban":  # reads attrs' own `evolve`, and makes objects of abstract attrs classes
        known = ("evolve(", "NoBuild()", "NoChannels()")
    elif python != PYTHON and checker in {"pyright", "basedpyright", "ty"}:
        known = ("evolve(",)
    return {number for number in marked() if lines[number].startswith(known)} if known else set()


def main() -> None:
    wrong = marked()
    print("| checker | Python | wrong configs rejected | unexpected |\n| --- | --- | --- | --- |")
    failed = False
    for name, check in CHECKERS.items():
        for python in (PYTHON, "3.11"):
            found = check(python)
            unexpected = sorted(found ^ (wrong - passes(name, python)))
            failed |= bool(unexpected)
            lines = "lines " + ", ".join(map(str, unexpected)) if unexpected else "none"
            print(
                f"| {name} {version(name)} | {python} | {len(wrong & found)} of {len(wrong)} | {lines} |",
                flush=True,
            )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
