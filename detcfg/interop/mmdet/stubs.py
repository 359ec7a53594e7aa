"""Config classes made up for components that detcfg lacks, with the source's fields, typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Any, Final, cast

import attrs
from attrs import frozen

from detcfg.config.base import Config, ModuleConfig
from detcfg.errors import NotWrittenError
from detcfg.interop.mmdet.data import Location

MODULE: Final = "detcfg_stubs"
"""The module that stubs say they are of; the written file defines them itself."""

LONG: Final = 4
"""A tuple of more items of different types is one of any number of them."""


@frozen(kw_only=True)
class Missing:
    """A component of the source that detcfg lacks."""

    name: str
    """MMDetection's `type`."""
    kind: str
    """`BackboneConfig`: what it would have to be here."""
    path: str
    """In the source."""
    location: Location | None
    reason: str


def make_stub(
    name: str,
    base: type[Config],
    values: Mapping[str, Any],
    known: Mapping[str, tuple[int, ...]],
    about: str,
) -> type[Config]:
    """A class for a component that detcfg lacks, whose `build` says so.

    Args:
        name: Of the class.
        base: What it stands in for.
        values: The source's fields and their values, which become defaults.
        known: What the source says that its properties would be, such as `feature_channels`.
        about: Its docstring.
    """
    inherited = set(attrs.fields_dict(base))
    space: dict[str, Any] = {
        "__module__": MODULE,
        "__qualname__": name,
        "__doc__": about,
        "__annotations__": {
            field: annotation_of(value) for field, value in values.items() if field not in inherited
        },
    }
    space |= {field: value for field, value in values.items() if field not in inherited}
    space["known_properties"] = dict(known)
    for method in methods_to_write(base):
        is_property = isinstance(getattr(base, method), property)
        space[method] = _property(method, known.get(method)) if is_property else _method(method)
    metaclass: Any = type(base)
    made: type[Config] = frozen(kw_only=True)(metaclass(name, (base,), space))
    return made


def methods_to_write(cls: type) -> list[str]:
    """What a class leaves to its subclasses, properties first."""
    names = set(cast("frozenset[str]", getattr(cls, "__abstractmethods__", frozenset[str]())))
    found: type[Any] = cls
    if issubclass(found, ModuleConfig):
        names.add("build")
    return sorted(names, key=lambda name: (not isinstance(getattr(found, name), property), name))


def is_stub(cls: type) -> bool:
    """Whether a class was made up here."""
    return cls.__module__ == MODULE


def _method(name: str) -> Callable[..., Any]:
    def method(self: object, *_: object, **__: object) -> Any:
        raise NotWrittenError(self, name)

    return method


def _property(name: str, value: tuple[int, ...] | None) -> property:
    def get(self: object) -> tuple[int, ...]:
        if value is None:
            raise NotWrittenError(self, name)
        return value

    return property(get)


def annotation_of(value: object) -> Any:
    """A type that a value has."""
    if value is None:
        return str | None
    if isinstance(value, tuple):
        return _annotation_of_items(cast("tuple[object, ...]", value))
    if isinstance(value, Config) and is_stub(type(value)):
        families = [base for base in type(value).__mro__[1:] if issubclass(base, Config)]
        return families[0]
    return type(value)


def _annotation_of_items(values: tuple[object, ...]) -> Any:
    kinds: list[Any] = list(dict.fromkeys(map(_item_annotation, values)))
    if float in kinds:
        kinds = [kind for kind in kinds if kind is not int]
    if len(values) > LONG:
        any_kind = kinds[0]
        for kind in kinds[1:]:
            any_kind |= kind
        kinds = [any_kind]
    items: tuple[Any, ...] = (*kinds, ...) if len(kinds) == 1 else tuple(map(_item_annotation, values))
    return GenericAlias(tuple, items or (int, ...))


def _item_annotation(value: object) -> Any:
    """A config among others is of its family, so that its neighbours may be of the same type."""
    if isinstance(value, Config):
        families = (base for base in type(value).__mro__ if getattr(base, "__abstractmethods__", None))
        return next(families, annotation_of(value))
    return annotation_of(value)
