"""One step of the optimizer: forward and backward passes, and an update of the weights.

A step draws its random numbers from a seed made of the run's seed and the step, and the schedule is a function
of the step. So what `Step.state` holds is all that a resumed run needs to go on bit for bit as if it had never
stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from attrs import asdict
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from detcfg.data.loader import Batch, mix
from detcfg.detectors.base import Detector
from detcfg.engine import distributed
from detcfg.engine.checkpoint import TrainingState
from detcfg.engine.faults import non_finite, other_optimizer
from detcfg.engine.files import RunError
from detcfg.engine.progress import Plan, Progress
from detcfg.engine.seeds import seed_all
from detcfg.engine.weights import put_weights
from detcfg.layers.training_state import load_training_states, training_states
from detcfg.recipe.amp import autocast
from detcfg.recipe.config import TrainerConfig
from detcfg.recipe.optimizers import load_state


class Step:
    """The part of a trainer that learns: a detector, its optimizer, and `step`.

    `losses`, `backward` and `update` are for subclasses of `Trainer` to override.
    """

    def __init__(self, config: TrainerConfig, detector: Detector, model: nn.Module, plan: Plan) -> None:
        """Begin at step 0.

        Args:
            config: Resolved.
            detector: On its device, in training mode.
            model: The detector as it is called in training, maybe in a wrapper that averages gradients.
            plan: How long the training is.
        """
        self.config, self.detector, self.model, self.plan = config, detector, model, plan
        self.device = next(detector.parameters()).device
        lr_scale = plan.images_per_step / config.base_batch_size if config.auto_scale_lr else 1.0
        self.optimizer = config.optimizer.optimizer(detector, lr_scale)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.ema = None if config.ema is None else config.ema.average(detector)
        self.progress = Progress()

    def step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One step of the optimizer on the mean gradient of the batches (gradient accumulation).

        Returns:
            Each loss and their sum, `loss`, averaged over the batches and over the ranks.

        Raises:
            RunError: The sum is not finite. The weights are still those from before.
            ValueError: `losses` has one that is named as the sum is.
        """
        config, number = self.config, self.progress.step
        seed_all(mix(config.seed, number, distributed.rank()))
        config.schedule.set_lr(self.optimizer, number, self.plan.steps_per_epoch, self.plan.total_steps)
        found: list[dict[str, Tensor]] = []
        for i, batch in enumerate(batches, 1):
            synchronised = distributed.synchronised(self.model, when=i == len(batches))
            with synchronised, autocast(self.detector, config.amp):
                losses = self.losses(batch)
                if "loss" in losses:
                    raise ValueError("A loss is named 'loss', as their sum is. Rename it: 'loss_kd', say.")
                loss = torch.stack(list(losses.values())).sum()
                self.backward(loss / len(batches))
            found.append({"loss": loss.detach()} | {name: value.detach() for name, value in losses.items()})
        values = torch.stack([torch.stack(list(losses.values())) for losses in found]).float()
        means = dict(zip(found[0], _means(values), strict=True))
        if not math.isfinite(means["loss"]):
            raise self._non_finite(means, batches, to_floats(values[:, 0]))
        self.update()
        distributed.share_buffers(self.detector)
        if self.ema is not None:
            self.ema.update(self.detector, number)
        return means

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch by name, each a scalar; `backward` gets their sum.

        An override adds to what this returns, or calls `self.model` itself: with several ranks, that one averages
        the gradients, and `self.detector` does not.
        """
        losses: dict[str, Tensor] = self.model(batch.images, batch.targets)
        return losses

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there.

        Args:
            loss: A scalar, the sum of a batch's losses over the number of batches in the step.
        """
        scaled: Any = self.scaler.scale(loss)
        scaled.backward()

    def update(self) -> None:
        """Clip the gradients, change the weights by them, and drop them.

        The gradients are still multiplied by the scale of fp16; `self.scaler.unscale_(self.optimizer)` divides
        them by it, once a step.
        """
        if (clip := self.config.clip_grad) is not None:
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), clip.max_norm, clip.norm_type)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it, the detector has the moving average of its weights, if the config asks for one."""
        return nullcontext() if self.ema is None else self.ema.applied(self.detector)

    @property
    def lr(self) -> float:
        """The learning rate of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> TrainingState:
        """All that a resumed run needs. A collective: all ranks call it."""
        return TrainingState(
            model=self.detector.state_dict(),
            ema=None if self.ema is None else self.ema.tensors,
            optimizer=self.optimizer.state_dict(),
            progress={
                **asdict(self.progress),
                "scaler": self.scaler.state_dict(),
                "images_per_step": self.plan.images_per_step,
                "optimizer": type(self.optimizer).__name__,
                "parameters": trained_names(self.detector, self.optimizer),
                "memory": distributed.all_gather(training_states(self.detector)),
            },
        )

    def load(self, state: TrainingState, source: Path) -> int:
        """Go on from what `state` returned, with the learning rate, weight decay and the like of the config.

        Args:
            state: Its `progress` is used up.
            source: Where it was read from, for errors.

        Returns:
            The images of a step then; `progress` counts in the steps of now.

        Raises:
            CheckpointError: It is of another model or another optimizer.
        """
        put_weights(self.detector, state.model, source)
        if self.ema is not None:
            self.ema.load(state.ema or state.model)
        kind, own = state.progress.pop("optimizer", None), type(self.optimizer).__name__
        if kind not in (None, own):
            raise other_optimizer(source, f"it is the state of {kind}, not of {own}")
        try:
            names: list[str] | None = state.progress.pop("parameters", None)
            load_state(self.optimizer, state.optimizer, names, trained_names(self.detector, self.optimizer))
            if scaler := state.progress.pop("scaler"):  # empty without fp16
                self.scaler.load_state_dict(scaler)
            images_per_step: int = state.progress.pop("images_per_step")
            memory: list[dict[str, Any]] = state.progress.pop("memory", [])
            self.progress = Progress(**state.progress)
        except (KeyError, TypeError, ValueError) as error:
            raise other_optimizer(source, error) from error
        if memory:  # of each rank; another number of them goes on with that of rank 0
            same = len(memory) == distributed.world_size()
            load_training_states(self.detector, memory[distributed.rank() if same else 0])
        self.progress.convert(images_per_step, self.plan)
        return images_per_step

    def _non_finite(
        self, means: Mapping[str, float], batches: Sequence[Batch], sums: Sequence[float]
    ) -> RunError:
        """Names the images of the batches whose sum of losses is not finite, on any rank."""
        broken = [batch for batch, loss in zip(batches, sums, strict=True) if not math.isfinite(loss)]
        images = distributed.all_gather([info for batch in broken for info in batch.infos])
        return non_finite(means, [info for part in images for info in part], self.progress.step)


def trained_names(detector: nn.Module, optimizer: Optimizer) -> list[str]:
    """The names of an optimizer's parameters, group by group: its state counts them in this order."""
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def to_floats(values: Tensor) -> list[float]:
    """The numbers of a tensor (n,), fetched from its device at once."""
    return [float(value) for value in values.cpu()]


def _means(values: Tensor) -> list[float]:
    """The means of (batches, n) over the batches and over the ranks."""
    return to_floats(distributed.all_reduce_sum(values.mean(0)) / distributed.world_size())
