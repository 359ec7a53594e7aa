"""Values survive the command line, and experiments with any values survive JSON and Python."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from attrs import frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from detcfg import load_experiment
from detcfg.config import Config, ConfigError
from detcfg.config.load import experiment_names
from detcfg.config.override import override
from detcfg.config.python import to_python
from detcfg.config.ranges import Unbounded
from detcfg.config.serialize import from_data, to_data
from detcfg.experiment import ExperimentConfig
from tests.fuzz.readers import leaves, similar, written

NAMES = experiment_names()


@frozen(kw_only=True)
class Values(Config):
    """A field of each kind."""

    whole: int = 0
    real: Unbounded = 0.0
    flag: bool = False
    text: str = ""
    maybe: str | None = None
    either: int | Unbounded | str | bool | None = None
    many: tuple[Unbounded, ...] = ()
    pairs: tuple[tuple[int, str], ...] = ()
    words: tuple[str, ...] = ()


WHOLE = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(
    *(st.tuples(st.just("whole"), WHOLE), st.tuples(st.just("real"), REAL)),
    *(st.tuples(st.just("flag"), st.booleans()), st.tuples(st.just("text"), TEXT)),
    st.tuples(st.just("maybe"), st.none() | TEXT),
    st.tuples(st.just("either"), st.one_of(st.none(), WHOLE, REAL, TEXT, st.booleans())),
    st.tuples(st.just("many"), st.lists(REAL).map(tuple)),
    st.tuples(st.just("pairs"), st.lists(st.tuples(WHOLE, TEXT)).map(tuple)),
    st.tuples(st.just("words"), st.lists(TEXT).map(tuple)),
)
"""A field, and a value for it."""


@given(VALUES)
def test_what_is_written_on_the_command_line_is_what_is_read(item: tuple[str, Any]) -> None:
    name, value = item

    read = getattr(override(Values(), f"{name}={written(value)}"), name)

    assert read == value
    assert repr(read) == repr(value)  # 1 is not True, nor 1.0


@given(st.lists(VALUES, max_size=4))
def test_any_values_survive_json(items: list[tuple[str, Any]]) -> None:
    config = Values(**dict(items))
    again = from_data(json.loads(json.dumps(to_data(config))), Values, allow=("tests",))

    assert again == config
    assert repr(again) == repr(config)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_an_experiment_can_be_given_on_the_command_line(name: str) -> None:
    experiment = load_experiment(name)
    for path, value in leaves(experiment):
        assert override(experiment, f"{path}={written(value)}") == experiment, path


@given(st.sampled_from(NAMES), st.integers(0, 2**32))
def test_an_experiment_with_any_overrides_survives_json_and_python(name: str, seed: int) -> None:
    draw = Random(seed)  # noqa: S311
    experiment = load_experiment(name)
    known = list(leaves(experiment))
    for path, value in draw.sample(known, 6):
        try:
            changed = override(experiment, f"{path}={written(similar(draw, value))}")
            changed.resolved()
        except ConfigError:
            continue
        experiment = changed
    assume(experiment != load_experiment(name))

    for state in (experiment, experiment.resolved()):
        data = json.loads(json.dumps(to_data(state)))
        assert from_data(data, ExperimentConfig, allow=("experiments",)) == state
    names: dict[str, Any] = {}
    *imports, expression = to_python(experiment).split("\n\n", 1)
    exec("\n".join(imports), names)  # noqa: S102
    assert eval(expression, names) == experiment  # noqa: S307
