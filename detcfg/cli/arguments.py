"""The arguments that several commands share, and how they become a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from detcfg.recipe.amp import Amp

if TYPE_CHECKING:
    from detcfg.experiment import ExperimentConfig

Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="A file (experiments/double_head.py), a name (double_head) or the folder of a saved run.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH=VALUE]...",
        help="Change a value: trainer.seed=1, model.backbone.depth=101. Components are package.module:Class.",
        show_default=False,
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="MODULE",
        help="A module besides detcfg's from which a saved run may import classes. May be repeated.",
        show_default=False,
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help="Compute with hotcoco (pip install 'detcfg[fast]'): the same numbers, sooner."
    ),
]
HalfPrecision = Annotated[
    Amp,
    typer.Option(
        "--amp", help="Compute in half precision where that is safe. Detections then differ a little."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def configured(
    experiment: str, overrides: Sequence[str] | None = None, allow: Sequence[str] | None = None
) -> ExperimentConfig:
    """The experiment, in the given state, with the command line applied.

    Raises:
        ConfigError: There is no such experiment, or it or an override is wrong.
    """
    from detcfg.config.override import override_all
    from detcfg.experiment import load_experiment

    return override_all(load_experiment(experiment, allow=tuple(allow or ())), overrides or [])


def overridden_paths(overrides: Sequence[str] | None) -> list[str]:
    """The paths that `path=value` arguments set."""
    return [assignment.partition("=")[0].strip() for assignment in overrides or []]
