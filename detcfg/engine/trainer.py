"""The training loop: epochs of steps, with a checkpoint and a validation in between.

A loader can start at any batch, and a step depends on its number alone, so a run that was stopped goes on bit
for bit as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from detcfg.data.loader import Batch
from detcfg.engine import distributed
from detcfg.engine.allocator import prepared_device
from detcfg.engine.faults import no_metric, too_many_skipped
from detcfg.engine.interrupts import Interrupted, Interrupts
from detcfg.engine.log import Log
from detcfg.engine.progress import Plan
from detcfg.engine.report import Report
from detcfg.engine.seeds import be_deterministic, seed_all
from detcfg.engine.start import first_lines
from detcfg.engine.step import Step
from detcfg.engine.store import store_of
from detcfg.engine.validation import as_metrics, validate
from detcfg.engine.weights import load_initial_weights
from detcfg.evaluation.coco import CocoEvaluator
from detcfg.evaluation.truth import IoUType
from detcfg.experiment import ExperimentConfig
from detcfg.layers.epochs import set_epoch
from detcfg.recipe.config import TrainerConfig


@frozen(kw_only=True)
class Run:
    """A training in its folder, from which `TrainerConfig.build` makes a trainer."""

    experiment: ExperimentConfig
    """Resolved."""
    folder: Path
    """Where checkpoints go."""
    log: Log
    interrupts: Interrupts

    def standard_trainer(self, config: TrainerConfig) -> Trainer:
        """The trainer of a config whose `build` names no other."""
        return Trainer(config, self)


class Trainer(Step):
    """Trains an experiment in a folder. `run()` takes it to its end, from wherever it stands.

    A subclass overrides what it does otherwise, mostly `losses`, `backward` or `update` (see `Step`), and a
    subclass of `TrainerConfig` names it:

    ```python
    @frozen(kw_only=True)
    class DistillConfig(TrainerConfig):
        teacher: str
        def build(self, run: Run) -> Trainer:
            return Distill(self, run)

    class Distill(Trainer):
        def losses(self, batch: Batch) -> dict[str, Tensor]:
            return super().losses(batch) | {"loss_kd": ...}
    ```
    """

    def __init__(self, config: TrainerConfig, run: Run) -> None:
        """Build the model, the optimizer and the loaders.

        Args:
            config: `run.experiment.trainer`.
            run: What is trained, and where.

        Raises:
            ConfigError: The experiment is wrong.
            DataError: Its data cannot be used, or not be evaluated.
            RunError: The run cannot start.
        """
        self.interrupts = run.interrupts
        data, device = run.experiment.data, prepared_device(config)
        if config.deterministic:
            be_deterministic()
        seed_all(config.seed)
        rank, world_size = distributed.rank(), distributed.world_size()
        self.train_loader = data.train_loader(seed=config.seed, rank=rank, world_size=world_size)
        self.val_loader = data.val_loader(seed=config.seed, rank=rank, world_size=world_size)
        iou_types: tuple[IoUType, ...] = ("bbox", "segm") if data.with_mask else ("bbox",)
        self.evaluator = CocoEvaluator(self.val_loader.source, iou_types, max_dets=data.max_dets)
        if config.save_best not in self.evaluator.metrics:
            raise no_metric(config.save_best, self.evaluator.metrics)
        plan = Plan(
            epochs=config.epochs,
            steps_per_epoch=-(-len(self.train_loader) // config.accumulate),
            images_per_step=data.batch_size * world_size * config.accumulate,
        )
        self.report = Report(run.log, plan, config.log_interval)
        for line in first_lines(run.experiment, self.train_loader, self.val_loader, device):
            run.log.say(line)
        if beyond := str(self.evaluator.out_of_reach()):
            run.log.say(f"data.val: warning: {beyond}")
        detector = run.experiment.model.build()
        if loaded := load_initial_weights(detector, run.experiment):
            run.log.say(loaded)
        detector.to(device).train()
        if config.channels_last:
            detector.channels_last()
        if config.compile:
            detector.compile_features(config.compile_size_divisor)
        self.store = store_of(config, detector, run.folder)
        super().__init__(config, detector, self.store.model, plan)

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
            self.progress.count_epoch()
            self.save()
        return metrics

    def close(self) -> None:
        """End the processes that read images."""
        self.train_loader.close()
        self.val_loader.close()

    def train_epoch(self) -> None:
        """The steps of an epoch that are left."""
        progress, size = self.progress, self.config.accumulate
        set_epoch(self.detector, progress.epoch)
        batches = self.train_loader.epoch(progress.epoch, progress.step_in_epoch * size)
        with self.report.epoch(progress):
            for group in self.report.timed(_groups(batches, size)):
                losses = self.step(group)
                progress.count_step()
                self._count_skipped(group)
                self.report.step(progress, losses, self.lr)
                if progress.step % self.config.checkpoint_interval == 0:
                    self.save()
                self._stop_if_asked()

    def validate(self) -> dict[str, float]:
        """Judge the detector, or the moving average of it, and keep its weights if they are the best so far."""
        progress = self.progress
        with self.averaged():
            with self.report.validation(progress, len(self.val_loader)) as bar, self.store.unsharded():

                def after_batch() -> None:
                    bar.advance()
                    self.interrupts.check()  # all is saved already

                losses = validate(self.detector, self.val_loader, self.evaluator, after_batch=after_batch)
            metrics = self.evaluator.compute() | as_metrics(losses)
            if best := progress.best is None or metrics[self.config.save_best] > progress.best:
                progress.best = metrics[self.config.save_best]
                self.store.keep_best()
        self.report.validated(progress, metrics, self.evaluator.summary(), best=best)
        return metrics

    def save(self) -> None:
        """Write the whole state as the last checkpoint.

        Raises:
            RunError: It cannot be written, or the last step left weights that are not finite; the checkpoint
                from before stays.
        """
        self.store.save(self.state())

    def resume(self) -> None:
        """Go on from the last checkpoint.

        Raises:
            CheckpointError: It is not there, not whole, or of another model or optimizer.
        """
        path, state = self.store.load(self.optimizer)
        images_per_step = self.load(state, path)
        self.report.resumed(self.progress, images_per_step)

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
        problems = [problem for part in distributed.all_gather(here) for problem in part]
        self.report.skipped(problems)
        self.progress.skipped += len(problems)
        if self.progress.skipped > self.config.max_skipped:
            raise too_many_skipped(self.progress.skipped, self.config.max_skipped, problems)

    def _is_val_epoch(self) -> bool:
        done = self.progress.epoch + 1
        return done % self.config.val_interval == 0 or done == self.config.epochs


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
