"""Convolutions with standardised weights (mmcv/cnn/bricks/conv_ws.py)."""

from __future__ import annotations

from attrs import asdict, frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.config.ranges import PositiveFloat
from detcfg.layers.conv import ConvConfig, ConvSpec


@frozen(kw_only=True)
class ConvWSConfig(ConvConfig):
    """Weight standardisation (Qiao et al., 2019, https://arxiv.org/abs/1903.10520)."""

    eps: PositiveFloat = 1e-5
    """Added to the standard deviation of each filter."""

    def build_for(self, spec: ConvSpec) -> ConvWS2d:
        return ConvWS2d(spec, eps=self.eps)


class ConvWS2d(nn.Conv2d):
    """Each filter has mean 0 and standard deviation 1 when it is applied."""

    def __init__(self, spec: ConvSpec, *, eps: float = 1e-5) -> None:
        super().__init__(**asdict(spec))  # pyright: ignore[reportUnknownMemberType]  # torch leaves `device` untyped
        self.eps = eps

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name is nn.Conv2d's
        filters = self.weight.flatten(1)
        mean, std = filters.mean(1), filters.std(1)
        weight = (self.weight - mean.view(-1, 1, 1, 1)) / (std.view(-1, 1, 1, 1) + self.eps)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
