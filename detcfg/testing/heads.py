"""The contracts of dense heads and RoI heads. B images, K classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import attrs
import torch
from attrs import evolve
from torch import Tensor, nn

from detcfg.config import Config
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets
from detcfg.testing.expect import expect, expect_tensor, masks_of

HEIGHT, WIDTH = 96, 128
SIZES: Final = ((HEIGHT, WIDTH), (80, 112))
"""(height, width) of two images of a batch, of which one is padded."""
OUTPUTS: Final = ((2 * HEIGHT, 2 * WIDTH), (80, 112))
"""One image was twice as large before."""

H = TypeVar("H", DenseHeadConfig, RoIHeadConfig)
Loss = Callable[[Sequence[int], Sequence[Targets]], dict[str, Tensor]]
Predict = Callable[[Sequence[int]], list[Detections]]


def check_dense_head(config: DenseHeadConfig) -> None:
    config = _taking_all(config)
    head = config.build()
    channels = (
        config.in_channels
        if isinstance(config.in_channels, tuple)
        else (config.in_channels,) * len(config.in_strides)
    )
    features = _features(channels, config.in_strides)

    def loss(images: Sequence[int], targets: Sequence[Targets]) -> dict[str, Tensor]:
        return head.loss(_of(features, images), _batch(images), [targets[i] for i in images])

    def predict(images: Sequence[int]) -> list[Detections]:
        return head.predict(_of(features, images), _batch(images))

    _check_head(config, head, features, loss, predict)


def check_roi_head(config: RoIHeadConfig) -> None:
    config = _taking_all(config)
    head = config.build()
    features = _features((config.in_channels,) * len(config.in_strides), config.in_strides)
    proposals = [_proposals(i) for i in range(len(SIZES))]

    def loss(images: Sequence[int], targets: Sequence[Targets]) -> dict[str, Tensor]:
        proposed = [proposals[i] for i in images]
        return head.loss(_of(features, images), proposed, _batch(images), [targets[i] for i in images])

    def predict(images: Sequence[int]) -> list[Detections]:
        return head.predict(_of(features, images), [proposals[i] for i in images], _batch(images))

    _check_head(config, head, features, loss, predict)
    nothing = [proposal[:0] for proposal in proposals]
    with torch.no_grad():
        found = head.predict(features, nothing, _batch((0, 1)))
    expect(
        config, "of no proposals predict has to make no detections", holds=[len(d) for d in found] == [0, 0]
    )


def _check_head(
    config: DenseHeadConfig | RoIHeadConfig,
    head: nn.Module,
    features: tuple[Tensor, ...],
    loss: Loss,
    predict: Predict,
) -> None:
    found = (_objects(0, config), _objects(1, config, 1))
    none, hidden = _objects(0, config, 0), _objects(1, config)
    hidden = evolve(hidden, ignored=torch.ones(len(hidden), dtype=torch.bool))
    kinds = {
        "of images with objects": found,
        "of an image without objects and one whose objects are ignored": (none, hidden),
    }
    head.train()
    for name, targets in kinds.items():
        _check_losses(config, head, features, name, loss((0, 1), targets))
    _check_order(config, head, found, loss)
    _check_detections(config, head, predict)


def _check_losses(
    config: Config, head: nn.Module, features: tuple[Tensor, ...], name: str, losses: dict[str, Tensor]
) -> None:
    for key, value in losses.items():
        expect_tensor(config, f"{name} {key}", value, (), torch.float32)
        expect(config, f"{name} {key} has to be finite, and is {value}", holds=bool(value.isfinite()))
    total = _total(losses)
    expect(config, f"{name} the losses have to pass a gradient", holds=total.requires_grad)
    trained = {key: p for key, p in head.named_parameters() if p.requires_grad}
    values: Any = torch.autograd.grad(total, [*features, *trained.values()], allow_unused=True)
    maps, gradients = values[: len(features)], dict(zip(trained, values[len(features) :], strict=True))
    unused = [key for key, gradient in gradients.items() if gradient is None]
    expect(config, f"{name} no loss depends on the parameter {(unused or [''])[0]}", holds=not unused)
    finite = all(bool(x.isfinite().all()) for x in (*maps, *gradients.values()) if x is not None)
    expect(config, f"{name} gradients have to be finite", holds=finite)
    expect(config, f"{name} no loss depends on the feature maps", holds=any(x is not None for x in maps))


def _check_order(config: Config, head: nn.Module, targets: Sequence[Targets], loss: Loss) -> None:
    """In evaluation mode, where no layer is random nor remembers its calls; a sampler may be random all the same."""
    head.eval()
    totals: list[Tensor] = []
    with torch.no_grad():
        for seed, images in enumerate(((0, 1), (0, 1), (1, 0))):
            torch.default_generator.manual_seed(seed)
            totals.append(_total(loss(images, targets)))
    first, repeated, swapped = totals
    if repeated.equal(first):
        same = torch.allclose(swapped, first, rtol=1e-4, atol=1e-5)
        expect(
            config,
            f"two images swapped have to give the same sum of losses: {first:.6g}, not {swapped:.6g}",
            holds=same,
        )


@torch.no_grad()
def _check_detections(config: DenseHeadConfig | RoIHeadConfig, head: nn.Module, predict: Predict) -> None:
    head.eval()
    found = predict((0, 1))
    expect(config, "predict has to give a list with the Detections of each image", holds=len(found) == 2)
    for detections, (height, width) in zip(found, OUTPUTS, strict=True):
        count = len(detections)
        expect_tensor(config, "boxes", detections.boxes, (count, 4), torch.float32)
        expect_tensor(config, "scores", detections.scores, (count,), torch.float32)
        expect_tensor(config, "labels", detections.labels, (count,), torch.int64)
        labels, scores = detections.labels, detections.scores
        within = bool(((labels >= 0) & (labels < config.num_classes)).all())
        expect(config, "labels have to count the classes from 0", holds=within)
        finite = bool(detections.boxes.isfinite().all() and scores.isfinite().all())
        expect(config, "boxes and scores have to be finite", holds=finite)
        expect(config, "scores have to fall", holds=bool((scores.diff() <= 0).all()))
        if detections.masks is None:  # else a score may be a product with the mask's predicted quality
            within = bool(((scores >= 0) & (scores <= 1)).all())
            expect(config, "scores have to be in [0, 1]", holds=within)
        else:
            size = tuple(detections.masks.shape)
            expect(
                config,
                f"masks have to be {(count, height, width)}, and are {size}",
                holds=size == (count, height, width),
            )
            kind = detections.masks[:1].dtype
            expect(config, f"masks have to be bool, and are {kind}", holds=kind == torch.bool)
    for image, detections in enumerate(found):
        (alone,) = predict((image,))
        same = len(detections) == len(alone) and torch.allclose(detections.scores, alone.scores, atol=1e-4)
        expect(config, "an image has to have the same detections alone as beside another", holds=same)


def _total(losses: dict[str, Tensor]) -> Tensor:
    """As training sums them: what has no "loss" in its name, such as an accuracy, is a figure to look at."""
    return torch.stack([value for name, value in losses.items() if "loss" in name]).sum()


def _taking_all(config: H) -> H:
    """The head with a threshold of 0, since it is sure of nothing before it is trained, and few detections."""
    test_cfg: Any = getattr(config, "test_cfg", None)
    if not isinstance(test_cfg, Config):
        return config
    chosen = {"score_thr": 0.0, "nms_pre": 50, "max_per_img": 10}
    known = attrs.fields_dict(type(test_cfg))
    fewer: Any = {name: value for name, value in chosen.items() if name in known}
    changes: Any = {"test_cfg": evolve(test_cfg, **fewer)}
    return evolve(config, **changes)


def _features(channels: Sequence[int], strides: Sequence[int]) -> tuple[Tensor, ...]:
    sizes = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in strides]
    return tuple(
        torch.randn(len(SIZES), width, *size).requires_grad_()
        for width, size in zip(channels, sizes, strict=True)
    )


def _of(features: tuple[Tensor, ...], images: Sequence[int]) -> tuple[Tensor, ...]:
    return tuple(x[list(images)] for x in features)


def _batch(images: Sequence[int]) -> ImageBatch:
    return ImageBatch(
        tensor=torch.zeros(len(images), 3, HEIGHT, WIDTH),
        sizes=tuple(SIZES[i] for i in images),
        padded_sizes=((HEIGHT, WIDTH),) * len(images),
        output_sizes=tuple(OUTPUTS[i] for i in images),
    )


def _objects(image: int, config: DenseHeadConfig | RoIHeadConfig, count: int = 2) -> Targets:
    """With masks that fill their boxes."""
    boxes = torch.tensor([[10.0, 12.0, 50.0, 46.0], [40.0, 30.0, 100.0, 74.0]])[:count] + 4 * image
    labels = torch.arange(count) % config.num_classes
    return Targets(
        boxes=boxes,
        labels=labels,
        masks=masks_of(boxes, SIZES[image]),
        semantic=torch.zeros(SIZES[image], dtype=torch.uint8),
    )


def _proposals(image: int) -> Detections:
    """Some near an image's objects, others at random."""
    height, width = SIZES[image]
    near = torch.tensor([[10.0, 12.0, 50.0, 46.0], [40.0, 30.0, 100.0, 74.0]]).repeat(4, 1) + 4 * image
    near = near + 4 * torch.rand_like(near) - 2
    corners = torch.rand(16, 2) * torch.tensor([width - 40.0, height - 40.0])
    boxes = torch.cat([near, torch.cat([corners, corners + 8 + 32 * torch.rand(16, 2)], dim=1)])
    return Detections(
        boxes=boxes,
        scores=torch.linspace(1, 0.1, len(boxes)),
        labels=torch.zeros(len(boxes), dtype=torch.int64),
    )
