"""MobileNetV2 (mmdet/models/backbones/mobilenet_v2.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from operator import mul
from typing import Final, Self

from attrs import frozen
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.config import ConfigError
from detcfg.config.ranges import Increasing, IntOrOff, NonNegativeInt, PositiveFloat
from detcfg.layers.activation import ActivationConfig, ReLU6Config
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.norm import BNConfig, NormConfig


@frozen(kw_only=True)
class Stage:
    """A run of inverted residuals."""

    expand_ratio: int
    """Channels inside a block by its input channels."""
    channels: int
    """Channels out of each block, before `widen_factor`."""
    num_blocks: int
    """Blocks one after another."""
    stride: int
    """Of the first block."""


STAGES: Final = (
    Stage(expand_ratio=1, channels=16, num_blocks=1, stride=1),
    Stage(expand_ratio=6, channels=24, num_blocks=2, stride=2),
    Stage(expand_ratio=6, channels=32, num_blocks=3, stride=2),
    Stage(expand_ratio=6, channels=64, num_blocks=4, stride=2),
    Stage(expand_ratio=6, channels=96, num_blocks=3, stride=1),
    Stage(expand_ratio=6, channels=160, num_blocks=3, stride=2),
    Stage(expand_ratio=6, channels=320, num_blocks=1, stride=1),
)
"""Table 2 of the paper."""


@frozen(kw_only=True)
class MobileNetV2Config(BackboneConfig):
    """MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381)."""

    widen_factor: PositiveFloat = 1.0
    """Multiplies every number of channels, which is then rounded to a multiple of 8."""
    out_indices: Increasing[NonNegativeInt] = (1, 2, 4, 7)
    """The layers whose output is given: 0 to 6 are the stages, 7 is the last convolution."""
    frozen_stages: IntOrOff = -1
    """Freeze the backbone up to this layer: 0 freezes the stem, 1 also the first stage; -1: nothing."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = BNConfig()
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = ReLU6Config()
    """The activation after each convolution; None: none."""
    norm_eval: bool = False
    """Batch norms use their running statistics in training too."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute activations in the backward pass."""

    def wired(self) -> Self:
        if not self.out_indices or not set(self.out_indices) <= set(range(8)):
            raise ConfigError(f"out_indices is {self.out_indices}; name layers from 0 to 7.")
        if not -1 <= self.frozen_stages <= 7:
            raise ConfigError(f"frozen_stages is {self.frozen_stages}; give -1 to 7.")
        return super().wired()

    @property
    def stem_channels(self) -> int:
        """Channels of the first convolution."""
        return make_divisible(32 * self.widen_factor)

    @property
    def layer_channels(self) -> tuple[int, ...]:
        """Channels out of each of the eight layers."""
        last = int(1280 * max(self.widen_factor, 1.0))
        return (*(make_divisible(stage.channels * self.widen_factor) for stage in STAGES), last)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(c for i, c in enumerate(self.layer_channels) if i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [*accumulate((2, *(stage.stride for stage in STAGES)), mul)][1:]
        return tuple(s for i, s in enumerate((*strides, strides[-1])) if i in self.out_indices)

    def build(self) -> MobileNetV2:
        return MobileNetV2(self.resolved())


def make_divisible(value: float, divisor: int = 8, min_ratio: float = 0.9) -> int:
    """The nearest multiple of `divisor` that is not less than `min_ratio` of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < min_ratio * value else rounded


class InvertedResidual(nn.Module):
    """1x1 to a wider space, 3x3 for each channel alone, 1x1 back; with a shortcut where shapes agree."""

    def __init__(
        self, config: MobileNetV2Config, in_channels: int, out_channels: int, stride: int, expand_ratio: int
    ) -> None:
        super().__init__()
        mid = round(in_channels * expand_ratio)
        self.with_cp = config.with_cp
        self.with_shortcut = stride == 1 and in_channels == out_channels
        self.expand_conv = _conv(config, in_channels, mid) if expand_ratio != 1 else None
        self.depthwise_conv = _conv(config, mid, mid, 3, stride=stride, groups=mid)
        self.linear_conv = _conv(config, mid, out_channels, activated=False)

    def forward(self, x: Tensor) -> Tensor:
        return recomputed(self._sum, x) if self.with_cp and x.requires_grad else self._sum(x)

    def _sum(self, x: Tensor) -> Tensor:
        wide = x if self.expand_conv is None else self.expand_conv(x)
        out: Tensor = self.linear_conv(self.depthwise_conv(wide))
        return x + out if self.with_shortcut else out


class MobileNetV2(StagedBackbone):
    """A convolution, seven stages `layer1` to `layer7`, and a convolution `conv2`."""

    def __init__(self, config: MobileNetV2Config) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        self.norm_eval = config.norm_eval
        self.conv1 = _conv(config, 3, config.stem_channels, 3, stride=2)
        channels = config.stem_channels
        for index, stage in enumerate(STAGES):
            blocks: list[nn.Module] = []
            for block in range(stage.num_blocks):
                stride, out = (1 if block else stage.stride), config.layer_channels[index]
                blocks.append(InvertedResidual(config, channels, out, stride, stage.expand_ratio))
                channels = out
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.conv2 = _conv(config, channels, config.layer_channels[-1])
        self.layer_names = (*(f"layer{index + 1}" for index in range(len(STAGES))), "conv2")
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.conv1(images)
        outs: list[Tensor] = []
        for index, name in enumerate(self.layer_names):
            x = self.get_submodule(name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        # MMDetection's frozen stem still moves its running statistics; here frozen is frozen.
        stem = [self.conv1] if self.frozen_stages >= 0 else []
        return [*stem, *(self.get_submodule(f"layer{i}") for i in range(1, self.frozen_stages + 1))]

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's `features.2.conv.0.1.bias` is `layer2.0.expand_conv.bn.bias`."""
        return {_renamed(name): tensor for name, tensor in tensors.items()}


def _conv(
    config: MobileNetV2Config,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activated: bool = True,
) -> ConvModule:
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        conv_cfg=config.conv_cfg,
        norm_cfg=config.norm_cfg,
        act_cfg=config.act_cfg if activated else None,
    )


def _blocks() -> dict[str, str]:
    """MMDetection's blocks `layerL.B` by the number of torchvision's `features.N`."""
    names = [f"layer{i + 1}.{block}" for i, stage in enumerate(STAGES) for block in range(stage.num_blocks)]
    return {str(number): name for number, name in enumerate(names, start=1)}


_BLOCKS: Final = _blocks()
_ENDS: Final = {"0": "conv1", str(len(_BLOCKS) + 1): "conv2"}
_PARTS: Final = {"0": "conv", "1": "bn"}


def _renamed(name: str) -> str:
    match = re.fullmatch(r"(?:.*\.)?features\.(\d+)\.(.+)\.(\w+)", name)
    if match is None:
        return name
    number, inner, leaf = match.groups()
    if number in _ENDS and inner in _PARTS:
        return f"{_ENDS[number]}.{_PARTS[inner]}.{leaf}"
    if number not in _BLOCKS:
        return name
    convs = ["depthwise_conv"] if number == "1" else ["expand_conv", "depthwise_conv"]
    names = {f"conv.{i}.{part}": f"{conv}.{_PARTS[part]}" for i, conv in enumerate(convs) for part in _PARTS}
    # torchvision's last convolution has no activation, so it is not nested.
    names |= {f"conv.{len(convs)}": "linear_conv.conv", f"conv.{len(convs) + 1}": "linear_conv.bn"}
    return f"{_BLOCKS[number]}.{names[inner]}.{leaf}" if inner in names else name
