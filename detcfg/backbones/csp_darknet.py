"""CSP-Darknet, the backbone of YOLOv5 and YOLOX (mmdet/models/backbones/csp_darknet.py).

Shapes: images (B, 3, H, W) to (B, C_i, H / S_i, W / S_i) of each index in `out_indices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Literal, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.config import ConfigError
from detcfg.config.ranges import (
    Increasing,
    IntOrOff,
    NonEmpty,
    NonNegativeInt,
    NumLayers,
    OddInt,
    PositiveFloat,
    PositiveInt,
)
from detcfg.layers.activation import ActivationConfig, SiLUConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.csp_layer import YOLO_NORM, CSPLayer, Make, SPPBottleneck, init_yolo
from detcfg.layers.norm import NormConfig

StageSetting = tuple[int, int, int, bool, bool]
"""Channels in and out, blocks, whether blocks add their input, whether there is pyramid pooling."""

Architectures = Mapping[str, tuple[StageSetting, ...]]

ARCHITECTURES: Final[Architectures] = {
    "P5": (
        (64, 128, 3, True, False),
        (128, 256, 9, True, False),
        (256, 512, 9, True, False),
        (512, 1024, 3, False, True),
    ),
    "P6": (
        (64, 128, 3, True, False),
        (128, 256, 9, True, False),
        (256, 512, 9, True, False),
        (512, 768, 3, True, False),
        (768, 1024, 3, False, True),
    ),
}


@frozen(kw_only=True)
class CSPStagesConfig(BackboneConfig):
    """What CSP-Darknet and CSPNeXt share."""

    architectures: ClassVar[Architectures] = ARCHITECTURES
    """The stages by `arch`."""

    arch: Literal["P5", "P6"] = "P5"
    """Four stages or five."""
    deepen_factor: PositiveFloat = 1.0
    """Multiplies the blocks of each stage, which stay at least 1."""
    widen_factor: PositiveFloat = 1.0
    """Multiplies the channels of each stage."""
    out_indices: Increasing[NonNegativeInt] = (2, 3, 4)
    """Indices of the output maps: 0 is the stem's, 1 the first stage's."""
    frozen_stages: IntOrOff = -1
    """Freeze the backbone up to this stage: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    use_depthwise: bool = False
    """Whether 3 x 3 convolutions are depthwise separable."""
    arch_ovewrite: tuple[tuple[PositiveInt, PositiveInt, NumLayers, bool, bool], ...] | None = None
    """Stages instead of those of `arch`: channels in and out, blocks, whether blocks add their input,
    whether there is pyramid pooling; None: those of `arch`. (The name is MMDetection's.)"""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = YOLO_NORM
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = SiLUConfig()
    """The activation after each convolution; None: none."""
    norm_eval: bool = False
    """Batch norms use their running statistics in training too."""

    def wired(self) -> Self:
        last = len(self.stages)
        if not set(self.out_indices) <= set(range(last + 1)):
            raise ConfigError(f"out_indices is {self.out_indices}, but there are the maps 0 to {last}.")
        if not -1 <= self.frozen_stages <= last:
            raise ConfigError(f"frozen_stages is {self.frozen_stages}, but there are the stages 0 to {last}.")
        return self

    @property
    def stages(self) -> tuple[StageSetting, ...]:
        """The stages at their actual width and depth."""
        return tuple(
            (self._width(before), self._width(out), max(round(blocks * self.deepen_factor), 1), identity, spp)
            for before, out, blocks, identity, spp in self.arch_ovewrite or self.architectures[self.arch]
        )

    def _width(self, channels: int) -> int:
        return int(channels * self.widen_factor)

    @property
    def make(self) -> Make:
        """How convolutions are made."""
        return Make(
            use_depthwise=self.use_depthwise,
            conv_cfg=self.conv_cfg,
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
        )

    @property
    def feature_channels(self) -> tuple[int, ...]:
        every = (self.stages[0][0], *(out for _, out, *_ in self.stages))
        return tuple(every[i] for i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        return tuple(2 ** (i + 1) for i in self.out_indices)


@frozen(kw_only=True)
class CSPDarknetConfig(CSPStagesConfig):
    """CSP-Darknet as in YOLOX (Ge et al., 2021, https://arxiv.org/abs/2107.08430)."""

    spp_kernal_sizes: NonEmpty[OddInt] = (5, 9, 13)
    """Kernel sizes of spatial pyramid pooling. (The name is MMDetection's.)"""

    def build(self) -> CSPDarknet:
        return CSPDarknet(self.resolved())


class CSPStages(StagedBackbone):
    """A stem and stages that halve the map."""

    def __init__(self, config: CSPStagesConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        self.layers = ["stem", *(f"stage{i + 1}" for i in range(len(config.stages)))]

    def frozen_modules(self) -> Iterable[nn.Module]:
        return (self.get_submodule(name) for name in self.layers[: self.frozen_stages + 1])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = images
        outs: list[Tensor] = []
        for i, name in enumerate(self.layers):
            x = self.get_submodule(name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


class CSPDarknet(CSPStages):
    """Its stem puts four neighbouring pixels into channels."""

    def __init__(self, config: CSPDarknetConfig) -> None:
        super().__init__(config)
        make = config.make
        self.stem = Focus(3, config.stages[0][0], make)
        for i, (before, out, blocks, add_identity, use_spp) in enumerate(config.stages):
            stage = nn.Sequential(make.around(before, out, 3, stride=2))
            if use_spp:
                stage.append(SPPBottleneck(out, out, make, config.spp_kernal_sizes))
            stage.append(CSPLayer(out, out, make, num_blocks=blocks, add_identity=add_identity))
            self.add_module(f"stage{i + 1}", stage)
        init_yolo(self)
        self.train(self.training)


class Focus(nn.Module):
    """The four pixels of each 2 x 2 square as channels, column by column, and a 3 x 3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, make: Make) -> None:
        super().__init__()
        self.conv = make.conv(4 * in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / 2, W / 2)."""
        pixels = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.conv(torch.cat(pixels, dim=1))
        return out
