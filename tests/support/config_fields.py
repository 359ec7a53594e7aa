"""What the source says of a config's fields: their docstrings, and where they are read."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import attrs
from attrs import evolve

import detcfg
from detcfg.catalogue import components
from detcfg.config import Config
from detcfg.config.types import field_types, matches

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(detcfg.__file__).parent
PLAIN: Final[dict[Any, tuple[Any, ...]]] = {
    bool: (False, True),
    int: (0, 1, 2, 3),
    float: (0.0, 0.5, 1.0),
    str: ("x",),
}
"""Some values of plain types."""


def configs() -> list[type[Config]]:
    """Every config class of detcfg, bases and private ones among them, without the shipped experiments."""
    components()  # imports their modules
    inside = {cls for cls in _subclasses(Config) if cls.__module__.startswith("detcfg.")}
    # attrs makes a second class for the slots, and the first lives on until it is collected.
    there = [cls for cls in inside if vars(sys.modules[cls.__module__]).get(cls.__name__) is cls]
    return sorted((cls for cls in there if not cls.__module__.startswith("detcfg.experiments")), key=where)


def where(cls: type) -> str:
    """A class as a failure names it."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _subclasses(cls: type[Config]) -> Iterator[type[Config]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def field_docs(cls: type) -> dict[str, str]:
    """The docstring of each field that the class itself declares; "" for one without."""
    fields = attrs.fields_dict(cls)
    body = _tree(Path(inspect.getfile(cls))).body
    (definition,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return {
        statement.target.id: _docstring(after)
        for statement, after in zip(definition.body, [*definition.body[1:], None], strict=True)
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.target.id in fields
    }


def _docstring(node: ast.stmt | None) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
        case _:
            return ""


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def unread_fields(classes: list[type[Config]]) -> list[str]:
    """Fields whose name nothing reads that can know of them.

    That is a module of the class's family, or one that imports such a module, directly or through others. It
    reads a name if it has `x.name`, a string "name", or `fill(…, name=…)`, which holds the value against another.
    The check goes by names: a field passes where the same name is read of something else there.
    """
    reads, importers = _modules()
    unread: list[str] = []
    for cls in classes:
        family = [other for other in classes if issubclass(other, cls)]
        left = {base.__module__ for other in family for base in other.__mro__}
        known: set[str] = set()
        while left:
            known |= left
            left = {user for module in left for user in importers.get(module, ())} - known
        unread += [
            f"{where(cls)}.{name}"
            for name in field_docs(cls)
            if not any(name in reads.get(module, ()) for module in known)
        ]
    return unread


@cache
def _modules() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The names that each module of detcfg reads, and the modules that import it."""
    reads: dict[str, set[str]] = {}
    importers: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        parts = ("detcfg", *path.relative_to(ROOT).with_suffix("").parts)
        if parts[1] == "experiments":
            continue
        module = ".".join(parts).removesuffix(".__init__")
        nodes = list(ast.walk(_tree(path)))
        reads[module] = {name for node in nodes for name in _names_read(node)}
        for node in nodes:
            for imported in _imports(node):
                importers.setdefault(imported, set()).add(module)
    return reads, importers


def _names_read(node: ast.AST) -> list[str]:
    match node:
        case ast.Attribute(attr=name, ctx=ast.Load()):
            return [name]
        case ast.Constant(value=str(name)):
            return [name]
        case ast.Call(func=ast.Name(id="fill"), keywords=keywords):
            return [keyword.arg for keyword in keywords if keyword.arg is not None]
        case _:
            return []


def _imports(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), names=names):
            return [module, *(f"{module}.{alias.name}" for alias in names)]
        case _:
            return []


def made(cls: type[Config]) -> Config | None:
    """A config of the class, whose required fields have some value of their type; None if there is none."""
    values = {name: next(plausible(field_types(cls)[name]), None) for name in _required(cls)}
    try:
        return cls(**values)
    except (TypeError, ValueError):
        return None


def _required(cls: type[Config]) -> list[str]:
    return [field.name for field in attrs.fields(cls) if field.init and field.default is attrs.NOTHING]


def plausible(annotation: Any) -> Iterator[Any]:
    """Some values of the type that a field is annotated with."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        yield None
    elif origin is Annotated:
        yield from (value for value in plausible(args[0]) if matches(value, annotation))
    elif origin is Literal:
        yield from args
    elif origin is tuple:
        for item in plausible(args[0]):
            yield (item,) * (1 if args[-1] is Ellipsis else len(args))
    elif origin in (Union, UnionType):
        for option in args:
            yield from plausible(option)
    elif isinstance(annotation, type) and issubclass(annotation, Config):
        of_type = [cls for cls in configs() if issubclass(cls, annotation) and not inspect.isabstract(cls)]
        # Those that need nothing come first, so that one that holds its like finds an end.
        of_type.sort(key=lambda cls: len(_required(cls)))
        yield from (config for cls in of_type if (config := made(cls)) is not None)
    else:
        yield from PLAIN.get(annotation, ())


def at(value: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path in a config."""
    for name in path:
        if isinstance(value, tuple) and not name.isdecimal():
            value = cast("tuple[Any, ...]", value)[0]  # one config for all stages of a cascade
        value = value[int(name)] if name.isdecimal() else getattr(value, name)
    return value


def changed(value: Any, path: tuple[str, ...], new: object) -> Any:
    """The config with another value at a path."""
    if not path:
        return new
    inner = changed(at(value, path[:1]), path[1:], new)
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return (*items[: int(path[0])], inner, *items[int(path[0]) + 1 :])
    return evolve(value, **{path[0]: inner})
