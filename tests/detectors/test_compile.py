"""Compiled backbones and necks: the same losses, for few shapes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from detcfg.detectors.backbone_neck import BackboneNeckDetector
from detcfg.detectors.base import Detector
from detcfg.structures import Targets
from tests.support.tiny import Experiment

TARGETS = Targets(
    boxes=torch.tensor([[4.0, 5.0, 30.0, 40.0], [20.0, 20.0, 44.0, 48.0]]), labels=torch.tensor([0, 1])
)
MAPS = tuple(zip((8, 16, 32, 64), (4, 8, 16, 32), strict=True))
"""Channels and strides of the backbone's feature maps."""


def detector() -> Detector:
    torch.manual_seed(0)
    return Experiment().resolved().model.build().double().train()


def image(height: int, width: int) -> Tensor:
    values = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (3, height, width), generator=values, dtype=torch.uint8)


class Counting:
    """A backend that compiles nothing, and remembers the shapes that it was asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, graph: nn.Module, inputs: list[Any]) -> Callable[..., Any]:
        maps = [tuple(x.shape) for x in inputs if x.ndim == 4 and x.shape[0] == 1]  # the others are weights
        self.shapes.append(max(maps, key=lambda shape: shape[-1]))
        return graph.forward


def loss_and_gradients(model: Detector) -> dict[str, Tensor]:
    torch.manual_seed(1)  # for the samplers
    losses = model.loss([image(60, 70), image(50, 64)], [TARGETS] * 2)
    torch.stack(list(losses.values())).sum().backward()
    return losses | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def apart(test: Callable[[], None]) -> Callable[[], None]:
    """A test in a process of its own: a compiler leaves threads behind, with which others could not be forked."""

    @wraps(test)
    def run() -> None:
        process = get_context("fork").Process(target=test)
        process.start()
        process.join()
        assert process.exitcode == 0, "see what it printed"

    return run


@apart
def test_losses_and_gradients_are_those_of_the_plain_model() -> None:
    plain, compiled = detector(), detector().compile_features(32, "aot_eager")

    torch.testing.assert_close(loss_and_gradients(compiled), loss_and_gradients(plain))


@apart
def test_many_sizes_of_images_are_few_shapes_and_each_image_ends_where_it_did() -> None:
    counting = Counting()
    model = detector().compile_features(128, counting)
    sizes = [(height, width) for height in (60, 90, 120, 140) for width in (70, 100, 125, 130)]

    for size in sizes:
        model.loss([image(*size)], [TARGETS])
        batch = model.data_preprocessor([image(*size)])
        assert batch.sizes == (size,)
        assert batch.padded_sizes == (tuple(-(-length // 32) * 32 for length in size),)

    expected = {(1, 3, height, width) for height in (128, 256) for width in (128, 256)}
    assert sorted(shape for shape in counting.shapes if shape[1] == 3) == sorted(expected)


@apart
def test_the_shapes_of_a_long_training_do_not_run_out() -> None:
    counting = Counting()
    model = detector().compile_features(32, counting)
    assert isinstance(model, BackboneNeckDetector)
    assert model.neck is not None

    for width in range(32, 32 * 13, 32):  # more than torch compiles of itself
        model.neck(
            tuple(
                torch.zeros(1, channels, 32 // stride, width // stride).double() for channels, stride in MAPS
            )
        )

    assert len(counting.shapes) == 12


@apart
def test_an_average_of_the_weights_is_a_model_of_its_own() -> None:
    model = detector().compile_features(32, Counting())
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()

    assert model.state_dict().keys() == detector().state_dict().keys()
    assert not any(feature.any() for feature in copy.extract_features(torch.ones(1, 3, 64, 64).double()))
    assert any(feature.any() for feature in model.extract_features(torch.ones(1, 3, 64, 64).double()))
