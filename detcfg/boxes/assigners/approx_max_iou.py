"""Assignment by the overlap of several boxes that stand for one prior.

Shapes: A priors, n boxes that stand for each; N ground-truth boxes of one image.
"""

from __future__ import annotations

from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.assigners.max_iou import MaxIoUAssignerConfig
from detcfg.structures import Targets


@frozen(kw_only=True)
class ApproxMaxIoUAssignerConfig(MaxIoUAssignerConfig):
    """Assigns ground-truth boxes to priors whose shape is predicted, by the best IoU of sampled shapes.

    From Region Proposal by Guided Anchoring (Wang et al., 2019, https://arxiv.org/abs/1901.03278). Follows
    mmdet/models/task_modules/assigners/approx_max_iou_assigner.py.
    """

    def assign_approxes(self, squares: Tensor, approxes: Tensor, targets: Targets) -> Assignment:
        """Assign the priors of one image.

        Args:
            squares: (A, 4), the priors; ignored boxes are compared with these.
            approxes: (A, n, 4), the shapes that stand for each prior.
            targets: Ground truth; `gt_indices` count the objects that are not ignored (`Targets.not_ignored`).
        """
        return self._assign(squares, approxes, targets)
