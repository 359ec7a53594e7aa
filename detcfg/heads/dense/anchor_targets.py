"""What each anchor of a batch learns: shared by every head that assigns anchors.

Shapes: B images; A anchors over all levels; N objects of one image.
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
from detcfg.losses.base import Loss
from detcfg.structures import ImageBatch, Targets

Places = Tensor | slice
"""Some of all anchors: their indices, or all of them."""


@frozen(eq=False)
class Candidates:
    """The anchors of one image that may learn."""

    anchors: Tensor
    """(n, 4), of all levels one after another."""
    num_level_anchors: tuple[int, ...]
    """How many of them belong to each level."""
    image: int
    """The image's index in the batch."""
    places: Places
    """Which of all anchors they are: `predictions[image][places]` is what was predicted for them."""


Assign = Callable[[Candidates, Targets], Assignment]
"""The candidates of one image and its objects to what each candidate learns."""


@frozen(eq=False)
class AnchorTargets:
    """The targets of a batch."""

    labels: Tensor
    """(B, A) int64; the number of classes stands for background."""
    label_weights: Tensor
    """(B, A) float: 0 where nothing is learnt."""
    bbox_targets: Tensor
    """(B, A, C) float: encoded boxes, or boxes where the loss works on decoded ones (C = 4)."""
    bbox_weights: Tensor
    """(B, A, C) float: 1 for positives."""
    avg_factor: float
    """What the sums of losses are divided by."""
    samplings: tuple[SamplingResult, ...]
    """Of each image; indices are those of the anchors that lie inside it."""
    assignments: tuple[Assignment, ...]
    """Of each image, over the anchors that lie inside it."""
    places: tuple[Places, ...]
    """Of each image, which anchors those are."""
    num_level_anchors: tuple[int, ...]

    def positives(self, image: int) -> Tensor:
        """(P,) int64: which of all anchors the positives of an image are, as in its sampling."""
        return self._of_all(image, self.samplings[image].pos_inds)

    def sampled(self) -> tuple[Tensor, Tensor]:
        """(n,) int64 each: image and anchor of every sample of the batch, by ascending anchor."""
        inds = [torch.cat([sampling.pos_inds, sampling.neg_inds]) for sampling in self.samplings]
        anchors, order = torch.cat([self._of_all(image, own) for image, own in enumerate(inds)]).sort()
        images = torch.cat([torch.full_like(own, image) for image, own in enumerate(inds)])
        return images[order], anchors

    def _of_all(self, image: int, inds: Tensor) -> Tensor:
        """Which of all anchors those are that an image's sampling speaks of."""
        places = self.places[image]
        return places[inds] if isinstance(places, Tensor) else inds

    @property
    def objects(self) -> Tensor:
        """(B, A) int64: the object that an anchor learns, counted over the batch; -1 for background."""
        found = torch.full_like(self.labels, -1)
        before = 0
        for image, sampling in enumerate(self.samplings):
            found[image, self.positives(image)] = sampling.pos_assigned_gt_inds + before
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
    places: Places


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
    """Anchors that reach further than this out of the image learn nothing; -1 lets all learn."""
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
            anchors: (n_i, 4) of each level, or (B, n_i, 4) where images have their own.
            featmap_sizes: (height, width) of each level.
            batch: The images.
            targets: The objects of each image.
            assign: Says what the anchors of one image learn.
            inside: Of each image, (A,) bool, the anchors that may learn, or None for all; without it,
                those that lie in the image as far as `allowed_border` asks.
        """
        num_level_anchors = tuple(level.shape[-2] for level in anchors)
        of_images = torch.cat(list(anchors), dim=-2).expand(len(targets), -1, -1)
        images: list[_ImageTargets] = []
        for index, (flat, objects) in enumerate(zip(of_images, targets, strict=True)):
            flags = inside[index] if inside else self.inside(flat[:, None], featmap_sizes, batch, index)
            places = slice(None) if flags is None else flags.nonzero().squeeze(1)
            counts = num_level_anchors if flags is None else _counts(flags, num_level_anchors)
            candidates = Candidates(flat[places], counts, index, places)
            images.append(self._image_targets(flat, candidates, assign(candidates, objects), objects))
        samplings = tuple(image.sampling for image in images)
        return AnchorTargets(
            labels=torch.stack([image.labels for image in images]),
            label_weights=torch.stack([image.label_weights for image in images]),
            bbox_targets=torch.stack([image.bbox_targets for image in images]),
            bbox_weights=torch.stack([image.bbox_weights for image in images]),
            avg_factor=sum(sampling.avg_factor for sampling in samplings),
            samplings=samplings,
            assignments=tuple(image.assignment for image in images),
            places=tuple(image.places for image in images),
            num_level_anchors=num_level_anchors,
        )

    def inside(
        self, shapes: Tensor, featmap_sizes: Sequence[tuple[int, int]], batch: ImageBatch, index: int
    ) -> Tensor | None:
        """(A,) bool: the anchors that may learn, as one of their shapes (A, n, 4) lies in the image as far as asked.

        None where all may, which saves a wait for the device.
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
        if isinstance(candidates.places, Tensor):
            positive, negative = candidates.places[positive], candidates.places[negative]

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
            places=candidates.places,
        )


def _counts(inside: Tensor, num_level_anchors: tuple[int, ...]) -> tuple[int, ...]:
    """How many anchors of each level are `inside` (A,)."""
    levels = torch.split(inside, list(num_level_anchors))
    counts = torch.stack([level.sum() for level in levels]).cpu()
    return tuple(int(count) for count in counts)


def level_losses(loss: Loss, learnt: AnchorTargets, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """A loss summed over levels: in one call where that is the same, as levels share a divisor.

    Args:
        loss: A loss that reduces to a scalar.
        learnt: Says where levels begin and what sums are divided by.
        pred: (B, A, ...).
        target: (B, A, ...).
        weight: (B, A) or (B, A, ...).
    """
    values = (pred, target, weight)
    if not loss.by_level:
        whole: Tensor = loss(*(value.flatten(0, 1) for value in values), avg_factor=learnt.avg_factor)
        return whole
    levels = zip(*(learnt.levels(value) for value in values), strict=True)
    losses = [loss(*(v.flatten(0, 1) for v in level), avg_factor=learnt.avg_factor) for level in levels]
    return torch.stack(losses).sum()


def positives(learnt: AnchorTargets, anchors: Sequence[Tensor], num_classes: int) -> tuple[Tensor, Tensor]:
    """(B, A) bool: the anchors of a batch that learn an object; and those anchors, (P, 4)."""
    positive = learnt.labels < num_classes
    return positive, torch.cat(list(anchors)).expand(len(positive), -1, -1)[positive]
