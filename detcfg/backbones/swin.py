"""Swin Transformer (mmdet/models/backbones/swin.py).

Shapes: (B, 3, H, W) to one (B, C_i, H / S_i, W / S_i) for each of `out_indices`; within, tokens (B, H, W, C).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.backbones.base import BackboneConfig, StagedBackbone
from detcfg.config import ConfigError
from detcfg.config.ranges import (
    Increasing,
    IntOrOff,
    NonEmpty,
    NonNegativeInt,
    OneOrMoreLayers,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
)
from detcfg.layers.activation import ActivationConfig, GELUConfig
from detcfg.layers.checkpoint import recomputed
from detcfg.layers.drop_path import DropPath, drop_path_rates
from detcfg.layers.ffn import FFN
from detcfg.layers.init import trunc_normal_init
from detcfg.layers.norm import LNConfig, NormConfig
from detcfg.layers.patch import PatchEmbed, PatchMerging

OTHER_REGION = -100.0
"""Added to the logits of tokens that lie side by side only because the map was rolled."""


@frozen(kw_only=True)
class SwinTransformerConfig(BackboneConfig):
    """Swin Transformer (Liu et al., 2021, https://arxiv.org/abs/2103.14030); Swin-T by default.

    `pretrained` also takes the authors' files.
    """

    pretrain_img_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 224
    """Size of the images of the pretraining, for the grid of `use_abs_pos_embed`."""
    in_channels: PositiveInt = 3
    """Channels of the images."""
    embed_dims: PositiveInt = 96
    """Channels of the first stage; each stage doubles them."""
    patch_size: PositiveInt = 4
    """Side of the square patches that become the first tokens."""
    window_size: PositiveInt = 7
    """Side of the attention windows, in tokens."""
    mlp_ratio: PositiveInt = 4
    """Width within a feed-forward network, by the width of the stage."""
    depths: NonEmpty[OneOrMoreLayers] = (2, 2, 6, 2)
    """Blocks of each stage."""
    num_heads: NonEmpty[PositiveInt] = (3, 6, 12, 24)
    """Heads of the attention in each stage."""
    strides: NonEmpty[PositiveInt] = (4, 2, 2, 2)
    """Of the patches, and of the merging before each further stage."""
    out_indices: Increasing[NonNegativeInt] = (0, 1, 2, 3)
    """The stages whose output is given, from 0."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    qk_scale: PositiveFloat | None = None
    """Factor of the attention's logits; None: 1 / sqrt(channels of a head)."""
    patch_norm: bool = True
    """Norms behind the embedding and in the merging."""
    drop_rate: ProperFraction = 0.0
    """Share of the values that dropout sets to zero, 0 to 1."""
    attn_drop_rate: ProperFraction = 0.0
    """Dropout's share of the attention's weights, 0 to 1."""
    drop_path_rate: ProperFraction = 0.1
    """Probability that the last block's residual is left out; it rises evenly from 0 at the first."""
    use_abs_pos_embed: bool = False
    """Whether a trained absolute position embedding is added to the tokens."""
    act_cfg: ActivationConfig = GELUConfig()
    """The activation between the two linear layers of a block."""
    norm_cfg: NormConfig = LNConfig()
    """The norm before attention and before the linear layers."""
    with_cp: bool = False
    """Activation (gradient) checkpointing: recompute activations in the backward pass."""
    frozen_stages: IntOrOff = -1
    """Freeze the backbone up to this stage: 0 freezes the patch embedding, 1 also the first stage; -1: nothing."""

    def wired(self) -> Self:
        stages = len(self.depths)
        for name, values in (("num_heads", self.num_heads), ("strides", self.strides)):
            if len(values) != stages:
                raise ConfigError(
                    f"{name} has {len(values)} values {values}, but depths has {stages} {self.depths}. "
                    "Give one value a stage."
                )
        if self.strides[0] != self.patch_size:
            raise ConfigError(
                f"strides[0] is {self.strides[0]}, but patch_size is {self.patch_size}. "
                "The patches lie side by side: make them equal."
            )
        for channels, heads in zip(self.stage_channels, self.num_heads, strict=True):
            if channels % heads:
                raise ConfigError(f"num_heads has {heads}, which does not divide {channels} channels.")
        if not self.out_indices or not all(0 <= i < stages for i in self.out_indices):
            raise ConfigError(f"out_indices is {self.out_indices}: name stages from 0 to {stages - 1}.")
        if not -1 <= self.frozen_stages <= stages:
            raise ConfigError(f"frozen_stages is {self.frozen_stages}: give -1 to {stages}.")
        return super().wired()

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of each stage's tokens."""
        return tuple(self.embed_dims * 2**stage for stage in range(len(self.depths)))

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return tuple(c for i, c in enumerate(self.stage_channels) if i in self.out_indices)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        strides = [prod(self.strides[: i + 1]) for i in range(len(self.strides))]
        return tuple(s for i, s in enumerate(strides) if i in self.out_indices)

    def build(self) -> SwinTransformer:
        return SwinTransformer(self.resolved())


class SwinTransformer(StagedBackbone):
    """An embedding of patches and up to four stages of blocks; a norm at each output."""

    def __init__(self, config: SwinTransformerConfig) -> None:
        super().__init__()
        self.out_indices = config.out_indices
        self.frozen_stages = config.frozen_stages
        norm_cfg = config.norm_cfg if config.patch_norm else None
        self.patch_embed = PatchEmbed(
            config.in_channels,
            config.embed_dims,
            config.patch_size,
            stride=config.strides[0],
            norm_cfg=norm_cfg,
        )
        self.absolute_pos_embed: nn.Parameter | None = None
        if config.use_abs_pos_embed:
            size = config.pretrain_img_size
            height, width = (size, size) if isinstance(size, int) else size
            self._grid = (height // config.patch_size, width // config.patch_size)
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, prod(self._grid), config.embed_dims))
        self.drop_after_pos = nn.Dropout(config.drop_rate)
        rates = drop_path_rates(config.drop_path_rate, config.depths)
        self.stages = nn.ModuleList(SwinStage(config, i, rates[i]) for i in range(len(config.depths)))
        for index in self.out_indices:
            self.add_module(f"norm{index}", config.norm_cfg.build_for(config.stage_channels[index]))
        self._init_weights()
        self.train()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            x = x + self._positions(self.absolute_pos_embed, x.shape[1], x.shape[2])
        x = self.drop_after_pos(x)
        outs: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            out, x = stage(x)
            if index in self.out_indices:
                outs.append(self.get_submodule(f"norm{index}")(out).permute(0, 3, 1, 2).contiguous())
        return tuple(outs)

    def _positions(self, embedding: Tensor, height: int, width: int) -> Tensor:
        """(1, H, W, C), resized where the image is not of the size of the pretraining."""
        grid = embedding.view(1, *self._grid, -1)
        if (height, width) == self._grid:
            return grid
        resized = F.interpolate(grid.permute(0, 3, 1, 2), size=(height, width), mode="bicubic")
        return resized.permute(0, 2, 3, 1)

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stages = range(self.frozen_stages)
        norms = [self.get_submodule(f"norm{i}") for i in stages if i in self.out_indices]
        return [self.patch_embed, self.drop_after_pos, *(self.stages[i] for i in stages), *norms]

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module)
            if isinstance(module, WindowMSA):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
            self.absolute_pos_embed.requires_grad = self.frozen_stages < 0

    def rename_pretrained(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' names, order of merged tokens and shapes, as they are here."""
        state = self.state_dict()
        renamed = dict(_renamed(name, tensor) for name, tensor in tensors.items())
        return {name: _fitted(name, tensor, state) for name, tensor in renamed.items()}


class SwinStage(nn.Module):
    """Blocks whose windows are shifted at every other one, then the merging for the next stage.

    Shapes: (B, H, W, C) to the output of the blocks, the same, and the input of the next stage.
    """

    def __init__(self, config: SwinTransformerConfig, stage: int, drop_path: list[float]) -> None:
        super().__init__()
        channels = config.stage_channels[stage]
        self.window_size, self.with_cp = config.window_size, config.with_cp
        self.blocks = nn.ModuleList(
            SwinBlock(config, stage, shifted=index % 2 == 1, drop_path=rate)
            for index, rate in enumerate(drop_path)
        )
        self.downsample: PatchMerging | None = None
        if stage + 1 < len(config.depths):
            self.downsample = PatchMerging(
                channels,
                2 * channels,
                stride=config.strides[stage + 1],
                norm_cfg=config.norm_cfg if config.patch_norm else None,
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = rolled_mask(x.shape[1], x.shape[2], self.window_size, x.device)
        for block in self.blocks:
            run = partial(block, mask=mask)
            x = recomputed(run, x) if self.with_cp and x.requires_grad else run(x)
        return x, x if self.downsample is None else self.downsample(x)


class SwinBlock(nn.Module):
    """Attention within windows and a feed-forward network, each behind a norm and added to its input."""

    def __init__(self, config: SwinTransformerConfig, stage: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        channels = config.stage_channels[stage]
        self.norm1 = config.norm_cfg.build_for(channels)
        self.attn = ShiftWindowMSA(config, stage, shifted=shifted, drop_path=drop_path)
        self.norm2 = config.norm_cfg.build_for(channels)
        self.ffn = FFN(
            channels,
            config.mlp_ratio * channels,
            act_cfg=config.act_cfg,
            ffn_drop=config.drop_rate,
            drop_path=drop_path,
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        out: Tensor = self.ffn(self.norm2(x), identity=x)
        return out


class ShiftWindowMSA(nn.Module):
    """Cuts the map into windows, rolled by half a window or not, for `w_msa`."""

    def __init__(self, config: SwinTransformerConfig, stage: int, *, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window_size = config.window_size
        self.shift_size = config.window_size // 2 if shifted else 0
        self.w_msa = WindowMSA(config, stage)
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        side, shift = self.window_size, self.shift_size
        padded = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rolled = padded.roll((-shift, -shift), (1, 2)) if shift else padded
        attended = self.w_msa(windows(rolled, side), mask if shift else None)
        whole = from_windows(attended, side, *rolled.shape[1:3])
        back = whole.roll((shift, shift), (1, 2)) if shift else whole
        out: Tensor = self.drop(back[:, :height, :width])
        return out


class WindowMSA(nn.Module):
    """Attention within windows, with a trained bias for each offset of the key from the query."""

    relative_position_index: Tensor
    """(tokens, tokens): a row of the bias table for each query and key."""

    def __init__(self, config: SwinTransformerConfig, stage: int) -> None:
        super().__init__()
        channels, side = config.stage_channels[stage], config.window_size
        self.num_heads = config.num_heads[stage]
        self.scale = config.qk_scale or (channels // self.num_heads) ** -0.5
        self.dropout = config.attn_drop_rate
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, self.num_heads))
        self.register_buffer("relative_position_index", relative_position_index(side))
        self.qkv = nn.Linear(channels, 3 * channels, bias=config.qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(config.drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, windows, tokens, C) and (windows, tokens, tokens) to (B, windows, tokens, C)."""
        split: Tensor = self.qkv(x).view(*x.shape[:3], 3, self.num_heads, -1)
        query, key, value = split.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        logits = bias if mask is None else bias + mask[:, None]
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=logits.to(query.dtype),
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )
        out: Tensor = self.proj_drop(self.proj(attended.transpose(2, 3).flatten(3)))
        return out


def relative_position_index(side: int) -> Tensor:
    """(tokens, tokens): the row of the bias table for each pair of query and key in a window."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    dy, dx = ((c.flatten()[:, None] - c.flatten()[None]) + side - 1 for c in (y, x))
    return dy * (2 * side - 1) + dx


def windows(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) to (B, windows, side * side, C), row by row."""
    batch, height, width, channels = x.shape
    cut = x.reshape(batch, height // side, side, width // side, side, channels)
    return cut.transpose(2, 3).reshape(batch, -1, side * side, channels)


def from_windows(x: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `windows`, to (B, height, width, C)."""
    batch, channels = len(x), x.shape[-1]
    cut = x.reshape(batch, height // side, width // side, side, side, channels)
    return cut.transpose(2, 3).reshape(batch, height, width, channels)


def rolled_mask(height: int, width: int, side: int, device: torch.device) -> Tensor:
    """(windows, tokens, tokens) to add to the logits where a map, padded to windows, is rolled by half of one."""
    shift = side // 2

    def bands(length: int) -> Tensor:
        """Which of three bands each index of a rolled axis belongs to."""
        index = torch.arange(length, device=device)
        return (index >= length - side).long() + (index >= length - shift).long()

    padded_height, padded_width = height + -height % side, width + -width % side
    regions = 3 * bands(padded_height)[:, None] + bands(padded_width)[None]
    tokens = windows(regions[None, ..., None], side)[0, ..., 0]
    apart = tokens[:, :, None] != tokens[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill_(apart, OTHER_REGION)


def _renamed(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """A tensor of the authors' under the name, and in the order, that it has here."""
    if re.search(r"(^|\.)layers\.\d+\.(blocks|downsample)\.", name):
        name = re.sub(r"(^|\.)layers\.(?=\d+\.(?:blocks|downsample)\.)", r"\1stages.", name)
        if ".downsample." in name:
            # The authors merge (0, 0), (1, 0), (0, 1), (1, 1), each with all its channels.
            by_token = tensor.reshape(*tensor.shape[:-1], 2, 2, -1)
            tensor = by_token.transpose(-1, -3).flatten(-3)
    for theirs, ours in (
        (".attn.", ".attn.w_msa."),
        (".mlp.fc1.", ".ffn.layers.0.0."),
        (".mlp.fc2.", ".ffn.layers.1."),
        ("patch_embed.proj.", "patch_embed.projection."),
    ):
        if ours not in name:
            name = name.replace(theirs, ours)
    return name, tensor


def _fitted(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """A table of positions in the shape it has here, resized where the window is another."""
    match = re.search(r"(stages\..+relative_position_bias_table|absolute_pos_embed)$", name)
    if match is None or match[1] not in state:
        return tensor
    shape = state[match[1]].shape
    if name.endswith("absolute_pos_embed"):
        return tensor.flatten(2).transpose(1, 2) if tensor.ndim == 4 else tensor
    if tensor.shape[1:] != shape[1:] or tensor.shape == shape:
        return tensor
    before, after = (round(len_**0.5) for len_ in (len(tensor), shape[0]))
    table = tensor.T.reshape(1, -1, before, before)
    return F.interpolate(table, size=(after, after), mode="bicubic").flatten(2)[0].T
