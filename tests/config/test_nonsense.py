"""No number that makes no sense is taken: of every field of every component, each kind that its type excludes."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Union, get_args, get_origin

import attrs
import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from attrs import evolve

from detcfg.config import Config, ConfigError
from detcfg.config.ranges import INFINITE, Or, Rule
from detcfg.config.types import field_types, matches
from tests.support.config_fields import configs, made, where
from tests.support.edges import faults

NAN, INF = math.nan, math.inf
EVERY_NUMBER: Final = {
    "AnchorGeneratorConfig.centers": "an anchor may lie beside its cell",
    "CenterNetUpdateHeadConfig.regress_ranges": "MMDetection's begin at -1 and end at infinity",
    "CrossEntropyLossConfig.ignore_index": "any label may mark what is ignored, -100 and 255 among them",
    "DeltaXYWHBBoxCoderConfig.target_means": "deltas have either sign",
    "DenseTestConfig.min_bbox_size": "below 0 no box is too small",
    "DetDataPreprocessorConfig.mean": "pixels may be shifted by any number",
    "DetDataPreprocessorConfig.pad_value": "pixels are padded after they are normalised",
    "ExpandConfig.mean": "the canvas is filled with what the preprocessor subtracts",
    "FCOSHeadConfig.regress_ranges": "MMDetection's begin at -1 and end at infinity",
    "HybridEncoderConfig.use_encoder_idx": "indices count from the end, too; `wired` holds them against the maps",
    "RoITestConfig.min_bbox_size": "below 0 no box is too small",
    "SinePositionalEncodingConfig.offset": "cells may be counted from anywhere, -0.5 among it",
    "SubsetDatasetConfig.ids": "an annotation file may call its images anything",
    "VFNetHeadConfig.regress_ranges": "MMDetection's begin at -1 and end at infinity",
}
"""The fields that take every finite number (or every one at all), each with its reason."""


def nonsense(annotation: Any) -> Iterator[Any]:
    """Values of about the type of a field that it has to refuse: NaN, infinities, what lies beyond a bound."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        yield from (NAN, INF, -INF, True, "1")
    elif origin in (Union, types.UnionType):
        for option in args:
            yield from (value for value in nonsense(option) if not matches(value, annotation))
    elif origin is tuple:
        for index, item in enumerate(args[:1] if args[-1] is Ellipsis else args):
            good = [inside(other) for other in (args[:1] if args[-1] is Ellipsis else args)]
            yield from ((*good[:index], bad, *good[index + 1 :]) for bad in nonsense(item))
    elif origin is Annotated:
        yield from _beyond(args[0], args[1:], annotation)


def _beyond(plain: Any, rules: tuple[Any, ...], annotation: Any) -> Iterator[Any]:
    for value in nonsense(plain):
        if not (value in (INF, -INF) and INFINITE in rules):
            yield value
    step = 1 if plain is int else 1e-3
    for rule in rules:
        match rule:
            case Ge(bound):
                yield from (value for value in (bound - step, -1e9 if step < 1 else -(10**9)) if value != -1)
            case Gt(bound):
                yield from (bound, bound - step)
            case Le(bound):
                yield from (bound + step, bound * 10**6 + 1)
            case Lt(bound):
                yield from (bound, bound + step)
            case MinLen(_):
                yield ()
            case Or(value):
                yield value - step
            case Rule(says=says) if "rising" in says:
                yield (inside(get_args(plain)[0]),) * 2
            case Rule(says=says) if "lower first" in says:
                yield tuple(reversed(inside(annotation)))
            case _:
                continue


def inside(annotation: Any) -> Any:
    """A value that a type takes."""
    origin, args = get_origin(annotation), get_args(annotation)
    tries: list[Any] = [1, 2, 0, 3, 4, 0.5, 0.0, (1,), (1, 2), (0.5, 0.75), (1.0, 2.0), None, ""]
    if origin is Annotated and get_origin(args[0]) is tuple:
        item = inside(get_args(args[0])[0])
        tries += [(item,), (item, item), (item, item + 1)] if isinstance(item, int | float) else [(item,)]
    if origin is tuple:
        tries.append(tuple(inside(item) for item in args if item is not Ellipsis))
    if origin in (Union, types.UnionType):
        tries += [inside(option) for option in args]
    return next((value for value in tries if matches(value, annotation)), None)


def has_numbers(annotation: Any) -> bool:
    """Whether a field holds numbers, at any depth."""
    return annotation in (int, float) or any(map(has_numbers, get_args(annotation)))


def takes_every_number(annotation: Any) -> bool:
    """Whether some number of a field is bounded by nothing."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated and args[0] in (int, float):
        return not any(isinstance(rule, Ge | Gt | Le | Lt | Rule) for rule in args[1:])
    return annotation in (int, float) or any(map(takes_every_number, args))


def numeric_fields() -> Iterator[tuple[type[Config], str, Any]]:
    """Each field of numbers, where it is declared."""
    for cls in configs():
        for name, annotation in field_types(cls).items():
            if name in vars(cls).get("__annotations__", {}) and has_numbers(annotation):
                yield cls, name, annotation


def test_every_number_that_a_field_excludes_is_refused_by_its_path() -> None:
    taken: list[str] = []
    fields = values = 0
    for cls in configs():
        config = made(cls)
        if config is None:
            continue
        for name, annotation in field_types(cls).items():
            bad = [value for value in nonsense(annotation) if not matches(value, annotation)]
            fields += bool(bad)
            for value in bad:
                values += 1
                try:
                    evolve(config, **{name: value}).resolved()
                except ConfigError as error:
                    if f"{name} " in str(error) or f"{name}." in str(error):
                        continue
                taken.append(f"{where(cls)}.{name}={value!r}")
    assert taken == []
    assert fields > 1000
    assert values > 5000


def test_what_lies_beyond_a_bound_is_nonsense_to_each_type() -> None:
    """The sweep above asks `matches` first; here nothing is asked."""
    missed = [
        f"{where(cls)}.{name}={value!r}"
        for cls, name, annotation in numeric_fields()
        for value in nonsense(annotation)
        if matches(value, annotation)
    ]
    assert missed == []


def test_the_fields_that_take_every_number_are_listed_with_their_reasons() -> None:
    found = {
        f"{cls.__name__}.{name}"
        for cls, name, annotation in numeric_fields()
        if takes_every_number(annotation)
    }
    assert found == EVERY_NUMBER.keys()


@pytest.mark.parametrize("name", ["Fraction", "PositiveInt"])
def test_a_range_is_named_in_what_help_shows(name: str) -> None:
    shown = [str(field.type) for cls in configs() for field in attrs.fields(cls)]
    assert any(name in text for text in shown)


def test_at_the_edges_of_its_ranges_the_demo_is_built_or_says_what_does_not_fit() -> None:
    """`nox -s edges` does so for every experiment, trains for a step and predicts."""
    seen: set[tuple[type, str, Any]] = set()

    assert list(faults(["double_head_demo"], train=False, seen=seen)) == []
    assert len(seen) > 80
