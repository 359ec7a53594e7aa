"""CondInst.

Shapes: images (B, 3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import evolve, frozen
from torch import Tensor

from detcfg.config import fill
from detcfg.detectors.backbone_neck import BackboneNeckConfig, BackboneNeckDetector
from detcfg.heads.instance.condinst_bbox_head import CondInstBboxHeadConfig
from detcfg.heads.instance.condinst_mask_head import CondInstMaskHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class CondInstConfig(BackboneNeckConfig):
    """Masks by networks that are predicted for each instance (Tian et al., 2020).

    https://arxiv.org/abs/2003.05664. Follows mmdet/models/detectors/condinst.py.
    """

    bbox_head: CondInstBboxHeadConfig = CondInstBboxHeadConfig()
    """The head that classifies and refines boxes."""
    mask_head: CondInstMaskHeadConfig = CondInstMaskHeadConfig()
    """Predicts the masks."""

    def wired(self) -> Self:
        wired = super().wired()
        bbox_head = fill(wired.bbox_head, "mask_head.num_params", num_params=wired.mask_head.num_params)
        bbox_head = wired.wired_class_head(bbox_head, "bbox_head")
        mask_head = wired.wired_head(wired.mask_head, "mask_head")
        return evolve(wired, bbox_head=bbox_head, mask_head=mask_head)

    def build(self) -> CondInst:
        return CondInst(self.resolved())


class CondInst(BackboneNeckDetector):
    """`bbox_head` finds instances, `mask_head` makes their masks."""

    def __init__(self, config: CondInstConfig) -> None:
        super().__init__(config)
        self.bbox_head = config.bbox_head.build()
        self.mask_head = config.mask_head.build()

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        del batch
        losses, instances = self.bbox_head.loss_and_instances(features, targets)
        return losses | self.mask_head.loss(features, instances, targets)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        detections = self.bbox_head.predict_with_instances(features, batch)
        masks = self.mask_head.predict(features, [instances for _, instances in detections], batch)
        return [evolve(boxes, masks=m) for (boxes, _), m in zip(detections, masks, strict=True)]
