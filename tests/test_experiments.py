"""Every experiment resolves, survives JSON, builds on the meta device, and says where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeVar, cast

import attrs
import pytest
import torch
from attrs import evolve

from detcfg.config import Config, ConfigError, is_unset
from detcfg.config.provenance import trace
from detcfg.config.serialize import from_data, to_data
from detcfg.experiment import ExperimentConfig
from tests.support.config_fields import at, changed
from tests.support.experiments import FOLDER, every_experiment, experiment

C = TypeVar("C", bound=Config)


def derived_paths(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields that nobody gave a value."""
    if is_unset(value):
        yield path
    elif isinstance(value, Config):
        for field in attrs.fields_dict(type(value)):
            yield from derived_paths(getattr(value, field), (*path, field))
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from derived_paths(item, (*path, str(index)))


def wrong(value: object) -> list[object]:
    """Values of the same type that are not this one: another number, one level more."""
    if isinstance(value, Config):
        first = next(iter(attrs.fields_dict(type(value))))
        return [evolve(value, **{first: wrong(getattr(value, first))[0]})]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 2]
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return [(*items[:-1], wrong(items[-1])[0]), (*items, items[-1])]
    raise AssertionError(f"no other value is known for {value!r}")


@every_experiment
def test_an_experiment_says_what_it_is(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    docstring = text.split('"""')[1]

    assert docstring.strip().splitlines()[0].endswith(".")


@every_experiment
def test_an_experiment_equals_what_its_json_says_given_and_resolved(name: str) -> None:
    for state in (experiment(name), experiment(name).resolved()):
        data = json.loads(json.dumps(to_data(state)))

        assert state == from_data(data, ExperimentConfig, ("experiments",))
    assert experiment(name).resolved() == experiment(name).resolved().resolved()


@every_experiment
def test_a_run_loads_without_the_experiments_file(name: str) -> None:
    data = json.loads(json.dumps(to_data(experiment(name).resolved())))
    loaded = from_data(data, ExperimentConfig)

    with torch.device("meta"):
        built = loaded.model.build().state_dict()
        wanted = experiment(name).resolved().model.build().state_dict()
    assert {name: tensor.shape for name, tensor in wanted.items()} == {
        name: tensor.shape for name, tensor in built.items()
    }


@every_experiment
def test_each_derived_value_that_is_given_wrongly_is_found_and_both_fields_are_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a weight was allocated")

    given, resolved = experiment(name), experiment(name).resolved()
    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    paths = list(derived_paths(given.model, ("model",)))
    assert len(paths) > 5
    for path in paths:
        for value in wrong(at(resolved, path)):
            with pytest.raises(ConfigError) as error:
                changed(given, path, value).resolved()
            # One config for all stages of a cascade is resolved to one for each.
            message, where = str(error.value).replace(".0.", "."), ".".join(path).replace(".0.", ".")
            assert f"{where} is {value!r}" in message
            assert " makes it " in message


@every_experiment
def test_a_breach_of_channels_levels_or_classes_is_found(name: str) -> None:
    given = experiment(name)
    data = given.data
    breaches = [
        changed(given, ("model", "num_classes"), len(data.classes) + 1),
        changed(given, ("data", "train", "classes"), (*data.classes, "one more")),
    ]
    for breach in breaches:
        with pytest.raises(ConfigError, match="classes"):
            breach.resolved()


@every_experiment
def test_each_value_of_an_experiment_has_a_place(name: str) -> None:
    entries = list(trace(experiment(name)))

    assert all(entry.source for entry in entries)
    assert len({entry.path for entry in entries}) == len(entries)
