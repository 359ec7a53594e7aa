"""A detector judged on held-out images: its losses and its average precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from detcfg.data.loader import Batch, Loader, mix
from detcfg.detectors.base import Detector
from detcfg.engine.distributed import all_gather
from detcfg.engine.seeds import seed_all
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.losses.reduce import alone


@torch.no_grad()
def validate(
    model: Detector,
    loader: Loader,
    evaluator: CocoEvaluator,
    *,
    after_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Run a detector over a loader's images, in evaluation mode.

    The ranks share the images out; in the end the evaluator of each has the detections of all.

    Args:
        model: It is back in training mode afterwards if it was before.
        loader: In order, not shuffled.
        evaluator: Of the loader's dataset. It forgets what was added before, and is ready to `compute()` afterwards.
        after_batch: Called after each batch; what it raises ends the validation.

    Returns:
        Each loss, averaged over the images.
    """
    was_training = model.training
    evaluator.clear()
    sums: dict[str, float] = {}
    images = 0
    model.eval()
    try:
        for number, batch in enumerate(loader):
            seed_all(mix(number))  # losses draw samples: the same ones each time
            with alone():  # shares may differ in their number of batches
                found = _judge(model, batch, evaluator)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch)
            images += len(batch)
            after_batch()
    finally:
        model.train(was_training)
    shares = all_gather((sums, images, evaluator.state))
    for _, _, state in shares:
        evaluator.merge(state)
    counted = sum(count for _, count, _ in shares)
    names = {name for share, _, _ in shares for name in share}
    return {name: sum(share.get(name, 0.0) for share, _, _ in shares) / counted for name in sorted(names)}


def as_metrics(losses: Mapping[str, float]) -> dict[str, float]:
    """The losses of a validation as they stand in the log: each with `val_` before its name, and their sum."""
    return {"val_loss": sum(losses.values())} | {f"val_{name}": value for name, value in losses.items()}


def _judge(model: Detector, batch: Batch, evaluator: CocoEvaluator) -> dict[str, float]:
    """The losses of a batch; its detections go to the evaluator. Both come of the same features."""
    prepared = model.data_preprocessor(batch.images, [info.size for info in batch.infos])
    features = model.extract_features(prepared.tensor)
    targets = [target.to(prepared.tensor.device) for target in batch.targets]
    losses = model.losses_of(features, prepared, targets)
    for info, detections in zip(batch.infos, model.detections_of(features, prepared), strict=True):
        evaluator.add(info.image_id, detections)
    return {name: float(loss) for name, loss in losses.items()}
