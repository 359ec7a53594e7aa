"""Augmentations of whole batches; MMDetection's `batch_augments`."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge, Le
from attrs import evolve, frozen
from torch import nn

from detcfg.config import ModuleConfig
from detcfg.config.ranges import Ordered, PositiveInt, Seed
from detcfg.layers.epochs import FollowsEpochs
from detcfg.structures import ImageBatch, Targets

Batch = tuple[ImageBatch, Sequence[Targets]]


@frozen(kw_only=True)
class BatchAugmentConfig(ModuleConfig):
    """A config that builds a `BatchAugment`."""

    @abstractmethod
    def build(self) -> BatchAugment: ...


class BatchAugment(nn.Module):
    """(batch, targets) to an augmented (batch, targets)."""

    def forward(self, batch: ImageBatch, targets: Sequence[Targets]) -> Batch:
        raise NotImplementedError


@frozen(kw_only=True)
class BatchFixedSizePadConfig(BatchAugmentConfig):
    """Pads every batch at the bottom and the right to one size.

    Masks need no padding: where an image ends, so do they. Follows
    mmdet/models/data_preprocessors/data_preprocessor.py.
    """

    size: tuple[PositiveInt, PositiveInt]
    """(height, width); a larger batch stays as it is."""
    img_pad_value: Annotated[int, Ge(0), Le(255)] = 0
    """Value of the padding, after normalisation."""

    def build(self) -> BatchFixedSizePad:
        return BatchFixedSizePad(self.resolved())


class BatchFixedSizePad(BatchAugment):
    """Pads the images; boxes and masks stay."""

    def __init__(self, config: BatchFixedSizePadConfig) -> None:
        super().__init__()
        self.size = config.size
        self.img_pad_value = config.img_pad_value

    def forward(self, batch: ImageBatch, targets: Sequence[Targets]) -> Batch:
        height, width = batch.tensor.shape[-2:]
        below, right = max(0, self.size[0] - height), max(0, self.size[1] - width)
        if below == 0 and right == 0:
            return batch, targets
        padded = F.pad(batch.tensor, (0, right, 0, below), value=self.img_pad_value)
        size = (height + below, width + right)
        return evolve(batch, tensor=padded, padded_sizes=(size,) * len(batch)), targets


@frozen(kw_only=True)
class BatchSyncRandomResizeConfig(BatchAugmentConfig):
    """Resizes batches to a random size, the same on all processes, drawn anew every `interval` steps.

    Follows mmdet/models/data_preprocessors/data_preprocessor.py.
    """

    random_size_range: Ordered[PositiveInt]
    """The least and the greatest height, in pixels; the width keeps the batch's aspect ratio."""
    interval: PositiveInt = 10
    """Steps between one size and the next. The first `interval` batches keep their size."""
    size_divisor: PositiveInt = 32
    """Height and width are multiples of it."""
    seed: Seed = 0
    """Decides the sizes, together with epoch and step, so that processes need not speak to each other."""

    def build(self) -> BatchSyncRandomResize:
        return BatchSyncRandomResize(self.resolved())


class BatchSyncRandomResize(BatchAugment, FollowsEpochs):
    """A size goes by the epoch and the step in it, so that a training that goes on has the same ones."""

    def __init__(self, config: BatchSyncRandomResizeConfig) -> None:
        super().__init__()
        low, high = config.random_size_range
        self.lengths = round(low / config.size_divisor), round(high / config.size_divisor)
        self.interval = config.interval
        self.size_divisor = config.size_divisor
        self.seed = config.seed
        self._epoch_and_steps = (0, 0)

    def forward(self, batch: ImageBatch, targets: Sequence[Targets]) -> Batch:
        epoch, steps = self._epoch_and_steps
        steps = steps if epoch == self.epoch else 0
        self._epoch_and_steps = (self.epoch, steps + 1)
        turn = steps // self.interval
        if self.epoch == 0 and turn == 0:
            return batch, targets
        length = random.Random(f"{self.seed} {self.epoch} {turn}").randint(*self.lengths)  # noqa: S311
        height, width = batch.tensor.shape[-2:]
        size = (length * self.size_divisor, int(width / height * length) * self.size_divisor)
        return resized(batch, targets, size)


def resized(batch: ImageBatch, targets: Sequence[Targets], size: tuple[int, int]) -> Batch:
    """A batch and its targets at another (height, width)."""
    y, x = size[0] / batch.tensor.shape[-2], size[1] / batch.tensor.shape[-1]
    if y == x == 1:
        return batch, targets
    resized_batch = ImageBatch(
        tensor=F.interpolate(batch.tensor, size=size, mode="bilinear"),
        sizes=tuple((int(height * y), int(width * x)) for height, width in batch.sizes),
        padded_sizes=tuple((int(height * y), int(width * x)) for height, width in batch.padded_sizes),
        output_sizes=batch.output_sizes,
    )
    factors = batch.tensor.new_tensor((x, y, x, y))
    return resized_batch, [evolve(objects, boxes=objects.boxes * factors) for objects in targets]
