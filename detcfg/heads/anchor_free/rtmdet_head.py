"""The heads of RTMDet.

Shapes: B images; features are (B, C, H_i, W_i); A points over all levels, one at each location; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.assigners.dynamic_soft_label import DynamicSoftLabelAssignerConfig
from detcfg.boxes.nms import NMSConfig
from detcfg.config import ConfigError
from detcfg.config.ranges import OddInt, WeightOrOff
from detcfg.heads.anchor_free.anchor_free_head import AnchorFreeHead, AnchorFreeHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, geometric_mean, per_level, sizes_of
from detcfg.heads.dense.towers import conv_tower, init_classifier, init_convs, share_convs
from detcfg.layers.activation import ActivationConfig, ReLUConfig, SiLUConfig
from detcfg.layers.csp_layer import YOLO_NORM
from detcfg.layers.norm import GNConfig, NormConfig
from detcfg.layers.scale import Scale
from detcfg.losses.base import LossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.losses.quality_focal import QualityFocalLossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.structures import ImageBatch, Targets

EPS = 1e-5
"""Probabilities are at least so far from 0 and 1 when they become logits again."""


@frozen(kw_only=True)
class RTMDetHeadConfig(AnchorFreeHeadConfig):
    """Distances from points, which are assigned by the cost of what they predict (Lyu et al., 2022).

    https://arxiv.org/abs/2212.07784. Follows mmdet/models/dense_heads/rtmdet_head.py.
    """

    with_objectness: bool = True
    """Whether scores are geometric means of class and objectness."""
    pred_kernel_size: OddInt = 3
    """Kernel of the predictors."""
    use_depthwise: bool = False
    """Whether the layers of the towers are depthwise separable."""
    norm_cfg: NormConfig | None = GNConfig()
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = ReLUConfig()
    """The activation after each convolution; None: none."""
    prior_generator: MlvlPointGeneratorConfig = MlvlPointGeneratorConfig(offset=0.0)
    """The points of each level; its strides must be those of the feature maps."""
    loss_cls: QualityFocalLossConfig = QualityFocalLossConfig()
    """Classification loss. Also decides between sigmoid and softmax."""
    loss_bbox: LossConfig = GIoULossConfig(loss_weight=2.0)
    """Box regression loss."""
    assigner: DynamicSoftLabelAssignerConfig = DynamicSoftLabelAssignerConfig()
    """Assigns ground-truth boxes to priors."""
    pos_weight: WeightOrOff = -1.0
    """Weight of positives in classification; at most 0 for 1."""
    test_cfg: DenseTestConfig = DenseTestConfig(
        nms_pre=30000, score_thr=0.001, nms=NMSConfig(iou_threshold=0.65), max_per_img=300
    )
    """How predictions become detections."""

    def tower(self) -> nn.Module:
        return conv_tower(
            self.in_channels,
            self.feat_channels,
            self.layer_kinds(),
            norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg,
            bias=self.conv_bias,
            depthwise=self.use_depthwise,
        )

    def predictor(self, channels: int) -> nn.Conv2d:
        """A last layer with this many output channels."""
        size = self.pred_kernel_size
        return nn.Conv2d(self.tower_channels, channels, size, padding=size // 2)

    def build(self) -> RTMDetHead:
        return RTMDetHead(self.resolved())


class RTMDetHead(AnchorFreeHead):
    """Two towers, the same for every level. It predicts distances in pixels."""

    def __init__(self, config: RTMDetHeadConfig) -> None:
        super().__init__(config)
        self.with_objectness = config.with_objectness
        self.assigner = config.assigner
        self.pos_weight = config.pos_weight if config.pos_weight > 0 else 1.0
        self.quality_loss = config.loss_cls.build()
        self._init_predictors(config)

    def _init_predictors(self, config: RTMDetHeadConfig) -> None:
        self.rtm_cls = config.predictor(self.cls_out_channels)
        self.rtm_reg = config.predictor(4)
        init_convs(self)
        init_classifier(self.rtm_cls)
        if config.with_objectness:
            self.rtm_obj = config.predictor(1)
            init_classifier(self.rtm_obj)
        self.scales = nn.ModuleList(Scale() for _ in config.in_strides)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self.reg_convs(feature)
        logits = self.rtm_cls(self.cls_convs(feature))
        if self.with_objectness:
            logits = joined(logits, self.rtm_obj(boxes))
        return logits, self.scales[level](self.rtm_reg(boxes).exp()) * self.strides[level]

    def losses(
        self, predictions: tuple[tuple[Tensor, ...], ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, bbox_preds = predictions
        points = self.priors(cls_scores)
        flat, strides = torch.cat(list(points)), per_level(self.strides, points)
        priors = torch.cat((flat, strides[:, None], strides[:, None]), dim=1)
        logits = flatten_levels(cls_scores, self.cls_out_channels)
        boxes = self.bbox_coder.decode(flat, flatten_levels(bbox_preds, 4))
        valid = self._valid(cls_scores, batch)
        images = [
            self._image_targets(
                priors, boxes[image].detach(), logits[image].detach(), valid[image], objects.not_ignored
            )
            for image, objects in enumerate(targets)
        ]
        labels, quality, gt_boxes = (torch.stack(values) for values in zip(*images, strict=True))
        positive = labels < self.num_classes
        weights = torch.where(positive, self.pos_weight, valid.to(quality))
        avg_factor = shared_factor(quality.sum(), quality)
        loss_cls = self.quality_loss(
            logits.flatten(0, 1), (labels.flatten(), quality.flatten()), weights.flatten(), avg_factor
        )
        loss_bbox = self.loss_bbox(
            boxes[positive], gt_boxes[positive], quality[positive], avg_factor=avg_factor
        )
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def _valid(self, maps: Sequence[Tensor], batch: ImageBatch) -> Tensor:
        """(B, A) bool: the points that lie in their image, padded as it was before batching."""
        sizes, device = sizes_of(maps), maps[0].device
        flags = [self.prior_generator.valid_flags(sizes, size, device) for size in batch.padded_sizes]
        return torch.stack([torch.cat(levels) for levels in flags])

    def _image_targets(
        self, priors: Tensor, boxes: Tensor, logits: Tensor, valid: Tensor, objects: Targets
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (A,), qualities (A,) and boxes (A, 4) of one image's points, of which some are valid (A,)."""
        rows = torch.nonzero(valid).squeeze(1)
        assignment = self.assigner.assign(priors[rows], boxes[rows], logits[rows], objects)
        positive = assignment.gt_indices >= 0
        chosen, rows = assignment.gt_indices[positive], rows[positive]
        labels = torch.full((len(priors),), self.num_classes, device=priors.device)
        labels[rows] = objects.labels[chosen]
        quality = priors.new_zeros(len(priors)).index_copy(0, rows, assignment.max_overlaps[positive])
        gt_boxes = priors.new_zeros(len(priors), 4).index_copy(0, rows, objects.boxes[chosen])
        return labels, quality, gt_boxes


def joined(logits: Tensor, objectness: Tensor) -> Tensor:
    """The logit whose sigmoid is the geometric mean of those of two logits, within bounds."""
    scores = geometric_mean(logits, objectness)
    return scores.clamp(min=EPS).log() - (1 - scores).clamp(min=EPS).log()


@frozen(kw_only=True)
class RTMDetSepBNHeadConfig(RTMDetHeadConfig):
    """The same with separate norms and predictors for each level."""

    pred_kernel_size: OddInt = 1
    """Kernel of the predictors."""
    share_conv: bool = True
    """Whether levels share the convolutions of the towers."""
    exp_on_reg: bool = False
    """Whether the predictors give logarithms of distances."""
    norm_cfg: NormConfig | None = YOLO_NORM
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = SiLUConfig()
    """The activation after each convolution; None: none."""

    def wired(self) -> Self:
        if self.share_conv and self.use_depthwise:
            raise ConfigError(
                "share_conv and use_depthwise are both True, but depthwise separable layers are not shared. "
                "Turn one of them off."
            )
        return super().wired()

    def tower(self) -> nn.ModuleList:
        """A tower for each level."""
        towers = [super(RTMDetSepBNHeadConfig, self).tower() for _ in self.in_strides]
        if self.share_conv:
            share_convs(towers)
        return nn.ModuleList(towers)

    def build(self) -> RTMDetSepBNHead:
        return RTMDetSepBNHead(self.resolved())


class RTMDetSepBNHead(RTMDetHead):
    """`cls_convs[i]`, `reg_convs[i]`, `rtm_cls[i]`, `rtm_reg[i]` and `rtm_obj[i]` are those of level i."""

    def _init_predictors(self, config: RTMDetHeadConfig) -> None:
        self.exp_on_reg = isinstance(config, RTMDetSepBNHeadConfig) and config.exp_on_reg
        channels = {"rtm_cls": self.cls_out_channels, "rtm_reg": 4}
        if config.with_objectness:
            channels["rtm_obj"] = 1
        for name, count in channels.items():
            self.add_module(name, nn.ModuleList(config.predictor(count) for _ in config.in_strides))
        init_convs(self)
        for name in channels.keys() - {"rtm_reg"}:
            for conv in self.get_submodule(name).children():
                init_classifier(conv)

    def forward_single(self, feature: Tensor, level: int) -> tuple[Tensor, ...]:
        boxes = self._at(level, "reg_convs", feature)
        logits = self._at(level, "rtm_cls", self._at(level, "cls_convs", feature))
        if self.with_objectness:
            logits = joined(logits, self._at(level, "rtm_obj", boxes))
        distances = self._at(level, "rtm_reg", boxes)
        return logits, (distances.exp() if self.exp_on_reg else distances) * self.strides[level]

    def _at(self, level: int, name: str, x: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(f"{name}.{level}")(x)
        return out
