"""Which file imports which: no circles, nobody reads the shipped experiments, no room of heads is overfull.

import-linter holds the direction between packages; this is about files. Every import counts as one, also inside a
function or under `if TYPE_CHECKING:`, since whoever reads the one file needs the other. What does not count is that
Python, when it imports a module, imports the packages around it too.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = ROOT / "detcfg"
MOST_FILES: Final = 25

SEAMS: Final = {
    # The type of what `TrainerConfig.build` returns, so that an override of a user's own is checked. It never runs.
    ("detcfg.recipe.config", "detcfg.engine.trainer"),
}
"""Imports for type checkers alone, of a config that stands below what it builds."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# The folder of shipped experiments is a link, and a room of its own.
PATHS: Final = [path for path in sorted(PRODUCT.rglob("*.py")) if "experiments" not in path.parts[:-1]]
SOURCES: Final = {module_name(path): path.read_text(encoding="utf-8") for path in PATHS}
PACKAGES: Final = frozenset(module_name(path) for path in PATHS if path.name == "__init__.py")


@cache
def imported(source: str, name: str, packages: frozenset[str] = frozenset()) -> set[str]:
    """What a module imports, as absolute names: `from a import b` as a.b, be it a module or something in one."""
    package = name.split(".") if name in packages else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def arrows(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> set[tuple[str, str]]:
    """(importer, imported), for the modules of `sources` among themselves."""
    found: set[tuple[str, str]] = set()
    for name, source in sources.items():
        for target in imported(source, name, packages):
            while target and target not in sources:  # a function or a class: the module that it is in
                target = target.rpartition(".")[0]  # noqa: PLW2901
            if target and target != name:
                found.add((name, target))
    return found


def circles(found: set[tuple[str, str]]) -> list[list[str]]:
    """Groups of modules each of which is reached from the others, along the arrows."""
    following: dict[str, set[str]] = {}
    for start, end in found:
        following.setdefault(start, set()).add(end)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            new = following.get(left.pop(), set()) - seen
            seen |= new
            left += new
        return seen

    beyond = {name: reached(name) for name in following}
    inside = [name for name in following if name in beyond[name]]
    groups = {
        frozenset(other for other in inside if other in beyond[name] and name in beyond[other])
        for name in inside
    }
    return sorted(sorted(group) for group in groups)


def test_no_files_import_each_other_in_a_circle() -> None:
    found = arrows(SOURCES, PACKAGES)

    assert found >= SEAMS
    assert circles(found - SEAMS) == []


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [
        ("import p.b", "from p import c", "from p.a import something"),
        ("from .b import x", "from . import c", "def f():\n    from p import a"),
        ("from p.b import x", "import p.c as c", "if TYPE_CHECKING:\n    from p.a import Y"),
    ],
)
def test_a_circle_is_found_however_it_is_written(a: str, b: str, c: str) -> None:
    sources = {"p": "", "p.a": a, "p.b": b, "p.c": c, "p.d": "import p.a"}

    assert circles(arrows(sources, frozenset({"p"}))) == [["p.a", "p.b", "p.c"]]
    assert circles(arrows(sources | {"p.c": "from math import pi"}, frozenset({"p"}))) == []


def test_what_a_package_hands_on_is_an_import_of_the_package() -> None:
    sources = {"p": "from p.a import x", "p.a": "x = 1", "p.b": "from p import x"}

    assert arrows(sources, frozenset({"p"})) == {("p", "p.a"), ("p.b", "p")}


def test_nothing_in_the_product_imports_the_shipped_experiments() -> None:
    reading = [
        f"{name} imports {target}"
        for name, source in SOURCES.items()
        for target in imported(source, name, PACKAGES)
        if f"{target}.".startswith(("experiments.", "detcfg.experiments."))
    ]

    assert reading == []


def test_no_room_of_heads_has_more_files_than_one_sees_at_a_glance() -> None:
    rooms = [PRODUCT / "heads", *(path for path in (PRODUCT / "heads").rglob("*") if path.is_dir())]
    sizes = {str(room.relative_to(ROOT)): len(list(room.glob("*.py"))) for room in rooms}

    assert len(sizes) > 5
    assert {room: size for room, size in sizes.items() if size > MOST_FILES} == {}


def test_no_file_of_the_product_is_named_like_a_test() -> None:
    named = [path for path in PATHS if path.stem.startswith("test_") or path.stem.endswith("_test")]

    assert named == []
