"""Where each value of an experiment comes from: `git blame` through its ancestors.

A value belongs to the oldest ancestor from which it has been unchanged, so it does not matter
whether the experiment wrote it out, evolved it or inherited it. Where another component has been put in
since, its values begin with it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from inspect import get_annotations
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final, cast

import attrs
from attrs import evolve, frozen

from detcfg.config.base import UNSET, Config
from detcfg.config.serialize import lowered
from detcfg.config.types import once_per_class

_ABSENT: Final = object()

_lowered: Final = once_per_class(lowered)

COMMAND_LINE: Final = "command line"


@frozen(kw_only=True)
class Entry:
    """One field of a resolved config."""

    path: str
    value: Any
    """The resolved value; a component's fields follow as entries of their own."""
    source: str
    """`file:line`, the `wired` that filled the field, or the command line."""
    given: bool
    """Whether somebody gave the value; else it was derived."""


def trace(config: Config, overridden: Collection[str] = ()) -> Iterator[Entry]:
    """List every field of `config`, resolved, with the source of its value.

    Args:
        config: An experiment in the given state, with the command line applied.
        overridden: The paths that the command line set.

    Raises:
        ConfigError: The config cannot be resolved.
    """
    return _Tracer(config, overridden).walk(config, config.resolved(), "", "")


class _Tracer:
    def __init__(self, config: Config, overridden: Collection[str]) -> None:
        self.overridden = overridden
        self.classes = [c for c in type(config).__mro__ if issubclass(c, Config) and _has_all_defaults(c)]
        self.ancestors: list[Config] = [cls() for cls in self.classes]

    def walk(self, given: Config, resolved: Config, prefix: str, wiring: str) -> Iterator[Entry]:
        cls = type(given)
        for field in sorted(attrs.fields(cls), key=lambda field: _declaration_order(cls).index(field.name)):
            value, final = getattr(given, field.name), getattr(resolved, field.name)
            yield from self.entries(prefix + field.name, value, final, field, cls, wiring)

    def entries(  # noqa: PLR0917 - one recursion, split for reading
        self, path: str, value: Any, final: Any, field: attrs.Attribute[Any], owner: type[Config], wiring: str
    ) -> Iterator[Entry]:
        if any(path == other or path.startswith(f"{other}.") for other in self.overridden):
            source = COMMAND_LINE
        elif value is UNSET:
            source = wiring
        else:
            source = self.blame(path, field.name, owner)
        yield Entry(path=path, value=final, source=source, given=value is not UNSET)
        if isinstance(value, Config) and isinstance(final, tuple):  # one for all, which became one for each
            for index, each in enumerate(cast("tuple[Config, ...]", final)):
                for entry in self.walk(value, each, f"{path}.", _wiring(owner)):
                    yield evolve(entry, path=f"{path}.{index}{entry.path.removeprefix(path)}")
        elif isinstance(value, Config):
            yield from self.walk(value, final, f"{path}.", _wiring(owner))
        elif isinstance(value, tuple):
            for index, item in enumerate(cast("tuple[object, ...]", value)):
                if isinstance(item, Config):
                    yield from self.walk(item, final[index], f"{path}.{index}.", _wiring(owner))

    def _of_same_components(self, path: str) -> list[Config]:
        """The ancestors, up to the one in which another component stood in the path's place."""
        own = _components(self.ancestors[0], path) if self.ancestors else []
        return list(takewhile(lambda ancestor: _components(ancestor, path) == own, self.ancestors))

    def blame(self, path: str, name: str, owner: type[Config]) -> str:
        names = path.split(".")
        values = [_look_up(ancestor, names) for ancestor in self._of_same_components(path)]
        if not values or values[0] is _ABSENT:  # the command line swapped a component in above
            return _declaration(owner, name)
        unchanged = len(list(takewhile(lambda value: _same(value, values[0]), values)))
        cls, ancestor = self.classes[unchanged - 1], self.ancestors[unchanged - 1]
        if place := _written(cls, ancestor, names):
            return place
        introduced = unchanged == len(values) or values[unchanged] is _ABSENT
        place = _default(ancestor, names) if introduced else ""
        return place or _mention(cls, ancestor, names)


def _wiring(owner: type[Config]) -> str:
    return owner.wired.__qualname__


def _same(one: object, other: object) -> bool:
    """Compare leaves by value, and components by class: their fields are traced on their own."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        ones, others = cast("tuple[object, ...]", one), cast("tuple[object, ...]", other)
        return len(ones) == len(others) and all(map(_same, ones, others))
    return type(one) is type(other) if isinstance(one, Config) else one == other


def _components(config: Config, path: str) -> list[type]:
    """The classes of the configs that hold a path; of an experiment's `Model` that of its values."""
    value: Any = config
    found: list[type] = []
    for name in path.split("."):
        if isinstance(value, Config):
            found.append(_lowered(type(value)))
        value = _item(value, name)
    return found


def _look_up(value: Any, names: list[str]) -> Any:
    for name in names:
        value = _item(value, name)
    return value


def _item(value: Any, name: str) -> Any:
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return items[int(name)] if int(name) < len(items) else _ABSENT
    return getattr(value, name, _ABSENT)


def _has_all_defaults(cls: type[Config]) -> bool:
    return (
        cls is not Config
        and not inspect.isabstract(cls)
        and all(field.default is not attrs.NOTHING for field in attrs.fields(cls))
    )


@once_per_class
def _declaration_order(cls: type) -> list[str]:
    """attrs moves an overridden field to the end; a reader expects it where it was."""
    return list(dict.fromkeys(name for base in reversed(cls.__mro__) for name in get_annotations(base)))


def _declaring(cls: type[Config], name: str) -> type[Config]:
    return next(base for base in cls.__mro__ if name in get_annotations(base))


def _declaration(cls: type[Config], name: str) -> str:
    """`file:line` of the annotation that declares a field."""
    declaring = _declaring(cls, name)
    statement = _field_statement(declaring, name)
    return _place(declaring, statement.lineno if statement else 1)


def _default(instance: Config, names: list[str]) -> str:
    """`file:line` of the component's default that a value is; empty where it is none.

    The innermost counts: `rpn_head.assigner.pos_iou_thr` may be what an assigner has anyway, or what the
    head's class gives to its assigner.
    """
    value = _look_up(instance, names)
    for index in reversed(range(1, len(names))):
        holder = _look_up(instance, names[:index])
        if not isinstance(holder, Config):
            continue
        default = attrs.fields_dict(type(holder))[names[index]].default
        if _same(_look_up(default, names[index + 1 :]), value):
            cls = _declaring(type(holder), names[index])
            return _written(cls, holder, names[index:]) or _declaration(cls, names[index])
    return ""


def _written(cls: type[Config], instance: Config, names: list[str]) -> str:
    """`file:line` of a path that is written out from its first name to its last; else empty.

    `model.roi_head.num` of an `Experiment` is written in the class `Model` of the same file, as
    `roi_head: … = Head(num=3)`: descend through the calls, and from class to class.
    """
    value: Any = instance
    statement = _field_statement(cls, names[0])
    if statement is None:
        return ""
    place, line, node = cls, statement.lineno, statement.value
    for above, name in pairwise(names):
        value = _item(value, above)
        inner: type[Config] = value.__class__
        if (argument := _argument(node, name)) is not None:
            line, node = argument
        elif inner.__module__ == cls.__module__ and (statement := _field_statement(inner, name)):
            place, line, node = inner, statement.lineno, statement.value
        else:
            return ""
    return _place(place, line)


def _argument(node: ast.expr | None, name: str) -> tuple[int, ast.expr] | None:
    """The line and the expression of an argument of a call, or of an item of a tuple."""
    if isinstance(node, ast.Call):
        return next(((k.lineno, k.value) for k in node.keywords if k.arg == name), None)
    if isinstance(node, ast.Tuple) and name.isdecimal() and int(name) < len(node.elts):
        return node.elts[int(name)].lineno, node.elts[int(name)]
    return None


def _mention(cls: type[Config], instance: Config, names: list[str]) -> str:
    """`file:line` of the innermost mention of a path in the file of the class that set it.

    The value may have come by other ways than calls that are written out: a function, an `evolve` of
    an item. Then the line of what holds it has to do.
    """
    value: Any = instance
    node: ast.stmt | ast.expr | None = _field_statement(cls, names[0])
    if node is None:
        return _declaration(cls, names[0])
    place, line = cls, node.lineno
    for index, name in enumerate(names[1:]):
        value = _item(value, names[index])
        inner: type[Config] = value.__class__
        keyword = next((n for n in ast.walk(node) if isinstance(n, ast.keyword) and n.arg == name), None)
        if keyword:
            node, line = keyword.value, keyword.lineno
        elif inner.__module__ == cls.__module__ and (statement := _field_statement(inner, name)):
            place, node, line = inner, statement, statement.lineno
    return _place(place, line)


def _field_statement(cls: type[Config], name: str) -> ast.AnnAssign | None:
    """The statement `name: … = …` in the body of a class, or None."""
    body = _class_body(inspect.getsourcefile(cls) or "", cls.__qualname__)
    return next(
        (
            s
            for s in body
            if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name) and s.target.id == name
        ),
        None,
    )


@cache
def _class_body(file: str, qualname: str) -> list[ast.stmt]:
    name = qualname.rpartition(".")[2]
    statements = _parsed(_class_alone(file, name)) or _parsed(_text(file))
    found: list[ast.stmt] = []
    return next((node.body for node in _classes(statements) if node.name == name), found)


@cache
def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError:  # defined interactively
        return ""


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except SyntaxError:
        return []


def _class_alone(file: str, name: str) -> str:
    """The text of a class at a file's outermost level, on its own lines; empty if there is none.

    A config is a small part of its file, and parsing whole files takes longer than all the rest.
    """
    lines = _text(file).split("\n")
    heads = (f"class {name}(", f"class {name}:")
    start = next((number for number, line in enumerate(lines) if line.startswith(heads)), None)
    if start is None:
        return ""
    inside = takewhile(lambda line: not line or line[0] in " \t)#", lines[start + 1 :])
    return "\n" * start + "\n".join((lines[start], *inside))


def _classes(statements: Iterable[ast.stmt]) -> Iterator[ast.ClassDef]:
    """Every class of a file. Expressions hold none, and are most of a tree."""
    for statement in statements:
        if isinstance(statement, ast.ClassDef):
            yield statement
        yield from _classes(s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt))


@cache
def _shown(file: str) -> str:
    path, here = Path(file).resolve(), Path.cwd()  # detcfg/experiments is a link in a checkout
    if path.is_relative_to(here) and "site-packages" not in path.parts:
        return str(path.relative_to(here))
    package_root = Path(__file__).parents[2]
    return str(path.relative_to(package_root)) if path.is_relative_to(package_root) else file


def _place(cls: type[Config], line: int) -> str:
    return f"{_shown(inspect.getsourcefile(cls) or '<unknown>')}:{line}"
