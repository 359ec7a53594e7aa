"""The region proposal network.

Shapes: B images; features are (B, C, H_i, W_i); a anchors at each location, n_i of level i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.random import RandomSamplerConfig
from detcfg.config import check_unused
from detcfg.config.ranges import CountOrAll, Fraction, OneOrMoreLayers
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig, select_detections
from detcfg.heads.dense.levels import flatten_level
from detcfg.heads.proposal.base import ProposalHead, ProposalHeadConfig, as_one_class
from detcfg.heads.proposal.sparse_backward import pays_off, sparse_losses
from detcfg.layers.conv_module import ConvModule
from detcfg.layers.init import normal_init
from detcfg.losses.base import LossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.precision import in_full_precision
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RPNTestConfig(DenseTestConfig):
    """How proposals are chosen."""

    score_thr: Fraction = 0.0
    """Has no effect: proposals go by rank. Another value is refused, and so it is of `geometric_scores`."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.7)
    """Non-maximum suppression within each level."""
    max_per_img: CountOrAll = 1000
    """Proposals of an image at most, the best by score; -1 for all."""

    def wired(self) -> Self:
        check_unused(self, "proposals go by rank", "score_thr", "geometric_scores")
        return self


@frozen(kw_only=True)
class RPNHeadConfig(AnchorHeadConfig, ProposalHeadConfig):
    """Region proposal network (Ren et al., 2015, https://arxiv.org/abs/1506.01497).

    Follows mmdet/models/dense_heads/rpn_head.py.
    """

    num_convs: OneOrMoreLayers = 1
    """3 x 3 convolutions before the two predictions."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(scales=(8.0,))
    """The anchors of each level; its strides must be those of the feature maps."""
    loss_bbox: LossConfig = L1LossConfig()
    """Box regression loss."""
    assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)
    """Assigns ground-truth boxes to priors."""
    sampler: SamplerConfig = RandomSamplerConfig(num=256, pos_fraction=0.5, add_gt_as_proposals=False)
    """Samples the positives and negatives that enter the loss."""
    rpn_proposal: RPNTestConfig = RPNTestConfig(nms_pre=2000)
    """How proposals are chosen in training."""
    test_cfg: RPNTestConfig = RPNTestConfig()
    """How proposals are chosen in testing."""

    def build(self) -> RPNHead:
        return RPNHead(self.resolved())


class RPNHead(AnchorHead, ProposalHead):
    """Predicts objectness and box deltas for each anchor."""

    def __init__(self, config: RPNHeadConfig) -> None:
        super().__init__(config)
        self.rpn_test_cfg = config.test_cfg
        self.rpn_proposal = config.rpn_proposal
        self.rpn_conv = self._convs(config)
        self.rpn_cls = nn.Conv2d(config.feat_channels, self.num_base_priors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(config.feat_channels, self.num_base_priors * self.bbox_coder.encode_size, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)

    def _convs(self, config: RPNHeadConfig) -> nn.Module:
        """One plain convolution, or several with activations, as MMDetection names them."""
        if config.num_convs == 1:
            return nn.Conv2d(config.in_channels, config.feat_channels, 3, padding=1)
        widths = (config.in_channels,) + (config.feat_channels,) * (config.num_convs - 1)
        return nn.Sequential(*(ConvModule(width, config.feat_channels, 3, padding=1) for width in widths))

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        del level
        hidden = F.relu(self.rpn_conv(feature))
        return in_full_precision(self.rpn_cls, hidden), in_full_precision(self.rpn_reg, hidden)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        losses = super().losses(predictions, batch, as_one_class(targets))
        return {"loss_rpn_cls": losses["loss_cls"], "loss_rpn_bbox": losses["loss_bbox"]}

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        sparse = self.uses_sparse_backward(features)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not sparse):
            predictions = self(features)
        losses = (
            self.sparse_losses(features, predictions, batch, targets)
            if sparse
            else self.losses(predictions, batch, targets)
        )
        return losses, self.select_proposals(predictions, batch, self.rpn_proposal)

    def uses_sparse_backward(self, features: Sequence[Tensor]) -> bool:
        """Whether the losses go back from the sampled anchors alone, as `sparse_backward` says."""
        # A subclass may compute something else in any of its methods.
        return type(self) is RPNHead and pays_off(self, self.rpn_conv, features)

    def sparse_losses(
        self,
        features: tuple[Tensor, ...],
        predictions: tuple[tuple[Tensor, ...], ...],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        """The loss at the sampled anchors only; the same gradient without a backward pass over whole maps."""
        layers = (self.rpn_conv, self.rpn_cls, self.rpn_reg)
        losses = sparse_losses(
            self,
            layers,
            features=features,
            predictions=predictions,
            batch=batch,
            targets=as_one_class(targets),
        )
        return {"loss_rpn_cls": losses["loss_cls"], "loss_rpn_bbox": losses["loss_bbox"]}

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return self.select_proposals(self(features), batch, self.rpn_test_cfg)

    def detections(self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch) -> list[Detections]:
        return self.select_proposals(predictions, batch, self.rpn_test_cfg, rescale=True)

    @torch.no_grad()
    def select_proposals(
        self,
        predictions: tuple[tuple[Tensor, ...], ...],
        batch: ImageBatch,
        test_cfg: RPNTestConfig,
        anchors: Sequence[Tensor] | None = None,
        *,
        rescale: bool = False,
    ) -> list[Detections]:
        """The proposals of each image.

        The best of all levels are decoded together, and one call of NMS for an image goes over all levels, of
        which each is a group.

        Args:
            predictions: What `forward` predicts.
            batch: The images.
            test_cfg: How proposals are chosen.
            anchors: (n_i, 4) of each level, or (B, n_i, 4) where each image has its own; by default `priors`.
            rescale: Whether proposals are in output pixels rather than in network pixels. `min_bbox_size` is
                in the same.
        """
        cls_scores, bbox_preds = predictions[:2]
        scores: list[Tensor] = []
        deltas: list[Tensor] = []
        chosen: list[Tensor] = []
        levels: list[Tensor] = []
        # In a model of double precision too, proposals are chosen in float32, as MMDetection chooses them.
        for level, priors in enumerate(anchors or self.priors(cls_scores)):
            score = self.probabilities(flatten_level(cls_scores[level], self.cls_out_channels).float())
            delta = flatten_level(bbox_preds[level], self.bbox_coder.encode_size).float()
            score = score.squeeze(-1)
            best = torch.arange(score.shape[1], device=score.device).expand_as(score)
            if (
                0 < test_cfg.nms_pre < priors.shape[-2]
            ):  # else NMS meets ties in another order than MMDetection's
                score, best = score.sort(dim=1, descending=True)
                score, best = score[:, : test_cfg.nms_pre], best[:, : test_cfg.nms_pre]
            scores.append(score)
            deltas.append(delta.gather(1, best[..., None].expand(-1, -1, delta.shape[-1])))
            chosen.append(priors.expand(len(score), -1, -1).gather(1, best[..., None].expand(-1, -1, 4)))
            levels.append(torch.full_like(best, level))
        all_scores, all_levels = torch.cat(scores, dim=1), torch.cat(levels, dim=1)
        all_deltas, all_anchors = torch.cat(deltas, dim=1), torch.cat(chosen, dim=1)
        proposals: list[Detections] = []
        for image, size in enumerate(batch.sizes):
            found, _ = select_detections(
                self.bbox_coder.decode(all_anchors[image], all_deltas[image], max_shape=size),
                all_scores[image],
                all_levels[image],
                test_cfg=test_cfg,
                scales=batch.scales(image) if rescale else (1.0, 1.0),
            )
            proposals.append(evolve(found, labels=torch.zeros_like(found.labels)))
        return proposals
