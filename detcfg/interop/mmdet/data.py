"""The plain data of an MMDetection config, with the source location of every key.

A config is dicts, lists, tuples, strings, numbers, booleans and None; a class that a config in the pure
Python style names becomes its dotted name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeGuard

from attrs import frozen

from detcfg.config import ConfigError


@frozen
class Location:
    """Where in the source something was written: a file and a line of it."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ReadError(ConfigError):
    """A config cannot be read; the message starts with file:line."""


class TypeName(str):
    """`package.module.Class`: what a config in the pure Python style imported, never loaded."""

    __slots__ = ()

    @property
    def short(self) -> str:
        """The class's name, without its module."""
        return self.rpartition(".")[2]


class Node(dict[Any, Any]):
    """A dict that remembers where each of its keys was written.

    Args:
        merging: Whether `update` merges nested dicts and attributes are keys, as those of a base
            config do.
    """

    __slots__ = ("locations", "merging")

    def __init__(
        self,
        values: Mapping[Any, Any] | None = None,
        locations: Mapping[Any, Location] | None = None,
        *,
        merging: bool = False,
    ) -> None:
        super().__init__(values or {})
        self.locations: dict[Any, Location] = dict(locations or {})
        self.merging = merging

    def put(self, key: Any, value: Any, location: Location | None) -> None:
        """Set a key that was written at `location`."""
        self[key] = value
        if location is not None:
            self.locations[key] = location

    def take(self, key: Any, source: Node, value: Any, name: Any = None) -> None:
        """Set a key to `value`, at the location of that key in `source`, or of the one that is called `name` there."""
        self.put(key, value, source.locations.get(key if name is None else name))

    def drop(self, key: Any) -> Any:
        """Remove a key."""
        self.locations.pop(key, None)
        return super().pop(key)

    def copied(self) -> Self:
        """A shallow copy, locations included."""
        return type(self)(self, self.locations, merging=self.merging)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float)


def hooked(value: Any) -> Any:
    """A value as a base config holds it: dicts merge on update."""
    if isinstance(value, Node) and not value.merging:
        made = Node(locations=value.locations, merging=True)
        for key, item in value.items():
            made[key] = hooked(item)
        return made
    if is_list(value):
        return [hooked(item) for item in value]
    if is_tuple(value):
        return tuple(hooked(item) for item in value)
    return value


def cloned(value: Any, *, merging: bool | None = None) -> Any:
    """A copy that shares nothing; its dicts merge on update as told, or as they did."""
    if isinstance(value, Node):
        made = Node(locations=value.locations, merging=value.merging if merging is None else merging)
        for key, item in value.items():
            made[key] = cloned(item, merging=merging)
        return made
    if is_list(value):
        return [cloned(item, merging=merging) for item in value]
    if is_tuple(value):
        return tuple(cloned(item, merging=merging) for item in value)
    return value


def in_comment(text: str) -> str:
    """A text of the source as it may stand in a comment of the written experiment."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def in_docstring(text: str) -> str:
    """A text of the source as it may stand in a docstring of the written experiment, whose end it cannot be."""
    return in_comment(text).replace("\\", "/").replace('"', "'")


def kind_of(value: object) -> str:
    """What a value is, for messages; nothing of a value that may be large is printed."""
    if isinstance(value, TypeName):
        return f"the class {value!s:.60}"
    names = {"Node": "a dict", "list": "a list", "tuple": "a tuple", "str": "a string", "NoneType": "None"}
    kind = type(value).__name__
    return names.get(kind, f"a value of type {kind}")


def shown(value: Any) -> str:
    """A value in a message: short ones as they are written, others by their kind."""
    if isinstance(value, str):
        return repr(str(value[:60]))
    return repr(value) if is_number(value) else kind_of(value)


def keys_shown(node: Node) -> str:
    """The first keys of a dict, for messages."""
    return ", ".join(f"{key!s:.30}" for key in list(node)[:20])
