"""What is measured is what is said; no test asserts a time."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from attrs import evolve
from typer.testing import CliRunner

from detcfg.benchmark.bare import bare_seconds, products_of
from detcfg.benchmark.evaluation import EvaluationData, detcfg_evaluation, pycocotools_evaluation
from detcfg.benchmark.measure import Measured, in_turns, peak_memory
from detcfg.benchmark.pipeline import cv2_pipeline, detcfg_pipeline, write_images
from detcfg.cli.main import app
from detcfg.data.transforms import RandomFlipConfig, ResizeConfig
from detcfg.experiments import faster_rcnn

CPU = torch.device("cpu")


def test_tasks_take_turns_after_one_to_warm_up() -> None:
    order: list[str] = []
    measured = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, CPU)

    assert order == ["a", "b", "a", "b", "a", "b"]
    assert len(measured["a"].seconds) == 2


def test_a_ratio_is_the_median_of_the_ratios_of_the_turns() -> None:
    ours = Measured(seconds=(1.0, 10.0, 2.0), peak_bytes=None)
    theirs = Measured(seconds=(2.0, 20.0, 8.0), peak_bytes=None)
    assert ours.speed_up_over(theirs) == 2.0


def test_a_limit_runs_after_its_task_and_says_itself_how_long_it_took() -> None:
    order: list[str] = []

    def limit() -> float:
        order.append("limit")
        return 0.0

    measured = in_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, CPU, {"a": limit}
    )

    assert order == ["a", "b", "a", "limit", "b", "a", "limit", "b"]
    assert measured["a"].outside == 1.0
    assert measured["b"].outside is None


def test_the_share_outside_of_the_limit_is_the_median_of_the_turns() -> None:
    ours = Measured(seconds=(1.0, 10.0, 2.0), peak_bytes=None, limit_seconds=(0.9, 5.0, 1.5))
    assert ours.outside == 0.25
    assert ours.limit == 1.5


def test_memory_that_is_let_go_again_counts() -> None:
    size = 64 * 2**20
    peak = peak_memory(lambda: torch.ones(size, dtype=torch.uint8).amax(), CPU)
    if peak is None:
        pytest.skip("the system does not say how much memory is in use")
    assert 0.9 * size < peak < 3 * size


def test_the_limit_is_of_the_products_of_both_passes() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 2))
    x = torch.rand(2, 3, 8, 8)
    calls = products_of(lambda: layers(x).sum().backward())
    kinds = [func.name().removeprefix("aten::").partition(".")[0] for func, _, _ in calls]

    assert sorted(kinds) == ["addmm", "convolution", "convolution_backward", "mm", "mm"]
    assert all(value.is_meta for _, args, _ in calls for value in args if isinstance(value, torch.Tensor))
    assert bare_seconds(calls, CPU) > 0


def test_the_pipelines_that_are_compared_give_the_same_images(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV, which is only compared with, is not installed")
    plain = evolve(
        faster_rcnn.Experiment().data, train_transforms=(ResizeConfig(), RandomFlipConfig(prob=0.0))
    )
    experiment = evolve(faster_rcnn.Experiment(), data=plain).resolved()
    paths = write_images(tmp_path)
    theirs = cv2_pipeline(experiment, paths)
    assert theirs is not None

    for own, other in zip(detcfg_pipeline(experiment, paths)(), theirs(), strict=True):
        # Decoders and resizes round differently, by few of 256 levels.
        assert own.shape == other.shape
        assert (own - other).abs().mean() < 1 / 58


def test_the_evaluations_that_are_compared_give_the_same_numbers() -> None:
    data = EvaluationData.of(40)
    numbers = pycocotools_evaluation(data)()

    assert list(detcfg_evaluation(data, "numpy")().values()) == pytest.approx(numbers, abs=1e-9)
    assert 0.05 < numbers[0] < 0.95
    pytest.importorskip("hotcoco", reason="the extra `fast` is not installed")
    assert list(detcfg_evaluation(data, "hotcoco")().values()) == pytest.approx(numbers, abs=1e-9)


def test_the_command_prints_a_row_for_each_piece_of_work_and_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    arguments = [
        "benchmark",
        "faster_rcnn",
        "--height",
        "64",
        "--width",
        "96",
        "--batch",
        "1",
        "--rounds",
        "1",
        "--eval-images",
        "10",
    ]
    result = CliRunner().invoke(app, [*arguments, "--against", "torchvision", "--out", str(out)])

    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "training step",
        "training step, bf16",
        "inference",
        "inference, bf16",
        "data, 8 images",
        "data, 2 large images",
        "data, 2 large images, drafts",
        "evaluation, 10 images",
        *(["evaluation, 10 images, fast"] if find_spec("hotcoco") else []),
        "start-up, --help",
        "start-up, show-config",
    ]
    assert all(row["name"] in result.output for row in rows)
    assert all(row["against"] > 0 for row in rows[:4])
    assert all(0 < row["limit_seconds"] for row in rows[:4])
