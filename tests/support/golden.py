"""Compare a model with what MMDetection computed on the same weights and images.

Each number that is compared is a figure with a tolerance. Programs, processors and releases of torch add in different
orders, which most figures do not feel, and some do: the area of a mask of three pixels' width, a score next to
a threshold. Which those are, nobody lists. Where a figure misses its tolerance, `judge` disturbs the weights of *our*
model by a millionth, several times, and sees how far each figure moves: what moves as far as it deviates was never
determined by the weights. What does not move has to agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import attrs
import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import Config
from detcfg.detectors.base import Detector, DetectorConfig
from detcfg.structures import Detections, Targets
from tests.goldens import fill
from tests.support import figures

C = TypeVar("C", bound=Config)
Numbers = dict[str, float]

NOISE: Final = 1e-6
"""Of a weight, relative: some rounding errors of single precision."""
DRAWS: Final = 8
FACTOR: Final = 3.0
"""How much further than the furthest draw a figure may be off."""
EXCUSED: Final = 0.1
"""Of a model's figures, at most, may be ill-conditioned."""

LOOSE: Final = 1e-2
"""The relative change by noise above which MMDetection's own figures are ill-conditioned."""


@frozen
class Expected:
    """What MMDetection computed, and how near to it ours has to be."""

    value: float
    tolerance: float


def judge(
    expected: Mapping[str, Expected],
    model: nn.Module,
    compute: Callable[[], Numbers],
    excused: float = EXCUSED,
) -> list[str]:
    """The figures of a model that are wrong, in words; none if all are right.

    A figure is right within its tolerance, and one that is not within `FACTOR` times as far as noise moves it. Noise
    is drawn where a figure misses its tolerance, until all that do are explained, `DRAWS` times at most.

    Args:
        expected: The figures, by name.
        model: What `compute` computes them with; its weights are disturbed for a while.
        compute: Gives our figures.
        excused: The share of the figures that may miss their tolerance.
    """
    found = compute()
    if found.keys() != expected.keys():
        return [f"{key}: only one program has it" for key in sorted(found.keys() ^ expected.keys())]
    gaps = {key: _distance(found[key], figure.value) for key, figure in expected.items()}
    missing = {key for key, figure in expected.items() if gaps[key] > figure.tolerance}
    moved = dict.fromkeys(missing, 0.0)
    wrong = missing
    seeds = range(DRAWS if len(missing) <= excused * len(expected) else 0)
    for seed in seeds:
        if not wrong:
            break
        with _noise(model, seed):
            noisy = compute()
        for key in missing:
            moved[key] = max(moved[key], _distance(noisy[key], found[key]))
        wrong = {key for key in wrong if gaps[key] > expected[key].tolerance + FACTOR * moved[key]}
    said = "noise moves it by {:g}" if seeds else f"more than {excused:.0%} of the figures are off"
    return [
        f"{key} is {found[key]:g}, and {expected[key].value:g} in MMDetection, within {expected[key].tolerance:g}; "
        + said.format(moved[key])
        for key in sorted(wrong)
    ]


def _distance(one: float, other: float) -> float:
    """Between two numbers; infinite if one of the two is not there."""
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other)


@contextmanager
def _noise(model: nn.Module, seed: int) -> Iterator[None]:
    """Other weights for a while."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    before = [tensor.clone() for tensor in tensors]
    generator = torch.Generator().manual_seed(seed)
    for tensor in tensors:
        tensor.mul_(1 + NOISE * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
    try:
        yield
    finally:
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)


def as_made(config: C, path: tuple[str, ...] = ()) -> C:
    """The config with which goldens were made: samplers take all, and the RPN gives 64 proposals."""
    changes: dict[str, Any] = {}
    for name in attrs.fields_dict(type(config)):
        value = getattr(config, name)
        if isinstance(value, Config):
            changes[name] = as_made(value, (*path, name))
        elif isinstance(value, tuple):
            items = cast("tuple[object, ...]", value)
            if any(isinstance(item, Config) for item in items):
                changes[name] = tuple(
                    as_made(i, (*path, name)) if isinstance(i, Config) else i for i in items
                )
        elif name == "max_per_img" and "rpn_head" in path:
            changes[name] = 64
        elif name == "num" and isinstance(config, RandomSamplerConfig):
            changes[name] = 10**7
    return evolve(config, **changes) if changes else config


def filled(config: DetectorConfig) -> Detector:
    """The model of a golden, with the weights that every program agrees on."""
    torch.manual_seed(0)
    model = config.build()
    model.load_state_dict({name: _fill(name, t.shape, t.dtype) for name, t in model.state_dict().items()})
    return model


# Most models share their backbone: of two in a row, a large part is computed once.
_fill = lru_cache(maxsize=512)(fill.fill)


def images(name: str) -> list[Tensor]:
    data = figures.model(name)
    pairs = zip(data["sizes"], data["image_seeds"], strict=True)
    return [fill.image(height, width, seed) for (height, width), seed in pairs]


def targets(name: str) -> list[Targets]:
    data = figures.model(name)
    made: list[Targets] = []
    for (height, width), seed in zip(data["sizes"], data["image_seeds"], strict=True):
        objects = data["targets"][str(seed)]
        boxes = torch.tensor(objects["boxes"], dtype=torch.float32)
        labels = torch.tensor(objects["labels"])
        made.append(Targets(boxes=boxes, labels=labels, masks=ellipses(boxes, height, width)))
    return made


def ellipses(boxes: Tensor, height: int, width: int) -> Tensor:
    """(N, H, W) bool: the pixels whose centres lie in or on the ellipse inscribed in each box."""
    x = (torch.arange(width) + 0.5)[None, None]
    y = (torch.arange(height) + 0.5)[None, :, None]
    center = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, :, None, None]
    radius = ((boxes[:, 2:] - boxes[:, :2]) / 2)[:, :, None, None]
    distance = ((x - center[:, 0]) / radius[:, 0]) ** 2 + ((y - center[:, 1]) / radius[:, 1]) ** 2
    return distance <= 1


def check_state_dict(name: str, model: Detector) -> None:
    """The same tensors, by name and shape."""
    got = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    expected = figures.model(name)["state_dict"]

    assert sorted(expected) == sorted(got)
    assert expected == got


def check_detections(name: str, model: Detector) -> None:
    """Labels, scores, boxes and areas of masks, of the detections that lead by score."""
    pictures = images(name)
    model.eval()

    def compute() -> Numbers:
        with torch.inference_mode():
            found = cast("list[Detections]", model(pictures))
        return dict(_detected(name, found))

    assert not judge(dict(_expected_detections(name)), model, compute)


def check_losses(name: str, model: Detector) -> None:
    """Losses in training, and the norm of each parameter's gradient."""
    pictures, objects = images(name), targets(name)
    model.train()

    def compute() -> Numbers:
        torch.manual_seed(0)
        losses = cast("dict[str, Tensor]", model(pictures, objects))
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        found = {f"losses: {key}": float(loss.detach()) for key, loss in losses.items()}
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        return found | {f"gradients: {key}": float(gradient.norm()) for key, gradient in gradients.items()}

    loose = figures.model(name)["stable"]["grad_norms"] > LOOSE
    assert not judge(_expected_losses(name), model, compute, excused=0.5 if loose else EXCUSED)


def _expected_detections(name: str) -> Iterator[tuple[str, Expected]]:
    data = figures.model(name)
    for index, (reference, leading) in enumerate(
        zip(data["detections"], data["stable"]["leading_detections"], strict=True)
    ):
        near = max(0.05, 1e-4 * max(data["sizes"][index]))
        for row in range(leading):
            here = f"detection {row} of image {index}:"
            yield f"{here} label", Expected(reference["labels"][row], 0)
            yield f"{here} score", Expected(reference["scores"][row], 1e-3)
            for side, value in zip(("x1", "y1", "x2", "y2"), reference["boxes"][row], strict=True):
                yield f"{here} {side}", Expected(value, near)
            if "mask_areas" in reference:
                area = reference["mask_areas"][row]
                yield f"{here} mask area", Expected(area, max(3, 0.01 * area))


def _detected(name: str, found: list[Detections]) -> Iterator[tuple[str, float]]:
    data = figures.model(name)
    for index, (image, reference) in enumerate(zip(found, data["detections"], strict=True)):
        columns = [image.labels[:, None], image.scores[:, None], image.boxes]
        whats = ["label", "score", "x1", "y1", "x2", "y2"]
        if image.masks is not None:
            columns.append(image.masks.sum((1, 2))[:, None])
            whats.append("mask area")
        numbers: list[list[float]] = torch.cat([column.double() for column in columns], dim=1).tolist()
        order = _in_order(image, reference, data["stable"]["leading_detections"][index])
        for row, at in enumerate(order):
            values = [math.nan] * len(whats) if at is None else numbers[at]
            for what, value in zip(whats, values, strict=True):
                yield f"detection {row} of image {index}: {what}", value


def _in_order(own: Detections, reference: dict[str, Any], leading: int) -> list[int | None]:
    """The counterparts of the leading detections: scores that nearly tie may come in either order."""
    order: list[int | None] = []
    for row in range(leading):
        same = own.labels == reference["labels"][row]
        same[[i for i in order if i is not None]] = False
        near = same & ((own.scores - reference["scores"][row]).abs() <= 1e-3)
        distance = (own.boxes - torch.tensor(reference["boxes"][row])).abs().amax(1)
        distance[~(near if near.any() else same)] = torch.inf
        order.append(int(distance.argmin()) if same.any() else None)
    return order


def _expected_losses(name: str) -> dict[str, Expected]:
    data = figures.model(name)
    stable = data["stable"]
    expected: dict[str, Expected] = {}
    for key, value in data["losses"].items():
        moved = stable["losses"].get(key, 0)
        tolerance = max(1e-4, 20 * moved) if moved <= LOOSE else math.inf
        expected[f"losses: {key}"] = Expected(value, max(1e-7, tolerance * abs(value)))
    moved = stable["grad_norms"]
    tolerance = max(1e-3, 20 * moved) if moved <= LOOSE else 0.01
    for key, value in data["grad_norms"].items():
        expected[f"gradients: {key}"] = Expected(value, max(1e-6, tolerance * abs(value)))
    return expected
