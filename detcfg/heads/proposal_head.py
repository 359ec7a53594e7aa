"""What a two-stage detector asks of its first stage.

Shapes: B images; features are tuples of (B, C, H_i, W_i), finest first.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from attrs import frozen
from torch import Tensor

from detcfg.heads.base import DenseHead, DenseHeadConfig
from detcfg.structures import Detections, ImageBatch, Targets


@frozen(kw_only=True)
class ProposalHeadConfig(DenseHeadConfig):
    """A config that builds a `ProposalHead`. It knows objects only, not their classes."""

    @abstractmethod
    def build(self) -> ProposalHead: ...


class ProposalHead(DenseHead):
    """A dense head whose detections are proposals to a RoI head."""

    def loss_and_proposals(
        self, features: tuple[Tensor, ...], batch: ImageBatch, targets: Sequence[Targets]
    ) -> tuple[dict[str, Tensor], list[Detections]]:
        """The losses, under names with "rpn", and proposals in network pixels, without gradients."""
        raise NotImplementedError

    def proposals(self, features: tuple[Tensor, ...], batch: ImageBatch) -> list[Detections]:
        """The proposals of each image in network pixels."""
        raise NotImplementedError
