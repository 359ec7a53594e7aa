"""The type checkers reject every wrong config of `should_fail.py`, and nothing else in it."""

from __future__ import annotations

import pytest

from tests.types import checkers


def rejected_by_pyright(python: str) -> set[int]:
    try:
        return checkers.pyright(python)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_mypy_rejects_each_wrong_config_and_no_right_one() -> None:
    assert checkers.marked() == checkers.mypy()


def test_pyright_rejects_each_wrong_config_and_no_right_one() -> None:
    wrong = checkers.marked()
    assert 30 <= len(wrong)
    assert wrong == rejected_by_pyright("3.13")


def test_pyright_for_python_3_11_misses_what_is_wrong_inside_evolve_and_nothing_else() -> None:
    evolved = checkers.passes("pyright", "3.11")
    assert evolved
    assert checkers.marked() - evolved == rejected_by_pyright("3.11")
