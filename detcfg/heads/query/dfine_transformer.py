"""D-FINE: the queries that its decoder begins with, and what they predict.

Shapes: B images, A cells of all maps, Q queries, D denoising queries, C channels, K classes, n + 1 bins; L decoder layers.
Boxes are (cx, cy, w, h) in shares of the image.

Follows zoo/dfine/dfine_decoder.py of Peterande/D-FINE (Apache-2.0).
"""

from __future__ import annotations

from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.cxcywh import logit
from detcfg.config import ConfigError
from detcfg.config.ranges import NonEmpty, PositiveFloat, PositiveInt
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.heads.query.dfine_criterion import Bins, DFINECriterionConfig, Predictions
from detcfg.heads.query.dfine_decoder import Decoder, DecoderLayer
from detcfg.heads.query.set_criterion import Objects
from detcfg.heads.query.two_stage import Queries, TwoStageQueryHead, TwoStageQueryHeadConfig
from detcfg.layers.mlp import MLP
from detcfg.layers.ms_deform_attn import Memory, by_head
from detcfg.layers.nonuniform_bins import bin_values, expected, moved
from detcfg.layers.projection import projection
from detcfg.precision import widened


@frozen(kw_only=True)
class DFINETransformerConfig(TwoStageQueryHeadConfig):
    """D-FINE's decoder and its losses (Peng et al., 2024, https://arxiv.org/abs/2410.13842).

    What differs from the reference: denoising moves boxes by `box_noise_scale` (the reference by 1, whatever its config
    says); losses are float32 under autocast too; images of unequal sizes may stand in one batch; places whose anchor
    reaches out of the image (score of a constant) come last of equals, in whatever order the device sorts.
    """

    num_points: NonEmpty[PositiveInt] = (3, 6, 3)
    """Points of each map that a head of a query reads."""
    reg_max: PositiveInt = 32
    """n: bins of a side's distance, less one; even."""
    reg_scale: PositiveFloat = 4.0
    """How much finer bins are in the middle; the greatest distance is `reg_scale` half widths."""
    criterion: DFINECriterionConfig = DFINECriterionConfig()
    """The matching and the losses."""

    def wired(self) -> Self:
        if self.reg_max % 2 or self.reg_max < 4:
            raise ConfigError(f"reg_max is {self.reg_max}, and has to be even and at least 4.")
        return super().wired()

    def build(self) -> DFINETransformer:
        return DFINETransformer(self.resolved())


class DFINETransformer(TwoStageQueryHead):
    """The best cells of the maps become queries, which the layers refine; each layer is trained on its own."""

    def __init__(self, config: DFINETransformerConfig) -> None:
        super().__init__(config)
        dim, layers = config.hidden_dim, config.num_layers
        self.reg_max = config.reg_max
        self.up = nn.Parameter(torch.tensor([0.5]), requires_grad=False)
        self.reg_scale = nn.Parameter(torch.tensor([config.reg_scale]), requires_grad=False)
        self.decoder = Decoder(
            [
                DecoderLayer(
                    dim,
                    config.nhead,
                    config.dim_feedforward,
                    config.num_points,
                    act_cfg=config.act_cfg,
                    dropout=config.dropout,
                )
                for _ in range(layers)
            ],
            self.up,
            self.reg_scale,
            config.act_cfg,
        )
        self.pre_bbox_head = MLP(dim, dim, 4, 3, config.act_cfg)
        self.dec_bbox_head = nn.ModuleList(
            MLP(dim, dim, 4 * (config.reg_max + 1), 3, config.act_cfg) for _ in range(layers)
        )
        self.criterion = config.criterion.build()
        self.init_weights(self.pre_bbox_head, *self.dec_bbox_head)

    def make_projection(self, in_channels: int, out_channels: int) -> nn.Module:
        return nn.Identity() if in_channels == out_channels else projection(in_channels, out_channels)

    def losses_of(
        self, queries: Queries, objects: Objects, spoilt: DenoisingQueries | None, *, denoises: bool
    ) -> dict[str, Tensor]:
        found = self.refined(queries, every_layer=True)
        restored, found = found.split(0 if spoilt is None else spoilt.labels.shape[1])
        bins = Bins(bin_values(self.reg_max, self.up, self.reg_scale), self.reg_scale)
        encoded = queries.selected.logits, queries.selected.points.sigmoid()
        denoising = (restored, spoilt) if denoises else None
        losses: dict[str, Tensor] = self.criterion(found, encoded, bins, objects, denoising)
        return losses

    def final(self, queries: Queries) -> tuple[Tensor, Tensor]:
        found = self.refined(queries)
        return found.logits[-1], found.boxes[-1]

    def refined(self, queries: Queries, *, every_layer: bool = False) -> Predictions:
        """Layer by layer, the distributions of the sides are added up; their boxes begin at the first layer's.

        Args:
            queries: What the layers begin with.
            every_layer: Predict after each layer, and without distributions after the first; or after the last alone.
        """
        x, boxes = queries.content, queries.boxes
        memory = Memory([by_head(m, self.num_heads, queries.ratios) for m in queries.maps], queries.ratios)
        values = bin_values(self.reg_max, self.up, self.reg_scale)
        all_logits: list[Tensor] = []
        all_boxes: list[Tensor] = []
        all_corners: list[Tensor] = []
        corners, before = torch.zeros((), device=x.device), torch.zeros_like(x)
        initial, early = boxes, list[Tensor]()
        for i, layer in enumerate(self.decoder.layers):
            positions = self.query_pos_head(boxes).clamp(-10, 10)
            x = layer(x, positions, boxes, memory, queries.hidden)
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
