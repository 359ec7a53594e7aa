"""What every box coder does: boxes to regression targets, and predictions back to boxes.

Shapes: N priors of one image, C numbers that a head regresses for a box.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from attrs import frozen

from detcfg.config import Config

if TYPE_CHECKING:
    from torch import Tensor


@frozen(kw_only=True)
class BBoxCoderConfig(Config, ABC):
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas.

    The base of box coders. They have no weights: the config itself encodes and decodes, and where no bound clips,
    the two are each other's inverse: `deltas == encode(priors, decode(priors, deltas))` and
    `boxes == decode(priors, encode(priors, boxes))`, up to rounding.

    >>> import torch
    >>> from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
    >>> coder = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    >>> priors = torch.tensor([[0.0, 0.0, 16.0, 32.0]])
    >>> boxes = torch.tensor([[4.0, 0.0, 20.0, 16.0]])
    >>> deltas = coder.encode(priors, boxes)
    >>> deltas
    tensor([[ 2.5000, -2.5000,  0.0000, -3.4657]])
    >>> coder.decode(priors, deltas)
    tensor([[ 4.,  0., 20., 16.]])
    """

    @property
    def encode_size(self) -> int:
        """C: how many numbers a head regresses for a box."""
        return 4

    @abstractmethod
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """The deltas (N, C) from priors (N, 4) to boxes (N, 4), both xyxy in pixels: the regression targets."""

    @abstractmethod
    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (N, 4) that predicted deltas (N, C) make of priors (N, 4).

        With `max_shape` = (height, width) of the image, in pixels, coders with `clip_border` clip boxes to it.
        """


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(C,): numbers as a tensor of the type and on the device of `like`, without waiting for that device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
