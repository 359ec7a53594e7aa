"""What every assigner gives: for each prior the ground truth that it learns.

Shapes: A priors, N ground-truth boxes of one image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from detcfg.config import Config

if TYPE_CHECKING:
    from torch import Tensor

    from detcfg.structures import Targets

NEGATIVE: Final = -1
"""In `Assignment.gt_indices`: the prior learns background."""
IGNORED: Final = -2
"""In `Assignment.gt_indices`: the prior learns nothing."""


@frozen(eq=False)
class Assignment:
    """What each prior of one image learns."""

    gt_indices: Tensor
    """(A,) int64: index of the ground truth, `NEGATIVE` or `IGNORED`."""
    max_overlaps: Tensor
    """(A,) float: the prior's overlap with the ground truth, or the quality that the assigner goes by."""


@frozen(kw_only=True)
class AssignerConfig(Config):
    """The base of assigners. They hold no weights: the config itself assigns."""

    def assign_anchors(
        self, priors: Tensor, targets: Targets, num_level_priors: tuple[int, ...]
    ) -> Assignment:
        """Assign the anchors of one image, which is what `AnchorHead` asks for.

        An assigner that needs more than boxes leaves this out, and heads that know it give it more.

        Args:
            priors: (A, 4), of all levels one after another.
            targets: The objects; indices refer to the learnt ones.
            num_level_priors: How many of the priors belong to each level.
        """
        raise NotImplementedError(f"{type(self).__name__} does not assign by anchors alone.")
