"""Queries that are spoilt objects, from which a decoder learns to restore them.

Shapes: B images, D denoising queries, M objects of the image that has most; G groups of 2M queries each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detcfg.boxes.assigners.hungarian import Pairs
from detcfg.boxes.cxcywh import logit, to_cxcywh, to_xyxy


@frozen(eq=False)
class DenoisingQueries:
    """The denoising queries of a batch."""

    labels: Tensor
    """(B, D) int64: the class that the query is told; the number of classes for padding."""
    boxes: Tensor
    """(B, D, 4): logits of (cx, cy, w, h) in shares of the image."""
    pairs: Pairs
    """The object of each positive query."""
    num_groups: int
    """G."""

    def hidden(self, num_queries: int) -> Tensor:
        """(D + Q, D + Q) bool, True where a query may not look: from elsewhere into a group, or into another one."""
        count = self.labels.shape[1]
        device = self.labels.device
        group = torch.arange(count, device=device) // (count // self.num_groups)
        group = torch.cat([group, group.new_full((num_queries,), -1)])
        return (group != group[:, None]) & (group >= 0)


@frozen
class ContrastiveDenoising:
    """Draws positives, near their objects, and negatives, farther off, in groups (DINO, Zhang et al., 2022).

    https://arxiv.org/abs/2203.03605. Follows zoo/dfine/denoising.py of Peterande/D-FINE, which draws the same numbers in
    the same order, but takes `box_noise_scale` as 1 whatever its config says.
    """

    num_classes: int
    num_denoising: int
    """About so many positives an image: as many groups as fit, at least one."""
    label_noise_ratio: float
    """Twice the probability that a query is told a random class."""
    box_noise_scale: float
    """A positive's sides move by up to this, a negative's by this to twice this, in half widths and heights."""

    def __call__(self, labels: Sequence[Tensor], boxes: Sequence[Tensor]) -> DenoisingQueries | None:
        """The queries for the objects of a batch; None where there are no objects.

        Args:
            labels: (N,) int64 of each image.
            boxes: (N, 4) = (cx, cy, w, h) of each image, in shares of it.
        """
        counts = [len(image) for image in labels]
        most = max(counts)
        if most == 0:
            return None
        groups = max(self.num_denoising // most, 1)
        tiles = 2 * groups
        told = pad_sequence(list(labels), batch_first=True, padding_value=self.num_classes).repeat(1, tiles)
        real = told < self.num_classes
        placed = pad_sequence(list(boxes), batch_first=True).repeat(1, tiles, 1)
        farther = (torch.arange(2 * most * groups, device=told.device) // most % 2).float()[None, :, None]
        if self.label_noise_ratio > 0:
            mistold = torch.rand_like(told, dtype=torch.float) < self.label_noise_ratio / 2
            others = torch.randint_like(told, 0, self.num_classes, dtype=torch.int32)
            told = others.long().where(mistold & real, told)
        if self.box_noise_scale > 0:
            half = (placed[..., 2:] / 2).repeat(1, 1, 2) * self.box_noise_scale
            sign = torch.randint_like(placed, 0, 2) * 2 - 1
            moved = to_xyxy(placed) + sign * (torch.rand_like(placed) + farther) * half
            placed = to_cxcywh(moved.clamp(0, 1)).abs()
        return DenoisingQueries(told, logit(placed), _positives(counts, most, groups), groups)


def _positives(counts: Sequence[int], most: int, groups: int) -> Pairs:
    """The positive queries, image by image and group by group."""
    start, columns = 0, list[tuple[np.ndarray, ...]]()
    for image, count in enumerate(counts):
        within = np.tile(np.arange(count), groups)
        query = np.repeat(np.arange(groups) * 2 * most, count) + within
        columns.append((np.zeros_like(query), np.full_like(query, image), query, start + within))
        start += count
    return Pairs(*(np.concatenate(column) for column in zip(*columns, strict=True)))
