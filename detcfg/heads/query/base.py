"""What a decoder of queries is to a detector.

Shapes: B images; features are tuples of (B, C_i, H_i, W_i), finest first.
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
class QueryHeadConfig(ModuleConfig):
    """A config that builds a `QueryHead`."""

    num_classes: PositiveInt = derived()
    """Classes of the data, without background."""
    in_channels: NonEmpty[PositiveInt] = derived()
    """Channels of each feature map."""
    in_strides: NonEmpty[PositiveInt] = derived()
    """Stride of each feature map."""

    @abstractmethod
    def build(self) -> QueryHead: ...


class QueryHead(nn.Module):
    """A set of queries, each of which predicts one object or none; its own matching and post-processing included."""

    def loss(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        """The losses by name, each a scalar."""
        raise NotImplementedError

    def predict(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The detections of each image, in output pixels (`ImageBatch.output_sizes`)."""
        raise NotImplementedError


def best(scores: Tensor, max_per_img: int) -> tuple[Tensor, Tensor]:
    """The highest scores (B, K) of each image, highest first, and where they stand.

    Args:
        scores: (B, N).
        max_per_img: At most so many; -1 for all.
    """
    count = scores.shape[1] if max_per_img < 0 else min(max_per_img, scores.shape[1])
    scores, index = scores.topk(count, dim=1)
    return scores, index
