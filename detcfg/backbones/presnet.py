"""ResNet-vd, the backbone of RT-DETR (`nn/backbone/presnet.py` of lyuwenyu/RT-DETR, after PaddleDetection's).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Final, Literal, Self

import torch.nn.functional as F
from annotated_types import Le
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.backbones.resnet import BLOCKS
from detcfg.config import ConfigError
from detcfg.config.ranges import Increasing, IntOrOff, NonNegativeInt, PositiveInt
from detcfg.layers.activation import ReLUConfig
from detcfg.layers.conv_norm import ConvNorm
from detcfg.layers.norm import BNConfig, NormConfig

RELU: Final = ReLUConfig()
STAGES: Final = 4


@frozen(kw_only=True)
class PResNetConfig(BackboneConfig):
    """ResNet-vd (He et al., 2018, https://arxiv.org/abs/1812.01187), under the names of RT-DETR's checkpoints.

    `ResNetV1dConfig` is the same network under MMDetection's names, but for two things: here a block of stride 1 does not
    average in its shortcut, and every stage of basic blocks, the first one too, begins with a convolution in the shortcut.
    """

    depth: Literal[18, 34, 50, 101, 152] = 50
    """Layers, which decide how many blocks each stage has."""
    base_channels: PositiveInt = 64
    """Width of the first stage's blocks, even; each stage doubles it."""
    out_indices: Increasing[NonNegativeInt] = (1, 2, 3)
    """The stages, from 0 to 3, whose maps are given: strides 4, 8, 16 and 32."""
    frozen_stages: Annotated[IntOrOff, Le(STAGES)] = -1
    """Train nothing up to this stage: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution. RT-DETRv2 R50 and R101 have `FrozenBNConfig()`."""
    norm_eval: bool = False
    """Batch norms use their running statistics in training too."""

    def wired(self) -> Self:
        if not self.out_indices or not set(self.out_indices) <= set(range(STAGES)):
            raise ConfigError(
                f"out_indices is {self.out_indices}; name stages from 0 to {STAGES - 1} in rising order."
            )
        if self.base_channels % 2:
            raise ConfigError(f"base_channels is {self.base_channels}, and the stem needs an even number.")
        return super().wired()

    @property
    def expansion(self) -> int:
        """Channels out of a block by its width."""
        return 4 if self.depth >= 50 else 1

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels out of each stage."""
        return tuple(self.base_channels * 2**stage * self.expansion for stage in range(STAGES))

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(self.stage_channels[i] for i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(4 * 2**i for i in self.out_indices)

    def build(self) -> PResNet:
        return PResNet(self.resolved())


class PBlock(nn.Module):
    """`relu(branch(x) + short(x))`: two 3x3 convolutions, or a 1x1, a 3x3 and a 1x1 one."""

    def __init__(
        self, config: PResNetConfig, in_channels: int, width: int, *, stride: int, first: bool
    ) -> None:
        super().__init__()
        norm, out_channels = config.norm_cfg, width * config.expansion
        if first:
            self.short = _shortcut(in_channels, out_channels, stride, norm)
        if config.expansion == 1:
            self.branch2a = ConvNorm(in_channels, width, 3, stride=stride, norm_cfg=norm, act_cfg=RELU)
            self.branch2b = ConvNorm(width, width, 3, norm_cfg=norm)
            self.branch2c: nn.Module = nn.Identity()
        else:
            self.branch2a = ConvNorm(in_channels, width, norm_cfg=norm, act_cfg=RELU)
            self.branch2b = ConvNorm(width, width, 3, stride=stride, norm_cfg=norm, act_cfg=RELU)
            self.branch2c = ConvNorm(width, out_channels, norm_cfg=norm)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch2c(self.branch2b(self.branch2a(x)))
        return (branch + (self.short(x) if self.first else x)).relu()


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: NormConfig) -> nn.Module:
    """A 1x1 convolution, behind a pooling where the block has a stride."""
    conv = ConvNorm(in_channels, out_channels, norm_cfg=norm)
    if stride == 1:
        return conv
    return nn.Sequential(OrderedDict(pool=nn.AvgPool2d(stride, ceil_mode=True), conv=conv))


class PStage(nn.Module):
    """The blocks of one stage."""

    def __init__(self, config: PResNetConfig, stage: int, in_channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PBlock(
                config,
                in_channels if index == 0 else config.stage_channels[stage],
                config.base_channels * 2**stage,
                stride=2 if index == 0 and stage > 0 else 1,
                first=index == 0,
            )
            for index in range(BLOCKS[config.depth][stage])
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class PResNet(StagedBackbone):
    """A stem of three convolutions and a pooling to stride 4, and four stages."""

    def __init__(self, config: PResNetConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        width, norm = config.base_channels, config.norm_cfg
        self.conv1 = nn.Sequential(
            OrderedDict(
                conv1_1=ConvNorm(3, width // 2, 3, stride=2, norm_cfg=norm, act_cfg=RELU),
                conv1_2=ConvNorm(width // 2, width // 2, 3, norm_cfg=norm, act_cfg=RELU),
                conv1_3=ConvNorm(width // 2, width, 3, norm_cfg=norm, act_cfg=RELU),
            )
        )
        before = (width, *config.stage_channels)
        self.res_layers = nn.ModuleList(PStage(config, stage, before[stage]) for stage in range(STAGES))
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = F.max_pool2d(self.conv1(images), 3, stride=2, padding=1)
        outs: list[Tensor] = []
        for index, stage in enumerate(self.res_layers):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        return [self.conv1, *self.res_layers][: self.frozen_stages + 1]
