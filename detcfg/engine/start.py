"""What is said when a training begins: what it learns from, on what, and for how long."""

from __future__ import annotations

import torch

from detcfg.data.loader import Loader
from detcfg.data.summary import report
from detcfg.engine import distributed
from detcfg.experiment import ExperimentConfig


def first_lines(
    experiment: ExperimentConfig, train: Loader, val: Loader, device: torch.device | str
) -> list[str]:
    """A line for each dataset and one about the steps, with warnings of what is seldom meant.

    Args:
        experiment: In the resolved state.
        train: The loader of this process.
        val: Likewise.
        device: What the model computes on.

    Raises:
        DataError: There is no object to learn in `data.train`.
    """
    learned = report(train.source)
    learned.check("data.train")
    judged = report(val.source)
    return [*learned.lines("data.train"), *judged.lines("data.val"), *_plan(experiment, len(train), device)]


def _plan(experiment: ExperimentConfig, batches: int, device: torch.device | str) -> list[str]:
    """How many steps there are, of how many images, and when the learning rate is warm."""
    config = experiment.trainer
    images = experiment.data.batch_size * distributed.world_size() * config.accumulate
    total = config.epochs * -(-batches // config.accumulate)
    warm = config.schedule.warmup_iters
    line = f"{device}: {images:,} images a step, {total:,} steps in {config.epochs:,} epochs"
    if not warm:
        return [line]
    if warm < total:
        return [f"{line}, warm-up until step {warm:,}"]
    never = (
        f"warning: the warm-up takes {warm:,} steps and the training has {total:,}, so the learning rate never "
        "reaches its value. Lower trainer.schedule.warmup_iters."
    )
    return [line, never]
