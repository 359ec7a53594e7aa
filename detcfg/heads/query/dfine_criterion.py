"""What D-FINE's predictions cost: one matching for all layers, and five losses of each.

Shapes: B images, Q queries, K classes, n + 1 bins, L layers, S sets of predictions, P pairs of a query and an object. Boxes
are (cx, cy, w, h) in shares of the image.

Follows zoo/dfine/dfine_criterion.py of Peterande/D-FINE (Apache-2.0). What transformers 5.24.0 has under the same name is another
loss: it pairs each layer's boxes with the layer before, matches boxes by layer, and lacks a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.hungarian import Pairs
from detcfg.boxes.cxcywh import to_xyxy
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.heads.query.matching import union
from detcfg.heads.query.set_criterion import (
    At,
    Objects,
    SetCriterion,
    SetCriterionConfig,
    located,
    named,
    overlaps,
)
from detcfg.layers.nonuniform_bins import bin_targets, by_side
from detcfg.losses.base import LossConfig
from detcfg.losses.decoupled_distillation_focal import DecoupledDistillationFocalLossConfig
from detcfg.losses.fine_grained_localization import FineGrainedLocalizationLossConfig
from detcfg.losses.reduce import reduce_mean, shared_factor

BATCH = 8
"""The batch size at which distillation weighs matched and other queries by the root of their numbers."""


class Predictions(NamedTuple):
    """What each decoder layer predicts, and last of all what the first one does without distributions."""

    logits: Tensor
    """(L + 1, B, Q, K)."""
    boxes: Tensor
    """(L + 1, B, Q, 4)."""
    corners: Tensor
    """(L, B, Q, 4 * (n + 1)): the logits of the distributions of left, top, right and bottom."""
    references: Tensor
    """(B, Q, 4): the boxes that the distributions begin from."""

    def split(self, count: int) -> tuple[Predictions, Predictions]:
        """Those of the first `count` queries, and those of the others."""
        first, others = (
            Predictions(
                self.logits[:, :, some],
                self.boxes[:, :, some],
                self.corners[:, :, some],
                self.references[:, some],
            )
            for some in (slice(count), slice(count, None))
        )
        return first, others


class Bins(NamedTuple):
    """What the distributions of the sides are over."""

    values: Tensor
    """(n + 1,): distance of each bin."""
    reg_scale: Tensor
    """(1,): how many of these distances a width has."""


@frozen(kw_only=True)
class DFINECriterionConfig(SetCriterionConfig):
    """D-FINE's matching and its five losses (Peng et al., 2024, https://arxiv.org/abs/2410.13842)."""

    loss_fgl: LossConfig = FineGrainedLocalizationLossConfig(loss_weight=0.15)
    """The loss of the distributions of the sides."""
    loss_ddf: LossConfig = DecoupledDistillationFocalLossConfig(loss_weight=1.5)
    """The loss by which earlier layers learn the last layer's distributions."""

    def build(self) -> DFINECriterion:
        return DFINECriterion(self.resolved())


class DFINECriterion(SetCriterion):
    """Losses by the reference's names: those of the last layer bare, then `_aux_0` …, `_pre`, `_enc_0`, `_dn_0` …, `_dn_pre`.

    Classes are matched by set of predictions. Boxes and distributions of all layers, the first one's plain boxes and the
    encoder's go by one union of all matchings, and are divided by its size. All sets are computed at once.
    """

    def __init__(self, config: DFINECriterionConfig) -> None:
        super().__init__(config)
        self.loss_fgl, self.loss_ddf = config.loss_fgl.build(), config.loss_ddf.build()

    def forward(
        self,
        found: Predictions,
        encoded: tuple[Tensor, Tensor],
        bins: Bins,
        objects: Objects,
        denoising: tuple[Predictions, DenoisingQueries | None] | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            found: What the queries predict.
            encoded: Logits (B, Q, K) and boxes (B, Q, 4) of the cells that became queries.
            bins: What the distributions are over.
            objects: The ground truth.
            denoising: What the denoising queries predict, and these; None where there are none at all.
        """
        logits = torch.cat([found.logits, encoded[0][None]])
        boxes = torch.cat([found.boxes, encoded[1][None]])
        pairs = self.assigner.match(logits.detach(), boxes.detach(), objects.labels, objects.boxes)
        joint = union(pairs)
        count, joint_count = (shared_factor(float(len(some)), logits) for some in (objects, joint))
        own, shared = (located(some, objects, logits.device) for some in (pairs, joint))
        sides = _sides(len(joint), logits)
        layers = [*(f"_aux_{i}" for i in range(len(found.corners) - 1)), ""]
        names = [*layers, "_pre", "_enc_0"]
        fgl, ddf = self._local_losses(found, shared, bins, sides, joint_count)
        losses = (
            named(self.class_name, names, self.class_losses(logits, boxes, own) / count)
            | self._box_losses(boxes, shared, names, joint_count)
            | named("loss_fgl", layers, fgl)
            | named("loss_ddf", layers[:-1], ddf)
        )
        if denoising is not None:
            losses |= self._denoising_losses(*denoising, bins, objects, count=count, sides=sides)
        return {name: loss.nan_to_num() for name, loss in losses.items()}

    def _denoising_losses(
        self,
        found: Predictions,
        spoilt: DenoisingQueries | None,
        bins: Bins,
        objects: Objects,
        *,
        count: Tensor,
        sides: Tensor,
    ) -> dict[str, Tensor]:
        """Those of the denoising queries, whose pairs are known; 0 where no image has an object.

        Every process gives the same names, whether its images have objects or not.
        """
        layers = [f"_dn_{i}" for i in range(len(found.corners))]
        names = [*layers, "_dn_pre"]
        pairs = Pairs.none() if spoilt is None else spoilt.pairs
        at = located(pairs, objects, found.logits.device)
        count = count * (1 if spoilt is None else spoilt.num_groups)
        fgl, ddf = self._local_losses(found, at, bins, sides, count)
        every = at.in_every_set(len(names))
        return (
            named(self.class_name, names, self.class_losses(found.logits, found.boxes, every) / count)
            | self._box_losses(found.boxes, at, names, count)
            | named("loss_fgl", layers, fgl)
            | named("loss_ddf", layers, torch.cat([ddf, ddf.new_zeros(1)]))  # the last layer is the teacher
        )

    def _box_losses(self, boxes: Tensor, at: At, names: Sequence[str], count: Tensor) -> dict[str, Tensor]:
        """Those of the same pairs in every set."""
        pred = boxes[:, at.images, at.queries]
        target = at.boxes.expand_as(pred)
        loss_bbox, loss_giou = self.box_losses(pred, target)
        return named("loss_bbox", names, loss_bbox / count) | named("loss_giou", names, loss_giou / count)

    def _local_losses(
        self, found: Predictions, at: At, bins: Bins, sides: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(L,) of the distributions of the pairs, and (L - 1,) of distilling the last layer's into the others'."""
        quality = overlaps(found.boxes[:-1, at.images, at.queries].detach(), at.boxes)
        corners = by_side(found.corners)
        target = bin_targets(
            found.references[at.images, at.queries], to_xyxy(at.boxes), bins.values, bins.reg_scale
        )
        fgl: Tensor = self.loss_fgl(
            corners[:, at.images, at.queries],
            target.expand(len(corners), *target.shape),
            quality[..., None].expand(-1, -1, 4),
            reduction_override="none",
        )
        students, teacher = corners[:-1], corners[-1]
        sure = found.logits[-2].detach().sigmoid().amax(dim=-1).repeat(len(students), 1, 1)
        sure[:, at.images, at.queries] = quality[:-1].to(sure.dtype)
        matched = torch.zeros_like(sure[:1])
        matched[:, at.images, at.queries] = 1
        ddf: Tensor = self.loss_ddf(
            students,
            teacher.expand_as(students),
            sure[..., None].expand(-1, -1, -1, 4),
            reduction_override="none",
        )
        ddf = ddf.sum(dim=-1)
        sums = torch.stack([(ddf * some).sum(dim=(1, 2)) for some in (matched, 1 - matched)])
        here = reduce_mean(4 * torch.stack([matched.sum(), (1 - matched).sum()])).clamp(min=1e-6)
        weights = sides.sqrt() / sides.sqrt().sum()
        return fgl.sum(dim=(1, 2)) / count, (sums / here[:, None] * weights[:, None]).sum(dim=0)


def _sides(matched: int, logits: Tensor) -> Tensor:
    """(2,): how many sides matched and other queries have in a batch of 8, on the mean of all processes."""
    _, batch, queries, _ = logits.shape
    counts = torch.tensor([4.0 * matched, 4.0 * (batch * queries - matched)], device=logits.device)
    return reduce_mean(counts) * (BATCH / batch)
