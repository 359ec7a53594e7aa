"""The benchmark of an experiment, a row for each piece of work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from attrs import evolve, frozen

from detcfg.benchmark.bare import bare_seconds, products_of
from detcfg.benchmark.measure import Measured, in_turns
from detcfg.benchmark.tasks import Workload, inference, torchvisions, training_step
from detcfg.detectors.base import Detector
from detcfg.engine.distributed import device_of
from detcfg.engine.seeds import seed_all
from detcfg.experiment import ExperimentConfig

START_UP = "import detcfg.cli.main"


@frozen(kw_only=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    size: tuple[int, int] = (800, 1333)
    """Height and width of the images."""
    batch: int = 2
    """Images in a training step."""
    rounds: int = 3
    """Turns that each piece of work takes."""
    against: Literal["torchvision"] | None = None
    """Another program, whose work takes its turns beside."""


@frozen(kw_only=True)
class Row:
    """One piece of work."""

    name: str
    seconds: float
    """Median of the turns."""
    peak_bytes: int | None = None
    """Memory above what was in use before."""
    limit_seconds: float | None = None
    """What its convolutions and matrix products take by themselves."""
    against: float | None = None
    """How many times as fast it is as the other program's: the median of the ratios of the turns."""
    against_memory: float | None = None
    """Its peak memory by the other program's."""


def measure(experiment: ExperimentConfig, options: BenchmarkOptions) -> list[Row]:
    """Measure training and inference in fp32 and bf16, and the start-up."""
    experiment = experiment.resolved()
    device = device_of(experiment.trainer.device)
    model = _model(experiment, device)
    work = Workload.of(options.batch, options.size, len(experiment.data.classes), device)
    rows: list[Row] = []
    kinds = (
        ("training step", partial(training_step, experiment, model, work)),
        ("inference", partial(inference, model, work)),
    )
    peers: tuple[Callable[[], object] | None, ...] = (None, None)
    if options.against is not None:
        peers = torchvisions(model, work, options.size, len(experiment.data.classes))
    for (name, task), peer in zip(kinds, peers, strict=True):
        tasks = {name: task(amp=False), f"{name}, bf16": task(amp=True)}
        measured = in_turns(tasks | ({"peer": peer} if peer else {}), options.rounds, device)
        rows += [
            _row(own, measured[own], measured.get("peer"), bare_seconds(products_of(run), device))
            for own, run in tasks.items()
        ]
    return [*rows, start_up(options.rounds)]


def _model(experiment: ExperimentConfig, device: torch.device) -> Detector:
    seed_all(0)
    return experiment.model.build().to(device).channels_last()


def _row(name: str, own: Measured, peer: Measured | None, limit: float | None) -> Row:
    row = Row(name=name, seconds=own.median, peak_bytes=own.peak_bytes, limit_seconds=limit)
    if peer is None:
        return row
    memory = own.peak_bytes / peer.peak_bytes if own.peak_bytes and peer.peak_bytes else None
    return evolve(row, against=own.speed_up_over(peer), against_memory=memory)


def start_up(rounds: int) -> Row:
    """A new process up to where `detcfg --help` can be answered."""
    run = partial(subprocess.run, [sys.executable, "-c", START_UP], check=True)
    return _row("start-up", in_turns({"": run}, rounds, torch.device("cpu"))[""], None, None)
