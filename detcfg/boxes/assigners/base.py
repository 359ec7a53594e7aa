"""What every assigner gives: for each prior a ground-truth box, background or nothing.

Shapes: A priors, N ground-truth boxes of one image.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Final

from attrs import frozen

from detcfg.config import Config, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from detcfg.structures import Targets

NEGATIVE: Final = -1
"""In `Assignment.gt_indices`: the prior is a negative, its target is background."""
IGNORED: Final = -2
"""In `Assignment.gt_indices`: the prior is neither positive nor negative, and enters no loss."""


@frozen(eq=False)
class Assignment:
    """The ground truth of each prior of one image."""

    gt_indices: Tensor
    """(A,) int64: the index of the prior's object among those that are not ignored, `NEGATIVE` or `IGNORED`."""
    max_overlaps: Tensor
    """(A,) float: the prior's highest IoU with a ground-truth box, or the quality that the assigner goes by."""


@frozen(kw_only=True)
class AssignerConfig(Config, ABC):
    """The base of assigners: assigns ground-truth boxes to priors. It has no weights: the config itself assigns."""

    @property
    def assigns_anchors(self) -> bool:
        """Whether it has `assign_anchors`: boxes are all that it goes by."""
        return type(self).assign_anchors is not AssignerConfig.assign_anchors

    def check_anchors_suffice(self, name: str) -> None:
        """Refuse a value by which an assigner that goes by boxes asks for predictions, too.

        Args:
            name: The head's field that holds the assigner.

        Raises:
            ConfigError: The assigner has `assign_anchors`, but not with these values.
        """
        by_boxes = type(self).assign_anchors is not AssignerConfig.assign_anchors
        if by_boxes and not self.assigns_anchors:
            raise ConfigError(
                f"{name} goes by predictions, too ({self}), and this head has none to give it. "
                f"Leave {type(self).__name__}'s fields for them out."
            )

    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        """Assign the anchors or the proposals of one image, which is what `AnchorHead` and RoI heads ask for.

        An assigner that needs more than boxes, such as predictions, leaves this out and has an `assign` of its
        own kind, which heads that know it call.

        Args:
            priors: (A, 4), of all levels one after another.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
            num_level_priors: How many of the priors belong to each level; proposals count as one.
        """
        raise NotImplementedError(f"{type(self).__name__} does not assign by anchors alone.")
