"""Batch norm whose statistics, scale and shift are fixed."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detcfg.layers.norm import NormConfig


@frozen(kw_only=True)
class FrozenBNConfig(NormConfig):
    """Batch norm as a fixed scale and shift of each channel, for pretrained weights and small batches.

    All four tensors are buffers and there is no `num_batches_tracked`, as in detectron2, DETR and D-FINE. MMDetection
    freezes the parameters of an ordinary batch norm instead: `BNConfig(requires_grad=False)` with `norm_eval`.
    """

    abbr: ClassVar[str] = "bn"
    """What names the layer within its parent."""

    def layer(self, channels: int) -> nn.Module:
        return FrozenBatchNorm2d(channels, eps=self.eps)
