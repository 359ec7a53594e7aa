"""The backward pass of a region proposal network from its sampled anchors alone.

Of all anchors of an image an RPN samples 256, and the others weigh nothing in its losses. So its layers run over
whole maps without a graph, and what they predict for the sampled anchors is computed again for its gradient. Every
gradient is the same. It saves the backward pass of the convolutions over whole maps, and the memory of what they
would keep for it.

Shapes: B images; features are (B, C, H_i, W_i); A anchors over all levels, a at each location; n samples of the
batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detcfg.heads.anchor_based.anchor_head import AnchorHead
from detcfg.layers.neighbourhoods import conv_at
from detcfg.precision import in_full_precision
from detcfg.structures import ImageBatch, Targets

TAPS = 9
"""Of a 3 x 3 kernel: so many values are gathered for each sampled location."""


def pays_off(head: AnchorHead, conv: nn.Module, features: Sequence[Tensor]) -> bool:
    """Whether so few locations are sampled that it saves work, and `sparse_losses` can do the same as `losses`.

    Args:
        head: Its sampler says how many samples there are at most.
        conv: The hidden layer.
        features: The feature maps.
    """
    max_samples = head.target_maker.sampler.max_samples
    by_level = head.loss_cls.by_level or head.loss_bbox.by_level
    if max_samples is None or by_level or type(conv) is not nn.Conv2d:
        return False
    return TAPS * max_samples <= sum(feature[0, 0].numel() for feature in features)


def sparse_losses(
    head: AnchorHead,
    layers: tuple[nn.Module, nn.Module, nn.Module],
    *,
    features: tuple[Tensor, ...],
    predictions: tuple[tuple[Tensor, ...], ...],
    batch: ImageBatch,
    targets: Sequence[Targets],
) -> dict[str, Tensor]:
    """`head.losses`, whose gradient comes from the sampled anchors alone.

    Args:
        head: The region proposal network.
        layers: Its hidden layer, and those that predict logits and deltas.
        features: The feature maps.
        predictions: What the head predicts from them; no gradient is needed.
        batch: The images.
        targets: The ground truth of each image.
    """
    conv, *predictors = layers
    anchors = head.priors(predictions[0])
    anchor_targets = head.get_targets(anchors, predictions[0], batch, targets)
    images, inds = anchor_targets.sampled()
    a = head.num_base_priors
    hidden = _hidden_at(conv, features, images, inds // a)
    one = torch.arange(len(inds), device=inds.device), inds % a
    scores, deltas = (
        torch.unflatten(in_full_precision(layer, hidden[:, :, None, None]).flatten(1), 1, (a, -1))[one]
        for layer in predictors
    )
    if head.reg_decoded_bbox:
        deltas = head.bbox_coder.decode(torch.cat(list(anchors))[inds], deltas)
    at, factor = (images, inds), anchor_targets.avg_factor
    labels, label_weights = anchor_targets.labels[at], anchor_targets.label_weights[at]
    bbox_targets, bbox_weights = anchor_targets.bbox_targets[at], anchor_targets.bbox_weights[at]
    return {
        "loss_cls": head.loss_cls(scores, labels, label_weights, avg_factor=factor),
        "loss_bbox": head.loss_bbox(deltas, bbox_targets, bbox_weights, avg_factor=factor),
    }


def _hidden_at(conv: nn.Module, features: tuple[Tensor, ...], images: Tensor, locations: Tensor) -> Tensor:
    """The hidden layer (n, C) of images (n,) at locations (n,) that ascend over all levels."""
    assert isinstance(conv, nn.Conv2d)
    sizes = [feature[0, 0].numel() for feature in features]
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    levels = torch.bucketize(locations, torch.tensor(starts[1:], device=locations.device), right=True)
    counts = [int(count) for count in torch.bincount(levels, minlength=len(sizes)).cpu()]
    parts = zip(features, torch.split(images, counts), torch.split(locations, counts), starts, strict=True)
    return F.relu(torch.cat([conv_at(conv, x, image, at - start) for x, image, at, start in parts]))
