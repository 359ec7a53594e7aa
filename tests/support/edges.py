"""Every number of the experiments, set to the edges of its range: does it resolve, build, train and predict?

`python -m tests.support.edges [NAME …]` tries the narrow models of all experiments, or of these, and prints what ends
in anything but numbers or a `ConfigError` (an edge may contradict a part beside it).
"""

from __future__ import annotations

import sys
import traceback
import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

import torch
from annotated_types import Ge, Gt, Le, Lt
from attrs import evolve
from torch import Tensor

from detcfg.config import Config, ConfigError, is_unset
from detcfg.config.ranges import Or
from detcfg.config.types import field_types, matches
from detcfg.detectors.base import DetectorConfig
from detcfg.structures import Detections
from tests.support.config_fields import changed
from tests.support.experiments import NAMES, experiment
from tests.support.small import LARGER, SIDE, narrow, objects

Path = tuple[str, ...]
MOST: Final = 50_000_000
"""Parameters of a model that is trained for a step; larger ones are built on the meta device alone."""
BEYOND: Final = 1e-6
"""How far from a bound that is no value itself the next one is taken."""


def edges(annotation: Any) -> Iterator[Any]:
    """The least and the greatest values of a range, and those that stand for something else."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated and args[0] in (int, float):
        kind = args[0]
        for rule in args[1:]:
            match rule:
                case Ge(bound) | Le(bound):
                    yield kind(bound)
                case Gt(bound):
                    yield bound + BEYOND
                case Lt(bound):
                    yield bound - BEYOND
                case Or(value):
                    yield kind(value)
                case _:
                    continue
    elif origin is Annotated:
        yield from edges(args[0])
    elif origin in (Union, types.UnionType):
        for option in args:
            yield from edges(option)
    elif origin is tuple:
        of_any_length = args[-1] is Ellipsis
        yield from ((edge,) * (1 if of_any_length else len(args)) for edge in edges(args[0]))


def numbers(value: object, path: Path = ()) -> Iterator[tuple[type[Config], str, Any, Path]]:
    """Each field without components inside: whose it is, its name, its annotation and its path."""
    if isinstance(value, Config):
        for name, annotation in field_types(type(value)).items():
            inner = getattr(value, name)
            if isinstance(inner, Config) or _has_configs(inner):
                yield from numbers(inner, (*path, name))
            elif not is_unset(inner):
                yield type(value), name, annotation, (*path, name)
    elif isinstance(value, tuple):
        for index, item in enumerate(cast("tuple[object, ...]", value)):
            yield from numbers(item, (*path, str(index)))


def _has_configs(value: object) -> bool:
    return isinstance(value, tuple) and any(
        isinstance(item, Config) for item in cast("tuple[object, ...]", value)
    )


def faults(
    names: Iterable[str], *, train: bool, seen: set[tuple[type, str, Any]] | None = None
) -> Iterator[str]:
    """What goes wrong at an edge, in words. An edge of a class's field is tried once, in the first model that has it.

    Args:
        names: Of experiments; their narrow models are tried.
        train: Whether to take a training step and a prediction, too.
        seen: Filled with the edges that were tried.
    """
    seen = set() if seen is None else seen
    for name in names:
        model: DetectorConfig = evolve(narrow(experiment(name)).model, num_classes=3)
        for cls, field, annotation, path in numbers(model):
            for edge in edges(annotation):
                if (cls, field, edge) in seen or not matches(edge, annotation):
                    continue
                seen.add((cls, field, edge))
                if problem := _fault(changed(model, path, edge), LARGER.get(name, SIDE), train=train):
                    yield f"{name}: {'.'.join(path)}={edge!r}: {problem}"


def _fault(given: DetectorConfig, side: int, *, train: bool) -> str:
    try:
        config = given.resolved()
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in config.build().parameters())
        return _trained(config, side) if train and size < MOST else ""
    except ConfigError:
        return ""  # what lies around the field refuses it
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error).splitlines()[:1]} ({frame.filename}:{frame.lineno})"


def _trained(config: DetectorConfig, side: int) -> str:
    torch.manual_seed(0)
    model = config.build()
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    targets = [objects(count, side) for count in (2, 1)]
    targets = [evolve(one, labels=one.labels.clamp(max=config.num_classes - 1)) for one in targets]
    losses = cast("dict[str, Tensor]", model.train()(images, targets))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    wrong = [key for key, loss in losses.items() if not loss.isfinite()]
    wrong += [
        f"the gradient of {key}"
        for key, parameter in model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    with torch.inference_mode():
        found = cast("list[Detections]", model.eval()(images))
    wrong += [
        "detections"
        for image in found
        if not (image.boxes.isfinite().all() and image.scores.isfinite().all())
    ]
    return f"not finite: {', '.join(wrong[:3])}" if wrong else ""


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of layers without channels
    seen: set[tuple[type, str, Any]] = set()
    count = 0
    for fault in faults(sys.argv[1:] or NAMES, train=True, seen=seen):
        count += 1
        print(fault, flush=True)  # noqa: T201 - a program's output
    print(f"{len(seen)} edges, {count} faults")  # noqa: T201
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
