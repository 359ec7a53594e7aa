"""Both type checkers reject every wrong config of `should_fail.py`, and nothing else in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).parent / "should_fail.py"


def marked(mark: str) -> set[int]:
    return {number for number, line in enumerate(FILE.read_text().splitlines(), 1) if line.endswith(mark)}


def rejected_by_mypy() -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(FILE), "--no-error-summary", "--hide-error-context"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"should_fail\.py:(\d+): error", done.stdout)
    assert lines, done.stdout + done.stderr
    return {int(line) for line in lines}


def rejected_by_pyright() -> set[int]:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(FILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not start: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


def test_mypy_rejects_each_wrong_config_and_no_right_one() -> None:
    assert marked("# error") | marked("# error in mypy") == rejected_by_mypy()


def test_pyright_rejects_each_wrong_config_and_no_right_one() -> None:
    wrong = marked("# error")
    assert 30 <= len(wrong)
    assert wrong == rejected_by_pyright()
