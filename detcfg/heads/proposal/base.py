"""What a two-stage detector asks of its first stage.

Shapes: B images; features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.geometry import scale_boxes
from detcfg.config import derived
from detcfg.config.ranges import PositiveInt
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class ProposalHeadConfig(DenseHeadConfig):
    """A config that builds a `ProposalHead`. It tells objects from background, not one class from another."""

    num_classes: PositiveInt = 1
    """K, without background."""
    in_channels: PositiveInt = derived()
    """Channels of every feature map."""

    @abstractmethod
    def build(self) -> ProposalHead: ...


class ProposalHead(DenseHead):
    """A dense head whose detections are proposals to a RoI head."""

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """The losses, under names with "rpn", and proposals in network pixels, without gradients."""
        raise NotImplementedError

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The proposals of each image in network pixels."""
        raise NotImplementedError


def as_one_class(targets: Sequence[Targets]) -> list[Targets]:
    """The ground truth with all objects of one class, 0."""
    return [evolve(target, labels=torch.zeros_like(target.labels)) for target in targets]


def in_output_pixels(proposals: Sequence[Detections], batch: ImageBatch) -> list[Detections]:
    """Proposals in network pixels as detections."""
    return [
        evolve(image, boxes=scale_boxes(image.boxes, batch.scales(index)))
        for index, image in enumerate(proposals)
    ]
