"""`detcfg show-config`: every value, where it comes from, and forms that can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detcfg import load_experiment
from detcfg.config.python import flattened
from detcfg.config.serialize import from_data
from detcfg.experiment import ExperimentConfig
from tests.support.commands import Command

ROOT = Path(__file__).parents[2]


def rows(out: str) -> dict[str, tuple[str, str]]:
    """Path to (value, source): the indentation says what belongs to what."""
    found: dict[str, tuple[str, str]] = {}
    header, _, *lines = out.splitlines()
    value_at, source_at = header.index("value"), header.index("from")
    above: list[str] = []
    for line in lines:
        name = line[:value_at].rstrip()
        above[(len(name) - len(name.lstrip())) // 2 :] = [name.strip()]
        found[".".join(above)] = (line[value_at:source_at].strip(), line[source_at:])
    return found


def line_of(text: str, file: str) -> str:
    lines = (ROOT / file).read_text().splitlines()
    return f"{file}:{1 + next(i for i, line in enumerate(lines) if text in line)}"


def test_the_tree_names_file_and_line_of_each_value(command: Command) -> None:
    tree = rows(
        command("show-config", "experiments/double_head.py", "model.roi_head.bbox_head.num_fcs=3").out
    )

    experiment = "experiments/double_head.py"
    assert ("1.3", line_of("reg_roi_scale_factor=1.3", experiment)) == tree[
        "model.roi_head.reg_roi_scale_factor"
    ]
    assert ("3", "command line") == tree["model.roi_head.bbox_head.num_fcs"]
    assert ("80", "ExperimentConfig.wired") == tree["model.num_classes"]
    assert "256" == tree["model.rpn_head.in_channels"][0]
    assert "TwoStageDetectorConfig.wired" == tree["model.rpn_head.in_channels"][1]
    assert line_of("frozen_stages=1", "experiments/faster_rcnn.py") == tree["model.backbone.frozen_stages"][1]
    assert tree["model.neck.num_outs"][1].startswith("detcfg/necks/fpn.py:")
    scales = tree["model.rpn_head.anchor_generator.scales"]
    assert ("(8.0,)", line_of("scales=(8.0,)", "detcfg/heads/proposal/rpn_head.py")) == scales
    assert all(source for _, source in tree.values())


def test_long_tuples_are_cut_in_the_tree_alone(command: Command) -> None:
    tree = rows(command("show-config", "double_head").out)

    assert "('person', 'bicycle', 'car', ... 80 in all)" == tree["data.train.classes"][0]


def test_json_is_the_resolved_experiment(command: Command) -> None:
    data: dict[str, Any] = json.loads(command("show-config", "double_head", "--format", "json").out)

    assert load_experiment("double_head").resolved() == from_data(data, ExperimentConfig, ("experiments",))
    assert 80 == data["model"]["roi_head"]["bbox_head"]["num_classes"]


def test_python_is_an_expression_that_makes_it_again(command: Command) -> None:
    source = command("show-config", "double_head", "--format", "python").out
    imports, _, expression = source.partition("\n\n")
    names: dict[str, Any] = {}
    exec(imports, names)  # noqa: S102
    made: object = eval(expression, names)  # noqa: S307

    assert flattened(load_experiment("double_head")) == made
    assert "experiments" not in source


def test_a_saved_run_is_shown_without_its_file(command: Command, tmp_path: Path) -> None:
    saved = command(
        "show-config", "double_head", "model.roi_head.reg_roi_scale_factor=1.5", "--format", "json"
    ).out
    (tmp_path / "experiment.json").write_text(saved)

    tree = rows(command("show-config", str(tmp_path), "--allow", "experiments").out)

    assert "1.5" == tree["model.roi_head.reg_roi_scale_factor"][0]


def test_the_tree_says_what_each_field_takes_where_asked(command: Command) -> None:
    lines = command("show-config", "faster_rcnn", "--types").out.splitlines()
    header = lines[0]
    line = next(line for line in lines if line.strip().startswith("iou_threshold"))

    assert header.split() == ["field", "value", "takes", "from"]
    assert line[header.index("takes") :].startswith("float from 0 to 1")
