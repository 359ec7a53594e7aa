"""Configs to plain data and back; each config names its class under `type`.

A class is written as `package.module:Class`. A class that holds only other default values (an
experiment's `Model`) also names its nearest ancestor that has code, under `base`: where the file of
the experiment is gone, the values are read into that.

The outermost config also says of which version the format is, under `format_version`; without one it is 1. What was
called otherwise then is read by today's names (`detcfg.config.moved`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Final, TypeVar, cast

import attrs
from attrs import frozen
from cattrs import Converter

from detcfg.config.base import UNSET, Config, ConfigError, did_you_mean
from detcfg.config.moved import MOVES, Gone, is_users
from detcfg.config.types import (
    adds_behaviour,
    field_types,
    item_types,
    matches,
    mismatch,
    once_per_class,
    options,
)

C = TypeVar("C", bound=Config)

MAX_DEPTH: Final = 64
"""Data nested deeper than this is refused; the deepest real experiment has about a dozen levels."""

VERSION_KEY: Final = "format_version"


@frozen(kw_only=True)
class _Source:
    """What is being read."""

    allow: tuple[str, ...] = ()
    version: int = MOVES.version


_source: ContextVar[_Source] = ContextVar("source", default=_Source())  # noqa: B039 - it is frozen


def to_data(config: Config) -> dict[str, Any]:
    """The config as dicts, lists and primitives, ready for `json.dumps`.

    >>> from detcfg.layers.norm import GNConfig
    >>> data = to_data(GNConfig(num_groups=8))
    >>> data["type"], data["num_groups"]
    ('detcfg.layers.norm:GNConfig', 8)
    """
    data: dict[str, Any] = _converter.unstructure(config)
    return {VERSION_KEY: MOVES.version, **data}


def from_data(data: object, annotation: type[C], allow: Collection[str] = ()) -> C:
    """Read what `to_data` wrote, today or in an earlier version.

    Args:
        data: Plain data. It is not changed.
        annotation: The config class to expect; the data may name a subclass of it.
        allow: Modules, besides detcfg's own, whose classes may be imported: `"mypackage"` allows
            `mypackage.heads` too.

    Raises:
        ConfigError: A class is not allowed, not found or gone, a value is unknown, gone or of a wrong type, or the
            data are of a newer version.

    >>> from detcfg.layers.norm import GNConfig, NormConfig
    >>> from_data(to_data(GNConfig(num_groups=8)), NormConfig) == GNConfig(num_groups=8)
    True
    >>> from_data({"type": "nowhere:Config"}, NormConfig)
    Traceback (most recent call last):
    detcfg.config.base.ConfigError: nowhere:Config: the module 'nowhere' is not detcfg's, so it is not imported. If you trust it, allow it: --allow nowhere
    """
    _refuse_deep(data)
    version = 1
    if isinstance(data, dict):
        data = dict(cast("dict[object, object]", data))
        version = _version(data.pop(VERSION_KEY, 1))
    token = _source.set(_Source(allow=tuple(allow), version=version))
    try:
        return _structure_config(data, annotation, annotation.__name__)
    finally:
        _source.reset(token)


def structure(value: object, annotation: Any) -> Any:
    """Turn plain data into a value of the annotated type, without coercion."""
    return _structure(value, annotation, "value")


def class_path(cls: type[Config]) -> str:
    """`package.module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_class(path: str, base: type[C], allow: Collection[str] | None = None) -> type[C]:
    """The config class at `package.module:Class`.

    Args:
        path: Where the class lives.
        base: What it must derive from.
        allow: Modules that may be imported for it, besides detcfg's. None: any, for a path that
            the user typed.

    Raises:
        ConfigError: The module may not be or cannot be imported, or has no such class.
    """
    module_name, separator, name = path.partition(":")
    if not separator:
        raise ConfigError(f"{path!r} does not say where the class is. Write it as package.module:Class.")
    module = sys.modules.get(module_name)
    if module is None:
        if allow is not None and not _is_allowed(module_name, allow):
            raise ConfigError(
                f"{path}: the module {module_name!r} is not detcfg's, so it is not imported. "
                f"If you trust it, allow it: --allow {module_name.partition('.')[0]}"
            )
        parts = module_name.split(".")
        if len(parts) > MAX_DEPTH or not all(map(str.isidentifier, parts)):
            raise ConfigError(f"{path!r:.200} does not name a module as package.module:Class does.")
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as error:
            raise ConfigError(_where_now(path) or f"{path}: {no_module(error)}") from None
    found: object = module
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # no getattr: a module may import on demand
    if isinstance(found, type) and issubclass(found, base):
        return found
    if isinstance(found, type) and issubclass(found, Config):
        raise ConfigError(f"{path} is not a {base.__name__}.")
    configs = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, base)]
    raise ConfigError(
        _where_now(path)
        or f"{path}: {module_name} has no config class {name!r}. {did_you_mean(name, configs)}"
    )


def no_module(error: ModuleNotFoundError) -> str:
    """That there is no such module and, if it has moved, where it is."""
    name = error.name or ""
    today = MOVES.name(name)
    if isinstance(today, Gone):
        return f"there is no module {name!r} any more. {today.instead}"
    if today == name:
        return f"there is no module {name!r}."
    return (
        f"there is no module {name!r}: it is {today!r} now. `detcfg upgrade FILE` rewrites a file's imports."
    )


def lowered(cls: type[Config]) -> type[Config]:
    """The nearest ancestor of `cls` that is more than other default values."""
    while not adds_behaviour(cls):
        parent = next(base for base in cls.__mro__[1:] if issubclass(base, Config))
        if parent is Config:
            break
        cls = parent
    return cls


def _version(found: object) -> int:
    if type(found) is not int or found < 1:
        raise ConfigError(
            f"{VERSION_KEY} must be a whole number from 1 to {MOVES.version}, not {found!r:.200}."
        )
    if found > MOVES.version:
        raise ConfigError(
            f"{VERSION_KEY} is {found}, of a newer detcfg than this one, which reads up to {MOVES.version}. "
            "Update detcfg: pip install --upgrade detcfg"
        )
    return found


def _where_now(path: str) -> str:
    """What has become of a class that is not where a person says it is; empty if it never was there."""
    today = MOVES.name(path)
    if isinstance(today, Gone):
        return f"{path} is gone. {today.instead}"
    return "" if today == path else f"{path} is {today} now. Write that."


def _todays(path: str, where: str) -> str:
    """The name that a class of the data has today; a person's own keeps its name."""
    today = MOVES.name(path, _source.get().version)
    if isinstance(today, Gone):
        raise ConfigError(f"{where}: {path} is gone. {today.instead}")
    return path if today != path and is_users(path.partition(":")[0], sys.path) else today


def _is_allowed(module: str, allow: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in ("detcfg", *allow))


def _refuse_deep(data: object) -> None:
    level: list[object] = [data]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner += cast("dict[str, object]", value).values()
            elif isinstance(value, list | tuple):
                inner += cast("list[object]", value)
        if not inner:
            return
        level = inner
    raise ConfigError(f"The data is nested more than {MAX_DEPTH} levels deep, which no config is.")


_converter: Final = Converter()


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


@once_per_class
def _head(cls: type) -> dict[str, str]:
    base = lowered(cls)
    return {"type": class_path(cls)} | ({} if base is cls else {"base": class_path(base)})


def _unstructure(config: Config) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    data = {name: _plain(value) for name, value in values.items() if value is not UNSET}
    return {**_head(type(config)), **data}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[str, object]", value).items()}
    return _converter.unstructure(value)


def _structure_config(data: object, declared: type[C], path: str) -> C:
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be {declared.__name__}, not {data!r}.")
    values = {str(key): value for key, value in cast("dict[object, object]", data).items()}
    cls = _class_of(values, declared, path)
    if (version := _source.get().version) < MOVES.version:
        classes = [class_path(base) for base in cls.__mro__ if issubclass(base, Config)]
        values = MOVES.values(values, classes, version, path)
    fields = field_types(cls)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{path}: {cls.__name__} has no field {name!r}. {did_you_mean(name, fields)}")
        given[name] = _structure(value, fields[name], f"{path}.{name}")
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error.args[0]}") from None


def _class_of(values: dict[str, object], declared: type[C], path: str) -> type[C]:
    tag, base = values.pop("type", None), values.pop("base", None)
    if not isinstance(tag, str) or not isinstance(base, str | None):
        raise ConfigError(f"{path}: every config names its class under 'type', as package.module:Class.")
    tag, base = _todays(tag, path), base and _todays(base, path)
    module, allow = tag.partition(":")[0], _source.get().allow
    if base is None or module in sys.modules or _is_allowed(module, allow):
        try:
            return find_class(tag, declared, allow)
        except ConfigError:
            if base is None:
                raise
    # The experiment's own file is gone or not allowed; all its values are in the data.
    found = find_class(base, Config, allow)
    if issubclass(found, declared):
        return found
    if issubclass(declared, found) and not adds_behaviour(declared):
        return declared
    raise ConfigError(f"{path}: {base} is not a {declared.__name__}.")


def _structure(value: object, annotation: Any, path: str) -> Any:
    """Read one value; what JSON cannot say (tuples, configs) is made from what it can."""
    converted = _convert(value, annotation, path)
    if problem := mismatch(converted, annotation):
        raise ConfigError(f"{path} {problem}")
    return converted


def _convert(value: object, annotation: Any, path: str) -> Any:
    allowed = options(annotation)
    if isinstance(value, dict):
        configs = [option for option in allowed if _is_config(option)]
        return (
            _structure_among(cast("dict[str, object]", value), configs, path)
            if configs
            else cast("object", value)
        )
    if isinstance(value, list):
        items = cast("list[object]", value)
        for option in allowed:
            inner = item_types(option, len(items))
            if inner is not None:
                made = tuple(
                    _convert(item, kind, f"{path}.{index}")
                    for index, (item, kind) in enumerate(zip(items, inner, strict=True))
                )
                if matches(made, option) or len(allowed) == 1:
                    return made
        return tuple(items)
    if float in allowed and type(value) is int and int not in allowed:
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{path} must be float, and this whole number is beyond all of them.") from None
    return value


def _structure_among(data: dict[str, object], configs: list[type[Config]], path: str) -> Config:
    """Read a config into the first of the declared classes that takes it."""
    for config in configs[:-1]:
        try:
            return _structure_config(data, config, path)
        except ConfigError:
            continue
    return _structure_config(data, configs[-1], path)


_hook: Callable[[Config], dict[str, Any]] = _unstructure
_converter.register_unstructure_hook(Config, _hook)
