"""Whether a value is what its field's annotation says, without coercion."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

R = TypeVar("R")


def once_per_class(function: Callable[[type], R]) -> Callable[[type], R]:
    """Remember the answer for each class."""
    cached = cache(function)

    def remembered(cls: type) -> R:
        return cached(cls)

    return remembered


@once_per_class
def field_types(cls: type) -> dict[str, Any]:
    """The annotation of each attrs field of `cls`, evaluated.

    Raises:
        TypeError: An annotation names something that does not exist at run time.
    """
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__}: the annotation {error.name!r} is not defined at run time. "
            "Import it outside `if TYPE_CHECKING:`, since configs are checked by their annotations."
        ) from error
    return {field.name: hints.get(field.name, Any) for field in attrs.fields(cls)}


def describe(annotation: Any) -> str:
    """An annotation as a person would write it."""
    if annotation is type(None) or annotation is None:
        return "None"
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(describe(option) for option in get_args(annotation))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(annotation))
    if get_origin(annotation) is None and isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def matches(value: Any, annotation: Any) -> bool:  # noqa: PLR0911 - one return a kind of annotation
    """Whether `value` is an instance of `annotation`; an int is a float, a bool is not an int."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return True
    if annotation is None or annotation is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in args)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        items = cast("tuple[object, ...]", value)
        if len(args) == 2 and args[1] is Ellipsis:
            return all(matches(item, args[0]) for item in items)
        return len(items) == len(args) and all(map(matches, items, args))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            matches(key, args[0]) and matches(item, args[1])
            for key, item in cast("Mapping[object, object]", value).items()
        )
    if annotation is float:
        return type(value) in (float, int)
    if annotation is int:
        return type(value) is int
    if origin is None and isinstance(annotation, type):
        return isinstance(value, annotation)
    return origin is None or isinstance(value, origin)


def mismatch(value: Any, annotation: Any) -> str:
    """What is wrong with `value`, to follow its name in a sentence; empty if nothing is."""
    if matches(value, annotation):
        return ""
    got = value.__class__.__name__ if attrs.has(value.__class__) else repr(value)
    hint = " Configs are immutable: write a tuple, not a list." if isinstance(value, list) else ""
    return f"must be {describe(annotation)}, not {got}.{hint}"
