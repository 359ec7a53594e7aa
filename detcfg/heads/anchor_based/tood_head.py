"""The head of TOOD.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, one at each location; K classes;
P positives of one image, or of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn

from detcfg import ops
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.atss import ATSSAssignerConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.task_aligned import TaskAlignedAssignerConfig, TaskAlignedAssignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.nms import NMSConfig
from detcfg.config.ranges import NonNegativeInt, NumLayers, OneOrMoreLayers
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.anchor_based.atss_head import anchor_centerness
from detcfg.heads.anchor_based.task_decomposition import TaskDecomposition
from detcfg.heads.dense.anchor_targets import AnchorTargets, Candidates
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import (
    flatten_level,
    flatten_levels,
    geometric_mean,
    of_positives,
    per_level,
    sizes_of,
)
from detcfg.heads.dense.towers import TowerConfig, init_classifier
from detcfg.layers.conv import ConvConfig
from detcfg.layers.deform_conv import DCNv2Config
from detcfg.layers.epochs import FollowsEpochs
from detcfg.layers.init import normal_init
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.quality_focal import QualityFocalLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class TOODHeadConfig(TowerConfig, AnchorHeadConfig):
    """Classes and boxes from one tower, each from its own mixture of the layers (Feng et al., 2021).

    https://arxiv.org/abs/2108.07755. Follows mmdet/models/dense_heads/tood_head.py; `alpha` and
    `beta` of the alignment are fields of `assigner`.
    """

    stacked_convs: OneOrMoreLayers = 6
    """Layers of the tower."""
    num_dcn: NumLayers = 0
    """How many of them, the first ones, are modulated deformable convolutions."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    anchor_type: Literal["anchor_free", "anchor_based"] = "anchor_free"
    """Whether boxes are distances from an anchor's centre in strides, or deltas of `bbox_coder`."""
    anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        ratios=(1.0,), octave_base_scale=8, scales_per_octave=1
    )
    """The anchors of each level; its strides must be those of the feature maps."""
    bbox_coder: BBoxCoderConfig = DeltaXYWHBBoxCoderConfig(target_stds=(0.1, 0.1, 0.2, 0.2))
    """Encodes ground-truth boxes as deltas to their priors, and decodes predicted deltas."""
    reg_decoded_bbox: Literal[True] = True
    """`loss_bbox` compares decoded boxes rather than deltas or distances."""
    loss_cls: QualityFocalLossConfig = QualityFocalLossConfig(activated=True)
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    initial_epoch: NonNegativeInt = 4
    """Epochs in which `initial_assigner` and `initial_loss_cls` take the places of the other two."""
    initial_assigner: AssignerConfig = ATSSAssignerConfig(topk=9)
    """The assigner of the first epochs."""
    initial_loss_cls: ClassLossConfig = FocalLossConfig(activated=True)
    """It gets probabilities rather than logits."""
    assigner: TaskAlignedAssignerConfig = TaskAlignedAssignerConfig(topk=13)
    """Assigns ground-truth boxes to priors."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def wired(self) -> Self:
        wired = super().wired()
        self.initial_assigner.check_anchors_suffice("initial_assigner")
        wired.anchor_generator.check_single("anchor_generator", type(self).__name__)
        return wired

    def layer_kinds(self) -> list[ConvConfig | None]:
        kinds = super().layer_kinds()
        deformable = kinds[: self.num_dcn]
        return [DCNv2Config(deform_groups=4)] * len(deformable) + kinds[len(deformable) :]

    def build(self) -> TOODHead:
        return TOODHead(self.resolved())


class TOODHead(AnchorHead, FollowsEpochs):
    """Predicts probabilities, and boxes in units of the stride, moved to where neighbours fit better."""

    def __init__(self, config: TOODHeadConfig) -> None:
        super().__init__(config)
        self.anchor_free = config.anchor_type == "anchor_free"
        channels, layers = config.feat_channels, config.stacked_convs
        self.inter_convs = config.tower()
        self.cls_decomp, self.reg_decomp = (
            TaskDecomposition(
                channels, layers, 8 * layers, conv_cfg=config.conv_cfg, norm_cfg=config.norm_cfg
            )
            for _ in range(2)
        )
        self.tood_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.tood_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.cls_prob_module = _small_net(channels * layers, channels // 4, 1)
        self.reg_offset_module = _small_net(channels * layers, channels // 4, 4 * 2)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)
        self.initial_epoch = config.initial_epoch
        self.initial_assigner = config.initial_assigner
        self.initial_loss_cls = config.initial_loss_cls.build()
        self.alignment_assigner = config.assigner
        self._init_weights()

    def _init_weights(self) -> None:
        for module, std in ((self.inter_convs, 0.01), (self.cls_prob_module, 0.01)):
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    normal_init(layer, std=std)
        for layer in self.reg_offset_module:
            if isinstance(layer, nn.Conv2d):
                normal_init(layer, std=0.001)
        init_classifier(self.cls_prob_module[-1])
        init_classifier(self.tood_cls)
        normal_init(self.tood_reg, std=0.01)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        layers: list[Tensor] = []
        for conv in self.inter_convs.children():
            feature = conv(feature)
            layers.append(feature)
        joint = torch.cat(layers, dim=1)
        mean = F.adaptive_avg_pool2d(joint, 1)
        scores = geometric_mean(self.tood_cls(self.cls_decomp(joint, mean)), self.cls_prob_module(joint))
        boxes = self._boxes(self.tood_reg(self.reg_decomp(joint, mean)), level)
        moved = sample_at(boxes, self.reg_offset_module(joint))
        # A box of which one side was moved beyond the other stays as it was.
        invalid = (moved[:, :2] > moved[:, 2:]).any(dim=1, keepdim=True)
        return scores, torch.where(invalid, boxes, moved)

    def _boxes(self, predicted: Tensor, level: int) -> Tensor:
        """(B, 4, H, W) to boxes in units of the stride, of the same shape."""
        size, stride = (predicted.shape[-2], predicted.shape[-1]), self.strides[level]
        anchors = self.anchor_generator.level_priors(level, size, predicted.device).repeat(len(predicted), 1)
        if self.anchor_free:
            distances = self.scales[level](predicted.exp())
            boxes = DistancePointBBoxCoderConfig().decode(
                centres(anchors) / stride, flatten_level(distances, 4).flatten(0, 1)
            )
        else:
            deltas = flatten_level(self.scales[level](predicted), 4).flatten(0, 1)
            boxes = self.bbox_coder.decode(anchors, deltas) / stride
        return boxes.reshape(len(predicted), *size, 4).permute(0, 3, 1, 2)

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        anchors = self.priors(cls_scores)
        scores, boxes = self.flat_scores(cls_scores), flatten_levels(bbox_preds, 4)
        strides = per_level(self.strides, anchors)[:, None]
        initial = self.epoch < self.initial_epoch

        def assign(candidates: Candidates, objects: Targets) -> Assignment:
            if initial:
                return self.initial_assigner.assign_anchors(
                    candidates.anchors, objects, candidates.num_level_anchors
                )
            image, inds = candidates.image, candidates.inds
            predicted = (boxes[image] * strides)[inds]
            return self.alignment_assigner.assign(candidates.anchors, predicted, scores[image][inds], objects)

        anchor_targets = self.target_maker(anchors, sizes_of(cls_scores), batch, targets, assign=assign)
        positive, priors = anchor_targets.positive, anchor_targets.priors_of(anchors)
        gt_boxes = anchor_targets.bbox_targets[positive]
        quality = positive.to(scores) if initial else aligned_quality(anchor_targets)
        labels, weights = anchor_targets.labels.flatten(), anchor_targets.label_weights.flatten()
        if initial:
            loss_cls = self.initial_loss_cls(scores.flatten(0, 1), labels, weights, avg_factor=1.0)
            box_weight = anchor_centerness(priors, gt_boxes)
        else:
            loss_cls = self.loss_cls(
                scores.flatten(0, 1), (labels, quality.flatten()), weights, avg_factor=1.0
            )
            box_weight = quality[positive]
        stride = of_positives(strides, positive)
        loss_bbox = self.loss_bbox(boxes[positive], gt_boxes / stride, box_weight, avg_factor=1.0)
        return {
            "loss_cls": loss_cls / shared_factor(quality.sum(), quality),
            "loss_bbox": loss_bbox / shared_factor(box_weight.sum(), box_weight),
        }

    def probabilities(self, cls_scores: Tensor) -> Tensor:
        """What is predicted are probabilities already."""
        return cls_scores

    def decode(self, priors: Tensor, pred: Tensor, /, max_shape: tuple[int, int] | None = None) -> Tensor:
        """What is predicted are boxes already, and they are not clipped."""
        del priors, max_shape
        return pred

    def flat_predictions(
        self, predictions: tuple[tuple[Tensor, ...], ...]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        cls_scores, boxes, factors = super().flat_predictions(predictions)
        pixels = [level * stride for level, stride in zip(boxes, self.strides, strict=True)]
        return cls_scores, pixels, factors


def _small_net(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, out_channels, 3, padding=1),
    )


def sample_at(maps: Tensor, offsets: Tensor) -> Tensor:
    """(B, C, H, W) read, each channel on its own, at offsets (B, C * 2, H, W) = (y, x) in cells."""
    weight = maps.new_ones(maps.shape[1], 1, 1, 1)
    return ops.deform_conv2d(
        maps.contiguous(), offsets.contiguous(), weight, None, stride=(1, 1), padding=(0, 0), dilation=(1, 1)
    )


def aligned_quality(targets: AnchorTargets) -> Tensor:
    """(B, A): for positives the alignment, scaled so that an object's best is its best IoU; else 0."""
    quality = torch.zeros_like(targets.label_weights)
    for image, (sampling, assignment) in enumerate(zip(targets.samplings, targets.assignments, strict=True)):
        if isinstance(assignment, TaskAlignedAssignment):
            quality[image, targets.pos_inds(image)] = normed_alignment(
                sampling.pos_assigned_gt_inds,
                assignment.assign_metrics[sampling.pos_inds],
                assignment.max_overlaps[sampling.pos_inds],
                len(sampling.targets),
            )
    return quality


def normed_alignment(gt_inds: Tensor, metrics: Tensor, overlaps: Tensor, num_objects: int) -> Tensor:
    """(P,): metrics (P,) scaled so that the best of each object (P,) is the best of its IoUs (P,)."""
    none = metrics.new_zeros(num_objects)
    best_metric = none.scatter_reduce(0, gt_inds, metrics, "amax")[gt_inds]
    best_overlap = none.scatter_reduce(0, gt_inds, overlaps, "amax")[gt_inds]
    return metrics / (best_metric + 1e-7) * best_overlap
