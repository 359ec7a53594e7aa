"""Layers that dense heads are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen
from torch import nn

from detcfg.config import derived
from detcfg.config.ranges import NumLayers, PositiveInt
from detcfg.heads.dense.base import DenseHeadConfig
from detcfg.layers.activation import ActivationConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import RELU, ConvModule
from detcfg.layers.depthwise import DepthwiseSeparableConvModule
from detcfg.layers.init import bias_init_with_prob, constant_init, normal_init
from detcfg.layers.norm import NormConfig


@frozen(kw_only=True, slots=False)  # two bases with slots of their own have no common subclass
class TowerConfig(DenseHeadConfig):
    """A head with towers: stacks of 3 x 3 convolutions, one before the class scores and one before the boxes."""

    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    feat_channels: PositiveInt = 256
    """Channels of each layer of a tower."""
    stacked_convs: NumLayers = 4
    """Layers of each tower; 0: predictors read the feature maps themselves."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""

    def layer_kinds(self) -> list[ConvConfig | None]:
        """The kind of convolution of each layer; None is the ordinary one."""
        return [self.conv_cfg] * self.stacked_convs

    def tower(self) -> nn.Module:
        """One tower, with weights of its own: (B, in_channels, H, W) to (B, tower_channels, H, W)."""
        return conv_tower(self.in_channels, self.feat_channels, self.layer_kinds(), norm_cfg=self.norm_cfg)

    @property
    def tower_channels(self) -> int:
        """Channels that come out of a tower, which predictors read."""
        return self.feat_channels if self.stacked_convs else self.in_channels


def conv_tower(
    in_channels: int,
    feat_channels: int,
    kinds: Sequence[ConvConfig | None],
    *,
    norm_cfg: NormConfig | None = None,
    act_cfg: ActivationConfig | None = RELU,
    bias: bool | Literal["auto"] = "auto",
    depthwise: bool = False,
) -> nn.Sequential:
    """A stack of 3 x 3 convolutions with norm and activation: (B, in_channels, H, W) to (B, feat_channels, H, W).

    Args:
        in_channels: Channels that come in.
        feat_channels: Channels of every layer's output.
        kinds: The kind of convolution of each layer, None for the ordinary one. No layer is the identity.
        norm_cfg: The norm of each layer.
        act_cfg: The activation of each layer.
        bias: "auto" is a bias exactly where no norm follows.
        depthwise: Whether the layers are depthwise separable.
    """
    block = DepthwiseSeparableConvModule if depthwise else ConvModule
    return nn.Sequential(
        *(
            block(
                feat_channels if layer else in_channels,
                feat_channels,
                3,
                padding=1,
                bias=bias,
                conv_cfg=kind,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )
            for layer, kind in enumerate(kinds)
        )
    )


def share_convs(towers: Sequence[nn.Module]) -> None:
    """Let towers, one for each level, have the convolutions of the first; the norms stay each level's own."""
    first, *others = towers
    for tower in others:
        for layer, shared in zip(tower.children(), first.children(), strict=True):
            layer.conv = shared.conv


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
