"""What a RoI head is to a detector.

Shapes: B images; features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor, nn

from detcfg.config import ModuleConfig, derived
from detcfg.config.ranges import NonEmpty, PositiveInt
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class RoIHeadConfig(ModuleConfig):
    """A config that builds a `RoIHead`."""

    num_classes: PositiveInt = derived()
    """Classes of the data, without background."""
    in_channels: PositiveInt = derived()
    """Channels of every feature map."""
    in_strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""

    @abstractmethod
    def build(self) -> RoIHead: ...


class RoIHead(nn.Module):
    """Classifies and refines proposals, from sampling to post-processing."""

    def loss(
        self,
        features: tuple[Tensor, ...],
        proposals: Sequence[Detections],
        batch: ImageBatch,
        targets: Sequence[Targets],
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar. `proposals` are in network pixels."""
        raise NotImplementedError

    def predict(
        self, features: tuple[Tensor, ...], proposals: Sequence[Detections], batch: ImageBatch
    ) -> list[Detections]:
        """The detections of each image, in output pixels (`ImageBatch.output_sizes`)."""
        raise NotImplementedError
