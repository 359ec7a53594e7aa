"""The training loop.

A step draws its random numbers from a seed made of the run's seed and the step, and a loader can
start at any batch. So the weights, the optimizer's state and the number of the step are all that a
resumed run needs to go on bit for bit as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from attrs import asdict, define
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.backbones.pretrained import load_pretrained
from detcfg.data.loader import Batch, mix
from detcfg.engine import distributed
from detcfg.engine.checkpoint import (
    BEST,
    LAST,
    TrainingState,
    load_training,
    load_weights,
    save_training,
    save_weights,
)
from detcfg.engine.files import RunError
from detcfg.engine.interrupts import Interrupted, Interrupts
from detcfg.engine.log import Log, Pace, duration
from detcfg.engine.seeds import seed_all
from detcfg.engine.validation import validate
from detcfg.engine.weights import put_weights
from detcfg.evaluation.truth import IoUType
from detcfg.experiment import ExperimentConfig

HALF: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


@define
class Progress:
    """Where a training stands."""

    epoch: int = 0
    """Epochs that are finished, validation included."""
    step_in_epoch: int = 0
    """Optimizer steps since."""
    step: int = 0
    """Optimizer steps since the beginning."""
    best: float | None = None
    """The greatest `save_best` so far."""


class Trainer:
    """Trains an experiment in a folder. `run()` takes it to its end, from wherever it stands."""

    def __init__(self, experiment: ExperimentConfig, folder: Path, log: Log, interrupts: Interrupts) -> None:
        self.experiment = experiment = experiment.resolved()
        self.config = config = experiment.trainer
        self.folder, self.log, self.interrupts = folder, log, interrupts
        self.device = distributed.device_of(config.device)
        seed_all(config.seed)
        shard: dict[str, int] = {"rank": distributed.rank(), "world_size": distributed.world_size()}
        self.train_loader = experiment.data.train_loader(seed=config.seed, **shard)
        self.val_loader = experiment.data.val_loader(seed=config.seed, **shard)
        self.steps_per_epoch = -(-len(self.train_loader) // config.accumulate)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.images_per_step = experiment.data.batch_size * distributed.world_size() * config.accumulate
        self.detector = experiment.model.build()
        self._first_weights()
        self.detector.to(self.device).train()
        self.model: nn.Module = self.detector
        scale = self.images_per_step / config.base_batch_size if config.auto_scale_lr else 1.0
        self.optimizer = config.optimizer.optimizer(self.detector, scale)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.ema = None if config.ema is None else config.ema.average(self.detector)
        self.progress = Progress()

    def _first_weights(self) -> None:
        """The weights that the config names, of a whole detector or of a backbone."""
        config = self.config
        if config.load_from is not None:
            path = Path(config.load_from)
            self.log.say(
                f"{path}: {put_weights(self.detector, load_weights(path), path, partial=config.load_partial)}"
            )
        else:
            # A detector of one's own need not have a backbone.
            part, source = (getattr(x, "backbone", None) for x in (self.detector, self.experiment.model))
            if isinstance(part, Backbone) and isinstance(source, BackboneConfig):
                report = load_pretrained(part, source)
                if report is not None:
                    self.log.say(str(report))

    def run(self) -> dict[str, float]:
        """Train to the end; the figures of the last validation.

        Raises:
            Interrupted: Somebody stopped the run; its state is saved.
            RunError: It cannot go on; the last checkpoint stays.
        """
        metrics: dict[str, float] = {}
        while self.progress.epoch < self.config.epochs:
            self.train_epoch()
            if self._is_val_epoch():
                metrics = self.validate()
            self.progress.epoch += 1
            self.progress.step_in_epoch = 0
            self.save()
        return metrics

    def train_epoch(self) -> None:
        """The steps of an epoch that are left."""
        progress, config = self.progress, self.config
        batches = self.train_loader.epoch(progress.epoch, progress.step_in_epoch * config.accumulate)
        title = f"epoch {progress.epoch + 1}/{config.epochs}"
        pace = Pace()
        with self.log.bar(title, self.steps_per_epoch, progress.step_in_epoch) as bar:
            for group in pace.timed(_groups(batches, config.accumulate)):
                losses = self.step(group)
                progress.step += 1
                progress.step_in_epoch += 1
                text = self._report(losses, pace)
                bar.advance(text)
                if progress.step % config.log_interval == 0:
                    self._log_step(
                        f"{title} step {progress.step_in_epoch}/{self.steps_per_epoch}  {text}", losses, pace
                    )
                if progress.step % config.checkpoint_interval == 0:
                    self.save()
                self.stop_if_asked()

    def _report(self, losses: Mapping[str, float], pace: Pace) -> str:
        left = (self.total_steps - self.progress.step) * pace.seconds
        return (
            f"loss {losses['loss']:.4f}  lr {self.lr:.2e}  data {pace.data_seconds:.3f} s  "
            f"step {pace.seconds:.3f} s  left {duration(left)}"
        )

    def _log_step(self, text: str, losses: Mapping[str, float], pace: Pace) -> None:
        self.log.say(text)
        times = {"seconds": pace.seconds, "data_seconds": pace.data_seconds}
        self.log.scalars("train", self.progress.step, {**losses, "lr": self.lr, **times})
        pace.restart()

    @property
    def lr(self) -> float:
        """The learning rate of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One step of the optimizer on the mean gradient of the batches; their mean losses."""
        config, progress = self.config, self.progress
        seed_all(mix(config.seed, progress.step, distributed.rank()))
        config.schedule.set_lr(self.optimizer, progress.step, self.steps_per_epoch, self.total_steps)
        sums: dict[str, Tensor] = {}
        for batch in batches:
            with self.autocast():
                losses: dict[str, Tensor] = self.model(batch.images, batch.targets)
                losses = {"loss": torch.stack(list(losses.values())).sum(), **losses}
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(batches)
            scaled: Any = self.scaler.scale(losses["loss"] / len(batches))
            scaled.backward()
        values = to_floats(torch.stack(list(sums.values())))
        means = dict(zip(sums, values, strict=True))
        if not math.isfinite(means["loss"]):
            raise RunError(f"the loss is {means['loss']}")
        if config.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), config.clip_grad.max_norm, config.clip_grad.norm_type)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.detector, progress.step)
        return means

    def autocast(self) -> Any:
        """Half precision, where the config asks for it."""
        if self.config.amp == "none":
            return nullcontext()
        return torch.autocast(self.device.type, HALF[self.config.amp])

    def validate(self) -> dict[str, float]:
        """Judge the model, or its average, and keep it if it is the best so far."""
        kinds: tuple[IoUType, ...] = ("bbox", "segm") if self.experiment.data.with_mask else ("bbox",)
        with self.ema.applied(self.detector) if self.ema else nullcontext():
            evaluator, losses = validate(
                self.detector, self.val_loader, kinds, after_batch=self.stop_if_asked
            )
            metrics = evaluator.compute()
            metrics |= {"val_loss": sum(losses.values())} | {f"val_{k}": v for k, v in losses.items()}
            self.log.scalars("val", self.progress.step, {"epoch": self.progress.epoch + 1, **metrics})
            self.log.say(
                f"epoch {self.progress.epoch + 1} {metrics['bbox_AP50']:.3f} {metrics['val_loss']:.4f}"
            )
            best = self.progress.best
            score = metrics[self.config.save_best]
            if best is None or score > best:
                self.progress.best = score
                if distributed.rank() == 0:
                    save_weights(self.detector.state_dict(), self.folder / BEST)
        return metrics

    def stop_if_asked(self) -> None:
        """Save and raise if a signal has come."""
        if self.interrupts.received:
            self.save()
            raise Interrupted(self.interrupts.received)

    def save(self) -> None:
        """Write the whole state as the last checkpoint."""
        if distributed.rank() == 0:
            state = TrainingState(
                model=self.detector.state_dict(),
                ema=None if self.ema is None else self.ema.tensors,
                optimizer=self.optimizer.state_dict(),
                progress={**asdict(self.progress), "scaler": self.scaler.state_dict()},
            )
            save_training(state, self.folder / LAST)

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        state = load_training(self.folder / LAST)
        put_weights(self.detector, state.model, self.folder / LAST)
        if self.ema is not None and state.ema is not None:
            self.ema.load(state.ema)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.progress.pop("scaler"))
        self.progress = Progress(**state.progress)

    def _is_val_epoch(self) -> bool:
        done = self.progress.epoch + 1
        return done % self.config.val_interval == 0 or done == self.config.epochs


def to_floats(values: Tensor) -> list[float]:
    """The numbers of a tensor (n,), fetched from its device at once."""
    return [float(value) for value in values.cpu()]


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    """So many batches at a time; the last group may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
