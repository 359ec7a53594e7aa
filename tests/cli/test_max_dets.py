"""How many detections count, at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detcfg.engine.checkpoint import BEST, save_experiment, save_weights
from tests.cli.conftest import Command
from tests.support.coco_files import write_crowded
from tests.support.tiny import experiment


def test_the_command_takes_limits_and_says_what_is_lost(command: Command, tmp_path: Path) -> None:
    crowded = write_crowded(tmp_path)
    outcome = command("evaluate-detections", *map(str, crowded))
    assert outcome.err.startswith("warning: 200 of 303 objects (66.0%) are out of reach")
    assert "AR1       0.7   recall with 1 detection an image and class" in outcome.out

    outcome = command("evaluate-detections", *map(str, crowded), "--max-dets", "300", "--max-dets", "50")
    assert not outcome.err
    lines = outcome.out.splitlines()
    assert "AR50      17.5   recall with 50 detections an image and class" in lines
    assert "AR300    100.0   recall with 300" in lines
    assert any(line.split() == ["class", "objects", "AP", "AP50", "AR300"] for line in lines)
    as_json = command("evaluate-detections", *map(str, crowded), "--json")
    assert json.loads(as_json.out)["bbox_AR100"] == pytest.approx(103 / 303)


def test_eval_takes_the_limits_of_the_data(command: Command, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_experiment(experiment(), tmp_path)
    save_weights(experiment().resolved().model.build().state_dict(), tmp_path / BEST)
    outcome = command("eval", str(tmp_path), "data.max_dets=[2, 20]", "--json", "--allow", "tests")
    assert 0 == outcome.code, outcome.err
    assert {"bbox_AR2", "bbox_AR20"} < json.loads(outcome.out).keys()
