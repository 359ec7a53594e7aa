"""Where a training stands, and how far it goes."""

from __future__ import annotations

from attrs import define, frozen


@frozen(kw_only=True)
class Plan:
    """How long a training is."""

    epochs: int
    steps_per_epoch: int
    """Optimizer steps."""
    images_per_step: int
    """Over all ranks and all batches of gradient accumulation; the last step of an epoch may have fewer."""

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.steps_per_epoch


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

    def count_step(self) -> None:
        """One more optimizer step is done."""
        self.step += 1
        self.step_in_epoch += 1

    def count_epoch(self) -> None:
        """One more epoch is done, with its validation."""
        self.epoch += 1
        self.step_in_epoch = 0

    def convert(self, images_per_step: int, plan: Plan) -> None:
        """Count in the steps of another plan.

        Args:
            images_per_step: Of the steps counted until now.
            plan: What the training goes on with.
        """
        if images_per_step != plan.images_per_step:
            self.step_in_epoch = self.step_in_epoch * images_per_step // plan.images_per_step
        # With more or fewer images in the data, an epoch has another number of steps too.
        self.step = self.epoch * plan.steps_per_epoch + self.step_in_epoch
