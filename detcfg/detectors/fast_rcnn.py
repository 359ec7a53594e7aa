"""Fast R-CNN, with proposals given by the caller.

Shapes: B images (3, H, W); features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from attrs import evolve, frozen

from detcfg.config import ConfigError
from detcfg.detectors.backbone_neck import BackboneNeckConfig, BackboneNeckDetector
from detcfg.detectors.inputs import checked_targets
from detcfg.errors import DetcfgError
from detcfg.heads.roi.base import RoIHeadConfig
from detcfg.heads.roi.standard_roi_head import StandardRoIHeadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from detcfg.structures import Detections, Targets


@frozen(kw_only=True)
class FastRCNNConfig(BackboneNeckConfig):
    """Fast R-CNN (Girshick, 2015, https://arxiv.org/abs/1504.08083).

    Follows mmdet/models/detectors/fast_rcnn.py. Whoever calls the model has to give proposals: detcfg's data
    has none, so `detcfg train` cannot train it.
    """

    roi_head: RoIHeadConfig = StandardRoIHeadConfig()
    """Feature maps and proposals to detections."""

    def wired(self) -> Self:
        if self.data_preprocessor.batch_augments:
            raise ConfigError(
                "data_preprocessor.batch_augments: they would change the images under the proposals. Leave them out."
            )
        wired = super().wired()
        return evolve(wired, roi_head=wired.wired_class_head(wired.roi_head, "roi_head"))

    def build(self) -> FastRCNN:
        return FastRCNN(self.resolved())


class FastRCNN(BackboneNeckDetector):
    """`roi_head(features, proposals)`, where features are `neck(backbone(images))`."""

    def __init__(self, config: FastRCNNConfig) -> None:
        super().__init__(config)
        self.roi_head = config.roi_head.build()

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Targets] | None = None,
        proposals: Sequence[Detections] | None = None,
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode; `proposals` are in the images' pixels."""
        if not self.training:
            return self.predict(images, proposals=proposals)
        if targets is None:
            raise ValueError("A detector in training mode needs targets: model(images, targets, proposals).")
        return self.loss(images, targets, proposals)

    def loss(
        self,
        images: Sequence[Tensor],
        targets: Sequence[Targets],
        proposals: Sequence[Detections] | None = None,
    ) -> dict[str, Tensor]:
        proposals = _given(proposals, images)
        batch = self.data_preprocessor(images)
        targets = checked_targets(images, targets, self.num_classes)
        device = batch.tensor.device
        on_device = [target.to(device) for target in targets]
        features = self.extract_features(batch.tensor)
        return self.roi_head.loss(features, [one.to(device) for one in proposals], batch, on_device)

    def predict(
        self,
        images: Sequence[Tensor],
        output_sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[Detections] | None = None,
    ) -> list[Detections]:
        proposals = _given(proposals, images)
        batch = self.data_preprocessor(images, output_sizes)
        on_device = [one.to(batch.tensor.device) for one in proposals]
        return self.roi_head.predict(self.extract_features(batch.tensor), on_device, batch)


def _given(proposals: Sequence[Detections] | None, images: Sequence[Tensor]) -> Sequence[Detections]:
    """The proposals, or an error where they are missing."""
    if proposals is None or len(proposals) != len(images):
        count = "none" if proposals is None else f"those of {len(proposals)}"
        raise DetcfgError(
            f"Fast R-CNN needs the proposals of {len(images)} images, and was given {count}: "
            "model(images, targets, proposals). detcfg's data has no proposals; Faster R-CNN has an RPN for them."
        )
    return proposals
