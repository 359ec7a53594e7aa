"""The examples in docstrings give what they say they give."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import detcfg

ROOT = Path(detcfg.__file__).parent


def examples() -> dict[str, int]:
    """The modules of detcfg with examples in their source, and how many each has."""
    counts = {
        ".".join(("detcfg", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): sum(
            line.lstrip().startswith(">>> ") for line in path.read_text(encoding="utf-8").splitlines()
        )
        for path in sorted(ROOT.rglob("*.py"))
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(("name", "count"), examples().items())
def test_the_examples_of_a_module_give_what_they_say(name: str, count: int) -> None:
    ran = doctest.testmod(import_module(name))

    assert ran.failed == 0, "the captured output says which, what was expected and what came"
    assert ran.attempted == count, "an example stands where doctest does not look, such as below a field"
