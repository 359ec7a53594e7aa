"""The box head of CondInst, which predicts the weights of a small network for each instance.

Shapes: B images; A points over all levels, one at each location; P instances of one image; Q parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.nms import NMSConfig
from detcfg.config import derived
from detcfg.config.ranges import PositiveInt
from detcfg.heads.anchor_free.fcos_head import FCOSHead, FCOSHeadConfig
from detcfg.heads.dense.detections import DenseTestConfig
from detcfg.heads.dense.levels import flatten_levels, per_level
from detcfg.heads.dense.towers import init_convs
from detcfg.losses.base import LossConfig
from detcfg.losses.giou import GIoULossConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class CondInstBboxHeadConfig(FCOSHeadConfig):
    """FCOS with parameters for masks (Tian et al., 2020, https://arxiv.org/abs/2003.05664).

    Follows `CondInstBboxHead` in mmdet/models/dense_heads/condinst_head.py.
    """

    num_params: PositiveInt = derived()
    """Q: parameters of the small network of an instance."""
    norm_on_bbox: bool = True
    """Whether distances are predicted in strides."""
    centerness_on_reg: bool = True
    """Whether the centerness is predicted from the tower for boxes, rather than from that for classes."""
    center_sampling: bool = True
    """Whether positives lie near the centre of mass of their object's mask."""
    loss_bbox: LossConfig = GIoULossConfig()
    """Box regression loss."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def build(self) -> CondInstBboxHead:
        return CondInstBboxHead(self.resolved())


@frozen(eq=False)
class Instances:
    """The instances of one image, as the mask head needs them."""

    points: Tensor
    """(P, 2) = (x, y): where each was predicted, in network pixels."""
    strides: Tensor
    """(P,): the stride of the level where each was predicted."""
    params: Tensor
    """(P, Q)."""
    scores: Tensor
    """(P,): the highest class probability times the predicted centerness."""
    gt_inds: Tensor
    """(P,) int64: in training the index of its object among those not ignored; else any number."""

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor) -> Instances:
        return Instances(
            points=self.points[index],
            strides=self.strides[index],
            params=self.params[index],
            scores=self.scores[index],
            gt_inds=self.gt_inds[index],
        )


class CondInstBboxHead(FCOSHead):
    """FCOS's predictions and, from the tower for boxes, a map of parameters."""

    def __init__(self, config: CondInstBboxHeadConfig) -> None:
        super().__init__(config)
        self.controller = nn.Conv2d(config.tower_channels, config.num_params, 3, padding=1)
        self.target_maker = evolve(self.target_maker, mask_centres=True)
        init_convs(self.controller)

    def predictors(self, classes: Tensor, boxes: Tensor, level: int) -> tuple[Tensor, ...]:
        return *super().predictors(classes, boxes, level), self.controller(boxes)

    def loss_and_instances(
        self, features: tuple[Tensor, ...], targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Instances]]:
        """The losses of the boxes, and the positives of each image as instances."""
        predictions = self(features)
        points = self.priors(predictions[0])
        point_targets = self.scaled_targets(points, targets)
        everywhere = self._instances(predictions, points, point_targets.gt_inds)
        chosen = zip(everywhere, point_targets.positive, strict=True)
        found = [instances[positive] for instances, positive in chosen]
        return self.losses_of_targets(predictions, points, point_targets), found

    def predict_with_instances(
        self, features: tuple[Tensor, ...], batch: ImageBatch
    ) -> list[tuple[Detections, Instances]]:
        """The detections of each image in output pixels, and the same as instances."""
        predictions = self(features)
        points = self.priors(predictions[0])
        nothing = torch.zeros(len(batch), sum(map(len, points)), dtype=torch.long, device=points[0].device)
        everywhere = self._instances(predictions, points, nothing)
        found = self.postprocess(predictions, batch)
        return [(boxes, instances[inds]) for (boxes, inds), instances in zip(found, everywhere, strict=True)]

    def _instances(
        self, predictions: tuple[tuple[Tensor, ...], ...], points: Sequence[Tensor], gt_inds: Tensor
    ) -> list[Instances]:
        """For each image all A points, with the object of each (B, A)."""
        cls_scores, _, centernesses, param_preds = predictions
        params = flatten_levels(param_preds, param_preds[0].shape[1])
        scores = self.probabilities(flatten_levels(cls_scores, self.cls_out_channels)).amax(dim=-1)
        scores = scores * flatten_levels(centernesses, 1).squeeze(-1).sigmoid()
        flat, strides = torch.cat(list(points)), per_level(self.strides, points)
        images = zip(params, scores.detach(), gt_inds, strict=True)
        return [Instances(flat, strides, *image) for image in images]
