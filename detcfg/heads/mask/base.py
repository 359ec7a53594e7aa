"""What every mask head is to a RoI head.

Shapes: P positive rois over the whole batch; S the side of pooled features, M the side of a mask.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor, nn

from detcfg.boxes.samplers.base import SamplingResult
from detcfg.config import ModuleConfig, derived
from detcfg.errors import DetcfgError
from detcfg.structures import Targets


@frozen(kw_only=True)
class MaskHeadConfig(ModuleConfig):
    """A config that builds a `MaskHead`."""

    in_channels: int = derived()
    """Channels of the pooled features."""
    roi_feat_size: int = derived()
    """S: side of the pooled features."""
    num_classes: int = derived()
    """K, without background."""

    @abstractmethod
    def build(self) -> MaskHead: ...


class MaskHead(nn.Module):
    """Pooled features (P, C, S, S) to mask logits (P, K, M, M), or (P, 1, M, M) for all classes."""

    def forward(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(
        self, features: Tensor, samplings: Sequence[SamplingResult], canvas: tuple[int, int]
    ) -> dict[str, Tensor]:
        """The losses of the positives of all images, whose pooled features (P, C, S, S) come in the same order.

        `canvas` is the (height, width) of the padded batch.
        """
        raise NotImplementedError

    def predict(
        self, features: Tensor, boxes: Tensor, labels: Tensor, size: tuple[int, int], threshold: float
    ) -> Tensor:
        """The masks (n, *size) bool of the detections of one image.

        Args:
            features: (n, C, S, S) pooled features.
            boxes: (n, 4) in output pixels.
            labels: (n,).
            size: (height, width) of the output.
            threshold: The probability from which a pixel belongs to the object.
        """
        raise NotImplementedError


def masks_of(targets: Targets) -> Tensor:
    """(N, H, W) bool: the masks of the objects of one image.

    Raises:
        DetcfgError: The data has none.
    """
    if targets.masks is None:
        raise DetcfgError(
            "The model learns masks, but the targets have none. Set the data's `with_mask` "
            "(`data.with_mask=true` on the command line), or give `Targets` its `masks`."
        )
    return targets.masks
