"""The box head of CondInst, which predicts the weights of a small network for each instance.

Shapes: B images; A points over all levels, one at each place; P instances of one image; Q parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.boxes.nms import NMSConfig
from detcfg.config import derived
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

    num_params: int = derived()
    """Q: what the mask head needs for an instance."""
    norm_on_bbox: bool = True
    """Whether distances are predicted in strides."""
    centerness_on_reg: bool = True
    """Whether the centre-ness is predicted from the features of the boxes."""
    center_sampling: bool = True
    """Whether only points near the centre of mass of an object's mask learn it."""
    loss_bbox: LossConfig = GIoULossConfig()
    """The loss of the boxes."""
    test_cfg: DenseTestConfig = DenseTestConfig(nms=NMSConfig(iou_threshold=0.6))
    """How predictions become detections."""

    def build(self) -> CondInstBboxHead:
        return CondInstBboxHead(self.resolved())


@frozen(eq=False)
class Instances:
    """What the mask head needs to know of the instances of one image."""

    points: Tensor
    """(P, 2) = (x, y): where each was predicted, in network pixels."""
    strides: Tensor
    """(P,): the stride of the level where each was predicted."""
    params: Tensor
    """(P, Q)."""
    scores: Tensor
    """(P,): the highest class probability times the predicted centerness."""
    objects: Tensor
    """(P,) int64: the learnt object of each, in training; else any number."""

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Tensor) -> Instances:
        return Instances(
            points=self.points[index],
            strides=self.strides[index],
            params=self.params[index],
            scores=self.scores[index],
            objects=self.objects[index],
        )


class CondInstBboxHead(FCOSHead):
    """FCOS's predictions and, from the stack for boxes, a map of parameters."""

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
        """The losses of the boxes, and for each image the points that learn an object."""
        predictions = self(features)
        points = self.points(predictions[0])
        learnt = self.scaled_targets(points, targets)
        everywhere = self._instances(predictions, points, learnt.objects)
        positive = learnt.labels < self.num_classes
        found = [instances[chosen] for instances, chosen in zip(everywhere, positive, strict=True)]
        return self.losses_of_targets(predictions, points, learnt), found

    def predict_with_instances(
        self, features: tuple[Tensor, ...], batch: ImageBatch
    ) -> list[tuple[Detections, Instances]]:
        """The detections of each image in output pixels, and the same as instances."""
        predictions = self(features)
        points = self.points(predictions[0])
        nothing = torch.zeros(len(batch), sum(map(len, points)), dtype=torch.long, device=points[0].device)
        everywhere = self._instances(predictions, points, nothing)
        found = self.detections_with_places(predictions, batch)
        return [
            (boxes, instances[places]) for (boxes, places), instances in zip(found, everywhere, strict=True)
        ]

    def _instances(
        self, predictions: tuple[tuple[Tensor, ...], ...], points: Sequence[Tensor], objects: Tensor
    ) -> list[Instances]:
        """For each image all A points, with objects (B, A)."""
        cls_scores, _, centernesses, param_preds = predictions
        params = flatten_levels(param_preds, param_preds[0].shape[1])
        scores = self.probabilities(flatten_levels(cls_scores, self.cls_out_channels)).amax(dim=-1)
        scores = scores * flatten_levels(centernesses, 1).squeeze(-1).sigmoid()
        flat, strides = torch.cat(list(points)), per_level(self.strides, points)
        images = zip(params, scores.detach(), objects, strict=True)
        return [Instances(flat, strides, *image) for image in images]
