"""What differs between two configs, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import attrs
from attrs import frozen

from detcfg.config.base import Config


class _Absent:
    def __repr__(self) -> str:
        return "<absent>"


ABSENT: Final = _Absent()
"""Stands for a value that one of the two configs does not have."""


@frozen
class Difference:
    """One field in which two configs differ."""

    path: str
    old: Any
    new: Any


def diff(old: Config, new: Config, prefix: str = "") -> Iterator[Difference]:
    """The fields that differ, in the order of declaration.

    A component of another class is one difference (the classes), followed by those of the fields
    that both classes have or that differ from the new class's own default.

    >>> from detcfg.necks.fpn import FPNConfig
    >>> [(each.path, each.old, each.new) for each in diff(FPNConfig(), FPNConfig(out_channels=64))]
    [('out_channels', 256, 64)]
    """
    if type(old) is not type(new):
        yield Difference(prefix.rstrip("."), type(old), type(new))
    for name in attrs.fields_dict(type(new)):
        old_value: object = getattr(old, name, ABSENT)
        if old_value is ABSENT:
            default = attrs.fields_dict(type(new))[name].default
            old_value = ABSENT if default is attrs.NOTHING else default
        yield from _diff_values(old_value, getattr(new, name), prefix + name)


def _diff_values(old: object, new: object, path: str) -> Iterator[Difference]:
    if isinstance(old, Config) and isinstance(new, Config):
        yield from diff(old, new, f"{path}.")
    elif (olds := _configs(old)) and (news := _configs(new)) and len(olds) == len(news):
        for index, (one, other) in enumerate(zip(olds, news, strict=True)):
            yield from diff(one, other, f"{path}.{index}.")
    elif old != new:
        yield Difference(path, old, new)


def _configs(value: object) -> tuple[Config, ...]:
    """The items of a tuple of configs; empty for anything else."""
    if not isinstance(value, tuple):
        return ()
    items = cast("tuple[object, ...]", value)
    configs = tuple(item for item in items if isinstance(item, Config))
    return configs if len(configs) == len(items) else ()
