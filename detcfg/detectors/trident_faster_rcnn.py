"""TridentNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

from attrs import evolve, frozen
from torch import Tensor

from detcfg.backbones.trident_resnet import TridentResNetConfig
from detcfg.config import ConfigError, fill
from detcfg.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detcfg.heads.roi.trident_roi_head import TridentRoIHead, TridentRoIHeadConfig
from detcfg.necks.base import NeckConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class TridentFasterRCNNConfig(FasterRCNNConfig):
    """TridentNet (Li et al., 2019, https://arxiv.org/abs/1901.01892).

    Follows mmdet/models/detectors/trident_faster_rcnn.py.
    """

    backbone: TridentResNetConfig = TridentResNetConfig(frozen_stages=1)
    """Image to feature maps."""
    neck: NeckConfig | None = None
    """Feature maps to feature maps; None: the heads read the backbone's."""
    roi_head: TridentRoIHeadConfig = TridentRoIHeadConfig()
    """Feature maps and proposals to detections."""

    def wired(self) -> Self:
        wired = super().wired()
        if wired.roi_head.mask_head is not None:
            raise ConfigError("roi_head.mask_head: the branches' detections are merged without masks.")
        branches, index = wired.backbone.num_branch, wired.backbone.test_branch_idx
        head = fill(wired.roi_head, "backbone.num_branch", num_branch=branches)
        return evolve(wired, roi_head=fill(head, "backbone.test_branch_idx", test_branch_idx=index))

    def build(self) -> TridentFasterRCNN:
        return TridentFasterRCNN(self.resolved())


class TridentFasterRCNN(FasterRCNN):
    """Each branch of the backbone is trained with all ground truth; in testing one branch is in use, or all."""

    def losses_of(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        branches = self._branches()
        return super().losses_of(features, repeated(batch, branches), list(targets) * branches)

    def detections_of(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        return super().detections_of(features, repeated(batch, self._branches()))

    def _branches(self) -> int:
        return cast("TridentRoIHead", self.roi_head).active_branches


def repeated(batch: ImageBatch, times: int) -> ImageBatch:
    """The images so many times, one batch after another."""
    return ImageBatch(
        tensor=batch.tensor.repeat(times, 1, 1, 1),
        sizes=batch.sizes * times,
        padded_sizes=batch.padded_sizes * times,
        output_sizes=batch.output_sizes * times,
    )
