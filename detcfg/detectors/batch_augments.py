"""What happens to a whole batch in training; MMDetection's `batch_augments`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from attrs import evolve, frozen
from torch import nn

from detcfg.config import ModuleConfig
from detcfg.structures import ImageBatch, Targets

Batch = tuple[ImageBatch, Sequence[Targets]]


@frozen(kw_only=True)
class BatchAugmentConfig(ModuleConfig):
    """A config that builds a `BatchAugment`."""

    @abstractmethod
    def build(self) -> BatchAugment: ...


class BatchAugment(nn.Module):
    """Another batch from a batch and its objects."""

    def forward(self, batch: ImageBatch, targets: Sequence[Targets]) -> Batch:
        raise NotImplementedError


@frozen(kw_only=True)
class BatchFixedSizePadConfig(BatchAugmentConfig):
    """Every batch has one size, at the bottom and the right of which there is padding.

    Masks need no padding: where an image ends, so do they. Follows
    mmdet/models/data_preprocessors/data_preprocessor.py.
    """

    size: tuple[int, int]
    """(height, width); a larger batch stays as it is."""
    img_pad_value: int = 0
    """What the padding holds, after normalisation."""

    def build(self) -> BatchFixedSizePad:
        return BatchFixedSizePad(self.resolved())


class BatchFixedSizePad(BatchAugment):
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
