"""What a run needs, in one config: the detector, the data and how to train."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Self

from attrs import evolve, frozen

from detcfg.config import Config, fill
from detcfg.config.load import load
from detcfg.data.config import DataConfig
from detcfg.detectors.base import DetectorConfig
from detcfg.recipe.config import TrainerConfig


@frozen(kw_only=True)
class ExperimentConfig(Config):
    """The base of every experiment; its file's name is its identity."""

    model: DetectorConfig
    """The detector."""
    data: DataConfig
    """The datasets for training, validation and test, with their transforms."""
    trainer: TrainerConfig = TrainerConfig()
    """Epochs, optimizer, learning rate schedule, validation and checkpoints."""

    def wired(self) -> Self:
        model = fill(self.model, "data.train.classes", num_classes=len(self.data.classes))
        return evolve(self, model=model)


def load_experiment(source: str | Path, allow: Collection[str] = ()) -> ExperimentConfig:
    """The experiment of a file, a name or a saved run, in the given state.

    Args:
        source: `experiments/double_head.py`, `double_head`, or a run's folder or `experiment.json`.
        allow: For a saved run: modules besides detcfg's whose classes may be imported.

    Raises:
        ConfigError: There is no such experiment, or it is wrong; the message says where.
    """
    return load(source, ExperimentConfig, allow)
