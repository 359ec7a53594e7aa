"""The head of RepPoints.

Shapes: B images; features are (B, C, H_i, W_i); n points at each place, A places over all levels;
K classes. Predicted points are (B, 2 n, H, W) = (y, x) in strides from their place, one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Self

import torch
from attrs import field, frozen, validators
from torch import Tensor, nn

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.base import AssignerConfig, Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.boxes.assigners.point import PointAssignerConfig
from detcfg.boxes.coders.delta_xywh import DeltaXYWHBBoxCoderConfig
from detcfg.boxes.geometry import centres, clip_boxes
from detcfg.boxes.samplers.base import SamplerConfig
from detcfg.boxes.samplers.pseudo import PseudoSamplerConfig
from detcfg.config import ConfigError, derived
from detcfg.heads.anchor_free.rep_points import (
    TransformMethod,
    grids_on_boxes,
    kernel_offsets,
    points_to_boxes,
)
from detcfg.heads.dense.anchor_targets import AnchorTargetMaker, AnchorTargets, Candidates, level_losses
from detcfg.heads.dense.base import DenseHead, DenseHeadConfig, check_dense_sampler
from detcfg.heads.dense.detections import DenseTestConfig, dense_detections
from detcfg.heads.dense.levels import flatten_level, flatten_levels, sizes_of
from detcfg.heads.dense.towers import init_classifier, init_convs, tower_of
from detcfg.layers.conv import ConvConfig, ConvSpec
from detcfg.layers.deform_conv import DeformConv2d
from detcfg.layers.norm import NormConfig
from detcfg.losses.base import ClassLossConfig, LossConfig
from detcfg.losses.focal import FocalLossConfig
from detcfg.losses.smooth_l1 import SmoothL1LossConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RepPointsHeadConfig(DenseHeadConfig):
    """Objects as sets of points, predicted and then refined (Yang et al., 2019).

    https://arxiv.org/abs/1904.11490. Follows mmdet/models/dense_heads/reppoints_head.py.
    """

    in_channels: int = derived()
    """Channels of every feature map."""
    feat_channels: int = 256
    """Channels of the two stacks."""
    point_feat_channels: int = 256
    """Channels of the layers before each prediction."""
    stacked_convs: int = field(default=3, validator=validators.ge(0))
    """Layers of each stack."""
    num_points: int = 9
    """n: the square of an odd number."""
    gradient_mul: float = 0.1
    """The share of the gradients of classes and refinement that reaches the first points."""
    point_base_scale: int = 4
    """Side of the box around each place that assignment starts from, in strides."""
    use_grid_points: bool = False
    """Whether boxes are predicted, and the points are a grid on each."""
    center_init: bool = True
    """Whether the first points start from their place, or from a grid on its box."""
    transform_method: TransformMethod = "moment"
    """How points become a box."""
    moment_mul: float = 0.01
    """The share of its gradients that reaches the learnt factor of "moment"."""
    conv_cfg: ConvConfig | None = None
    """The kind of convolution; None: the ordinary one."""
    norm_cfg: NormConfig | None = None
    """The norm after each convolution; None: a bias instead."""
    loss_cls: ClassLossConfig = FocalLossConfig()
    """The loss of the class scores; also says how scores become probabilities."""
    loss_bbox_init: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=0.5)
    """The loss of the first points."""
    loss_bbox_refine: LossConfig = SmoothL1LossConfig(beta=1.0 / 9.0, loss_weight=1.0)
    """The loss of the refined points."""
    init_assigner: AssignerConfig = PointAssignerConfig(scale=4, pos_num=1)
    """What the first points learn: by their places, or an assigner of boxes by the boxes around them."""
    refine_assigner: AssignerConfig = MaxIoUAssignerConfig(pos_iou_thr=0.5, neg_iou_thr=0.4)
    """What classes and refined points learn, by the boxes of the first points."""
    sampler: SamplerConfig = PseudoSamplerConfig()
    """Which of the assigned priors are learnt from."""
    pos_weight: float = -1.0
    """Weight of positives in classification; at most 0 for 1."""
    test_cfg: DenseTestConfig = DenseTestConfig()
    """How predictions become detections."""

    def wired(self) -> Self:
        check_dense_sampler("sampler", self.sampler)
        side = isqrt(self.num_points)
        if side**2 != self.num_points or side % 2 == 0 or side == 1:
            raise ConfigError(
                f"num_points is {self.num_points}, but the points are the taps of a square kernel with a "
                "centre: give 9, 25 or another square of an odd number."
            )
        return self

    @property
    def cls_out_channels(self) -> int:
        """Logits of a place: with background exactly if they go through softmax."""
        return self.loss_cls.cls_channels(self.num_classes)

    def build(self) -> RepPointsHead:
        return RepPointsHead(self.resolved())


class RepPointsHead(DenseHead):
    """Two stacks of convolutions; deformable ones look at the first points."""

    kernel: Tensor

    def __init__(self, config: RepPointsHeadConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.cls_out_channels = config.cls_out_channels
        self.use_sigmoid_cls = config.loss_cls.use_sigmoid
        self.strides = config.in_strides
        self.side = isqrt(config.num_points)
        self.gradient_mul = config.gradient_mul
        self.point_base_scale = config.point_base_scale
        self.use_grid_points = config.use_grid_points
        self.center_init = config.center_init
        self.transform_method: TransformMethod = config.transform_method
        self.moment_mul = config.moment_mul
        self.moment_transfer = nn.Parameter(torch.zeros(2)) if config.transform_method == "moment" else None
        self.register_buffer("kernel", kernel_offsets(self.side), persistent=False)
        self._init_layers(config)
        self.loss_cls = config.loss_cls.build()
        self.loss_bbox_init = config.loss_bbox_init.build()
        self.loss_bbox_refine = config.loss_bbox_refine.build()
        self.init_assigner = config.init_assigner
        self.refine_assigner = config.refine_assigner
        self.test_cfg = config.test_cfg
        # One square around each place, which has no offset within its cell.
        self.anchor_generator = AnchorGeneratorConfig(
            strides=config.in_strides, ratios=(1.0,), scales=(float(config.point_base_scale),)
        )
        self.target_maker = AnchorTargetMaker(
            num_classes=config.num_classes,
            anchor_generator=self.anchor_generator,
            bbox_coder=DeltaXYWHBBoxCoderConfig(),  # of no account with decoded boxes
            sampler=config.sampler,
            reg_decoded_bbox=True,
            pos_weight=config.pos_weight,
        )

    def _init_layers(self, config: RepPointsHeadConfig) -> None:
        self.cls_convs, self.reg_convs = tower_of(config), tower_of(config)
        width = config.feat_channels if config.stacked_convs else config.in_channels
        hidden = config.point_feat_channels
        numbers = 4 if config.use_grid_points else 2 * config.num_points
        self.relu = nn.ReLU(inplace=True)
        spec = ConvSpec(width, hidden, self.side, padding=self.side // 2, bias=False)
        self.reppoints_cls_conv = DeformConv2d(spec)
        self.reppoints_cls_out = nn.Conv2d(hidden, self.cls_out_channels, 1)
        self.reppoints_pts_init_conv = nn.Conv2d(width, hidden, 3, padding=1)
        self.reppoints_pts_init_out = nn.Conv2d(hidden, numbers, 1)
        self.reppoints_pts_refine_conv = DeformConv2d(spec)
        self.reppoints_pts_refine_out = nn.Conv2d(hidden, numbers, 1)
        init_convs(self)
        for conv in (self.reppoints_cls_conv, self.reppoints_pts_refine_conv):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        init_classifier(self.reppoints_cls_out)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ...]:
        """For each level logits (B, C, H, W), the first points and the refined ones."""
        return tuple(zip(*(self.forward_single(x) for x in features), strict=True))

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` of one level."""
        classes, points = self.cls_convs(x), self.reg_convs(x)
        codes = self.reppoints_pts_init_out(self.relu(self.reppoints_pts_init_conv(points)))
        boxes = None
        if self.use_grid_points:
            half = self.point_base_scale / 2
            first_box = codes.new_tensor((-half, -half, half, half)).view(1, 4, 1, 1)
            init, boxes = grids_on_boxes(codes, first_box, self.side)
        else:
            init = codes if self.center_init else codes + self._first_grid()
        offset = (1 - self.gradient_mul) * init.detach() + self.gradient_mul * init - self.kernel
        logits = self.reppoints_cls_out(self.relu(self.reppoints_cls_conv(classes, offset)))
        codes = self.reppoints_pts_refine_out(self.relu(self.reppoints_pts_refine_conv(points, offset)))
        if boxes is not None:
            return logits, init, grids_on_boxes(codes, boxes.detach(), self.side)[0]
        return logits, init, codes + init.detach()

    def _first_grid(self) -> Tensor:
        """The taps of the kernel, spread over the box around a place."""
        return self.kernel / self.kernel.amax() * (self.point_base_scale / 2)

    def boxes(self, points: Tensor) -> Tensor:
        """Points (B, 2 n, H, W) to boxes (B, 4, H, W), both in strides from their place."""
        stretch = None
        if self.moment_transfer is not None:
            slow = self.moment_transfer * self.moment_mul
            stretch = slow + self.moment_transfer.detach() * (1 - self.moment_mul)
        return points_to_boxes(points, self.transform_method, stretch)

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        cls_scores, init, refined = self(features)
        anchors = self.anchor_generator.grid_priors(sizes_of(cls_scores), cls_scores[0].device)
        places, strides = self._places(anchors)
        first = places + flatten_levels([self.boxes(points) for points in init], 4) * strides[:, None]
        second = places + flatten_levels([self.boxes(points) for points in refined], 4) * strides[:, None]
        learnt_first, learnt_second = self._targets(cls_scores, anchors, first.detach(), batch, targets)

        unit = (self.point_base_scale * strides)[:, None]
        scores = flatten_levels(cls_scores, self.cls_out_channels)
        labels, label_weights = learnt_second.labels, learnt_second.label_weights
        boxes = ((first, learnt_first, self.loss_bbox_init), (second, learnt_second, self.loss_bbox_refine))
        loss_init, loss_refine = (
            level_losses(loss, learnt, found / unit, learnt.bbox_targets / unit, learnt.bbox_weights)
            for found, learnt, loss in boxes
        )
        return {
            "loss_cls": level_losses(self.loss_cls, learnt_second, scores, labels, label_weights),
            "loss_pts_init": loss_init,
            "loss_pts_refine": loss_refine,
        }

    def _places(self, anchors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(A, 4) = (x, y, x, y) of each place, and its stride (A,)."""
        middles = centres(torch.cat(list(anchors)))
        strides = [a.new_full((len(a),), stride) for a, stride in zip(anchors, self.strides, strict=True)]
        return middles.repeat(1, 2), torch.cat(strides)

    def _targets(
        self,
        maps: Sequence[Tensor],
        anchors: Sequence[Tensor],
        boxes: Tensor,
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> tuple[AnchorTargets, AnchorTargets]:
        """What the first points learn, and what those learn whose first boxes are (B, A, 4).

        `maps` are any predictions.
        """
        _, strides = self._places(anchors)

        def by_place(candidates: Candidates, objects: Targets) -> Assignment:
            priors, counts = candidates.anchors, candidates.num_level_anchors
            if isinstance(self.init_assigner, PointAssignerConfig):
                return self.init_assigner.assign(centres(priors), strides[candidates.places], objects)
            return self.init_assigner.assign_anchors(priors, objects, counts)

        def by_first_points(candidates: Candidates, objects: Targets) -> Assignment:
            own = boxes[candidates.image][candidates.places]
            return self.refine_assigner.assign_anchors(own, objects, candidates.num_level_anchors)

        sizes = sizes_of(maps)
        return (
            self.target_maker(anchors, sizes, batch, targets, assign=by_place),
            self.target_maker(anchors, sizes, batch, targets, assign=by_first_points),
        )

    def probabilities(self, cls_scores: Tensor) -> Tensor:
        """Logits (..., C) to the probabilities of the K classes."""
        return cls_scores.sigmoid() if self.use_sigmoid_cls else cls_scores.softmax(dim=-1)[..., :-1]

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        cls_scores, _, refined = self(features)
        anchors = self.anchor_generator.grid_priors(sizes_of(cls_scores), cls_scores[0].device)
        boxes = [self.boxes(points) * stride for points, stride in zip(refined, self.strides, strict=True)]
        return dense_detections(
            [flatten_level(maps, self.cls_out_channels) for maps in cls_scores],
            [flatten_level(maps, 4) for maps in boxes],
            [centres(level).repeat(1, 2) for level in anchors],
            batch,
            test_cfg=self.test_cfg,
            probabilities=self.probabilities,
            decode=_shifted,
        )


def _shifted(priors: Tensor, pred: Tensor, max_shape: tuple[int, int] | None = None) -> Tensor:
    """Boxes (n, 4) relative to places (n, 4) = (x, y, x, y) as boxes within the image."""
    return pred + priors if max_shape is None else clip_boxes(pred + priors, max_shape)
