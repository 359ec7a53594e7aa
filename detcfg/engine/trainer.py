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
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from detcfg.backbones.base import Backbone, BackboneConfig
from detcfg.backbones.pretrained import load_pretrained
from detcfg.config import did_you_mean
from detcfg.data.loader import Batch, mix
from detcfg.engine import distributed
from detcfg.engine.allocator import prepared_device
from detcfg.engine.checkpoint import (
    BEST,
    LAST,
    CheckpointError,
    TrainingState,
    load_training,
    save_training,
    save_weights,
)
from detcfg.engine.faults import broken_weights, non_finite, too_many_skipped
from detcfg.engine.files import RunError
from detcfg.engine.interrupts import Interrupted, Interrupts
from detcfg.engine.log import Log, Pace, duration
from detcfg.engine.seeds import be_deterministic, seed_all
from detcfg.engine.sharded_checkpoint import load_sharded, newest, save_sharded
from detcfg.engine.sharding import Shards, own_part
from detcfg.engine.validation import validate
from detcfg.engine.weights import load_weights, put_weights
from detcfg.evaluation.truth import IoUType
from detcfg.experiment import ExperimentConfig
from detcfg.layers.epochs import set_epoch
from detcfg.layers.training_state import load_training_states, training_states
from detcfg.recipe.amp import autocast
from detcfg.recipe.optimizers import load_state

METRICS: Final = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


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
    skipped: int = 0
    """Images that could not be read."""


class Trainer:
    """Trains an experiment in a folder. `run()` takes it to its end, from wherever it stands."""

    def __init__(self, experiment: ExperimentConfig, folder: Path, log: Log, interrupts: Interrupts) -> None:
        self.experiment = experiment = experiment.resolved()
        self.config = config = experiment.trainer
        self.folder, self.log, self.interrupts = folder, log, interrupts
        self.device = prepared_device(config)
        self.iou_types: tuple[IoUType, ...] = ("bbox", "segm") if experiment.data.with_mask else ("bbox",)
        self._check_save_best()
        if config.deterministic:
            be_deterministic()
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
        if config.channels_last:
            self.detector.channels_last()
        if config.compile:
            self.detector.compile_features(config.compile_size_divisor)
        self.shards = Shards.of(self.detector) if config.sharding == "fsdp" else None
        self.model = self.detector if self.shards else distributed.wrap_ddp(self.detector)
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
            self.save()  # whatever happens in the validation
            if self._is_val_epoch():
                metrics = self.validate()
            self.progress.epoch += 1
            self.progress.step_in_epoch = 0
            self.save()
        return metrics

    def close(self) -> None:
        """End the processes that read images."""
        self.train_loader.close()
        self.val_loader.close()

    def train_epoch(self) -> None:
        """The steps of an epoch that are left."""
        progress, config = self.progress, self.config
        set_epoch(self.detector, progress.epoch)
        batches = self.train_loader.epoch(progress.epoch, progress.step_in_epoch * config.accumulate)
        with self.log.bar(self._title, self.steps_per_epoch, progress.step_in_epoch) as bar:
            for group in (pace := Pace()).timed(_groups(batches, config.accumulate)):
                losses = self.step(group)
                progress.step += 1
                progress.step_in_epoch += 1
                self._count_skipped(group)
                bar.advance(self._report(losses, pace))
                if progress.step % config.log_interval == 0:
                    self._log_step(losses, pace)
                if progress.step % config.checkpoint_interval == 0:
                    self.save()
                self._stop_if_asked()

    def step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One step of the optimizer on the mean gradient of the batches; the losses, averaged as well.

        Raises:
            RunError: The loss is not finite. The weights are still those from before.
        """
        config, progress = self.config, self.progress
        seed_all(mix(config.seed, progress.step, distributed.rank()))
        config.schedule.set_lr(self.optimizer, progress.step, self.steps_per_epoch, self.total_steps)
        every: list[dict[str, Tensor]] = []
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            with distributed.synchronised(self.model, when=last), autocast(self.detector, self.config.amp):
                losses: dict[str, Tensor] = self.model(batch.images, batch.targets)
                loss = torch.stack(list(losses.values())).sum()
                scaled: Any = self.scaler.scale(loss / len(batches))
                scaled.backward()
            every.append({"loss": loss.detach()} | {name: value.detach() for name, value in losses.items()})
        means = self._means(batches, every)
        if config.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), config.clip_grad.max_norm, config.clip_grad.norm_type)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        distributed.share_buffers(self.detector)
        if self.ema is not None:
            self.ema.update(self.detector, progress.step)
        return means

    def _means(self, batches: Sequence[Batch], every: Sequence[dict[str, Tensor]]) -> dict[str, float]:
        """The losses of several batches, averaged over them and over the processes."""
        own = torch.stack([torch.stack(list(losses.values())) for losses in every]).float()
        mean = distributed.all_reduce_sum(own.mean(0)) / distributed.world_size()
        means = dict(zip(every[0], to_floats(mean), strict=True))
        if not math.isfinite(means["loss"]):
            here = [
                i
                for batch, loss in zip(batches, to_floats(own[:, 0]), strict=True)
                if not math.isfinite(loss)
                for i in batch.infos
            ]
            images = [info for infos in distributed.all_gather(here) for info in infos]
            raise non_finite(means, images, self.progress.step)
        return means

    def validate(self) -> dict[str, float]:
        """Judge the model, or its average, and keep it if it is the best so far."""
        progress = self.progress
        with self.ema.applied(self.detector) if self.ema else nullcontext():
            with self.log.bar(f"{self._title} validation", len(self.val_loader)) as bar:

                def after_batch() -> None:
                    bar.advance()
                    if self.interrupts.received:  # all is saved already
                        raise Interrupted(self.interrupts.received)

                with self.shards.whole() if self.shards else nullcontext():
                    evaluator, losses = validate(
                        self.detector, self.val_loader, self.iou_types, after_batch=after_batch
                    )
            metrics = evaluator.compute()
            metrics |= {"val_loss": sum(losses.values())} | {f"val_{name}": x for name, x in losses.items()}
            best = progress.best is None or metrics[self.config.save_best] > progress.best
            if best:
                progress.best = metrics[self.config.save_best]
                weights = self.shards.state() if self.shards else self.detector.state_dict()
                if distributed.rank() == 0:
                    save_weights(weights, self.folder / BEST)
        self.log.scalars("val", progress.step, {"epoch": progress.epoch + 1, **metrics})
        shown = "  ".join(
            f"{kind} AP {metrics[f'{kind}_AP']:.3f} AP50 {metrics[f'{kind}_AP50']:.3f}"
            for kind in self.iou_types
        )
        self.log.say(
            f"{self._title}  {shown}  val_loss {metrics['val_loss']:.4f}{'  (best)' if best else ''}"
        )
        return metrics

    def save(self) -> None:
        """Write the whole state as the last checkpoint.

        Raises:
            RunError: It cannot be written, or the last step left weights that are not finite; the checkpoint
                from before stays.
        """
        self._refuse_broken_weights()
        memory = distributed.all_gather(training_states(self.detector))
        if distributed.rank() > 0 and not self.shards:
            return
        state = TrainingState(
            model=self.detector.state_dict(),
            ema=None if self.ema is None else self.ema.tensors,
            optimizer=self.optimizer.state_dict(),
            progress={
                **asdict(self.progress),
                "scaler": self.scaler.state_dict(),
                "images_per_step": self.images_per_step,
                "memory": memory,
            },
        )
        if self.shards:
            save_sharded(state, self.shards.scalars, self.folder)
        else:
            save_training(state, self.folder / LAST)

    def _refuse_broken_weights(self) -> None:
        """Keep the last good checkpoint if a step, whose loss was finite, spoilt the weights."""
        trained = [(name, p) for name, p in self.detector.named_parameters() if p.requires_grad]
        parts = [own_part(p) if self.shards else p.detach() for _, p in trained]
        finite = to_floats(torch.stack([part.isfinite().all() for part in parts]))
        here = [name for (name, _), fine in zip(trained, finite, strict=True) if not fine]
        if broken := list(dict.fromkeys(name for names in distributed.all_gather(here) for name in names)):
            raise broken_weights(broken, self.progress.step)

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        path, state = self._last_state()
        put_weights(self.detector, state.model, path)
        if self.ema is not None:
            self.ema.load(state.ema or state.model)
        try:
            load_state(self.optimizer, state.optimizer)
            self.scaler.load_state_dict(state.progress.pop("scaler"))
            images_per_step: int = state.progress.pop("images_per_step")
            memory: list[dict[str, Any]] = state.progress.pop("memory", [])
            self.progress = progress = Progress(**state.progress)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} does not fit trainer.optimizer: {error}. Go on with the one that it was trained with, or "
                "begin anew from its weights: trainer.load_from, in another --work-dir."
            ) from error
        if memory:  # of each process; another number of them goes on with the first one's
            load_training_states(
                self.detector, memory[distributed.rank() if len(memory) == distributed.world_size() else 0]
            )
        if images_per_step != self.images_per_step:
            progress.step_in_epoch = progress.step_in_epoch * images_per_step // self.images_per_step
            progress.step = progress.epoch * self.steps_per_epoch + progress.step_in_epoch
            self.log.say(f"A step had {images_per_step} images and has {self.images_per_step} now.")
        self.log.rewind(progress.step)
        self.log.say(f"Going on after epoch {progress.epoch}, step {progress.step_in_epoch} of the next.")

    def _last_state(self) -> tuple[Path, TrainingState]:
        if self.shards:
            folder = distributed.broadcast_from_rank0(newest(self.folder))
            assert folder is not None
            return folder, load_sharded(folder, self.detector, self.optimizer)
        path = self.folder / LAST
        state = distributed.broadcast_from_rank0(load_training(path) if distributed.rank() == 0 else None)
        assert state is not None
        return path, state

    def _stop_if_asked(self) -> None:
        """Save and raise if any process has got a signal."""
        received = self.interrupts.received
        if distributed.any_rank(received > 0, self.device):
            self.save()
            raise Interrupted(max(distributed.all_gather(received)))

    def _count_skipped(self, batches: Sequence[Batch]) -> None:
        """Name the images that could not be read; too many of them end the run."""
        here = [problem for batch in batches for problem in batch.problems]
        if not distributed.any_rank(bool(here), self.device):
            return
        every = [problem for problems in distributed.all_gather(here) for problem in problems]
        for problem in every:
            self.log.say(f"Skipped: {problem}")
        self.progress.skipped += len(every)
        if self.progress.skipped > self.config.max_skipped:
            raise too_many_skipped(self.progress.skipped, self.config.max_skipped, every)

    def _is_val_epoch(self) -> bool:
        done = self.progress.epoch + 1
        return done % self.config.val_interval == 0 or done == self.config.epochs

    def _check_save_best(self) -> None:
        names = [f"{kind}_{name}" for kind in self.iou_types for name in METRICS]
        if self.config.save_best not in names:
            hint = did_you_mean(self.config.save_best, names)
            raise RunError(f"trainer.save_best={self.config.save_best!r} is not measured. {hint}")

    @property
    def _title(self) -> str:
        return f"epoch {self.progress.epoch + 1}/{self.config.epochs}"

    @property
    def _lr(self) -> float:
        """The learning rate of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _report(self, losses: Mapping[str, float], pace: Pace) -> str:
        left = duration((self.total_steps - self.progress.step) * pace.seconds)
        times = f"{pace.seconds:.3f} s a step, {pace.data_seconds:.3f} for data  {left} left"
        return f"loss {losses['loss']:.4f}  lr {self._lr:.2e}  {times}"

    def _log_step(self, losses: Mapping[str, float], pace: Pace) -> None:
        place = f"{self._title} step {self.progress.step_in_epoch}/{self.steps_per_epoch}"
        self.log.say(f"{place}  {self._report(losses, pace)}")
        times = {"seconds": pace.seconds, "data_seconds": pace.data_seconds}
        self.log.scalars("train", self.progress.step, {**losses, "lr": self._lr, **times})
        pace.restart()


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
