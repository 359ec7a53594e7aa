"""What is said when a training begins: what it learns from, on what, and for how long."""

from __future__ import annotations

import torch

from detcfg.data.loader import Loader
from detcfg.data.summary import report
from detcfg.engine import distributed
from detcfg.experiment import ExperimentConfig

FAR = 4
"""A learning rate does for batches so many times as large or small as those that it is meant for."""


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
    if 0 < warm < total:
        line = f"{line}, warm-up until step {warm:,}"
    return [line, *doubts(experiment, images, total)]


def doubts(experiment: ExperimentConfig, images: int, total: int) -> list[str]:
    """Warnings of a recipe that is for a longer training or for larger batches.

    Args:
        experiment: In the resolved state.
        images: Images of a step.
        total: Steps of the training.
    """
    config, data = experiment.trainer, experiment.data
    found: list[str] = []
    if config.schedule.warmup_iters >= max(total, 1):
        found.append(
            f"warning: the warm-up takes {config.schedule.warmup_iters:,} steps and the training has {total:,}, so the "
            "learning rate never reaches its value. Lower trainer.schedule.warmup_iters."
        )
    if config.ema is not None and (reach := 1 / config.ema.share(total)) > total:
        found.append(
            f"warning: at the end the moving average of the weights reaches back {reach:,.0f} steps and the training has "
            f"{total:,}, so what is evaluated is hardly trained. Raise trainer.ema.momentum, or set trainer.ema to none."
        )
    if not config.auto_scale_lr and not 1 / FAR <= images / config.base_batch_size <= FAR:
        found.append(
            f"warning: the learning rate is meant for {config.base_batch_size:,} images a step, and there are {images:,}. "
            "Set trainer.auto_scale_lr to true, or trainer.optimizer.lr for these."
        )
    if data.switch_epoch is not None and data.switch_epoch >= config.epochs:
        found.append(
            f"warning: data.switch_transforms are for what follows epoch {data.switch_epoch:,}, and there are "
            f"{config.epochs:,} epochs. Lower data.switch_epoch."
        )
    return found
