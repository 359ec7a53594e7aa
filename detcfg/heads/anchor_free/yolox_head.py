"""The head of YOLOX.

Shapes: B images; features are (B, C, H_i, W_i); A locations over all levels; K classes; P positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.assigners.sim_ota import SimOTAAssignerConfig
from detcfg.boxes.geometry import boxes_around, centres, scale_boxes
from detcfg.boxes.nms import NMSConfig
from detcfg.config import Config, fill, is_unset
from detcfg.config.ranges import Fraction, NonNegativeInt, NumLayers
from detcfg.heads.dense.base import DenseHead
from detcfg.heads.dense.levels import flatten_levels, of_positives, per_level, sizes_of
from detcfg.heads.dense.towers import TowerConfig, conv_tower
from detcfg.layers.activation import ActivationConfig, SiLUConfig
from detcfg.layers.conv import ConvConfig
from detcfg.layers.csp_layer import YOLO_NORM, init_yolo
from detcfg.layers.deform_conv import DCNv2Config
from detcfg.layers.epochs import FollowsEpochs
from detcfg.layers.init import bias_init_with_prob
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import LossConfig
from detcfg.losses.cross_entropy import CrossEntropyLossConfig
from detcfg.losses.iou import IoULossConfig
from detcfg.losses.l1 import L1LossConfig
from detcfg.losses.reduce import shared_factor
from detcfg.precision import widened
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class YOLOXTestConfig(Config):
    """How the detections of YOLOX are chosen (MMDetection's `test_cfg`)."""

    score_thr: Fraction = 0.01
    """Candidates with a score below this are dropped. Each location has one, of its best class."""
    nms: NMSConfig = NMSConfig(iou_threshold=0.65)
    """Non-maximum suppression within each class."""


@frozen(kw_only=True)
class YOLOXHeadConfig(TowerConfig):
    """Class, box and objectness of each location (Ge et al., 2021, https://arxiv.org/abs/2107.08430).

    Follows mmdet/models/dense_heads/yolox_head.py.
    """

    stacked_convs: NumLayers = 2
    """Layers of each tower."""
    use_depthwise: bool = False
    """Whether those layers are depthwise separable."""
    dcn_on_last_conv: bool = False
    """Whether the last layer of each tower is a modulated deformable convolution."""
    conv_bias: bool | Literal["auto"] = "auto"
    """Whether the layers of the towers have a bias; "auto" for exactly where no norm follows."""
    norm_cfg: NormConfig | None = YOLO_NORM
    """The norm after each convolution; None: a bias instead."""
    act_cfg: ActivationConfig | None = SiLUConfig()
    """The activation after each convolution; None: none."""
    prior_generator: MlvlPointGeneratorConfig = MlvlPointGeneratorConfig(offset=0.0)
    """The points of each level; its strides must be those of the feature maps."""
    loss_cls: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, reduction="sum")
    """Classification loss of the positives; the target is the IoU at their class. Losses are sums, divided by the
    number of positives."""
    loss_bbox: LossConfig = IoULossConfig(mode="square", eps=1e-16, reduction="sum", loss_weight=5.0)
    """Box regression loss."""
    loss_obj: LossConfig = CrossEntropyLossConfig(use_sigmoid=True, reduction="sum")
    """Loss of the objectness."""
    loss_l1: LossConfig = L1LossConfig(reduction="sum")
    """Loss of the deltas in the last epochs."""
    l1_from_epoch: NonNegativeInt | None = None
    """From this epoch on, counted from 0, `loss_l1` of the deltas counts too (what MMDetection's
    YOLOXModeSwitchHook turns on); None: never."""
    assigner: SimOTAAssignerConfig = SimOTAAssignerConfig()
    """Assigns ground-truth boxes to priors."""
    test_cfg: YOLOXTestConfig = YOLOXTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        if is_unset(self.in_strides):
            return self
        generator = fill(self.prior_generator, "in_strides", strides=self.in_strides)
        return evolve(self, prior_generator=generator)

    def layer_kinds(self) -> list[ConvConfig | None]:
        kinds = super().layer_kinds()
        return [*kinds[:-1], DCNv2Config()] if kinds and self.dcn_on_last_conv else kinds

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

    def build(self) -> YOLOXHead:
        return YOLOXHead(self.resolved())


class YOLOXHead(DenseHead, FollowsEpochs):
    """Two towers for each level."""

    def __init__(self, config: YOLOXHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.strides = config.in_strides
        self.prior_generator = config.prior_generator
        self.assigner = config.assigner
        self.test_cfg = config.test_cfg
        self.l1_from_epoch = config.l1_from_epoch
        self.loss_cls = config.loss_cls.build()
        self.loss_bbox = config.loss_bbox.build()
        self.loss_obj = config.loss_obj.build()
        self.loss_l1 = config.loss_l1.build()
        self.multi_level_cls_convs, self.multi_level_reg_convs = (
            nn.ModuleList(config.tower() for _ in self.strides) for _ in range(2)
        )
        width = config.tower_channels
        self.multi_level_conv_cls, self.multi_level_conv_reg, self.multi_level_conv_obj = (
            nn.ModuleList(nn.Conv2d(width, channels, 1) for _ in self.strides)
            for channels in (config.num_classes, 4, 1)
        )
        init_yolo(self)
        for conv in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            assert isinstance(conv.bias, Tensor)
            nn.init.constant_(conv.bias, bias_init_with_prob(0.01))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """For each level logits (B, K, H, W), deltas (B, 4, H, W) and objectness logits (B, 1, H, W)."""
        predictions: list[tuple[Tensor, ...]] = []
        for level, x in enumerate(features):
            classes, boxes = self.multi_level_cls_convs[level](x), self.multi_level_reg_convs[level](x)
            logits = self.multi_level_conv_cls[level](classes)
            deltas = self.multi_level_conv_reg[level](boxes)
            objectness = self.multi_level_conv_obj[level](boxes)
            predictions.append(widened((logits, deltas, objectness)))
        return tuple(zip(*predictions, strict=True))

    def priors(self, maps: Sequence[Tensor]) -> Tensor:
        """(A, 4) = (x, y, stride, stride) of each location; `maps` are any predictions."""
        points = self.prior_generator.grid_priors(sizes_of(maps), maps[0].device)
        strides = per_level(self.strides, points)[:, None]
        return torch.cat((torch.cat(list(points)), strides, strides), dim=1)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        cls_scores, bbox_preds, objectnesses = self(features)
        priors = self.priors(cls_scores)
        logits = flatten_levels(cls_scores, self.num_classes)
        deltas = flatten_levels(bbox_preds, 4)
        objectness = flatten_levels(objectnesses, 1)
        boxes = decode(priors, deltas)
        with torch.no_grad():
            scores = (logits.sigmoid() * objectness.sigmoid()).sqrt()
            images = [
                self._image_targets(priors, boxes[image], scores[image], objects.not_ignored)
                for image, objects in enumerate(targets)
            ]
        positive = torch.stack([positive for positive, _, _ in images])
        qualities = torch.cat([qualities for _, qualities, _ in images])
        gt_boxes = torch.cat([gt_boxes for _, _, gt_boxes in images])
        count = shared_factor(positive.sum(), logits)
        losses = {
            "loss_cls": self.loss_cls(logits[positive], qualities) / count,
            "loss_bbox": self.loss_bbox(boxes[positive], gt_boxes) / count,
            "loss_obj": self.loss_obj(objectness.flatten(0, 1), positive.flatten()[:, None].float()) / count,
        }
        if self.l1_from_epoch is not None and self.epoch >= self.l1_from_epoch:
            target = encode(of_positives(priors, positive), gt_boxes)
            losses["loss_l1"] = self.loss_l1(deltas[positive], target) / count
        return losses

    def _image_targets(
        self, priors: Tensor, boxes: Tensor, scores: Tensor, objects: Targets
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The positives (A,) bool of one image, and their qualities (P, K) and ground-truth boxes (P, 4)."""
        # Locations are assigned by the centres of their cells, and predict from the corners.
        centred = torch.cat((priors[:, :2] + 0.5 * priors[:, 2:], priors[:, 2:]), dim=1)
        assignment = self.assigner.assign(centred, boxes, scores, objects)
        positive = assignment.gt_indices >= 0
        chosen = assignment.gt_indices[positive]
        classes = F.one_hot(objects.labels[chosen], self.num_classes)
        return positive, classes * assignment.max_overlaps[positive, None], objects.boxes[chosen]

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        cls_scores, bbox_preds, objectnesses = self(features)
        boxes = decode(self.priors(cls_scores), flatten_levels(bbox_preds, 4))
        probabilities, labels = flatten_levels(cls_scores, self.num_classes).sigmoid().max(dim=-1)
        scores = probabilities * flatten_levels(objectnesses, 1).squeeze(-1).sigmoid()
        detections: list[Detections] = []
        for image in range(len(batch)):
            valid = scores[image] >= self.test_cfg.score_thr
            scaled = scale_boxes(boxes[image][valid], batch.scales(image))
            kept, found = self.test_cfg.nms.keep(scaled, scores[image][valid], labels[image][valid])
            detections.append(Detections(boxes=scaled[kept], scores=found, labels=labels[image][valid][kept]))
        return detections


def decode(priors: Tensor, deltas: Tensor) -> Tensor:
    """The boxes (..., A, 4) of deltas (..., A, 4): shift of the centre in strides, and log of the size.

    `priors` are (A, 4) = (x, y, stride in x, stride in y).
    """
    centre = deltas[..., :2] * priors[:, 2:] + priors[:, :2]
    half = deltas[..., 2:].exp() * priors[:, 2:] / 2
    return boxes_around(centre, half)


def encode(priors: Tensor, boxes: Tensor, eps: float = 1e-8) -> Tensor:
    """The deltas (N, 4) that lead from priors (N, 4) to boxes (N, 4)."""
    centre, size = centres(boxes), boxes[:, 2:] - boxes[:, :2]
    return torch.cat(((centre - priors[:, :2]) / priors[:, 2:], (size / priors[:, 2:] + eps).log()), dim=1)
