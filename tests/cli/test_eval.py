"""`detcfg eval`: how good a trained detector is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detcfg.data.demo import DemoDatasetConfig
from detcfg.engine.checkpoint import BEST, LAST, save_experiment, save_weights
from tests.support.commands import Command
from tests.support.tiny import experiment

ALLOW = ("--allow", "tests.support.tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose weights are random."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_experiment(experiment(), folder)
    save_weights(experiment().resolved().model.build().state_dict(), folder / BEST)
    return folder


def test_a_run_is_judged_as_it_was_saved(command: Command, run: Path, tmp_path: Path) -> None:
    outcome = command("eval", str(run), *ALLOW, "--json", "--out", str(tmp_path / "new" / "found.json"))

    assert 0 == outcome.code, outcome.err
    numbers = json.loads(outcome.out)
    assert set(numbers["classes"]["bbox"]) == set(DemoDatasetConfig().classes)
    assert numbers["losses"]["loss_cls"] > 0
    # The detections that were written, judged without the model, give the same numbers.
    truth = DemoDatasetConfig(split="val", num_images=2, image_size=(64, 64)).dataset().ground_truth()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    again = command(
        "evaluate-detections", str(tmp_path / "truth.json"), str(tmp_path / "new" / "found.json"), "--json"
    )
    again_numbers = json.loads(again.out)
    assert again_numbers == {name: numbers[name] for name in again_numbers}


def test_the_tables_name_the_metrics_and_the_classes(command: Command, run: Path) -> None:
    lines = command("eval", str(run), *ALLOW).out.splitlines()

    assert [line.split()[0] for line in lines[2:14]] == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    ]
    assert {line.split()[0] for line in lines[-4:]} == set(DemoDatasetConfig().classes)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_can_be_judged(command: Command, run: Path, split: str) -> None:
    outcome = command("eval", str(run), *ALLOW, "data.train.num_images=3", "--split", split, "--json")

    objects = sum(entry["objects"] for entry in json.loads(outcome.out)["classes"]["bbox"].values())
    config = DemoDatasetConfig(split="val", num_images=2, image_size=(64, 64))
    if split == "train":
        config = DemoDatasetConfig(num_images=3, image_size=(64, 64))
    assert objects == len(config.dataset().ground_truth()["annotations"])


def test_weights_of_elsewhere_are_judged_with_an_experiment_by_file(
    command: Command, run: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "weights.safetensors"
    checkpoint.write_bytes((run / BEST).read_bytes())
    file = tmp_path / "tiny_copy.py"
    file.write_text("from tests.support.tiny import Experiment\n")
    outcome = command("eval", str(file), "--checkpoint", str(checkpoint), "--json")

    assert 0 == outcome.code, outcome.err
    assert "bbox_AP" in json.loads(outcome.out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("double_head",), "--checkpoint"),
        (("nowhere",), "nowhere"),
        (("double_head", "--checkpoint", "none.safetensors"), "There is no checkpoint none.safetensors"),
    ],
)
def test_without_weights_there_is_nothing_to_judge(
    command: Command, arguments: tuple[str, ...], says: str
) -> None:
    outcome = command("eval", *arguments)

    assert 1 == outcome.code
    assert says in outcome.err


def test_a_checkpoint_of_another_model_is_counted_and_refused(command: Command, run: Path) -> None:
    outcome = command("eval", str(run), *ALLOW, "model.rpn_head.feat_channels=16")

    assert 1 == outcome.code
    assert "does not fit this model" in outcome.err
    assert "of another shape" in outcome.err


def test_a_broken_checkpoint_is_named(command: Command, run: Path, tmp_path: Path) -> None:
    save_experiment(experiment(), tmp_path)
    (tmp_path / LAST).write_bytes((run / BEST).read_bytes()[:1000])
    outcome = command("eval", str(tmp_path), *ALLOW)

    assert 1 == outcome.code
    assert f"{tmp_path / LAST} is not a whole checkpoint" in outcome.err


def test_half_precision_finds_about_the_same(command: Command, run: Path) -> None:
    whole, half = (
        json.loads(command("eval", str(run), *ALLOW, "--json", *option).out)["losses"]
        for option in ((), ("--amp", "bf16"))
    )

    assert whole != half
    assert half == pytest.approx(whole, rel=0.03)
