"""A config as the Python expression that makes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import attrs

from detcfg.config.base import UNSET, Config
from detcfg.config.serialize import lowered


def to_python(config: Config, *, flat: bool = False) -> str:
    """The imports and an expression that give an equal config; what a class defaults to is left out.

    >>> from detcfg.necks.fpn import FPNConfig
    >>> print(to_python(FPNConfig(out_channels=64)))
    from detcfg.necks.fpn import FPNConfig
    <BLANKLINE>
    FPNConfig(out_channels=64)

    Args:
        config: In any state.
        flat: Write an experiment's `Model` as the component that it derives from, so that nothing
            is inherited from the experiment's file.
    """
    config = flattened(config) if flat else config
    imports = sorted({f"from {cls.__module__} import {cls.__name__}" for cls in _classes(config)})
    return "\n".join([*imports, "", _expression(config, "")])


def flattened(config: Config) -> Config:
    """The same values, in the nearest classes that are more than other default values."""
    values = {field.name: _flattened(getattr(config, field.name)) for field in attrs.fields(type(config))}
    return lowered(type(config))(**values)


def _flattened(value: object) -> object:
    if isinstance(value, Config):
        return flattened(value)
    return tuple(map(_flattened, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else value


def _classes(value: object) -> Iterator[type[Config]]:
    if isinstance(value, Config):
        yield type(value)
        for name, inner in _written(value):
            del name
            yield from _classes(inner)
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from _classes(item)


def _written(config: Config) -> list[tuple[str, object]]:
    """The fields that an expression must name: those that differ from the default."""
    return [
        (field.name, value)
        for field in attrs.fields(type(config))
        if (value := getattr(config, field.name)) is not UNSET and value != field.default
    ]


def _expression(value: object, indent: str) -> str:
    inner = indent + "    "
    if isinstance(value, Config):
        arguments = [f"{name}={_expression(item, inner)}" for name, item in _written(value)]
        return _call(f"{type(value).__name__}(", arguments, ")", indent)
    if isinstance(value, tuple):
        items = [_expression(item, inner) for item in cast("tuple[object, ...]", value)]
        return _call("(", items, ",)" if len(items) == 1 else ")", indent)
    return repr(value)


def _call(opening: str, arguments: list[str], closing: str, indent: str) -> str:
    line = opening + ", ".join(arguments) + closing
    if "\n" not in line and len(indent) + len(line) < 100:
        return line
    inner = indent + "    "
    return (
        opening
        + "\n"
        + "".join(f"{inner}{argument},\n" for argument in arguments)
        + indent
        + closing.lstrip(",")
    )
