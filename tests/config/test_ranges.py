"""A field's type says its range, which holds wherever values come from."""

from __future__ import annotations

import math
from typing import Annotated, Any

import attrs
import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from detcfg import load_experiment
from detcfg.catalogue import components
from detcfg.config import Config, ConfigError
from detcfg.config.override import override
from detcfg.config.ranges import (
    CountOrAll,
    Fraction,
    FractionOrOff,
    Increasing,
    NonEmpty,
    NumLayers,
    OddInt,
    Ordered,
    PositiveFloat,
    PositiveInt,
    PositiveUnbounded,
    ProperFraction,
    Unbounded,
)
from detcfg.config.serialize import from_data, to_data
from detcfg.config.types import describe, field_types, matches, mismatch

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("annotation", "inside", "outside"),
    [
        (PositiveInt, [1, 10**9], [0, -1, 1.0, True]),
        (OddInt, [1, 7], [0, 2, -3]),
        (NumLayers, [0, 1000], [-1, 1001, 10_000_000]),
        (CountOrAll, [-1, 1, 300], [0, -2]),
        (PositiveFloat, [1e-9, 3], [0, -1.0, NAN, INF]),
        (Fraction, [0, 0.5, 1, 1.0], [-0.1, 1.1, NAN, INF, -1]),
        (ProperFraction, [0.0, 0.999], [1.0]),
        (FractionOrOff, [-1, 0.0, 1.0], [-0.5, 2]),
        (float, [-1e300, 0], [NAN, INF, -INF]),
        (Unbounded, [INF, -INF, 0.0], [NAN]),
        (PositiveUnbounded, [INF, 2], [0, -INF, NAN]),
        (NonEmpty[PositiveInt], [(1,), (2, 1)], [(), (0,), [1]]),
        (Increasing[int], [(), (1,), (0, 2, 3)], [(0, 0), (3, 2)]),
        (Ordered[float], [(0.5, 1.5), (1, 1)], [(1.5, 0.5), (1.0,)]),
        (PositiveInt | None, [None, 1], [0]),
        (tuple[Fraction, PositiveInt], [(0.5, 1)], [(1.5, 1), (0.5, 0)]),
    ],
)
def test_values_are_inside_or_outside(annotation: Any, inside: list[object], outside: list[object]) -> None:
    assert [value for value in inside if not matches(value, annotation)] == []
    assert [value for value in outside if matches(value, annotation)] == []


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (0, PositiveInt, "must be int of at least 1, not 0. The nearest is 1."),
        (1.5, Fraction, "must be float from 0 to 1, not 1.5. The nearest is 1."),
        (0.0, PositiveFloat, "must be float above 0, not 0.0."),
        (NAN, float, "must be float, not nan. It has to be a finite number."),
        (-2, CountOrAll, "must be int of at least 1, or -1 for all, not -2. The nearest is 1."),
        ((3, 1), Increasing[int], "must be tuple[int, ...] in rising order without repeats, not (3, 1)."),
        (4, OddInt, "must be int of at least 1 and odd, not 4. The nearest is 5."),
    ],
)
def test_a_message_names_the_range_and_the_nearest_value(
    value: object, annotation: Any, message: str
) -> None:
    assert mismatch(value, annotation).startswith(message)


@frozen(kw_only=True)
class Part(Config):
    """A field of a range."""

    share: Fraction = 0.5
    sizes: Increasing[PositiveInt] = (1, 2)


@frozen(kw_only=True)
class Narrower(Part):
    """Declares a field anew as a plain number."""

    share: float = 0.25

    def build(self) -> None:
        """It adds behaviour."""


def test_a_range_holds_on_resolve_on_the_command_line_and_in_saved_files() -> None:
    with pytest.raises(ConfigError, match=r"Part\.share must be float from 0 to 1, not 2"):
        Part(share=2).resolved()
    with pytest.raises(ConfigError, match=r"sizes=\[2, 2\].*rising order"):
        override(Part(), "sizes=[2, 2]")
    with pytest.raises(ConfigError, match=r"Part\.sizes must be .*int of at least 1"):
        from_data(to_data(Part()) | {"sizes": [0, 1]}, Part, allow=("tests",))


def test_a_subclass_keeps_the_range_of_its_parent() -> None:
    assert field_types(Narrower)["share"] == field_types(Part)["share"]
    with pytest.raises(ConfigError, match=r"share must be float from 0 to 1"):
        Narrower(share=-1.0).resolved()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.epochs", "0"),
        ("trainer.optimizer.lr", "nan"),
        ("trainer.optimizer.lr", "inf"),
        ("trainer.optimizer.momentum", "1.5"),
        ("trainer.schedule.milestones", "[11, 8]"),
        ("model.roi_head.bbox_head.loss_cls.loss_weight", "nan"),
        ("model.roi_head.bbox_head.bbox_coder.target_stds", "[nan, 1.0, 1.0, 1.0]"),
        ("model.roi_head.assigner.min_pos_iou", "nan"),
        ("model.data_preprocessor.std", "[inf, 1.0, 1.0]"),
    ],
)
def test_nonsense_in_an_experiment_is_refused_by_its_path(path: str, value: str) -> None:
    with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
        override(load_experiment("double_head"), f"{path}={value}").resolved()


@given(st.data())
def test_what_hypothesis_draws_from_a_type_is_in_its_range(data: st.DataObject) -> None:
    for annotation in (PositiveInt, Fraction, PositiveFloat, NonEmpty[Fraction], OddInt, NumLayers):
        assert matches(data.draw(st.from_type(annotation)), annotation), describe(annotation)


def test_no_component_takes_a_float_that_is_no_number() -> None:
    taken: list[str] = []
    for component in components():
        for name, annotation in field_types(component.cls).items():
            default = attrs.fields_dict(component.cls)[name].default
            if type(default) is float and matches(NAN, annotation):
                taken.append(f"{component.cls.__name__}.{name}")
    assert taken == []


def test_the_defaults_of_all_components_are_in_their_ranges() -> None:
    for component in components():
        for name, annotation in field_types(component.cls).items():
            default = attrs.fields_dict(component.cls)[name].default
            if isinstance(default, int | float | tuple):
                assert not mismatch(default, annotation), f"{component.cls.__name__}.{name}"


def test_a_range_of_ones_own_is_an_annotated_type() -> None:
    from annotated_types import Ge, Le

    quarter = Annotated[int, Ge(1), Le(4)]
    assert describe(quarter) == "int from 1 to 4"
    assert evolve(Part(), share=0).resolved().share == 0
