"""The contract of mask heads.

Shapes: P positive rois over the whole batch; S the side of pooled features, M the side of a mask.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import PositiveInt
from detcfg.errors import DetcfgError
from detcfg.structures import Targets


@frozen(kw_only=True)
class MaskHeadConfig(ModuleConfig):
    """A config that builds a `MaskHead`."""

    in_channels: PositiveInt = derived()
    """Channels of the pooled features."""
    roi_feat_size: PositiveInt = derived()
    """S: side of the pooled features."""
    num_classes: PositiveInt = derived()
    """K, without background."""

    @abstractmethod
    def build(self) -> MaskHead: ...


class MaskHead(nn.Module):
    """Pooled features (P, C, S, S) to mask logits (P, K, M, M), or (P, 1, M, M) if class-agnostic."""

    def forward(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(
        self, features: Tensor, samplings: Sequence[SamplingResult], canvas: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar.

        Args:
            features: (P, C, S, S) pooled features of the positives, image by image.
            samplings: Of each image.
            canvas: (height, width) of the padded batch.
        """
        raise NotImplementedError

    def predict(
        self, features: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int], threshold: float
    ) -> Tensor:
        """The masks (n, height, width) bool of the n detections of one image.

        Args:
            features: (n, C, S, S) pooled features.
            boxes: (n, 4) in output pixels.
            labels: (n,).
            size: (height, width) of the output.
            threshold: Pixels with at least this probability belong to the mask.
        """
        raise NotImplementedError


def masks_of(targets: Targets) -> Tensor:
    """(N, H, W) bool: the ground-truth masks of one image.

    Raises:
        DetcfgError: The data has none.
    """
    if targets.masks is None:
        raise DetcfgError(
            "The model is trained on masks, but the targets have none. Set the data's `with_mask` "
            "(`data.with_mask=true` on the command line), or give `Targets` its `masks`."
        )
    return targets.masks
