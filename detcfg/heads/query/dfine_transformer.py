"""D-FINE: the queries that its decoder begins with, and what they predict.

Shapes: B images, A cells of all maps, Q queries, D denoising queries, C channels, K classes, n + 1 bins; L decoder layers.
Boxes are (cx, cy, w, h) in shares of the image.

Follows zoo/dfine/dfine_decoder.py of Peterande/D-FINE (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.cxcywh import logit, to_xyxy
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
from detcfg.heads.query.base import QueryHead, QueryHeadConfig
from detcfg.heads.query.denoising import ContrastiveDenoising, DenoisingQueries
from detcfg.heads.query.dfine_criterion import Bins, DFINECriterionConfig, Objects, Predictions
from detcfg.heads.query.dfine_decoder import Decoder, DecoderLayer, Memory
from detcfg.layers.mlp import MLP
from detcfg.layers.nonuniform_bins import bin_values, expected, moved
from detcfg.layers.projection import projection
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets

PRIOR = -math.log((1 - 0.01) / 0.01)
"""The bias of classifiers: a probability of 0.01."""


@frozen(kw_only=True)
class DFINETransformerConfig(QueryHeadConfig):
    """D-FINE's decoder and its losses (Peng et al., 2024, https://arxiv.org/abs/2410.13842).

    What differs from the reference: denoising moves boxes by `box_noise_scale` (the reference by 1, whatever its config
    says); losses are float32 under autocast too; images of unequal sizes may stand in one batch; places whose anchor
    reaches out of the image (score of a constant) come last of equals, in whatever order the device sorts.
    """

    hidden_dim: PositiveInt = 256
    """C: channels of queries and maps."""
    num_queries: PositiveInt = 300
    """Q: at most so many objects an image. An image needs as many places: a stride-8 map of 640x640 has 6,400."""
    num_points: NonEmpty[PositiveInt] = (3, 6, 3)
    """Points of each map that a head of a query reads."""
    nhead: PositiveInt = 8
    """Heads of the attentions, a divisor of `hidden_dim`."""
    num_layers: OneOrMoreLayers = 6
    """Decoder layers."""
    dim_feedforward: PositiveInt = 1024
    """Channels between the two linear layers of a decoder layer."""
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
    reg_max: PositiveInt = 32
    """n: bins of a side's distance, less one; even."""
    reg_scale: PositiveFloat = 4.0
    """How much finer bins are in the middle; the greatest distance is `reg_scale` half widths."""
    criterion: DFINECriterionConfig = DFINECriterionConfig()
    """The matching and the losses."""
    max_per_img: CountOrAll = 300
    """The best so many of Q * K scores are the detections of an image."""

    def wired(self) -> Self:
        if self.hidden_dim % self.nhead:
            raise ConfigError(
                f"nhead is {self.nhead}, which does not divide hidden_dim, {self.hidden_dim}. Choose a divisor."
            )
        if self.reg_max % 2 or self.reg_max < 4:
            raise ConfigError(f"reg_max is {self.reg_max}, and has to be even and at least 4.")
        if not is_unset(self.in_strides) and len(self.num_points) != len(self.in_strides):
            raise ConfigError(
                f"num_points has {len(self.num_points)} numbers, {self.num_points}, and there are "
                f"{len(self.in_strides)} maps. Give one a map."
            )
        return super().wired()

    def build(self) -> DFINETransformer:
        return DFINETransformer(self.resolved())


class Selected(NamedTuple):
    """The cells that become queries, and what the encoder predicts there."""

    content: Tensor
    """(B, Q, C)."""
    points: Tensor
    """(B, Q, 4): logits of boxes."""
    logits: Tensor
    """(B, Q, K)."""


class DFINETransformer(QueryHead):
    """The best cells of the maps become queries, which the layers refine; each layer is trained on its own.

    `denoising` may be replaced by any function of the labels and the boxes of the images that gives
    `DenoisingQueries`, such as recorded ones.
    """

    def __init__(self, config: DFINETransformerConfig) -> None:
        super().__init__()
        dim, layers = config.hidden_dim, config.num_layers
        self.num_classes, self.num_queries = config.num_classes, config.num_queries
        self.in_strides, self.num_heads, self.eps = config.in_strides, config.nhead, config.eps
        self.reg_max, self.max_per_img = config.reg_max, config.max_per_img
        self.input_proj = nn.ModuleList(
            nn.Identity() if channels == dim else projection(channels, dim) for channels in config.in_channels
        )
        self.up = nn.Parameter(torch.tensor([0.5]), requires_grad=False)
        self.reg_scale = nn.Parameter(torch.tensor([config.reg_scale]), requires_grad=False)
        self.decoder = Decoder(
            [
                DecoderLayer(
                    dim, config.nhead, config.dim_feedforward, config.num_points, dropout=config.dropout
                )
                for _ in range(layers)
            ],
            self.up,
            self.reg_scale,
        )
        self.denoising = None
        if config.num_denoising > 0:
            self.denoising_class_embed = nn.Embedding(self.num_classes + 1, dim, padding_idx=self.num_classes)
            self.denoising = ContrastiveDenoising(
                self.num_classes, config.num_denoising, config.label_noise_ratio, config.box_noise_scale
            )
        self.query_pos_head = MLP(4, 2 * dim, dim, 2)
        self.enc_output = nn.Sequential()
        self.enc_output.add_module("proj", nn.Linear(dim, dim))
        self.enc_output.add_module("norm", nn.LayerNorm(dim))
        self.enc_score_head = nn.Linear(dim, self.num_classes)
        self.enc_bbox_head = MLP(dim, dim, 4, 3)
        self.dec_score_head = nn.ModuleList(nn.Linear(dim, self.num_classes) for _ in range(layers))
        self.pre_bbox_head = MLP(dim, dim, 4, 3)
        self.dec_bbox_head = nn.ModuleList(MLP(dim, dim, 4 * (config.reg_max + 1), 3) for _ in range(layers))
        self.criterion = config.criterion.build()
        self._init_weights()

    def _init_weights(self) -> None:
        """Classifiers begin with a probability of 0.01, boxes at their references."""
        for head in (self.enc_score_head, *self.dec_score_head):
            assert isinstance(head, nn.Linear)
            nn.init.constant_(head.bias, PRIOR)
        for mlp in (self.enc_bbox_head, self.pre_bbox_head, *self.dec_bbox_head):
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
        spoilt = self.denoising(objects.labels, objects.boxes) if self.training and self.denoising else None
        found, selected = self.decode(features, batch, spoilt, every_layer=True)
        restored, found = found.split(0 if spoilt is None else spoilt.labels.shape[1])
        bins = Bins(bin_values(self.reg_max, self.up, self.reg_scale), self.reg_scale)
        encoded = selected.logits, selected.points.sigmoid()
        denoising = (restored, spoilt) if self.training and self.denoising else None
        losses: dict[str, Tensor] = self.criterion(found, encoded, bins, objects, denoising)
        if denoising and spoilt is None:  # so that all processes have a gradient for it
            losses["loss_vfl_dn_0"] = losses["loss_vfl_dn_0"] + self.denoising_class_embed.weight.sum() * 0
        return losses

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        found, _ = self.decode(features, batch)
        scores = found.logits[-1].sigmoid().flatten(1)
        scores, index = scores.topk(min(self.max_per_img, scores.shape[1]), dim=1)
        query, labels = index.div(self.num_classes, rounding_mode="floor"), index % self.num_classes
        boxes = to_xyxy(found.boxes[-1]).gather(1, query[..., None].expand(-1, -1, 4))
        boxes = boxes * _output_pixels(batch).to(boxes)[:, None]
        return [Detections(boxes=boxes[i], scores=scores[i], labels=labels[i]) for i in range(len(batch))]

    def decode(
        self,
        features: tuple[Tensor, ...],
        batch: ImageBatch,
        spoilt: DenoisingQueries | None = None,
        *,
        every_layer: bool = False,
    ) -> tuple[Predictions, Selected]:
        """What the queries predict, denoising ones first, and the cells that became queries.

        Args:
            features: One (B, C_i, H_i, W_i) a level.
            batch: The images.
            spoilt: Denoising queries.
            every_layer: Predict after each layer, and without distributions after the first; or after the last alone.

        Raises:
            DetcfgError: An image has fewer cells than there are queries.
        """
        maps = [project(x) for project, x in zip(self.input_proj, features, strict=True)]
        ratios = _ratios(batch)
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        anchors, valid = self.anchors(maps, ratios)
        selected = self.select(tokens, anchors, valid, batch)
        content, points = selected.content, selected.points.detach()
        hidden = None
        if spoilt is not None:
            content = torch.cat([self.denoising_class_embed(spoilt.labels), content], dim=1)
            points = torch.cat([spoilt.boxes, points], dim=1)
            hidden = spoilt.hidden(self.num_queries)
        memory = Memory([self._by_head(x, ratios) for x in maps], ratios)
        return self._refined(content, points.sigmoid(), memory, hidden, every_layer=every_layer), selected

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

    def select(self, tokens: Tensor, anchors: Tensor, valid: Tensor, batch: ImageBatch) -> Selected:
        """The cells whose best class scores highest."""
        if tokens.shape[1] < self.num_queries:
            height, width = batch.tensor.shape[-2:]
            raise DetcfgError(
                f"decoder.num_queries is {self.num_queries}, but an image of {height}x{width} pixels has only "
                f"{tokens.shape[1]} cells in maps of strides {self.in_strides}. Give larger images (about "
                f"{math.sqrt(self.num_queries / tokens.shape[1]):.1f} times the height and width), or fewer queries."
            )
        encoded = self.enc_output(valid.to(tokens.dtype) * tokens)
        logits = self.enc_score_head(encoded)
        index = logits.amax(dim=-1).topk(self.num_queries, dim=1).indices[..., None]

        def chosen(values: Tensor) -> Tensor:
            return values.expand(len(tokens), -1, -1).gather(1, index.expand(-1, -1, values.shape[-1]))

        content = chosen(encoded)
        points = widened(self.enc_bbox_head(content)) + chosen(anchors)
        return Selected(content.detach(), points, widened(chosen(logits)))

    def _by_head(self, x: Tensor, ratios: Tensor | None) -> Tensor:
        """(B * heads, C / heads, H, W), zero beyond the image."""
        if ratios is not None:
            x = x * _inside(x, ratios)
        return x.reshape(len(x) * self.num_heads, -1, *x.shape[-2:])

    def _refined(
        self, x: Tensor, boxes: Tensor, memory: Memory, hidden: Tensor | None, *, every_layer: bool
    ) -> Predictions:
        """Layer by layer, the distributions of the sides are added up; their boxes begin at the first layer's."""
        values = bin_values(self.reg_max, self.up, self.reg_scale)
        all_logits: list[Tensor] = []
        all_boxes: list[Tensor] = []
        all_corners: list[Tensor] = []
        corners, before = torch.zeros((), device=x.device), torch.zeros_like(x)
        initial, early = boxes, list[Tensor]()
        for i, layer in enumerate(self.decoder.layers):
            positions = self.query_pos_head(boxes).clamp(-10, 10)
            x = layer(x, positions, boxes, memory, hidden)
            if i == 0:
                first = (widened(self.pre_bbox_head(x)) + logit(boxes)).sigmoid()
                early = [widened(self.dec_score_head[0](x)), first]
                initial = first.detach()
            corners = widened(self.dec_bbox_head[i](x + before)) + corners
            refined = moved(initial, expected(corners, values), self.reg_scale)
            if every_layer or i == len(self.decoder.layers) - 1:
                all_logits.append(widened(self.decoder.lqe_layers[i](self.dec_score_head[i](x), corners)))
                all_boxes.append(refined)
                all_corners.append(corners)
            boxes, before = refined.detach(), x.detach()
        if every_layer:
            all_logits.append(early[0])
            all_boxes.append(early[1])
        return Predictions(torch.stack(all_logits), torch.stack(all_boxes), torch.stack(all_corners), initial)


def _ratios(batch: ImageBatch) -> Tensor | None:
    """(B, 2), the share (x, y) of the batch that each image fills, padded to the stride; None if all fill it."""
    height, width = batch.tensor.shape[-2:]
    if all(size == (height, width) for size in batch.padded_sizes):
        return None
    shares = [(w / width, h / height) for h, w in batch.padded_sizes]
    return torch.tensor(shares, device=batch.tensor.device)


def _inside(x: Tensor, ratios: Tensor) -> Tensor:
    """(B, 1, H, W) of 0 and 1: the cells of maps that lie within their images."""
    height, width = x.shape[-2:]
    columns = torch.arange(width, device=x.device) + 0.5 < (ratios[:, :1] * width)
    rows = torch.arange(height, device=x.device) + 0.5 < (ratios[:, 1:] * height)
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(x.dtype)


def _output_pixels(batch: ImageBatch) -> Tensor:
    """(B, 4): what carries boxes (x1, y1, x2, y2) in shares of an image to its output pixels."""
    pixels: list[tuple[float, ...]] = []
    for index, (height, width) in enumerate(batch.padded_sizes):
        x, y = batch.scales(index)
        pixels.append((width * x, height * y) * 2)
    return torch.tensor(pixels)
