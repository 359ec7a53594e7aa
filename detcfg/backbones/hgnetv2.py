"""HGNetV2, the backbone of RT-DETR and D-FINE (`nn/backbone/hgnetv2.py` of Peterande/D-FINE).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

from typing import Final, Literal, Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.config import ConfigError
from detcfg.config.ranges import Increasing, IntOrOff, NonNegativeInt
from detcfg.layers.learnable_affine import LearnableAffine
from detcfg.layers.norm import BNConfig, NormConfig

Arch = Literal["B0", "B1", "B2", "B3", "B4", "B5", "B6"]


@frozen(kw_only=True)
class Stage:
    """A downsampling and a run of blocks."""

    mid_channels: int
    """Channels of each layer of a block."""
    channels: int
    """Channels that come out."""
    num_blocks: int
    light: bool
    """Whether a layer is a 1x1 convolution and one for each channel alone."""
    kernel_size: int
    num_layers: int
    """Layers of a block."""


def _stages(
    mids: tuple[int, ...], outs: tuple[int, ...], blocks: tuple[int, ...], layers: int
) -> tuple[Stage, ...]:
    """The four stages of a width: the last two are light and have kernels of 5."""
    return tuple(
        Stage(
            mid_channels=mid,
            channels=out,
            num_blocks=num,
            light=i >= 2,
            kernel_size=5 if i >= 2 else 3,
            num_layers=layers,
        )
        for i, (mid, out, num) in enumerate(zip(mids, outs, blocks, strict=True))
    )


ARCHS: Final[dict[Arch, tuple[tuple[int, int], tuple[Stage, ...]]]] = {
    "B0": ((16, 16), _stages((16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1), 3)),
    "B1": ((24, 32), _stages((32, 48, 96, 192), (64, 256, 512, 1024), (1, 1, 2, 1), 3)),
    "B2": ((24, 32), _stages((32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), 4)),
    "B3": ((24, 32), _stages((32, 64, 128, 256), (128, 512, 1024, 2048), (1, 1, 3, 1), 5)),
    "B4": ((32, 48), _stages((48, 96, 192, 384), (128, 512, 1024, 2048), (1, 1, 3, 1), 6)),
    "B5": ((32, 64), _stages((64, 128, 256, 512), (128, 512, 1024, 2048), (1, 2, 5, 2), 6)),
    "B6": ((48, 96), _stages((96, 192, 384, 768), (192, 512, 1024, 2048), (2, 3, 6, 3), 6)),
}
"""Channels in and out of the stem, and the stages, of each size."""
STRIDES: Final = (4, 8, 16, 32)


@frozen(kw_only=True)
class HGNetV2Config(BackboneConfig):
    """HGNetV2 (PaddleDetection's PP-HGNetV2; Zhao et al., 2023, https://arxiv.org/abs/2304.08069)."""

    arch: Arch = "B0"
    """The size."""
    use_lab: bool = False
    """Whether a learnable scale and shift follow each activation."""
    out_indices: Increasing[NonNegativeInt] = (1, 2, 3)
    """The stages, from 0 to 3, whose maps are given: strides 4, 8, 16 and 32."""
    frozen_stages: IntOrOff = -1
    """Train nothing up to this stage: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    norm_cfg: NormConfig = BNConfig()
    """The norm after each convolution. D-FINE L and X have `FrozenBNConfig()`."""
    norm_eval: bool = False
    """Batch norms use their running statistics in training too."""

    def wired(self) -> Self:
        if not self.out_indices or list(self.out_indices) != sorted(set(self.out_indices) & set(range(4))):
            raise ConfigError(
                f"out_indices is {self.out_indices}; name stages from 0 to 3 in rising order, each once."
            )
        if not -1 <= self.frozen_stages <= 4:
            raise ConfigError(f"frozen_stages is {self.frozen_stages}; give -1 to 4.")
        return super().wired()

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(ARCHS[self.arch][1][i].channels for i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(STRIDES[i] for i in self.out_indices)

    def build(self) -> HGNetV2:
        return HGNetV2(self.resolved())


class ConvBNAct(nn.Module):
    """Convolution, norm, and perhaps a ReLU with a learnable scale and shift behind it."""

    def __init__(
        self,
        config: HGNetV2Config,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activated: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=(kernel_size - 1) // 2,
            groups=groups,
            bias=False,
        )
        self.bn = config.norm_cfg.build_for(out_channels)
        self.act = nn.ReLU() if activated else nn.Identity()
        self.lab = LearnableAffine() if activated and config.use_lab else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lab(self.act(self.bn(self.conv(x))))
        return out


class LightConvBNAct(nn.Module):
    """A 1x1 convolution without activation, and one for each channel alone."""

    def __init__(self, config: HGNetV2Config, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv1 = ConvBNAct(config, in_channels, out_channels, 1, activated=False)
        self.conv2 = ConvBNAct(config, out_channels, out_channels, kernel_size, groups=out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out


class Stem(nn.Module):
    """To a quarter of the size, by a pooling and two 2x2 convolutions side by side."""

    def __init__(self, config: HGNetV2Config, mid_channels: int, out_channels: int) -> None:
        super().__init__()
        half = mid_channels // 2
        self.stem1 = ConvBNAct(config, 3, mid_channels, 3, stride=2)
        self.stem2a = ConvBNAct(config, mid_channels, half, 2)
        self.stem2b = ConvBNAct(config, half, mid_channels, 2)
        self.stem3 = ConvBNAct(config, mid_channels * 2, mid_channels, 3, stride=2)
        self.stem4 = ConvBNAct(config, mid_channels, out_channels, 1)
        self.pool = nn.MaxPool2d(2, stride=1, ceil_mode=True)

    def forward(self, images: Tensor) -> Tensor:
        # Windows of 2 keep the size by a zero at the right and at the bottom.
        x = F.pad(self.stem1(images), (0, 1, 0, 1))
        convolved = self.stem2b(F.pad(self.stem2a(x), (0, 1, 0, 1)))
        out: Tensor = self.stem4(self.stem3(torch.cat([self.pool(x), convolved], dim=1)))
        return out


class HGBlock(nn.Module):
    """Layers in a row, whose outputs are all squeezed into one map."""

    def __init__(self, config: HGNetV2Config, in_channels: int, stage: Stage, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        layer = LightConvBNAct if stage.light else ConvBNAct
        widths = [in_channels] + [stage.mid_channels] * stage.num_layers
        self.layers = nn.ModuleList(
            layer(config, width, stage.mid_channels, stage.kernel_size) for width in widths[:-1]
        )
        self.aggregation = nn.Sequential(
            ConvBNAct(config, sum(widths), stage.channels // 2, 1),
            ConvBNAct(config, stage.channels // 2, stage.channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        out: Tensor = self.aggregation(torch.cat(outputs, dim=1))
        return out + x if self.residual else out


class HGStage(nn.Module):
    """A strided convolution of each channel alone (but in the first stage), and blocks."""

    def __init__(self, config: HGNetV2Config, in_channels: int, stage: Stage, *, downsample: bool) -> None:
        super().__init__()
        self.downsample = (
            ConvBNAct(config, in_channels, in_channels, 3, stride=2, groups=in_channels, activated=False)
            if downsample
            else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                HGBlock(config, stage.channels if i else in_channels, stage, residual=i > 0)
                for i in range(stage.num_blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


class HGNetV2(StagedBackbone):
    """A stem to stride 4 and four stages."""

    def __init__(self, config: HGNetV2Config) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        (mid, channels), stages = ARCHS[config.arch]
        self.stem = Stem(config, mid, channels)
        self.stages = nn.ModuleList()
        for index, stage in enumerate(stages):
            self.stages.append(HGStage(config, channels, stage, downsample=index > 0))
            channels = stage.channels
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        outs: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        # In the reference the norms of a frozen stem still move their statistics; here frozen is frozen.
        return [self.stem, *self.stages][: self.frozen_stages + 1]
