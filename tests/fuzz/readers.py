"""What reads the input of strangers: each makes an input by a generator, and reads it to the end."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from detcfg.config.base import UNSET, Config
from detcfg.config.override import override_all
from detcfg.config.python import to_python
from detcfg.config.serialize import from_data, to_data
from detcfg.experiment import ExperimentConfig, load_experiment
from tests.fuzz.annotations import Annotations
from tests.fuzz.configs import Importer
from tests.fuzz.mutate import HOSTILE, TOKENS, spoilt_text, spoilt_tree

Reader: TypeAlias = Callable[[Random], object]

EXPERIMENTS: Final = (
    *("double_head", "mask_rcnn", "cascade_rcnn", "detectors", "retinanet", "fcos", "atss", "yolox", "solo"),
    *("swin", "centernet", "seesaw", "double_head_demo", "double_head_bccd"),
)


@contextmanager
def readers() -> Generator[dict[str, Reader]]:
    """Every reader by its name; their files lie in a folder that is gone afterwards."""
    memory = Path("/dev/shm")  # noqa: S108 - no disk is worn out, if the system has this
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield {
            "importer": Importer(Path(folder, "importer")),
            "annotations": Annotations(Path(folder, "annotations")),
            "overrides": overrides,
            "saved": saved,
        }


@cache
def experiments() -> tuple[ExperimentConfig, ...]:
    """Experiments of many kinds of parts."""
    return tuple(map(load_experiment, EXPERIMENTS))


@cache
def values(experiment: ExperimentConfig) -> tuple[tuple[str, Any], ...]:
    """Every value of an experiment with its path; of those that are derived only some."""
    given = dict(leaves(experiment))
    derived = [item for item in leaves(experiment.resolved()) if item[0] not in given]
    return (*given.items(), *derived[::4])


@cache
def assignments(experiment: ExperimentConfig) -> tuple[str, ...]:
    """`path=value` for every value of an experiment."""
    return tuple(f"{path}={written(value)}" for path, value in values(experiment))


def similar(draw: Random, value: Any) -> Any:
    """Another value of the same type."""
    if type(value) is int:
        return draw.choice(
            (0, 1, 2, 3, 5, -1, -value, value + 1, value * 2, 1000, 2**20, 2**31, 2**63, 10**40)
        )
    if isinstance(value, float):
        return draw.choice((0.0, 1.0, -value, value * 2, 0.5, 1e-300, 1e300))
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return draw.choice((value[:-1], value * 2, "", "x", "none"))
    if isinstance(value, tuple) and value:
        items = list(value)
        place = draw.randrange(len(items))
        match draw.randrange(4):
            case 0:
                del items[place]
            case 1:
                items.insert(place, items[place])
            case 2:
                items = items * draw.choice((0, 2, 40))
            case _:
                items[place] = similar(draw, items[place])
        return tuple(items)
    return draw.choice((1, 2.0, None, (1, 2), "x"))


def leaves(value: Any, path: str = "") -> Generator[tuple[str, Any]]:
    """Every value in a config that is no config, and its path."""
    if isinstance(value, Config):
        for field in attrs.fields(type(value)):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, tuple) and any(isinstance(item, Config) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}.{index}")
    elif value is not UNSET:
        yield path, value


def written(value: object) -> str:
    """A value as it is written behind `path=`."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    # As JSON, whose texts are TOML's, but that all characters stand for themselves and this one must not.
    return "none" if value is None else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def overrides(draw: Random) -> None:
    """Some `path=value` are spoilt and applied; what comes out is resolved, written and read again."""
    experiment = draw.choice(experiments())
    known = assignments(experiment)
    given: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 4))):
        path, old = draw.choice(values(experiment))
        text, value = f"{path}={written(old)}", written(old)
        match draw.randrange(8):
            case 0:
                text = f"{path}={draw.choice(known).partition('=')[2]}"
            case 1:
                text = f"{path}={_hostile(draw)}"
            case 2:
                parent = type(draw.choice(list(parts(experiment))))
                text = f"{path.rpartition('.')[0]}={parent.__module__}:{parent.__qualname__}"
            case 3:
                text = f"{path}={spoilt_text(draw, value, TOKENS)}"
            case 4:
                text = spoilt_text(draw, text, known)
            case _:
                text = f"{path}={written(similar(draw, old))}"
        given.append(text)
    check(override_all(experiment, given))


def _hostile(draw: Random) -> str:
    value = draw.choice(HOSTILE)
    try:
        return draw.choice((repr(value), json.dumps(value), f"[{json.dumps(value)}]"))
    except ValueError:
        return repr(value)


def parts(value: Any) -> Generator[Config]:
    """Every config in a value."""
    if isinstance(value, Config):
        yield value
        value = tuple(getattr(value, field.name) for field in attrs.fields(type(value)))
    if isinstance(value, tuple):
        for item in value:
            yield from parts(item)


def check(experiment: ExperimentConfig) -> None:
    """What a command does with an experiment before it builds the model."""
    resolved = experiment.resolved()
    data = json.dumps(to_data(resolved))
    again = from_data(json.loads(data), type(experiment), allow=("experiments", "tests"))
    # Two NaN are not equal, but written alike.
    assert resolved == again or data == json.dumps(to_data(again)), "it is another one after it was saved"
    to_python(experiment)


@cache
def _saved(experiment: ExperimentConfig) -> Any:
    return to_data(experiment.resolved())


def saved(draw: Random) -> None:
    """The experiment of a checkpoint, spoilt."""
    data = spoilt_tree(draw, _saved(draw.choice(experiments())))
    check(from_data(data, ExperimentConfig))
