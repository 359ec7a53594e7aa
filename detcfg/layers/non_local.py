"""Non-local blocks: each location attends to all others (mmcv/cnn/bricks/non_local.py).

Shapes: (B, C, H, W) to the same; P = H * W queries, Q keys, c channels inside.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ConfigError
from detcfg.config.ranges import PositiveInt
from detcfg.layers.conv import ConvConfig
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import constant_init, normal_init
from detcfg.layers.norm import NormConfig
from detcfg.layers.plugin import PluginLayerConfig

Pairwise = Literal["gaussian", "embedded_gaussian", "dot_product", "concatenation"]


@frozen(kw_only=True)
class NonLocal2dConfig(PluginLayerConfig):
    """Non-local block (Wang et al., 2017, https://arxiv.org/abs/1711.07971)."""

    abbr: ClassVar[str] = "nonlocal_block"
    """Its name in MMDetection's state dicts."""

    reduction: PositiveInt = 2
    """C / c: how much narrower the embeddings are than the input."""
    use_scale: bool = True
    """Whether "embedded_gaussian" divides products by sqrt(c)."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm of the last convolution; None: a bias instead."""
    mode: Pairwise = "embedded_gaussian"
    """The pairwise function f of a query and a key; those of the paper."""
    sub_sample: bool = False
    """Whether keys and values are max-pooled 2 x 2."""
    zeros_init: bool = True
    """Whether the block starts as the identity."""

    def wired(self) -> Self:
        if self.mode == "gaussian" and self.reduction != 1:
            raise ConfigError(
                f'mode is "gaussian" and reduction is {self.reduction}, but that mode compares the input '
                "itself. Use reduction=1 or another mode."
            )
        return self

    def build_for(self, channels: int) -> NonLocal2d:
        return NonLocal2d(self.resolved(), channels)


class NonLocal2d(nn.Module):
    """`x + conv_out(weighted mean of g(x))`, weighted by f(theta(x), phi(x))."""

    def __init__(self, config: NonLocal2dConfig, channels: int) -> None:
        super().__init__()
        self.mode = config.mode
        self.use_scale = config.use_scale
        inner = max(channels // config.reduction, 1)
        self.g: nn.Module = _conv(config, channels, inner)
        self.conv_out = ConvModule(
            inner, channels, 1, conv_cfg=config.conv_cfg, norm_cfg=config.norm_cfg, act_cfg=None
        )
        self.theta: nn.Module = nn.Identity()
        self.phi: nn.Module = nn.Identity()
        if config.mode != "gaussian":
            self.theta = _conv(config, channels, inner)
            self.phi = _conv(config, channels, inner)
        if config.mode == "concatenation":
            self.concat_project = ConvModule(2 * inner, 1, 1, bias=False)
        if config.sub_sample:
            pool = nn.MaxPool2d(2)
            self.g = nn.Sequential(self.g, pool)
            self.phi = pool if config.mode == "gaussian" else nn.Sequential(self.phi, pool)
        last = self.conv_out.norm or self.conv_out.conv
        if config.zeros_init:
            constant_init(last, 0)
        else:
            normal_init(last, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (flattened(self.theta(x)), flattened(self.phi(x)), flattened(self.g(x)))
        mixed = self._mixed(query, key, value).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])
        out: Tensor = x + self.conv_out(mixed)
        return out

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, P, c): for each query the mean of value (B, Q, c), weighted by f."""
        if self.mode == "dot_product":  # in this order no (P, Q) matrix is needed
            return query @ (key.transpose(1, 2) @ value) / key.shape[1]
        if self.mode == "concatenation":
            # The convolution of a pair is a sum of two products, so the pairs need no (P, Q, 2c) tensor.
            weight = next(self.concat_project.parameters()).flatten()
            of_query, of_key = weight[: query.shape[-1]], weight[query.shape[-1] :]
            pairwise = F.relu((query @ of_query)[:, :, None] + (key @ of_key)[:, None])
            return pairwise @ value / key.shape[1]
        scaled = self.use_scale and self.mode == "embedded_gaussian"
        return F.scaled_dot_product_attention(query, key, value, scale=None if scaled else 1.0)


def flattened(x: Tensor) -> Tensor:
    """(B, c, H, W) to (B, H * W, c)."""
    return x.flatten(2).transpose(1, 2)


def _conv(config: NonLocal2dConfig, channels: int, inner: int) -> ConvModule:
    conv = ConvModule(channels, inner, 1, conv_cfg=config.conv_cfg, act_cfg=None)
    normal_init(conv.conv, std=0.01)
    return conv
