"""Queries that the encoder's maps propose: what RT-DETR's and D-FINE's decoders share.

Shapes: B images, A cells of all maps, Q queries, D denoising queries, C channels, K classes; boxes are (cx, cy, w, h)
in shares of the image.

Follows zoo/rtdetr/rtdetrv2_decoder.py of lyuwenyu/RT-DETR (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.cxcywh import to_xyxy
from detcfg.config import ConfigError, is_unset
from detcfg.config.ranges import (
    CountOrAll,
    Fraction,
    NonEmpty,
    NonNegativeFloat,
    NonNegativeInt,
    OneOrMoreLayers,
    PositiveFloat,
    PositiveInt,
    ProperFraction,
)
from detcfg.errors import DetcfgError
from detcfg.heads.query.base import QueryHead, QueryHeadConfig, best
from detcfg.heads.query.denoising import ContrastiveDenoising, DenoisingQueries
from detcfg.heads.query.set_criterion import Objects
from detcfg.layers.activation import ActivationConfig, ReLUConfig
from detcfg.layers.mlp import MLP
from detcfg.layers.projection import projection
from detcfg.layers.tokens import tokens
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets

PRIOR = -math.log((1 - 0.01) / 0.01)
"""The bias of classifiers: a probability of 0.01."""


@frozen(kw_only=True)
class TwoStageQueryHeadConfig(QueryHeadConfig):
    """The best cells of the maps become queries, beside denoising ones in training."""

    hidden_dim: PositiveInt = 256
    """C: channels of queries and maps."""
    num_queries: PositiveInt = 300
    """Q: at most so many objects an image. An image needs as many places: a stride-8 map of 640x640 has 6,400."""
    num_points: NonEmpty[PositiveInt] = (4, 4, 4)
    """Points of each map that a head of a query reads."""
    nhead: PositiveInt = 8
    """Heads of the attentions, a divisor of `hidden_dim`."""
    num_layers: OneOrMoreLayers = 6
    """Decoder layers."""
    dim_feedforward: PositiveInt = 1024
    """Channels between the two linear layers of a decoder layer."""
    act_cfg: ActivationConfig = ReLUConfig()
    """The activation between linear layers."""
    dropout: ProperFraction = 0.0
    """Probability that a value of a decoder layer is left out in training."""
    num_denoising: NonNegativeInt = 100
    """About so many spoilt objects an image to restore in training, times two (near and far ones); 0 for none."""
    label_noise_ratio: Fraction = 0.5
    """Twice the probability that a denoising query is told a random class."""
    box_noise_scale: NonNegativeFloat = 1.0
    """How far sides of denoising queries move, in half widths and heights of their objects."""
    eps: PositiveFloat = 1e-2
    """Anchors nearer to the border than this share of the image are left out."""
    max_per_img: CountOrAll = 300
    """The best so many of Q * K scores are the detections of an image."""

    def wired(self) -> Self:
        if self.hidden_dim % self.nhead:
            raise ConfigError(
                f"nhead is {self.nhead}, which does not divide hidden_dim, {self.hidden_dim}. Choose a divisor."
            )
        if not is_unset(self.in_strides) and len(self.num_points) != len(self.in_strides):
            raise ConfigError(
                f"num_points has {len(self.num_points)} numbers, {self.num_points}, and there are "
                f"{len(self.in_strides)} maps. Give one a map."
            )
        return super().wired()


class Selected(NamedTuple):
    """The cells that become queries, and what the encoder predicts there."""

    content: Tensor
    """(B, Q, C)."""
    points: Tensor
    """(B, Q, 4): logits of boxes."""
    logits: Tensor
    """(B, Q, K)."""


class Queries(NamedTuple):
    """What the decoder layers begin with, denoising queries first."""

    content: Tensor
    """(B, D + Q, C)."""
    boxes: Tensor
    """(B, D + Q, 4)."""
    hidden: Tensor | None
    """(D + Q, D + Q) bool, True where a query may not look at another one; None: all look at all."""
    maps: list[Tensor]
    """For each level (B, C, H_i, W_i): what they read."""
    ratios: Tensor | None
    """(B, 2), the share (x, y) of the maps that each image fills; None: all fill them."""
    selected: Selected


class TwoStageQueryHead(QueryHead):
    """Chooses the queries; a subclass lets its layers refine them.

    `denoising` may be replaced by any function of the labels and the boxes of the images that gives
    `DenoisingQueries`, such as recorded ones.
    """

    def __init__(self, config: TwoStageQueryHeadConfig) -> None:
        super().__init__()
        dim = config.hidden_dim
        self.num_classes, self.num_queries = config.num_classes, config.num_queries
        self.in_strides, self.num_heads, self.eps = config.in_strides, config.nhead, config.eps
        self.max_per_img = config.max_per_img
        self.input_proj = nn.ModuleList(
            self.make_projection(channels, dim) for channels in config.in_channels
        )
        self.denoising = None
        if config.num_denoising > 0:
            self.denoising_class_embed = nn.Embedding(self.num_classes + 1, dim, padding_idx=self.num_classes)
            self.denoising = ContrastiveDenoising(
                self.num_classes, config.num_denoising, config.label_noise_ratio, config.box_noise_scale
            )
        self.query_pos_head = MLP(4, 2 * dim, dim, 2, config.act_cfg)
        self.enc_output = nn.Sequential()
        self.enc_output.add_module("proj", nn.Linear(dim, dim))
        self.enc_output.add_module("norm", nn.LayerNorm(dim))
        self.enc_score_head = nn.Linear(dim, self.num_classes)
        self.enc_bbox_head = MLP(dim, dim, 4, 3, config.act_cfg)
        self.dec_score_head = nn.ModuleList(
            nn.Linear(dim, self.num_classes) for _ in range(config.num_layers)
        )

    def make_projection(self, in_channels: int, out_channels: int) -> nn.Module:
        """What brings a map to the channels of the queries."""
        return projection(in_channels, out_channels)

    def init_weights(self, *box_heads: nn.Module) -> None:
        """Classifiers begin with a probability of 0.01, boxes at their references.

        Args:
            box_heads: The `MLP`s that predict boxes, beside the encoder's.
        """
        for head in (self.enc_score_head, *self.dec_score_head):
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, PRIOR)
        for mlp in (self.enc_bbox_head, *box_heads):
            assert isinstance(mlp, MLP)
            nn.init.zeros_(mlp.last.weight)
            nn.init.zeros_(mlp.last.bias)
        for layer in (self.enc_output[0], *self.query_pos_head.layers):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
        for module in self.input_proj.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        objects = Objects.of(targets, batch)
        denoises = self.training and self.denoising is not None
        spoilt = self.denoising(objects.labels, objects.boxes) if denoises and self.denoising else None
        queries = self.begin(features, batch, spoilt)
        losses = self.losses_of(queries, objects, spoilt, denoises=denoises)
        if denoises and spoilt is None:  # so that all processes have a gradient for it
            losses["loss_bbox"] = losses["loss_bbox"] + self.denoising_class_embed.weight.sum() * 0
        return losses

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        logits, boxes = self.final(self.begin(features, batch))
        scores = logits.sigmoid().flatten(1)
        scores, index = best(scores, self.max_per_img)
        query, labels = index.div(self.num_classes, rounding_mode="floor"), index % self.num_classes
        boxes = to_xyxy(boxes).gather(1, query[..., None].expand(-1, -1, 4))
        boxes = boxes * _output_pixels(batch).to(boxes)[:, None]
        return [Detections(boxes=boxes[i], scores=scores[i], labels=labels[i]) for i in range(len(batch))]

    def losses_of(
        self, queries: Queries, objects: Objects, spoilt: DenoisingQueries | None, *, denoises: bool
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar.

        Args:
            queries: What the layers begin with.
            objects: The ground truth.
            spoilt: Denoising queries; None also where no image of the batch has an object.
            denoises: Whether there are losses of denoising, be they 0.
        """
        raise NotImplementedError

    def final(self, queries: Queries) -> tuple[Tensor, Tensor]:
        """What the last layer predicts: logits (B, Q, K) and boxes (B, Q, 4)."""
        raise NotImplementedError

    def begin(
        self, features: tuple[Tensor, ...], batch: ImageBatch, spoilt: DenoisingQueries | None = None
    ) -> Queries:
        """What the layers begin with.

        Args:
            features: One (B, C_i, H_i, W_i) a level.
            batch: The images.
            spoilt: Denoising queries.

        Raises:
            DetcfgError: An image has fewer cells than there are queries.
        """
        maps = [project(x) for project, x in zip(self.input_proj, features, strict=True)]
        ratios = _ratios(batch)
        cells = torch.cat([tokens(x) for x in maps], dim=1)
        anchors, valid = self.anchors(maps, ratios)
        selected = self.select(cells, anchors, valid, batch)
        content, points = selected.content.detach(), selected.points.detach()
        hidden = None
        if spoilt is not None:
            content = torch.cat([self.denoising_class_embed(spoilt.labels), content], dim=1)
            points = torch.cat([spoilt.boxes, points], dim=1)
            hidden = spoilt.hidden(self.num_queries)
        return Queries(content, points.sigmoid(), hidden, maps, ratios, selected)

    def anchors(self, maps: Sequence[Tensor], ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits of a box at each cell, and whether it lies within the image: (1 or B, A, 4), (1 or B, A, 1).

        Boxes of a level are twice as large as those of the one before it, whatever its stride.
        """
        boxes: list[Tensor] = []
        for level, x in enumerate(maps):
            height, width = x.shape[-2:]
            size = x.new_tensor([width, height], dtype=torch.float32)
            sizes = size[None] if ratios is None else size * ratios
            y, x_ = torch.meshgrid(
                torch.arange(height, device=x.device), torch.arange(width, device=x.device), indexing="ij"
            )
            cells = (torch.stack([x_, y], dim=-1).flatten(0, 1) + 0.5) / sizes[:, None]
            boxes.append(torch.cat([cells, torch.full_like(cells, 0.05 * 2.0**level)], dim=-1))
        flat = torch.cat(boxes, dim=1)
        valid = ((flat > self.eps) & (flat < 1 - self.eps)).all(dim=-1, keepdim=True)
        return (flat / (1 - flat)).log().where(valid, torch.inf), valid

    def select(self, cells: Tensor, anchors: Tensor, valid: Tensor, batch: ImageBatch) -> Selected:
        """The cells whose best class scores highest."""
        if cells.shape[1] < self.num_queries:
            height, width = batch.tensor.shape[-2:]
            raise DetcfgError(
                f"decoder.num_queries is {self.num_queries}, but an image of {height}x{width} pixels has only "
                f"{cells.shape[1]} cells in maps of strides {self.in_strides}. Give larger images (about "
                f"{math.sqrt(self.num_queries / cells.shape[1]):.1f} times the height and width), or fewer queries."
            )
        encoded = self.enc_output(valid.to(cells.dtype) * cells)
        logits = self.enc_score_head(encoded)
        index = logits.amax(dim=-1).topk(self.num_queries, dim=1).indices[..., None]

        def chosen(values: Tensor) -> Tensor:
            return values.expand(len(cells), -1, -1).gather(1, index.expand(-1, -1, values.shape[-1]))

        content = chosen(encoded)
        points = widened(self.enc_bbox_head(content)) + chosen(anchors)
        return Selected(content, points, widened(chosen(logits)))


def _ratios(batch: ImageBatch) -> Tensor | None:
    """(B, 2), the share (x, y) of the batch that each image fills, padded to the stride; None if all fill it."""
    height, width = batch.tensor.shape[-2:]
    if all(size == (height, width) for size in batch.padded_sizes):
        return None
    shares = [(w / width, h / height) for h, w in batch.padded_sizes]
    return torch.tensor(shares, device=batch.tensor.device)


def _output_pixels(batch: ImageBatch) -> Tensor:
    """(B, 4): what carries boxes (x1, y1, x2, y2) in shares of an image to its output pixels."""
    pixels: list[tuple[float, ...]] = []
    for index, (height, width) in enumerate(batch.padded_sizes):
        x, y = batch.scales(index)
        pixels.append((width * x, height * y) * 2)
    return torch.tensor(pixels)
