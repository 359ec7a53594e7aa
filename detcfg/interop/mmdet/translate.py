"""An MMDetection `model` dict as a detcfg config, with a record of what became of each value.

A dict becomes the class of its `type`'s name, its keys that class's fields of the same name; `rules` and
`prepare` hold the exceptions. Nothing here knows a component otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from keyword import iskeyword
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import attrs
from attrs import evolve, frozen

from detcfg.config.base import UNSET, Config, ConfigError, did_you_mean
from detcfg.config.serialize import find_class
from detcfg.config.types import describe, field_types, matches, mismatch, options
from detcfg.detectors.base import DetectorConfig
from detcfg.interop.mmdet.components import Index, index, short_name
from detcfg.interop.mmdet.data import Location, Node, TypeName, cloned, in_docstring, shown
from detcfg.interop.mmdet.derive import GivenValue, settled
from detcfg.interop.mmdet.hints import Features, guesses, hints
from detcfg.interop.mmdet.placement import is_sequence, placed, spread
from detcfg.interop.mmdet.prepare import prepared
from detcfg.interop.mmdet.record import Record
from detcfg.interop.mmdet.rules import OURS, Rule, rename, rules_for
from detcfg.interop.mmdet.stubs import Missing, make_stub

C = TypeVar("C", bound=Config)

KIND_OF_KEY: Final = {
    "backbone": "backbones.base:BackboneConfig",
    "neck": "config.base:ModuleConfig",
    "rpn_head": "config.base:ModuleConfig",
    "roi_head": "config.base:ModuleConfig",
    "bbox_head": "config.base:ModuleConfig",
    "mask_head": "config.base:ModuleConfig",
    "data_preprocessor": "detectors.base:DetDataPreprocessorConfig",
    "norm_cfg": "layers.norm:NormConfig",
    "act_cfg": "layers.activation:ActivationConfig",
    "conv_cfg": "layers.conv:ConvConfig",
    "transforms": "data.transforms.base:TransformConfig",
    "pipeline": "data.transforms.base:TransformConfig",
}
"""What the parts of a component that detcfg lacks have to be."""
PARTS: Final = ("mask_head", "bbox_head", "point_head", "grid_head", "mask_iou_head")
"""Parts of a RoI head whose settings MMDetection keeps in the head's `train_cfg`."""


class _Unfit(Exception):  # noqa: N818 - caught where the value is
    """A value that its field does not take; the message says why."""


@frozen
class Spot:
    """Where a value is, in the source and in detcfg."""

    path: str
    """In the source: the keys that lead to it, with dots between."""
    path_here: str = ""
    """In detcfg: the fields that lead to it."""
    location: Location | None = None
    """Its file and line."""

    def at(self, key: object, location: Location | None = None, field: str | None = None) -> Spot:
        """The spot of a value inside this one, under `key` there and `field` here (the same, if it is None)."""
        name = str(key) if field is None else field
        path_here = f"{self.path_here}.{name}" if self.path_here else name
        return Spot(f"{self.path}.{key}", path_here, location or self.location)


@frozen(kw_only=True)
class Translation:
    """A model as detcfg has it."""

    model: DetectorConfig
    """In the given state. Components that detcfg lacks are stubs."""
    num_classes: int | None
    """Of the data, or of the heads."""
    record: Record
    missing: tuple[Missing, ...]

    @property
    def complete(self) -> DetectorConfig:
        """The model with its number of classes, which resolves without the data."""
        return self.model if self.num_classes is None else evolve(self.model, num_classes=self.num_classes)


def translate_model(
    model: Node, *, num_classes: int | None = None, modules: Collection[str] = (), path: str = "model"
) -> Translation:
    """Translate a `model` dict of the 3.x dialect.

    Args:
        model: The dict, with `train_cfg` and `test_cfg` in it.
        num_classes: How many classes the data has; None: what the heads say.
        modules: Where to look for components besides detcfg.
        path: What the dict is called in messages.

    Raises:
        ConfigError: The model contradicts itself, by detcfg's rules.
    """
    translator = Translator(index(modules), Record())
    translator.hints = hints(model)
    config = translator.component(model, (DetectorConfig,), Spot(path))
    assert isinstance(config, DetectorConfig)
    translator.record.forgive_shared()
    classes = num_classes or translator.num_classes()
    given = [value for value in translator.given.values() if value.path != "num_classes"]
    guess = partial(_guess, model) if translator.missing else None
    config = settled(config, given, translator.record, classes, guess)
    return Translation(
        model=config, num_classes=classes, record=translator.record, missing=tuple(translator.missing)
    )


def _guess(model: Node, path: str) -> object:
    """A value for an open field of a part of a stub, by the longest end of its path that is known."""
    known = guesses(model, path)
    return next((known[end] for end in _ends(path) if end in known), None)


def _ends(path: str) -> Iterator[str]:
    """`a.b.c`, `b.c` and `c`."""
    names = path.split(".")
    return (".".join(names[start:]) for start in range(len(names)))


class Translator:
    """Translates dicts; what becomes of each key goes into the record."""

    def __init__(self, components: Index, record: Record) -> None:
        self.index, self.record = components, record
        self.missing: list[Missing] = []
        self.given: dict[str, GivenValue] = {}
        """Values of derived fields, by detcfg's path: they should come out by themselves."""
        self.stubs: dict[str, type[Config]] = {}
        self.hints: Mapping[str, Features] = {}
        """What components give, by path, for stubs that could not say so."""

    def num_classes(self) -> int | None:
        """What the heads say, the RPN's left out."""
        found = [
            value.value
            for path, value in self.given.items()
            if path.endswith("num_classes") and isinstance(value.value, int)
        ]
        return max(found, default=None)

    def component(
        self, node: Node, declared: tuple[type[Config], ...], spot: Spot, default: object = None
    ) -> Config:
        """The config for a dict.

        Args:
            node: The dict.
            declared: What the field takes.
            spot: Where it is.
            default: The field's default, whose class is that of a dict without `type`.
        """
        kind: Any = node.get("type")
        spot = Spot(spot.path, spot.path_here, node.locations.get("type") or spot.location)
        cls = _untyped(declared, default) if kind is None else self.index.find(kind, declared)
        if cls is None:
            return self._stub(node, declared, spot)
        name = short_name(kind) if isinstance(kind, str) else cls.__name__
        made = _arranged(node, cls)
        rules = rules_for(name, cls)
        for rule in rules:
            for path, location in rename(made, rule):
                self.record.defaulted(f"{spot.path}.{path}", location, "detcfg does so in any case")
        for key, value, location in spread(made, set(field_types(cls))):
            self._leftover(made, key, value, rules, spot.at(f"train_cfg.{key}", location))
        values = self._fields(made, cls, rules, spot)
        try:
            return self.made(cls, values, spot)
        except (TypeError, ValueError) as error:
            return self._stub(node, declared, spot, str(error.args[0]))

    def made(self, cls: type[C], values: Mapping[str, Any], spot: Spot) -> C:
        """The config of these values, without those that its fields refuse, which are recorded."""
        types, fields = field_types(cls), attrs.fields_dict(cls)
        taken: dict[str, Any] = {}
        for name, value in values.items():
            validator: Any = fields[name].validator
            try:
                if problem := mismatch(value, types[name]):
                    raise ValueError(f"{name!r} {problem}")  # noqa: TRY301 - as a validator does
                if validator is not None:
                    validator(None, fields[name], value)
                taken[name] = value
            except (TypeError, ValueError) as error:
                inner = spot.at(name)
                self.record.unsupported(inner.path, inner.location, f"{cls.__name__}: {error.args[0]}")
        return cls(**taken)

    def _leftover(self, node: Node, key: str, value: Any, rules: list[Rule], spot: Spot) -> None:
        """An item of `train_cfg` that is no field of the head: a part's, or nothing's."""
        if key == "mask_size":
            self.record.defaulted(spot.path, spot.location, "the mask head's layers make it")
            return
        for part in PARTS:
            inner: Any = node.get(part)
            kind: Any = inner.get("type") if isinstance(inner, Node) else None
            cls = self.index.elsewhere(kind) if isinstance(kind, str) else None
            if isinstance(inner, Node) and cls is not None and key in field_types(cls) and key not in inner:
                inner.put(key, value, spot.location)
                return
        if not self._explained(key, value, rules, spot):
            kind = node.get("type")
            self.record.unsupported(spot.path, spot.location, f"detcfg's {kind} has no such field")

    def _fields(self, node: Node, cls: type[Config], rules: list[Rule], spot: Spot) -> dict[str, Any]:
        types, fields = field_types(cls), attrs.fields_dict(cls)
        values: dict[str, Any] = {}
        for key, value in node.items():
            if key in ("type", "_delete_"):
                continue
            name, here = str(key), spot.at(key, node.locations.get(key))
            if name not in types:
                if not self._explained(name, value, rules, here):
                    problem = f"{cls.__name__} has no field {name!r}. {did_you_mean(name, types)}"
                    self.record.unsupported(here.path, here.location, problem)
                continue
            try:
                made = self.value(value, types[name], here, fields[name].default)
            except _Unfit as error:
                if not self._explained(name, value, rules, here):
                    self.record.unsupported(here.path, here.location, f"{cls.__name__}.{name} {error}")
                continue
            if fields[name].default is UNSET:
                self.given[here.path_here] = GivenValue(
                    path=here.path_here, value=made, source=here.path, location=here.location
                )
                continue
            if not isinstance(value, Node):
                self.record.carried(here.path, here.location, here.path_here)
            values[name] = made
        ours: set[str] = set()
        for rule in rules:
            for name, value in rule.defaults.items():
                if name in types and name not in ours and name not in values and name not in node:
                    values |= self._default(name, value, types[name], spot.at(name))
                    ours.add(name)
        return values

    def _default(self, name: str, value: Any, annotation: Any, spot: Spot) -> dict[str, Any]:
        """MMDetection's default for a field; nothing if the field cannot take it."""
        if value is OURS:
            return {}
        if not isinstance(value, dict):
            return {name: self.value(value, annotation, spot, None)}
        node = Node(cast("dict[str, Any]", value))
        found = self.index.find(node["type"], _configs(annotation))
        return {} if found is None else {name: self.value(node, annotation, spot, None)}

    def _explained(self, key: str, value: Any, rules: list[Rule], spot: Spot) -> bool:
        """Whether a rule says that a key needs no counterpart."""
        why = "each module starts its weights itself" if key == "init_cfg" else ""
        for rule in rules:
            if key in rule.dropped:
                why = rule.dropped[key]
                break
            if any(_same(value, harmless) for harmless in rule.harmless.get(key, ())):
                why = "detcfg does so in any case"
                break
        if key == "init_cfg" and isinstance(value, Node) and value.get("type") == "Pretrained":
            source = value.get("checkpoint")
            note = f"download {source} and give `pretrained` its path"
            self.record.unsupported(spot.path, spot.location, note)
            return True
        if why:
            self.record.defaulted(spot.path, spot.location, why)
        return bool(why)

    def value(self, value: Any, annotation: Any, spot: Spot, default: object) -> Any:
        """A value as its field takes it.

        Raises:
            _Unfit: The field does not take it.
        """
        allowed, configs = options(annotation), _configs(annotation)
        if isinstance(value, Node):
            if not configs:
                raise _Unfit(f"must be {describe(annotation)}, not a dict.")
            return self.component(value, configs, spot, default)
        if is_sequence(value):
            return self._sequence(value, annotation, allowed, spot)
        if isinstance(value, TypeName):
            value = value.short
        if float in allowed and type(value) is int and int not in allowed:
            value = float(value)
        if matches(value, annotation):
            return value
        for option in allowed:
            if get_origin(option) is tuple and matches((value,), option):
                return (value,)
        raise _Unfit(f"must be {describe(annotation)}, not {shown(value)}.")

    def _sequence(self, items: Sequence[Any], annotation: Any, options: tuple[Any, ...], spot: Spot) -> Any:
        for option in options:
            if get_origin(option) is not tuple:
                continue
            args = get_args(option)
            kinds = (args[0],) * len(items) if len(args) == 2 and args[1] is Ellipsis else args
            if len(kinds) != len(items):
                continue
            try:
                made = tuple(
                    self.value(item, kind, spot.at(i), None)
                    for i, (item, kind) in enumerate(zip(items, kinds, strict=True))
                )
            except _Unfit:
                continue
            if matches(made, option):
                return made
        pairs = [
            option for option in options if get_origin(get_args(option)[:1] and get_args(option)[0]) is tuple
        ]
        if pairs and items and not is_sequence(items[0]):  # one for many
            return self._sequence([items], annotation, tuple(pairs), spot)
        if items and all(_same(item, items[0]) for item in items):
            return self.value(items[0], annotation, spot, None)
        raise _Unfit(f"must be {describe(annotation)}, not {shown(list(items))}.")

    def _stub(self, node: Node, declared: tuple[type[Config], ...], spot: Spot, problem: str = "") -> Config:
        """A made-up config for what detcfg lacks."""
        base = declared[0] if declared else Config
        node = _arranged(node, base)
        kind: Any = node.get("type")
        key = next(part for part in reversed(spot.path.split(".")) if not part.isdecimal())
        name = short_name(kind) if isinstance(kind, str) else _title(key)
        if isinstance(kind, str) or declared:
            there = self.index.elsewhere(kind) if isinstance(kind, str) else None
            reason = f"detcfg has no {name}" if there is None else f"{there.__name__} is no {base.__name__}"
            self.missing.append(
                Missing(
                    name=name,
                    kind=base.__name__,
                    path=spot.path,
                    location=spot.location,
                    reason=problem or reason,
                )
            )
            self.record.unsupported(spot.path, spot.location, problem or reason)
        inherited, types = attrs.fields_dict(base), field_types(base)
        added: dict[str, Any] = {}
        given: dict[str, Any] = {}
        for item, value in node.items():
            inner = spot.at(item, node.locations.get(item))
            if item in ("type", "_delete_", "init_cfg"):
                continue
            if not _is_name(item) or (item not in inherited and hasattr(base, item)):
                self.record.unsupported(inner.path, inner.location, "a field of a config cannot be called so")
                continue
            if item not in inherited:
                added[str(item)] = self._loose(value, inner)
                if not isinstance(value, Node):
                    self.record.carried(inner.path, inner.location, "the stub")
                continue
            try:
                made = self.value(value, types[item], inner, inherited[item].default)
            except _Unfit:
                continue
            if inherited[item].default is UNSET:
                self.given[inner.path_here] = GivenValue(
                    path=inner.path_here, value=made, source=inner.path, location=inner.location
                )
            else:
                given[str(item)] = made
                if not isinstance(value, Node):
                    self.record.carried(inner.path, inner.location, inner.path_here)
        about = (
            f"MMDetection's {in_docstring(name)}, which detcfg lacks."
            if isinstance(kind, str)
            else f"The {in_docstring(key)} of the source."
        )
        if spot.location is not None:
            about += f"\n\nIt is in {in_docstring(spot.location.file.name)}, line {spot.location.line}."
        stub = self._stub_class(name, base, added, spot, about)
        added = {item: value for item, value in added.items() if not _same(value, _default_of(stub, item))}
        try:
            return stub(**given, **added)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{spot.location or spot.path}: {spot.path}: {error.args[0]}") from None

    def _stub_class(
        self, name: str, base: type[Config], added: dict[str, Any], spot: Spot, about: str
    ) -> type[Config]:
        """The class of a stub with the fields `added` to its base's; components of one name share it if theirs agree."""
        short = re.sub(r"\W", "_", name.rpartition(".")[2], flags=re.ASCII)
        short = f"_{short}" if short[:1].isdecimal() else short[:1].upper() + short[1:]
        features = self.hints.get(spot.path, {})
        for number in range(1, 100):
            full = f"{short}{number if number > 1 else ''}Config"
            known = self.stubs.get(full)
            if known is None and full in self.index.names:
                continue  # the file may import that one
            if known is None:
                try:
                    made = make_stub(full, base, added, features, about)
                except TypeError as error:  # nothing can stand in for a component that is more than a family
                    raise ConfigError(f"{spot.location or spot.path}: {spot.path}: {error.args[0]}") from None
                self.stubs[full] = made
                return made
            types = field_types(known)
            same_features = getattr(known, "known_properties", {}) == features
            if (
                same_features
                and known.__mro__[1] is base
                and all(item in types and matches(value, types[item]) for item, value in added.items())
            ):
                return known
        raise ConfigError(f"{spot.location or spot.path}: there are more than 100 kinds of {name}.")

    def _loose(self, value: Any, spot: Spot) -> Any:
        """A value of a stub, whose type nobody declares."""
        if isinstance(value, Node):
            return self.component(value, self._guessed(value, spot), spot)
        if is_sequence(value):
            return tuple(self._loose(item, spot.at(i)) for i, item in enumerate(value))
        return value.short if isinstance(value, TypeName) else value

    def _guessed(self, node: Node, spot: Spot) -> tuple[type[Config], ...]:
        """What a part of a stub has to be."""
        kind: Any = node.get("type")
        if isinstance(kind, str) and self.index.elsewhere(kind) is not None:
            return ()
        names = [part for part in spot.path.split(".") if not part.isdecimal()]
        where = KIND_OF_KEY.get(names[-1])
        return () if where is None else (find_class(f"detcfg.{where}", Config),)


def _arranged(node: Node, cls: type[Config]) -> Node:
    """A copy of the dict in which everything is where `cls` has it."""
    return prepared(placed(node) if issubclass(cls, DetectorConfig) else cast("Node", cloned(node)), cls)


def _configs(annotation: Any) -> tuple[type[Config], ...]:
    """The config classes among them."""
    return tuple(o for o in options(annotation) if isinstance(o, type) and issubclass(o, Config))


def _is_name(key: object) -> bool:
    """Whether a field can be called so."""
    if not isinstance(key, str) or iskeyword(key) or key.startswith("_") or key == "self":
        return False
    return key.isidentifier() and key.isascii()  # Python takes some letters for others


def _title(key: str) -> str:
    """`Layer` of `layer_cfg`."""
    return "".join(part.title() for part in key.removesuffix("_cfg").split("_"))


def _default_of(cls: type[Config], name: str) -> object:
    return attrs.fields_dict(cls)[name].default


def _untyped(declared: tuple[type[Config], ...], default: object) -> type[Config] | None:
    """The class of a dict without `type`: its default's, or the only one that the field takes."""
    if isinstance(default, Config):
        return type(default)
    concrete = [cls for cls in declared if not getattr(cls, "__abstractmethods__", None)]
    return concrete[0] if concrete else None


def _same(value: Any, other: Any) -> bool:
    """Equal, where True is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
