"""What every box coder does: boxes to what a head regresses, and back.

Shapes: N priors of one image, C numbers that describe a box.
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
    """The base of box coders. They hold no weights: the config itself codes."""

    @property
    def encode_size(self) -> int:
        """C: how many numbers describe a box."""
        return 4

    @abstractmethod
    def encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        """What leads from priors (N, 4) to boxes (N, 4): (N, C)."""

    @abstractmethod
    def decode(self, priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
        """The boxes (N, 4) to which predictions (N, C) lead from priors (N, 4).

        With `max_shape` = (height, width), coders that clip keep them within the image.
        """


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(C,): numbers as a tensor beside `like`, without waiting for its device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
