"""What RT-DETR's predictions cost: a matching of each layer, and three losses.

Shapes: B images, Q queries, K classes, L layers, P pairs of a query and an object of one layer. Boxes are (cx, cy, w, h) in
shares of the image.

Follows zoo/rtdetr/rtdetrv2_criterion.py of lyuwenyu/RT-DETR (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.assigners.hungarian import Pairs
from detcfg.heads.query.denoising import DenoisingQueries
from detcfg.heads.query.set_criterion import At, Objects, SetCriterion, SetCriterionConfig, located, named
from detcfg.losses.reduce import shared_factor


class Predictions(NamedTuple):
    """What each decoder layer predicts."""

    logits: Tensor
    """(L, B, Q, K)."""
    boxes: Tensor
    """(L, B, Q, 4)."""

    def split(self, count: int) -> tuple[Predictions, Predictions]:
        """Those of the first `count` queries, and those of the others."""
        first, others = (
            Predictions(self.logits[:, :, some], self.boxes[:, :, some])
            for some in (slice(count), slice(count, None))
        )
        return first, others


@frozen(kw_only=True)
class RTDETRCriterionConfig(SetCriterionConfig):
    """RT-DETR's matching and its three losses (Zhao et al., 2023, https://arxiv.org/abs/2304.08069)."""

    def build(self) -> RTDETRCriterion:
        return RTDETRCriterion(self.resolved())


class RTDETRCriterion(SetCriterion):
    """Losses by the reference's names: those of the last layer bare, then `_aux_0` …, `_enc_0`, `_dn_0` …

    Every layer, and the encoder, has a matching of its own; all are divided by the number of objects (its mean over
    processes, at least 1), those of denoising by that times the number of groups.
    """

    def forward(
        self,
        found: Predictions,
        encoded: Predictions,
        objects: Objects,
        denoising: tuple[Predictions, DenoisingQueries | None] | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            found: What the queries predict.
            encoded: The same of the cells that became queries, as one layer.
            objects: The ground truth.
            denoising: What the denoising queries predict, and these; None where there are none at all.
        """
        layers = len(found.logits)
        names = [*(f"_aux_{i}" for i in range(layers - 1)), "", "_enc_0"]
        every = Predictions(*(torch.cat(pair) for pair in zip(found, encoded, strict=True)))
        pairs = self.assigner.match(
            every.logits.detach(), every.boxes.detach(), objects.labels, objects.boxes
        )
        count = shared_factor(float(len(objects)), every.logits)
        losses = self._losses(every, located(pairs, objects, every.logits.device), names, count)
        if denoising is not None:
            restored, spoilt = denoising
            pairs = Pairs.none() if spoilt is None else spoilt.pairs
            at = located(pairs, objects, every.logits.device).in_every_set(layers)
            count = count * (1 if spoilt is None else spoilt.num_groups)
            losses |= self._losses(restored, at, [f"_dn_{i}" for i in range(layers)], count)
        return losses

    def _losses(self, found: Predictions, at: At, names: Sequence[str], count: Tensor) -> dict[str, Tensor]:
        """Those of sets that have as many pairs each, set by set."""
        sets = len(found.boxes)
        pred = found.boxes[at.sets, at.images, at.queries].view(sets, -1, 4)
        loss_bbox, loss_giou = self.box_losses(pred, at.boxes.view(sets, -1, 4))
        return (
            named(self.class_name, names, self.class_losses(found.logits, found.boxes, at) / count)
            | named("loss_bbox", names, loss_bbox / count)
            | named("loss_giou", names, loss_giou / count)
        )
