"""Imports by today's names: what a file does stays the same, and so does every byte beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detcfg.config.imports import Rewritten, rewritten
from detcfg.config.moved import Gone, Moves

MOVES = Moves(
    (
        {
            "p.a": "p.r.a",
            "p.a:Y": "p.s:Y",
            "p.a:Z": "p.r.a:Zed",
            "p.b": "p.r.c",
            "p.q.c:W": "p.s:W",
            "e.one": "p.e.one",
            "p.gone": Gone("Use p.s."),
        },
    )
)
OLD = {
    "p": (),
    "p.a": ("X", "Y", "Z"),
    "p.b": ("U", "V"),
    "p.q": (),
    "p.q.c": ("W", "Q"),
    "p.s": ("S",),
    "e": (),
    "e.one": ("O",),
    "e.mine": ("M",),
}
NEW = {
    "p": (),
    "p.r": (),
    "p.r.a": ("X", "Zed"),
    "p.r.c": ("U", "V"),
    "p.q": (),
    "p.q.c": ("Q",),
    "p.s": ("S", "Y", "W"),
    "p.e": (),
    "p.e.one": ("O",),
    "e": (),
    "e.mine": ("M",),
}


def upgraded(text: str) -> Rewritten:
    return rewritten(text, MOVES.name)


class World:
    """Modules that can be imported, each of which holds names whose values are the names."""

    def __init__(self, modules: Mapping[str, Sequence[str]]) -> None:
        self.modules = modules
        self.loaded: dict[str, ModuleType] = {}

    def load(self, name: str) -> ModuleType:
        if name not in self.modules:
            raise ImportError(name)
        if name not in self.loaded:
            self.loaded[name] = ModuleType(name)
            vars(self.loaded[name]).update({key: "Z" if key == "Zed" else key for key in self.modules[name]})
            package, dot, last = name.rpartition(".")
            if dot:
                setattr(self.load(package), last, self.loaded[name])
        return self.loaded[name]

    def __import__(
        self, name: str, _globals: Any, _locals: Any, names: Sequence[str] | None, _level: int = 0
    ) -> ModuleType:
        module = self.load(name)
        for inner in names or ():
            if inner not in vars(module) and f"{name}.{inner}" in self.modules:
                self.load(f"{name}.{inner}")
        return module if names else self.load(name.partition(".")[0])

    def run(self, text: str) -> dict[str, object]:
        """What the names of a program stand for at its end; modules are left out."""
        found: dict[str, object] = {"__builtins__": {"__import__": self.__import__}}
        exec(text, found)  # noqa: S102
        del found["__builtins__"]
        return {name: value for name, value in found.items() if not isinstance(value, ModuleType)}


@st.composite
def programs(draw: st.DrawFn, modules: Mapping[str, Sequence[str]]) -> str:
    """Imports of every form in every layout, and uses of what they bind."""
    lines: list[str] = ['"""é"""', "# é"]
    for number in range(draw(st.integers(1, 4))):
        module = draw(st.sampled_from([name for name, names in modules.items() if names]))
        package, _, last = module.rpartition(".")
        used = draw(st.lists(st.sampled_from(modules[module]), min_size=1, max_size=3))
        match draw(st.integers(0, 4)):
            case 0:
                lines += [
                    f"import {module}",
                    *(f"u{number}_{i} = {module}.{name}" for i, name in enumerate(used)),
                ]
            case 1:
                lines += [f"import p, {module} as m{number}  # é"]
                lines += [f"u{number}_{i} = 'é', m{number}.{name}" for i, name in enumerate(used)]
            case 2:
                lines += [f"from {package} import {last} as m{number}"]
                lines += [f"if 1: u{number}_{i} = m{number}.{name}" for i, name in enumerate(used)]
            case 3:
                names = [f"{name} as n{number}_{i}" for i, name in enumerate(used)]
                lines += [f"from {module} import {', '.join(names)}"]
            case _:
                names = [f"    {name} as n{number}_{i},  # é" for i, name in enumerate(used)]
                lines += [f"from {module} import (", "    # above", *names, "    # below", ")"]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join([*lines, ""])


@given(programs(OLD))
def test_a_rewritten_program_gets_from_todays_modules_what_it_got_from_yesterdays(text: str) -> None:
    new = upgraded(text).text

    assert World(OLD).run(text) == World(NEW).run(new)
    assert upgraded(new).text == new
    assert new.count("#") == text.count("#")
    assert "\r" not in text or "\n" not in new.replace("\r\n", "")


@given(programs(NEW))
def test_a_program_of_today_stays_as_it_is(text: str) -> None:
    assert upgraded(text) == Rewritten(text=text, changes=(), notes=())


CASES = {
    "from p.a import X": "from p.r.a import X",
    "from p.a import X as Z, Z as X": "from p.r.a import X as Z, Zed as X",
    "from p.a import Z": "from p.r.a import Zed as Z",
    "from p.a import X as X": "from p.r.a import X as X",
    "from p.a import *  # all": "from p.r.a import *  # all",
    "from p import b": "from p.r import c as b",
    "from p import a, s": "from p.r import a\nfrom p import s",
    "from p import a\na.Y": "from p import s as a\na.Y",
    "from p import a\na.Z": "from p.r import a\na.Zed",
    "from p import a\na.X, a.Y": "import p.s\nfrom p.r import a\na.X, p.s.Y",
    "import p.a as m\nm.X, m.Y": "import p.r.a as m, p.s\nm.X, p.s.Y",
    "import p.a, os": "import p.r.a, os",
    "import p.a\np.a.X(p.a.Y)": "import p.r.a, p.s\np.r.a.X(p.s.Y)",
    "import p.q\np.q.c.W": "import p.s\np.s.W",
    "import e.one\ne.one.O": "import p.e.one\np.e.one.O",
    "import e.one, e.mine\ne.one.O, e.mine.M": "import p.e.one, e.mine\np.e.one.O, e.mine.M",
    "import e.one\ne.other, e.one.O": "import e, p.e.one\ne.other, p.e.one.O",
    "from e import one, mine": "from p.e import one\nfrom e import mine",
    "from p.a import X, Y  # noqa: F401": "from p.r.a import X  # noqa: F401\nfrom p.s import Y  # noqa: F401",
    "from p.a import X, Y  # mine": "from p.r.a import X\nfrom p.s import Y  # mine",
    "from p.a import X, \\\n    Y": "from p.r.a import X\nfrom p.s import Y",
    "from p.a \\\n  import X": "from p.r.a \\\n  import X",
    "from p.a import (X,\n  # x\n  Z)": "from p.r.a import (X,\n  # x\n  Zed as Z)",
    "if 1: from p.a import X, Y; z = 1": "if 1: from p.r.a import X; from p.s import Y; z = 1",
    "try:\n\tfrom p.a import X, Y\nexcept ImportError:\n\tpass": (
        "try:\n\tfrom p.r.a import X\n\tfrom p.s import Y\nexcept ImportError:\n\tpass"
    ),
    "from p.a import (  # pyright: ignore\n    # one\n    X,  # two\n    Y as Z\n    # three\n)  # four": (
        "from p.r.a import (  # pyright: ignore\n    # one\n    X,  # two\n)\n"
        "from p.s import (  # pyright: ignore\n    Y as Z,\n    # three\n)  # four"
    ),
    "from .a import X\nfrom . import p": "from .a import X\nfrom . import p",
    "import own.p.a\nown.p.a.X": "import own.p.a\nown.p.a.X",
    "x = 'p.a.X'\n\x0cy = '''\nfrom p.a import X\n'''": "x = 'p.a.X'\n\x0cy = '''\nfrom p.a import X\n'''",
}


@pytest.mark.parametrize(("old", "new"), CASES.items())
def test_an_import_becomes_the_one_that_a_person_would_write(old: str, new: str) -> None:
    assert upgraded(old).text == new


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("from p import a\na = a or None\na.Y", "a.Y is left to you, for it may mean something else"),
        ("import p.a\ndef f(p):\n  return p.a.X", "p.a.X is left to you"),
        ("import p.a\np . a . X", "p.a.X is left to you"),
        (
            "if 1: from p.a import (X,\n  Y)",
            "left to you, for the way it is written: its names are in p.r.a, p.s",
        ),
        ("from p . a import X, Y", "left to you, for the way it is written: its names are in p.r.a, p.s"),
        ("from p import gone", "p.gone is gone. Use p.s."),
        ("x = 'p.a:Y'", "'p.a:Y' is left as it is, for it is a string: p.a:Y is p.s:Y today"),
        ("x = 'model.head=p.a:X'", "p.a:X is p.r.a:X today"),
        ("import_module('p.gone')", "p.gone is gone. Use p.s."),
    ],
)
def test_what_is_not_sure_is_left_to_the_person_with_its_line(text: str, says: str) -> None:
    (note,) = upgraded(f"\n{text}").notes

    assert says in note.message
    assert note.line in (2, 1 + len(text.splitlines()))
