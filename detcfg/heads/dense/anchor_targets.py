"""The targets of each anchor of a batch: shared by every head that assigns anchors.

Shapes: B images; A anchors over all levels; N ground-truth objects of one image, P positives of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch import Tensor

from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig, inside_flags
from detcfg.boxes.assigners.base import Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.samplers.base import SamplerConfig, SamplingResult
from detcfg.heads.dense.levels import of_positives
from detcfg.losses.base import Loss
from detcfg.structures import ImageBatch, Targets

Inds = Tensor | slice
"""Indices of some of all anchors of an image, or `slice(None)` for all."""


@frozen(eq=False)
class Candidates:
    """The anchors of one image that take part in assignment."""

    anchors: Tensor
    """(n, 4), of all levels one after another."""
    num_level_anchors: tuple[int, ...]
    """How many of them belong to each level."""
    image: int
    """The image's index in the batch."""
    inds: Inds
    """Indices of these anchors among all anchors of the image: `predictions[image][inds]` are theirs."""


Assign = Callable[[Candidates, Targets], Assignment]
"""Assigns the ground-truth boxes of one image to its candidates."""


@frozen(eq=False)
class AnchorTargets:
    """The targets of a batch."""

    labels: Tensor
    """(B, A) int64; the number of classes stands for background."""
    num_classes: int
    """That number."""
    label_weights: Tensor
    """(B, A) float: 0 for anchors that are neither positive nor negative."""
    bbox_targets: Tensor
    """(B, A, C) float: encoded boxes, or boxes where the loss works on decoded ones (C = 4)."""
    bbox_weights: Tensor
    """(B, A, C) float: 1 for positives."""
    avg_factor: float
    """What the sums of losses are divided by."""
    samplings: tuple[SamplingResult, ...]
    """The sampling of each image; its indices count the candidates."""
    assignments: tuple[Assignment, ...]
    """The assignment of each image, over the candidates."""
    inds: tuple[Inds, ...]
    """For each image the indices of the candidates among all anchors."""
    num_level_anchors: tuple[int, ...]
    """How many anchors each level has."""

    @property
    def positive(self) -> Tensor:
        """(B, A) bool: the positives."""
        return self.labels < self.num_classes

    def priors_of(self, anchors: Sequence[Tensor]) -> Tensor:
        """(P, 4): the anchors of the positives, from those of each level (n_i, 4)."""
        return of_positives(torch.cat(list(anchors)), self.positive)

    def pos_inds(self, image: int) -> Tensor:
        """(p,) int64: indices of the positives of an image among all anchors, in the order of its sampling."""
        return self._of_all(image, self.samplings[image].pos_inds)

    def sampled(self) -> tuple[Tensor, Tensor]:
        """(n,) int64 each: image and anchor of every sample of the batch, by ascending anchor."""
        inds = [torch.cat([sampling.pos_inds, sampling.neg_inds]) for sampling in self.samplings]
        anchors, order = torch.cat([self._of_all(image, i) for image, i in enumerate(inds)]).sort()
        images = torch.cat([torch.full_like(i, image) for image, i in enumerate(inds)])
        return images[order], anchors

    def _of_all(self, image: int, inds: Tensor) -> Tensor:
        """Indices among the candidates of an image as indices among all anchors."""
        candidates = self.inds[image]
        return candidates[inds] if isinstance(candidates, Tensor) else inds

    @property
    def gt_inds(self) -> Tensor:
        """(B, A) int64: the ground-truth object of each positive, counted over the batch; else -1."""
        found = torch.full_like(self.labels, -1)
        before = 0
        for image, sampling in enumerate(self.samplings):
            found[image, self.pos_inds(image)] = sampling.pos_assigned_gt_inds + before
            before += len(sampling.targets)
        return found

    def levels(self, values: Tensor) -> tuple[Tensor, ...]:
        """(B, A, ...) split into levels."""
        return torch.split(values, list(self.num_level_anchors), dim=1)


@frozen(eq=False)
class _ImageTargets:
    labels: Tensor
    label_weights: Tensor
    bbox_targets: Tensor
    bbox_weights: Tensor
    sampling: SamplingResult
    assignment: Assignment
    inds: Inds


@frozen(kw_only=True, eq=False)
class AnchorTargetMaker:
    """Makes the targets of a batch. Follows `get_targets` in mmdet/models/dense_heads/anchor_head.py."""

    num_classes: int
    anchor_generator: AnchorGeneratorConfig
    bbox_coder: BBoxCoderConfig
    sampler: SamplerConfig
    reg_decoded_bbox: bool = False
    """Whether the box loss works on decoded boxes."""
    allowed_border: int = -1
    """Anchors that reach further than this out of the image, in pixels, are left out; -1 leaves none out."""
    pos_weight: float = -1.0
    """Weight of positives in classification; at most 0 for 1."""

    def __call__(
        self,
        anchors: Sequence[Tensor],
        featmap_sizes: Sequence[tuple[int, int]],
        batch: ImageBatch,
        targets: Sequence[Targets],
        *,
        assign: Assign,
        inside: Sequence[Tensor | None] | None = None,
    ) -> AnchorTargets:
        """The targets of a batch.

        Args:
            anchors: (n_i, 4) of each level, or (B, n_i, 4) where each image has its own.
            featmap_sizes: (height, width) of each level.
            batch: The images.
            targets: The ground truth of each image.
            assign: Assigns the ground-truth boxes of one image.
            inside: For each image the candidates, (A,) bool, or None for all anchors. By default those that
                lie in the image as far as `allowed_border` asks.
        """
        num_level_anchors = tuple(level.shape[-2] for level in anchors)
        of_images = torch.cat(list(anchors), dim=-2).expand(len(targets), -1, -1)
        images: list[_ImageTargets] = []
        for index, (flat, objects) in enumerate(zip(of_images, targets, strict=True)):
            flags = inside[index] if inside else self.inside(flat[:, None], featmap_sizes, batch, index)
            inds = slice(None) if flags is None else flags.nonzero().squeeze(1)
            counts = num_level_anchors if flags is None else _counts(flags, num_level_anchors)
            candidates = Candidates(flat[inds], counts, index, inds)
            images.append(self._image_targets(flat, candidates, assign(candidates, objects), objects))
        samplings = tuple(image.sampling for image in images)
        return AnchorTargets(
            labels=torch.stack([image.labels for image in images]),
            num_classes=self.num_classes,
            label_weights=torch.stack([image.label_weights for image in images]),
            bbox_targets=torch.stack([image.bbox_targets for image in images]),
            bbox_weights=torch.stack([image.bbox_weights for image in images]),
            avg_factor=sum(sampling.avg_factor for sampling in samplings),
            samplings=samplings,
            assignments=tuple(image.assignment for image in images),
            inds=tuple(image.inds for image in images),
            num_level_anchors=num_level_anchors,
        )

    def inside(
        self, shapes: Tensor, featmap_sizes: Sequence[tuple[int, int]], batch: ImageBatch, index: int
    ) -> Tensor | None:
        """(A,) bool: the anchors one of whose shapes (A, n, 4) lies in the image as far as `allowed_border` asks.

        None where all do, which saves a wait for the device.
        """
        padded = batch.padded_sizes[index]
        is_largest = padded == tuple(batch.tensor.shape[-2:])
        if self.allowed_border < 0 and is_largest:
            return None
        valid = torch.cat(list(self.anchor_generator.valid_flags(featmap_sizes, padded, shapes.device)))
        if self.allowed_border < 0:
            return valid
        within = inside_flags(shapes.flatten(0, 1), batch.sizes[index], self.allowed_border)
        return valid & within.view(shapes.shape[:2]).any(dim=1)

    def _image_targets(
        self, anchors: Tensor, candidates: Candidates, assignment: Assignment, objects: Targets
    ) -> _ImageTargets:
        sampling = self.sampler.sample(assignment, candidates.anchors, objects)
        positive, negative = sampling.pos_inds, sampling.neg_inds
        if isinstance(candidates.inds, Tensor):
            positive, negative = candidates.inds[positive], candidates.inds[negative]

        size = 4 if self.reg_decoded_bbox else self.bbox_coder.encode_size
        labels = torch.full((len(anchors),), self.num_classes, device=anchors.device)
        label_weights = anchors.new_zeros(len(anchors))
        bbox_targets = anchors.new_zeros(len(anchors), size)
        bbox_weights = anchors.new_zeros(len(anchors), size)

        boxes = sampling.pos_gt_bboxes
        if not self.reg_decoded_bbox:
            boxes = self.bbox_coder.encode(sampling.pos_priors, boxes)
        labels[positive] = sampling.pos_gt_labels
        label_weights[positive] = self.pos_weight if self.pos_weight > 0 else 1.0
        label_weights[negative] = 1.0
        bbox_targets[positive] = boxes.to(bbox_targets)
        bbox_weights[positive] = 1.0
        return _ImageTargets(
            labels=labels,
            label_weights=label_weights,
            bbox_targets=bbox_targets,
            bbox_weights=bbox_weights,
            sampling=sampling,
            assignment=assignment,
            inds=candidates.inds,
        )


def _counts(inside: Tensor, num_level_anchors: tuple[int, ...]) -> tuple[int, ...]:
    """How many anchors of each level are `inside` (A,)."""
    levels = torch.split(inside, list(num_level_anchors))
    counts = torch.stack([level.sum() for level in levels]).cpu()
    return tuple(int(count) for count in counts)


def level_losses(loss: Loss, targets: AnchorTargets, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """A loss summed over levels: in one call where that is the same, as levels share a divisor.

    Args:
        loss: A loss that reduces to a scalar.
        targets: Says where levels begin and what sums are divided by.
        pred: (B, A, ...).
        target: (B, A, ...).
        weight: (B, A) or (B, A, ...).
    """
    values = (pred, target, weight)
    if not loss.by_level:
        whole: Tensor = loss(*(value.flatten(0, 1) for value in values), avg_factor=targets.avg_factor)
        return whole
    levels = zip(*(targets.levels(value) for value in values), strict=True)
    losses = [loss(*(v.flatten(0, 1) for v in level), avg_factor=targets.avg_factor) for level in levels]
    return torch.stack(losses).sum()
