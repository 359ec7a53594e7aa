"""`model.roi_head.reg_roi_scale_factor=1.5`: change one value of a config by its path."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any, TypeVar, cast, get_args, get_origin

import attrs

from detcfg.config.base import UNSET, Config, ConfigError, did_you_mean
from detcfg.config.serialize import find_class, structure
from detcfg.config.types import describe, field_types, options

C = TypeVar("C", bound=Config)


def override(config: C, assignment: str) -> C:
    """Apply one `path=value`.

    The value is written as in TOML (`[3, 5]`, `true`, `1e-3`, a bare word is a string), `none` is
    None and a component is `package.module:Class`. An item of a tuple is reached by its number:
    `model.roi_head.bbox_head.0.num_classes=20`.

    Raises:
        ConfigError: The path or the value is wrong; the message names the nearest valid thing.

    >>> from detcfg.necks.fpn import FPNConfig
    >>> override(FPNConfig(), "out_channels=64").out_channels
    64
    >>> override(FPNConfig(), "norm_cfg=detcfg.layers.norm:GNConfig").norm_cfg.num_groups
    32
    >>> override(FPNConfig(), "out_channel=64")
    Traceback (most recent call last):
    detcfg.config.base.ConfigError: out_channel: FPNConfig has no field 'out_channel'. Did you mean 'out_channels'?
    """
    path, separator, text = assignment.partition("=")
    path = path.strip()
    if not separator or not path:
        raise ConfigError(f"Expected path=value, got {assignment!r}.")
    try:
        changed: C = _set(config, path, path.split("."), text.strip())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{assignment}: {error.args[0]}") from None
    return changed


def override_all(config: C, assignments: Sequence[str]) -> C:
    """Apply several assignments, the first first.

    >>> from detcfg.necks.fpn import FPNConfig
    >>> override_all(FPNConfig(), ["norm_cfg=detcfg.layers.norm:GNConfig", "norm_cfg.num_groups=8"]).norm_cfg.num_groups
    8
    """
    for assignment in assignments:
        config = override(config, assignment)
    return config


def _set(value: Any, path: str, names: list[str], text: str, annotation: Any = None) -> Any:
    if not names:
        return _parse(path, text, annotation)
    name, *rest = names
    if isinstance(value, Config):
        annotations = field_types(type(value))
        if name not in annotations:
            raise ConfigError(
                f"{path}: {type(value).__name__} has no field {name!r}. {did_you_mean(name, annotations)}"
            )
        child = _set(getattr(value, name), path, rest, text, annotations[name])
        return attrs.evolve(value, **{name: child})
    if isinstance(value, tuple):
        items = list(cast("tuple[object, ...]", value))
        if not name.isdecimal() or int(name) >= len(items):
            raise ConfigError(f"{path}: {name!r} is no index of these {len(items)} values, counted from 0.")
        index = int(name)
        items[index] = _set(items[index], path, rest, text, _item_annotation(annotation, index))
        return tuple(items)
    what = "derived from its surroundings" if value is UNSET else repr(value)
    before = path.split(".")[: -len(names)]
    raise ConfigError(f"{path}: {'.'.join(before)} is {what}, which has no field {name!r}.")


def _item_annotation(annotation: Any, index: int) -> Any:
    for option in options(annotation):
        args = get_args(option)
        if get_origin(option) is tuple and args:
            return args[0] if args[-1] is Ellipsis else args[min(index, len(args) - 1)]
    return Any


def _parse(path: str, text: str, annotation: Any) -> object:
    configs = [o for o in options(annotation) if isinstance(o, type) and issubclass(o, Config)]
    if text.lower() in ("none", "null") and type(None) in options(annotation):
        return None
    if configs and (len(configs) == len(options(annotation)) or ":" in text):
        return _component(path, text, configs)
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError):
        value = text  # an unquoted string
    try:
        return structure(value, annotation)
    except ConfigError as error:
        raise ConfigError(
            f"{path}={text}: {str(error).removeprefix('value ')}".replace(": must", " must")
        ) from None


def _component(path: str, text: str, families: list[type[Config]]) -> Config:
    """An instance of the class at `package.module:Class`, with its defaults."""
    found = find_class(text, Config)
    if not issubclass(found, tuple(families)):
        expected = " or ".join(describe(family) for family in families)
        raise ConfigError(f"{path}={text}: {found.__name__} is not a {expected}, which {path} must be.")
    try:
        return found()
    except TypeError as error:  # abstract, or a field without default
        raise ConfigError(f"{path}={text}: {error.args[0]}") from None
