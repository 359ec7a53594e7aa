"""The benchmark of an experiment, a row for each piece of work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, get_args

import torch
from attrs import evolve, frozen

from detcfg.benchmark.bare import bare_seconds, products_of
from detcfg.benchmark.evaluation import EvaluationData, detcfg_evaluation, pycocotools_evaluation
from detcfg.benchmark.measure import in_turns
from detcfg.benchmark.pipeline import (
    LARGE,
    LARGE_FILES,
    cv2_pipeline,
    detcfg_pipeline,
    resize_and_flip,
    write_images,
)
from detcfg.benchmark.tasks import Workload, inference, torchvisions, training_step
from detcfg.engine.allocator import prepared_device
from detcfg.engine.seeds import seed_all
from detcfg.experiment import ExperimentConfig

Work = Literal["training", "inference", "data", "evaluation", "start-up"]
WORK: Final[tuple[Work, ...]] = get_args(Work)


@frozen(kw_only=True)
class BenchmarkOptions:
    """What is measured, and on what."""

    work: tuple[Work, ...] = WORK
    """The pieces of work."""
    size: tuple[int, int] = (800, 1333)
    """Height and width of the images."""
    batch: int = 2
    """Images in a training step."""
    eval_images: int = 1000
    """Images that are evaluated, with a hundred detections each."""
    rounds: int = 3
    """Turns that each piece of work takes."""
    against: Literal["torchvision"] | None = None
    """Another detector, whose training and inference are measured in turns with these."""


@frozen(kw_only=True)
class Row:
    """One piece of work."""

    name: str
    seconds: float
    """Median of the turns."""
    peak_bytes: int | None = None
    """Memory above what was in use before."""
    limit_seconds: float | None = None
    """Its matmuls and convolutions alone."""
    outside: float | None = None
    """The share of everything else in its time: the median of the turns."""
    peer: str | None = None
    """Another program that did the same."""
    against: float | None = None
    """How many times as fast it is as the peer: the median of the ratios of the turns."""
    against_memory: float | None = None
    """Its peak memory by the peer's."""


def measure(experiment: ExperimentConfig, options: BenchmarkOptions) -> list[Row]:
    """Measure what `options` names, training and inference in fp32 and bf16."""
    experiment = experiment.resolved()
    device = prepared_device(experiment.trainer)  # for the peer's work as well
    rows: list[Row] = []
    if {"training", "inference"} & set(options.work):
        rows += _model_rows(experiment, options, device)
    if "data" in options.work:
        rows += _data_rows(experiment, options.rounds)
    if "evaluation" in options.work:
        rows += _evaluation_rows(options)
    if "start-up" in options.work:
        rows += start_up(options.rounds)
    return rows


def _model_rows(experiment: ExperimentConfig, options: BenchmarkOptions, device: torch.device) -> list[Row]:
    """A training step and an inference."""
    seed_all(0)
    model = experiment.model.build().to(device).channels_last()
    work = Workload.of(options.batch, options.size, len(experiment.data.classes), device)
    tasks = {
        "training": ("training step", partial(training_step, experiment, model, work)),
        "inference": ("inference", partial(inference, model, work)),
    }
    peers: dict[str, Callable[[], object]] = {}
    if options.against is not None:
        both = torchvisions(model, work, options.size, len(experiment.data.classes))
        peers = dict(zip(tasks, both, strict=True))
    rows: list[Row] = []
    for kind, (name, task) in tasks.items():
        if kind in options.work:
            ours = {name: task(amp="none"), f"{name}, bf16": task(amp="bf16")}
            limits = {each: partial(bare_seconds, products_of(run), device) for each, run in ours.items()}
            rows += _in_turns(ours, options.against, peers.get(kind), options.rounds, device, limits=limits)
    return rows


def _data_rows(experiment: ExperimentConfig, rounds: int) -> list[Row]:
    """The pipeline of some images in one thread, and OpenCV's if that is installed."""
    with TemporaryDirectory() as folder:
        paths = write_images(Path(folder))
        ours = {f"data, {len(paths)} images": detcfg_pipeline(experiment, paths)}
        rows = _in_turns(ours, "cv2", cv2_pipeline(experiment, paths), rounds, torch.device("cpu"))
        if (steps := resize_and_flip(experiment.data.train_transforms)) is not None:
            paths = write_images(Path(folder), LARGE, LARGE_FILES)
            name = f"data, {len(paths)} large images"
            ours = {
                name: detcfg_pipeline(experiment, paths),
                f"{name}, drafts": detcfg_pipeline(experiment, paths, steps.resize.scale),
            }
            rows += _in_turns(ours, "cv2", cv2_pipeline(experiment, paths), rounds, torch.device("cpu"))
    return rows


def _evaluation_rows(options: BenchmarkOptions) -> list[Row]:
    """Evaluation by detcfg and, if it is installed, by hotcoco, against pycocotools."""
    data = EvaluationData.of(options.eval_images)
    name = f"evaluation, {options.eval_images} images"
    ours: dict[str, Callable[[], object]] = {name: detcfg_evaluation(data, "numpy")}
    if find_spec("hotcoco") is not None:
        ours[f"{name}, fast"] = detcfg_evaluation(data, "hotcoco")
    peer = pycocotools_evaluation(data)
    return _in_turns(ours, "pycocotools", peer, options.rounds, torch.device("cpu"))


def start_up(rounds: int) -> list[Row]:
    """A new process that answers `--help`, and one that shows an experiment, against one that imports torch."""

    def python(*arguments: str) -> Callable[[], object]:
        return partial(subprocess.run, [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    ours = {
        "start-up, --help": python("-m", "detcfg", "--help"),
        "start-up, show-config": python("-m", "detcfg", "show-config", "double_head"),
    }
    rows = _in_turns(ours, "import torch", python("-c", "import torch"), rounds, torch.device("cpu"))
    return [evolve(row, peak_bytes=None, against_memory=None) for row in rows]  # those of other processes


def _in_turns(
    ours: Mapping[str, Callable[[], object]],
    name: str | None,
    peer: Callable[[], object] | None,
    rounds: int,
    device: torch.device,
    *,
    limits: Mapping[str, Callable[[], float]] | None = None,
) -> list[Row]:
    """A row for each of detcfg's tasks, which are measured in turns with the peer's."""
    measured = in_turns({**ours, **({"peer": peer} if peer else {})}, rounds, device, limits)
    theirs = measured.pop("peer", None)
    rows = [
        Row(
            name=each,
            seconds=m.median,
            peak_bytes=m.peak_bytes,
            limit_seconds=m.limit,
            outside=m.outside,
        )
        for each, m in measured.items()
    ]
    if theirs is None:
        return rows
    return [
        evolve(
            row,
            peer=name,
            against=m.speed_up_over(theirs),
            against_memory=m.peak_bytes / theirs.peak_bytes if m.peak_bytes and theirs.peak_bytes else None,
        )
        for row, m in zip(rows, measured.values(), strict=True)
    ]
