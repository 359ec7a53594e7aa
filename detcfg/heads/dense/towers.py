"""Layers that dense heads are made of."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import nn

from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import bias_init_with_prob, constant_init, normal_init
from detcfg.layers.norm import NormConfig


def conv_tower(
    in_channels: int,
    feat_channels: int,
    stacked_convs: int,
    *,
    conv_cfg: ConvConfig | None = None,
    norm_cfg: NormConfig | None = None,
    bias: bool | Literal["auto"] = "auto",
    first_conv_cfg: ConvConfig | None = None,
    last_conv_cfg: ConvConfig | None = None,
) -> nn.Sequential:
    """A stack of 3 x 3 convolutions with norm and ReLU, (B, in_channels, H, W) to (B, feat_channels, H, W).

    Args:
        in_channels: Channels that come in.
        feat_channels: Channels of every layer's output.
        stacked_convs: How many; none is the identity.
        conv_cfg: The kind of convolution.
        norm_cfg: The norm of each layer.
        bias: "auto" is a bias exactly where no norm follows.
        first_conv_cfg: The kind of the first convolution, if it differs.
        last_conv_cfg: The kind of the last convolution, if it differs.
    """
    kinds = [conv_cfg] * stacked_convs
    if first_conv_cfg is not None:
        kinds[:1] = [first_conv_cfg] * min(1, stacked_convs)
    if last_conv_cfg is not None:
        kinds[-1:] = [last_conv_cfg] * min(1, stacked_convs)
    return nn.Sequential(
        *(
            ConvModule(
                in_channels if i == 0 else feat_channels,
                feat_channels,
                3,
                padding=1,
                conv_cfg=kind,
                norm_cfg=norm_cfg,
                bias=bias,
            )
            for i, kind in enumerate(kinds)
        )
    )


class TowerConfig(Protocol):
    """A config of a head with stacks of convolutions, one before the class scores and one before the boxes."""

    @property
    def in_channels(self) -> int: ...
    @property
    def feat_channels(self) -> int: ...
    @property
    def stacked_convs(self) -> int: ...
    @property
    def conv_cfg(self) -> ConvConfig | None: ...
    @property
    def norm_cfg(self) -> NormConfig | None: ...


def tower_of(config: TowerConfig) -> nn.Sequential:
    """One of the stacks, with weights of its own."""
    return conv_tower(
        config.in_channels,
        config.feat_channels,
        config.stacked_convs,
        conv_cfg=config.conv_cfg,
        norm_cfg=config.norm_cfg,
    )


def init_convs(module: nn.Module, std: float = 0.01) -> None:
    """Start the convolutions of a head from a narrow normal distribution, and offsets from 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            normal_init(layer, std=std)
    for layer in module.modules():
        offset = getattr(layer, "conv_offset", None)
        if isinstance(offset, nn.Module):
            constant_init(offset, 0)


def init_classifier(conv: nn.Module, prior_prob: float = 0.01) -> None:
    """Start a classifier so that it finds nearly nothing, since nearly all is background."""
    normal_init(conv, std=0.01, bias=bias_init_with_prob(prior_prob))
