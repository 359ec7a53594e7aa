"""RT-DETRv2's decoder: queries that the encoder proposes, refined layer by layer.

Shapes: B images, Q queries, C channels, K classes, L decoder layers; boxes are (cx, cy, w, h) in shares of the image.

Follows zoo/rtdetr/rtdetrv2_decoder.py of lyuwenyu/RT-DETR (Apache-2.0).
"""

from __future__ import annotations

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.cxcywh import logit
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.heads.query.rtdetr_criterion import Predictions, RTDETRCriterionConfig
from detcfg.heads.query.rtdetr_decoder import RTDETRDecoder, RTDETRDecoderLayer
from detcfg.heads.query.set_criterion import Objects
from detcfg.heads.query.two_stage import Queries, TwoStageQueryHead, TwoStageQueryHeadConfig
from detcfg.layers.mlp import MLP
from detcfg.layers.ms_deform_attn import Memory, Method
from detcfg.precision import widened


@frozen(kw_only=True)
class RTDETRTransformerV2Config(TwoStageQueryHeadConfig):
    """RT-DETRv2's decoder and its losses (Lv et al., 2024, https://arxiv.org/abs/2407.17140).

    A layer's loss reaches the layer before it through the box that it refines, and no further. Images of unequal sizes may
    stand in one batch; the reference squashes all to one square.
    """

    cross_attn_method: Method = "default"
    """How maps are read: "default" between cells, "discrete" at the nearest cell, for devices without `grid_sample`. A
    discrete one leaves the offsets untrained, and is fine-tuned from weights trained with the other."""
    criterion: RTDETRCriterionConfig = RTDETRCriterionConfig()
    """The matching and the losses."""

    def build(self) -> RTDETRTransformerV2:
        return RTDETRTransformerV2(self.resolved())


class RTDETRTransformerV2(TwoStageQueryHead):
    """The best cells of the maps become queries, whose boxes each layer moves."""

    def __init__(self, config: RTDETRTransformerV2Config) -> None:
        super().__init__(config)
        dim, layers = config.hidden_dim, config.num_layers
        self.decoder = RTDETRDecoder(
            [
                RTDETRDecoderLayer(
                    dim,
                    config.nhead,
                    config.dim_feedforward,
                    config.num_points,
                    act_cfg=config.act_cfg,
                    dropout=config.dropout,
                    method=config.cross_attn_method,
                )
                for _ in range(layers)
            ]
        )
        self.dec_bbox_head = nn.ModuleList(MLP(dim, dim, 4, 3, config.act_cfg) for _ in range(layers))
        self.criterion = config.criterion.build()
        self.init_weights(*self.dec_bbox_head)

    def losses_of(
        self, queries: Queries, objects: Objects, spoilt: DenoisingQueries | None, *, denoises: bool
    ) -> dict[str, Tensor]:
        found = self.refined(queries)
        restored, found = found.split(0 if spoilt is None else spoilt.labels.shape[1])
        encoded = Predictions(queries.selected.logits[None], queries.selected.points.sigmoid()[None])
        denoising = (restored, spoilt) if denoises else None
        losses: dict[str, Tensor] = self.criterion(found, encoded, objects, denoising)
        return losses

    def final(self, queries: Queries) -> tuple[Tensor, Tensor]:
        found = self.refined(queries, last_only=True)
        return found.logits[-1], found.boxes[-1]

    def refined(self, queries: Queries, *, last_only: bool = False) -> Predictions:
        """What the layers predict.

        Args:
            queries: What the layers begin with.
            last_only: Predict after the last layer alone.
        """
        x, boxes = queries.content, queries.boxes
        memory = Memory(queries.maps, queries.ratios)
        all_logits: list[Tensor] = []
        all_boxes: list[Tensor] = []
        before = boxes  # of the layer before, with its gradient
        for i, layer in enumerate(self.decoder.layers):
            x = layer(x, self.query_pos_head(boxes), boxes, memory, queries.hidden)
            step = widened(self.dec_bbox_head[i](x))
            if not last_only or i == len(self.decoder.layers) - 1:
                all_logits.append(widened(self.dec_score_head[i](x)))
                all_boxes.append((step + logit(before)).sigmoid())
            before = (step + logit(boxes)).sigmoid()
            boxes = before.detach()
        return Predictions(torch.stack(all_logits), torch.stack(all_boxes))
