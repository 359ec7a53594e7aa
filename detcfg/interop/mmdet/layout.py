"""Python expressions of values, laid out as ruff lays them out."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final, Literal, Union, cast, get_args, get_origin

import attrs
from attrs import Factory, define

from detcfg.config.base import UNSET, Config
from detcfg.config.types import bare
from detcfg.data.classes import COCO_CLASSES, VOC_CLASSES
from detcfg.data.lvis_classes import LVIS_V1_CLASSES
from detcfg.interop.mmdet.classes import PLACEHOLDER, are_placeholders

WIDTH: Final = 110
INDENT: Final = 4
LONG: Final = 8
"""A tuple of more strings than this becomes a constant."""
LONG_NUMBER: Final = 12
"""A number of more characters than this may be a quotient."""
NAMED: Final[Mapping[tuple[object, ...], tuple[str, str]]] = {
    COCO_CLASSES: ("detcfg.data.classes", "COCO_CLASSES"),
    VOC_CLASSES: ("detcfg.data.classes", "VOC_CLASSES"),
    LVIS_V1_CLASSES: ("detcfg.data.lvis_classes", "LVIS_V1_CLASSES"),
}
"""Those that detcfg has a name for."""


@define
class Imports:
    """What a file imports, by module; and names that stand for values."""

    names: dict[str, set[str]] = Factory(dict[str, set[str]])
    constants: dict[tuple[object, ...], str] = Factory(dict[tuple[object, ...], str])
    """Long tuples that the file names."""
    local: frozenset[type] = frozenset()
    """Classes that the file defines itself."""

    def use(self, module: str, name: str) -> str:
        """Import a name."""
        self.names.setdefault(module, set()).add(name)
        return name

    def cls(self, found: type) -> str:
        """Import a class."""
        if found not in self.local and found.__module__ != "builtins":
            self.use(found.__module__, found.__name__)
        return found.__name__

    def lines(self) -> list[str]:
        """The import statements, sorted: the standard library, others, detcfg."""
        sections: list[list[str]] = [[], [], []]
        for module in sorted(self.names):
            top = module.partition(".")[0]
            names = sorted(self.names[module], key=_import_order)
            line = f"from {module} import {', '.join(names)}"
            if len(line) > WIDTH:
                inner = "".join(f"{' ' * INDENT}{name},\n" for name in names)
                line = f"from {module} import (\n{inner})"
            sections[_section(top)].append(line)
        return "\n\n".join("\n".join(section) for section in sections if section).split("\n")


def _section(top: str) -> int:
    if top in ("collections", "typing", "types"):
        return 0
    return 2 if top == "detcfg" else 1


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as ruff sorts them."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


class Layout:
    """Writes values and annotations."""

    def __init__(self, imports: Imports) -> None:
        self.imports = imports

    def value(self, value: object, column: int, indent: int, tail: int = 0) -> str:
        """An expression.

        Args:
            value: A config, a tuple or a plain value.
            column: Where it begins.
            indent: Of the line that it begins in.
            tail: Characters that follow on its last line.
        """
        if isinstance(value, tuple):
            items = cast("tuple[object, ...]", value)
            if items in NAMED:
                return self.imports.use(*NAMED[items])
            if items in self.imports.constants:
                return self.imports.constants[items]
            ending = ",)" if len(items) == 1 else ")"
            return self._brackets("(", [("", item) for item in items], ending, (column, indent, tail))
        if isinstance(value, Config):
            return self._brackets(
                f"{self.imports.cls(type(value))}(", written(value), ")", (column, indent, tail)
            )
        return plain(value)

    def call(self, function: str, values: Iterable[tuple[str, object]], column: int, indent: int) -> str:
        """A call with named arguments; a name "" makes a value positional."""
        return self._brackets(f"{function}(", list(values), ")", (column, indent, 0))

    def _brackets(
        self, opening: str, values: list[tuple[str, object]], closing: str, at: tuple[int, int, int]
    ) -> str:
        column, indent, tail = at
        flat = [self._argument(name, value, -10_000, 0) for name, value in values]
        line = opening + ", ".join(flat) + closing
        if column + len(line) + tail <= WIDTH:
            return line
        inner = indent + INDENT
        body = ", ".join(flat)
        if opening != "(" and inner + len(body) <= WIDTH:  # a tuple's items get a line each
            return f"{opening}\n{' ' * inner}{body}\n{' ' * indent}{closing.lstrip(',')}"
        lines = [f"{' ' * inner}{self._argument(name, value, inner, inner)},\n" for name, value in values]
        return f"{opening}\n{''.join(lines)}{' ' * indent}{closing.lstrip(',')}"

    def _argument(self, name: str, value: object, column: int, indent: int) -> str:
        start = f"{name}=" if name else ""
        text = value.text if isinstance(value, Raw) else self.value(value, column + len(start), indent, 1)
        return start + text

    def annotation(self, annotation: Any) -> str:
        """A type as it is written, its classes imported."""
        if annotation is None or annotation is type(None):
            return "None"
        annotation = bare(annotation)  # a field that is declared anew keeps the range of its parent
        origin, args = get_origin(annotation), get_args(annotation)
        if origin in (Union, types.UnionType):
            return " | ".join(self.annotation(option) for option in args)
        if origin is Literal:
            self.imports.use("typing", "Literal")
            return f"Literal[{', '.join(plain(choice) for choice in args)}]"
        if origin is tuple:
            return f"tuple[{', '.join('...' if a is Ellipsis else self.annotation(a) for a in args)}]"
        if origin is not None and issubclass(origin, Mapping):
            return f"dict[{', '.join(map(self.annotation, args))}]"
        return self.imports.cls(annotation)


@define(frozen=True)
class Raw:
    """An expression that is text already."""

    text: str


def plain(value: object) -> str:
    """A plain value, strings in double quotes."""
    if isinstance(value, str):
        text = repr(value)
        if text.startswith("'") and '"' not in text:
            return f'"{text[1:-1]}"'
        return text
    if isinstance(value, float) and not isfinite(value):
        return f'float("{value}")'
    text = repr(value)
    if isinstance(value, float) and len(text) > LONG_NUMBER and 0 < value < 1:
        whole = round(1 / value)  # 0.1111111111111111 is what 1 / 9 became
        return f"1 / {whole}" if 1 / whole == value else text
    return text


def constant(value: tuple[object, ...], name: str) -> str:
    """The statement that names a long tuple of strings."""
    if are_placeholders(value):
        pattern = PLACEHOLDER.format("{number}")
        return f'{name}: Final = tuple(f"{pattern}" for number in range({len(value)}))'
    line = f"{name}: Final = ({', '.join(map(plain, value))})"
    if len(line) <= WIDTH:
        return line
    return f"{name}: Final = (\n" + "".join(f"{' ' * INDENT}{plain(item)},\n" for item in value) + ")"


def written(config: Config) -> list[tuple[str, object]]:
    """The fields that an expression must name: those that differ from the default."""
    return [
        (field.name, value)
        for field in attrs.fields(type(config))
        if (value := getattr(config, field.name)) is not UNSET and not same(value, field.default)
    ]


def same(value: object, other: object) -> bool:
    """Equal, and of the same types: 1 is not True."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def long_tuples(value: object) -> Iterable[tuple[object, ...]]:
    """The long tuples of strings that an expression would hold."""
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        if items not in NAMED and len(items) > LONG and all(isinstance(item, str) for item in items):
            yield items
        for item in items:
            yield from long_tuples(item)
    elif isinstance(value, Config):
        for _, inner in written(value):
            yield from long_tuples(inner)
