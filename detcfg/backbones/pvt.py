"""Pyramid Vision Transformer, both versions (mmdet/models/backbones/pvt.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`; within, tokens (B, H, W, C).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from math import prod
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import (
    Increasing,
    NonEmpty,
    NonNegativeInt,
    OneOrMoreLayers,
    PositiveInt,
    ProperFraction,
)
from detcfg.layers.activation import ActivationConfig, GELUConfig
from detcfg.layers.drop_path import DropPath, drop_path_rates
from detcfg.layers.init import normal_init, trunc_normal_init
from detcfg.layers.norm import LNConfig, NormConfig
from detcfg.layers.patch import PatchEmbed


@frozen(kw_only=True)
class PyramidVisionTransformerConfig(BackboneConfig):
    """PVT (Wang et al., 2021, https://arxiv.org/abs/2102.12122); PVT-Small by default.

    `pretrained` also takes the authors' files.
    """

    pretrain_img_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 224
    """Size of the images of the pretraining, for the grids of `use_abs_pos_embed`."""
    in_channels: PositiveInt = 3
    """Channels of the images."""
    embed_dims: PositiveInt = 64
    """Channels of one head; a stage has as many times that as it has heads."""
    num_stages: OneOrMoreLayers = 4
    """Stages of blocks, each coarser than the one before."""
    num_layers: NonEmpty[OneOrMoreLayers] = (3, 4, 6, 3)
    """Encoder layers of each stage."""
    num_heads: NonEmpty[PositiveInt] = (1, 2, 5, 8)
    """Heads of the attention in each stage."""
    patch_sizes: NonEmpty[PositiveInt] = (4, 2, 2, 2)
    """Side of the patches that each stage's convolution embeds."""
    strides: NonEmpty[PositiveInt] = (4, 2, 2, 2)
    """Stride of each stage's patch embedding."""
    paddings: NonEmpty[NonNegativeInt] = (0, 0, 0, 0)
    """Zeros around the input of each stage's patch embedding."""
    sr_ratios: NonEmpty[PositiveInt] = (8, 4, 2, 1)
    """How much coarser the keys are than the queries."""
    out_indices: Increasing[NonNegativeInt] = (0, 1, 2, 3)
    """The stages whose output is given, from 0."""
    mlp_ratios: NonEmpty[PositiveInt] = (8, 8, 4, 4)
    """Width within a feed-forward network, by the width of the stage."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    drop_rate: ProperFraction = 0.0
    """Share of the values that dropout sets to zero, 0 to 1."""
    attn_drop_rate: ProperFraction = 0.0
    """Dropout's share of the attention's weights, 0 to 1."""
    drop_path_rate: ProperFraction = 0.1
    """Probability that the last layer's residuals are left out; it rises evenly from 0 at the first."""
    use_abs_pos_embed: bool = True
    """Whether a trained position embedding is added to the tokens of each stage."""
    norm_after_stage: bool = False
    """Whether a norm ends each stage."""
    use_conv_ffn: bool = False
    """Feed-forward networks look at each token's neighbours, which tells where it is."""
    act_cfg: ActivationConfig = GELUConfig()
    """The activation between the two linear layers of a block."""
    norm_cfg: NormConfig = LNConfig(eps=1e-6)
    """The norm before attention and before the linear layers."""

    def wired(self) -> Self:
        for name in (
            "num_layers",
            "num_heads",
            "patch_sizes",
            "strides",
            "paddings",
            "sr_ratios",
            "mlp_ratios",
        ):
            values: tuple[int, ...] = getattr(self, name)
            if len(values) != self.num_stages:
                raise ConfigError(
                    f"{name} has {len(values)} values {values}, but num_stages is {self.num_stages}. "
                    "Give one value a stage."
                )
        if not self.out_indices or not all(0 <= i < self.num_stages for i in self.out_indices):
            raise ConfigError(
                f"out_indices is {self.out_indices}, but num_stages is {self.num_stages}: "
                f"name stages from 0 to {self.num_stages - 1}."
            )
        return super().wired()

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of each stage's tokens."""
        return tuple(self.embed_dims * heads for heads in self.num_heads)

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(c for i, c in enumerate(self.stage_channels) if i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [prod(self.strides[: i + 1]) for i in range(self.num_stages)]
        return tuple(s for i, s in enumerate(strides) if i in self.out_indices)

    def grid(self, stage: int) -> tuple[int, int]:
        """Rows and columns of tokens that an image of the pretraining has in a stage."""
        size, patch = self.pretrain_img_size, prod(self.patch_sizes[: stage + 1])
        height, width = (size, size) if isinstance(size, int) else size
        return height // patch, width // patch

    def build(self) -> PyramidVisionTransformer:
        return PyramidVisionTransformer(self.resolved())


@frozen(kw_only=True)
class PyramidVisionTransformerV2Config(PyramidVisionTransformerConfig):
    """PVTv2 (Wang et al., 2021, https://arxiv.org/abs/2106.13797); PVTv2-B2 by default.

    B0: `embed_dims=32, num_layers=(2, 2, 2, 2)`; B1: `num_layers=(2, 2, 2, 2)`; B3: `(3, 4, 18, 3)`;
    B4: `(3, 8, 27, 3)`; B5: `(3, 6, 40, 3)` with `mlp_ratios=(4, 4, 4, 4)`.
    """

    patch_sizes: NonEmpty[PositiveInt] = (7, 3, 3, 3)
    """Side of the patches that each stage's convolution embeds."""
    paddings: NonEmpty[NonNegativeInt] = (3, 1, 1, 1)
    """Zeros around the input of each stage's patch embedding."""
    use_abs_pos_embed: bool = False
    """Whether a trained position embedding is added to the tokens of each stage."""
    norm_after_stage: bool = True
    """Whether a norm ends each stage."""
    use_conv_ffn: bool = True
    """Whether the linear layers have a depth-wise convolution between them, which encodes positions."""


class PyramidVisionTransformer(Backbone):
    """Stages of an embedding, encoder layers and perhaps a norm: `layers.I.0`, `layers.I.1.J`, `layers.I.2`."""

    def __init__(self, config: PyramidVisionTransformerConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        rates = drop_path_rates(config.drop_path_rate, config.num_layers)
        self.layers = nn.ModuleList(_stage(config, stage, rates[stage]) for stage in range(config.num_stages))
        self._init_weights()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = images
        outs: list[Tensor] = []
        for index, stage in enumerate(self.layers):
            embed, layers, norm = stage.children()
            tokens: Tensor = embed(x)
            for layer in layers.children():
                tokens = layer(tokens)
            x = norm(tokens).permute(0, 3, 1, 2)
            if index in self.out_indices:
                outs.append(x.contiguous())
        return tuple(outs)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module)
            elif isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                normal_init(module, std=math.sqrt(2 / (fan_out // module.groups)))
            elif isinstance(module, AbsolutePositionEmbedding):
                nn.init.trunc_normal_(module.pos_embed, std=0.02)

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' names and shapes, as they are here."""
        return from_authors(tensors)


def _stage(config: PyramidVisionTransformerConfig, stage: int, drop_path: list[float]) -> nn.ModuleList:
    channels = config.stage_channels[stage]
    embed = PatchEmbed(
        config.stage_channels[stage - 1] if stage else config.in_channels,
        channels,
        config.patch_sizes[stage],
        stride=config.strides[stage],
        padding=config.paddings[stage],
        norm_cfg=config.norm_cfg,
    )
    layers: list[nn.Module] = []
    if config.use_abs_pos_embed:
        layers.append(AbsolutePositionEmbedding(config.grid(stage), channels, config.drop_rate))
    layers += [PVTEncoderLayer(config, stage, rate) for rate in drop_path]
    norm = config.norm_cfg.build_for(channels) if config.norm_after_stage else nn.Identity()
    return nn.ModuleList([embed, nn.ModuleList(layers), norm])


class AbsolutePositionEmbedding(nn.Module):
    """Adds a trained position embedding, resized to the grid of the tokens. Shapes: (B, H, W, C) to the same."""

    def __init__(self, pos_shape: tuple[int, int], pos_dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.pos_shape = pos_shape
        self.pos_embed = nn.Parameter(torch.zeros(1, prod(pos_shape), pos_dim))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        # The authors' last stage has a token for the class in front, which detectors do not use.
        grid = self.pos_embed[:, -prod(self.pos_shape) :].view(1, *self.pos_shape, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(grid, size=(x.shape[1], x.shape[2]), mode="bilinear")
        out: Tensor = self.drop(x + resized.permute(0, 2, 3, 1))
        return out


class PVTEncoderLayer(nn.Module):
    """Attention and a feed-forward network, each behind a norm and added to its input."""

    def __init__(self, config: PyramidVisionTransformerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        channels = config.stage_channels[stage]
        self.norm1 = config.norm_cfg.build_for(channels)
        self.attn = SpatialReductionAttention(config, stage, drop_path)
        self.norm2 = config.norm_cfg.build_for(channels)
        self.ffn = MixFFN(config, stage, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class SpatialReductionAttention(nn.Module):
    """Attention of all tokens to a coarser map of them. Shapes: (B, H, W, C) to the same."""

    def __init__(self, config: PyramidVisionTransformerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        channels, ratio = config.stage_channels[stage], config.sr_ratios[stage]
        self.attn = nn.MultiheadAttention(
            channels,
            config.num_heads[stage],
            config.attn_drop_rate,
            bias=config.qkv_bias,
            batch_first=True,
        )
        self.proj_drop = nn.Dropout(config.drop_rate)
        self.dropout_layer = DropPath(drop_path)
        self.sr: nn.Conv2d | None = None
        if ratio > 1:
            self.sr = nn.Conv2d(channels, channels, ratio, stride=ratio)
            self.norm = config.norm_cfg.build_for(channels)

    def forward(self, x: Tensor) -> Tensor:
        keys = x
        if self.sr is not None:
            keys = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        keys = keys.flatten(1, 2)
        attended: Tensor = self.attn(x.flatten(1, 2), keys, keys, need_weights=False)[0]
        out: Tensor = self.dropout_layer(self.proj_drop(attended))
        return out.view(x.shape)


class MixFFN(nn.Module):
    """A feed-forward network that may look at each token's neighbours. Shapes: (B, H, W, C) to the same."""

    def __init__(self, config: PyramidVisionTransformerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        channels = config.stage_channels[stage]
        wide = config.mlp_ratios[stage] * channels
        neighbours = [nn.Conv2d(wide, wide, 3, padding=1, groups=wide)] if config.use_conv_ffn else []
        drop = nn.Dropout(config.drop_rate)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1),
            *neighbours,
            config.act_cfg.build(),
            drop,
            nn.Conv2d(wide, channels, 1),
            drop,
        )
        self.dropout_layer = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout_layer(self.layers(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return out


def from_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of the authors' under the names, and in the shapes, that they have here."""
    first = int(any("pos_embed" in name for name in tensors))  # layer 0 is then the positions
    last = 4 if any("dwconv" in name for name in tensors) else 3
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(?:.*?\.)??(pos_embed|patch_embed|block|norm)(\d+)(?:\.(.+))?", name)
        if match is None:
            renamed[name] = tensor
            continue
        kind, stage, rest = match[1], f"layers.{int(match[2]) - 1}", match[3] or ""
        if kind == "pos_embed":
            renamed[f"{stage}.1.0.pos_embed"] = _without_class_token(tensor)
        elif kind == "patch_embed":
            renamed[f"{stage}.0.{rest.replace('proj.', 'projection.')}"] = tensor
        elif kind == "norm":
            renamed[f"{stage}.2.{rest}"] = tensor
        else:
            number, _, part = rest.partition(".")
            layer = f"{stage}.1.{int(number) + first}"
            if part.startswith("attn.kv."):
                continue  # joins the queries
            if part.startswith("attn.q."):
                keys = tensors[name.replace("attn.q.", "attn.kv.")]
                renamed[f"{layer}.attn.attn.in_proj_{part[7:]}"] = torch.cat([tensor, keys])
                continue
            linear = part in ("mlp.fc1.weight", "mlp.fc2.weight")
            renamed[f"{layer}.{_part(part, last)}"] = tensor[..., None, None] if linear else tensor
    return renamed


def _without_class_token(embedding: Tensor) -> Tensor:
    """(1, tokens, C): grids are square, and one more token than that is the class's."""
    tokens = embedding.shape[1]
    return embedding[:, tokens - math.isqrt(tokens) ** 2 :]


def _part(name: str, last: int) -> str:
    return (
        name.replace("attn.proj.", "attn.attn.out_proj.")
        .replace("mlp.fc1.", "ffn.layers.0.")
        .replace("mlp.dwconv.dwconv.", "ffn.layers.1.")
        .replace("mlp.fc2.", f"ffn.layers.{last}.")
    )
