"""The model that a command is to use: of a run, of a checkpoint, or of an experiment with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detcfg.cli.arguments import configured

if TYPE_CHECKING:
    from detcfg.detectors.base import Detector
    from detcfg.experiment import ExperimentConfig

Partial = Annotated[
    bool, typer.Option("--partial", help="Take from the checkpoint what fits, rather than refuse it.")
]


def load_detector(
    checkpoint: str | None,
    experiment: str | None = None,
    overrides: Sequence[str] | None = None,
    allow: Sequence[str] | None = None,
    *,
    partial: bool = False,
) -> tuple[Detector, ExperimentConfig]:
    """The detector with its weights, on the device that the experiment names, and the resolved experiment.

    Args:
        checkpoint: A file, or the folder of a run; None: the one of `experiment`, which is a run then.
        experiment: A file, a name or the folder of a run; None: what lies beside the checkpoint.
        overrides: `path=value`.
        allow: Modules whose classes a saved experiment may import.
        partial: Load what fits.

    Raises:
        CheckpointError: There is no such checkpoint, or it is broken or of another model.
        ConfigError: The experiment is wrong, or not there.
    """
    from detcfg.engine.allocator import prepared_device
    from detcfg.engine.checkpoint import CheckpointError
    from detcfg.engine.weights import checkpoint_file, load_model

    if checkpoint is None:
        if experiment is None or not Path(experiment).exists() or Path(experiment).suffix == ".py":
            raise CheckpointError(
                f"{experiment} is no run, so it has no weights. Name them: --checkpoint FILE, or the folder of a run."
            )
        checkpoint = experiment
    file = checkpoint_file(Path(checkpoint))
    is_run = experiment is None or Path(experiment) in (file, file.parent)
    config = configured(str(file.parent) if experiment is None or is_run else experiment, overrides, allow)
    model, resolved = load_model(file, config, partial=partial)
    return model.to(prepared_device(resolved.trainer)), resolved
