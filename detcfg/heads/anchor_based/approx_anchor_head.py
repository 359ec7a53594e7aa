"""What heads share that start from one square at each location, assigned by sampled shapes.

Shapes: B images; A squares over all levels, one at each location; n sampled shapes ("approxes") of each.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Self

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.assigners.approx_max_iou import ApproxMaxIoUAssignerConfig
from detcfg.boxes.assigners.base import Assignment
from detcfg.config import ConfigError, derived, fill, is_unset
from detcfg.heads.anchor_based.anchor_head import AnchorHead, AnchorHeadConfig
from detcfg.heads.dense.anchor_targets import Assign, Candidates
from detcfg.heads.dense.levels import sizes_of
from detcfg.structures import ImageBatch, Targets


@frozen(kw_only=True)
class ApproxAnchorHeadConfig(AnchorHeadConfig):
    """A config that builds an `ApproxAnchorHead`."""

    approx_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(
        octave_base_scale=8, scales_per_octave=3, ratios=(0.5, 1.0, 2.0)
    )
    """The shapes by which a square's overlap with an object is judged."""
    square_anchor_generator: AnchorGeneratorConfig = AnchorGeneratorConfig(ratios=(1.0,), scales=(8.0,))
    """The square at each location."""
    anchor_generator: AnchorGeneratorConfig = derived()
    """That of the squares."""

    def wired(self) -> Self:
        self._check_scales()
        squares, approxes = self.square_anchor_generator, self.approx_anchor_generator
        if not is_unset(self.in_strides):
            squares = fill(squares, "in_strides", strides=self.in_strides)
            approxes = fill(approxes, "in_strides", strides=self.in_strides)
        filled = evolve(self, square_anchor_generator=squares, approx_anchor_generator=approxes)
        if is_unset(self.in_strides):
            return filled
        squares.check_single("square_anchor_generator", type(self).__name__)
        filled = fill(filled, "square_anchor_generator", anchor_generator=squares)
        return super(ApproxAnchorHeadConfig, filled).wired()

    def _check_scales(self) -> None:
        squares, approxes = self.square_anchor_generator, self.approx_anchor_generator
        scale = None if squares.scales is None else squares.scales[0]
        if scale is None or scale != approxes.octave_base_scale:
            raise ConfigError(
                f"square_anchor_generator.scales is {squares.scales}, but approx_anchor_generator."
                f"octave_base_scale is {approxes.octave_base_scale}. Make the first scale the same."
            )

    @abstractmethod
    def build(self) -> ApproxAnchorHead: ...


class ApproxAnchorHead(AnchorHead):
    """An anchor head whose priors are squares."""

    def __init__(self, config: ApproxAnchorHeadConfig) -> None:
        super().__init__(config)
        self.approx_anchor_generator = config.approx_anchor_generator

    def approxes(self, maps: Sequence[Tensor]) -> Tensor:
        """(A, n, 4): the shapes that stand for each square; `maps` are any predictions."""
        generator = self.approx_anchor_generator
        levels = generator.grid_priors(sizes_of(maps), maps[0].device)
        return torch.cat([level.view(-1, generator.num_base_priors[0], 4) for level in levels])

    def inside(
        self, approxes: Tensor, maps: Sequence[Tensor], batch: ImageBatch
    ) -> tuple[Tensor | None, ...]:
        """For each image the squares, (A,) bool, one of whose shapes lies in it as far as `allowed_border` asks.

        None where all do.
        """
        sizes = sizes_of(maps)
        return tuple(self.target_maker.inside(approxes, sizes, batch, index) for index in range(len(batch)))


def by_approxes(assigner: ApproxMaxIoUAssignerConfig, approxes: Tensor) -> Assign:
    """Assigns ground-truth boxes to squares by the shapes (A, n, 4) that stand for them."""
    return partial(_assign, assigner, approxes)


def _assign(
    assigner: ApproxMaxIoUAssignerConfig, approxes: Tensor, candidates: Candidates, targets: Targets
) -> Assignment:
    return assigner.assign_approxes(candidates.anchors, approxes[candidates.inds], targets)
