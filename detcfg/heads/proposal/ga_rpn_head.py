"""A region proposal network with guided anchors.

Shapes: B images; features are (B, C, H_i, W_i); one anchor at each location, n_i of level i.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config.ranges import PositiveInt
from detcfg.heads.anchor_based.guided_anchor_head import GuidedAnchorHead, GuidedAnchorHeadConfig
from detcfg.heads.dense.detections import select_detections
from detcfg.heads.proposal.base import ProposalHead, ProposalHeadConfig, as_one_class, in_output_pixels
from detcfg.heads.proposal.rpn_head import RPNTestConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class GARPNTestConfig(RPNTestConfig):
    """How proposals are chosen."""

    nms_post: PositiveInt = 1000
    """Proposals of each level after NMS at most."""
    nms_across_levels: bool = False
    """Whether proposals of all levels suppress each other once more."""

    def of_level(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Of the candidates of one level, (c, 4) and (c,), those that go on, by falling score."""
        one_class = torch.zeros_like(scores, dtype=torch.long)
        found, _ = select_detections(
            boxes, scores, one_class, test_cfg=evolve(self, max_per_img=self.nms_post), scales=(1.0, 1.0)
        )
        return found.boxes, found.scores

    def of_image(self, boxes: Tensor, scores: Tensor) -> Detections:
        """Of what goes on from all levels, (c, 4) and (c,), the proposals."""
        if self.nms_across_levels:
            kept, scores = self.nms.keep(boxes, scores)
        else:
            scores, kept = scores.sort(descending=True)
        if self.max_per_img >= 0:
            kept, scores = kept[: self.max_per_img], scores[: self.max_per_img]
        return Detections(boxes=boxes[kept], scores=scores, labels=torch.zeros_like(kept))


@frozen(kw_only=True)
class GARPNHeadConfig(GuidedAnchorHeadConfig, ProposalHeadConfig):
    """Region Proposal by Guided Anchoring (Wang et al., 2019, https://arxiv.org/abs/1901.03278).

    Follows mmdet/models/dense_heads/ga_rpn_head.py.
    """

    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    """Assigns ground-truth boxes to guided anchors."""
    sampler: SamplerConfig = RandomSamplerConfig(num=256, pos_fraction=0.5, add_gt_as_proposals=False)
    """Samples the positives and negatives that enter the loss."""
    rpn_proposal: GARPNTestConfig = GARPNTestConfig(nms_pre=2000, max_per_img=300)
    """How proposals are chosen in training."""
    test_cfg: GARPNTestConfig = GARPNTestConfig(max_per_img=300)
    """How proposals are chosen in testing."""

    def build(self) -> GARPNHead:
        return GARPNHead(self.resolved())


class GARPNHead(GuidedAnchorHead, ProposalHead):
    """One convolution before a guided anchor head for a single class."""

    def __init__(self, config: GARPNHeadConfig) -> None:
        super().__init__(config)
        self.rpn_test_cfg = config.test_cfg
        self.rpn_proposal = config.rpn_proposal

    def _init_layers(self, config: GuidedAnchorHeadConfig) -> None:
        self.rpn_conv = nn.Conv2d(config.in_channels, config.feat_channels, 3, padding=1)
        super()._init_layers(evolve(config, in_channels=config.feat_channels))

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        return super().forward_single(F.relu(self.rpn_conv(feature)), level)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses = super().losses(predictions, batch, as_one_class(targets))
        return {
            "loss_rpn_cls": losses["loss_cls"],
            "loss_rpn_bbox": losses["loss_bbox"],
            "loss_anchor_shape": losses["loss_shape"],
            "loss_anchor_loc": losses["loss_loc"],
        }

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        predictions = self(features)
        losses = self.losses(predictions, batch, targets)
        named = {name if "rpn" in name else f"rpn_{name}": loss for name, loss in losses.items()}
        return named, self.select_proposals(predictions, batch, self.rpn_proposal)

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.select_proposals(self(features), batch, self.rpn_test_cfg)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        return in_output_pixels(self.select_proposals(predictions, batch, self.rpn_test_cfg), batch)

    @torch.no_grad()
    def select_proposals(
        self,
        predictions: tuple[tuple[Tensor, ...], ...],
        batch: ImageBatch,
        test_cfg: GARPNTestConfig,
    ) -> list[Detections]:
        """The proposals of each image in network pixels."""
        return [
            self._image_proposals(predictions, index, size, test_cfg)
            for index, size in enumerate(batch.sizes)
        ]

    def _image_proposals(
        self,
        predictions: tuple[tuple[Tensor, ...], ...],
        index: int,
        size: tuple[int, int],
        test_cfg: GARPNTestConfig,
    ) -> Detections:
        candidates = self.candidates(predictions, index, test_cfg.nms_pre, filtered=not self.training)
        levels = [
            test_cfg.of_level(self.bbox_coder.decode(anchors, deltas, max_shape=size), scores.squeeze(-1))
            for scores, deltas, anchors in candidates
        ]
        boxes, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        return test_cfg.of_image(boxes, scores)
