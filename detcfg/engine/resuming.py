"""A run that goes on with another experiment than it was begun with: what changed, said before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from detcfg.config import Config, ConfigError
from detcfg.config.diff import Difference, diff
from detcfg.config.load import SAVED_NAME
from detcfg.experiment import ExperimentConfig, load_experiment

_SHOWN: Final = 30
_LONG: Final = 80
"""Characters of a value; a list of a thousand class names is no line for a log."""


def changes_since(experiment: ExperimentConfig, folder: Path) -> list[str]:
    """The values that differ from those that the run in a folder was trained with, a line each.

    Args:
        experiment: What goes on, resolved.
        folder: The run's, whose `experiment.json` is what was trained.
    """
    try:
        before = load_experiment(folder / SAVED_NAME).resolved()
    except ConfigError as error:
        return [f"What changed since the last checkpoint is not known: {error}"]
    return [_line(each) for each in diff(before, experiment)]


def shown(changes: list[str]) -> list[str]:
    """The lines for the log."""
    lines = [f"Changed: {line}" for line in changes[:_SHOWN]]
    return lines + ([f"Changed: {len(changes) - _SHOWN} more values"] if len(changes) > _SHOWN else [])


def of_the_model(changes: list[str]) -> str:
    """What changed of the model, as a sentence for the error that its weights do not fit; empty if nothing did."""
    lines = [line for line in changes if line.startswith("model.")]
    more = f", and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"\nIt was trained with other values: {'; '.join(lines[:_SHOWN])}{more}." if lines else ""


def _line(change: Difference) -> str:
    return f"{change.path} was {_text(change.old)}, is {_text(change.new)}"


def _text(value: object) -> str:
    text = type(value).__name__ if isinstance(value, Config) else repr(value)
    if isinstance(value, type):
        text = value.__name__
    return text if len(text) <= _LONG else f"{text[: _LONG - 4]} ..."
