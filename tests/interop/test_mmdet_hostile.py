"""Values of a stranger's config that no component takes are reported, and cannot slip into the experiment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from detcfg.config import ConfigError
from detcfg.config.load import load
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.experiment import Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.write import write_experiment
from detcfg.recipe.schedules import CosineConfig, MultiStepConfig
from tests.support.small_configs import RUN, TWO_STAGE


def imported(folder: Path, text: str) -> Imported:
    """The small two-stage config, with what `text` changes."""
    (folder / "base.py").write_text(TWO_STAGE)
    (folder / "run.py").write_text(RUN)
    path = folder / "x.py"
    path.write_text(f"_base_ = ['base.py', 'run.py']\n{text}\n")
    return import_config(read_config(path))


def notes(found: Imported) -> str:
    return "\n".join(f"{entry.path}: {entry.note}" for entry in found.record.of(Status.UNSUPPORTED))


@pytest.mark.parametrize(
    "kind", ['Net"""\nimport os\nos.system("x")\n"""', "Net\0", "Net\ud800", "7Net", "Net⑯", "Net\nimport os"]
)
def test_a_name_cannot_become_a_statement(tmp_path: Path, kind: str) -> None:
    text = f"model = dict(backbone=dict(_delete_=True, type={kind!r}))"
    tree = ast.parse(write_experiment(imported(tmp_path, text), {}))

    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
    assert {"attrs", "detcfg", "__future__", "typing", "torch"} >= {str(m).partition(".")[0] for m in modules}


@pytest.mark.parametrize("part", ["backbone=dict(_delete_=True, type='Net'", "roi_head=dict(type='MyHead'"])
@pytest.mark.parametrize(
    "key", ["build", "wired", "self", "ﬁeld", "__init__", "_x", "class", "a b", "x\n", "", "1"]
)
def test_a_key_cannot_become_a_method_or_a_statement(tmp_path: Path, part: str, key: str) -> None:
    found = imported(tmp_path, f"model = dict({part}, **{{{key!r}: 3}}))")
    written = tmp_path / "written.py"
    written.write_text(write_experiment(found, {}))

    load(written, ExperimentConfig)
    assert "a field of a config cannot be called so" in notes(found)


def test_numbers_that_python_has_no_name_for_are_written_as_calls(tmp_path: Path) -> None:
    text = "model = dict(backbone=dict(_delete_=True, type='Net', a=float('nan'), b=(float('-inf'), 1.0)))"
    written = write_experiment(imported(tmp_path, text), {})

    assert 'a: float = float("nan")' in written
    assert 'float("-inf")' in written


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default_hooks = dict(logger=dict(interval=-25))", "trainer.log_interval: TrainerConfig: 'log_interval' must be"),
        ("val_dataloader = dict(batch_size=-2)", "'val_batch_size' must be int of at least 1, not -2"),
        ("param_scheduler = [dict(type='LinearLR', by_epoch=False, end='x')]", "'warmup_iters' must be int of at least 0, not 'x'"),
        ("param_scheduler = [dict(type='LinearLR', by_epoch=False, end=-250)]", "'warmup_iters' must be int of at least 0, not -250"),
        ("param_scheduler = [dict(type='MultiStepLR', gamma=[1])]", "'gamma' must be float of at least 0, not [1]"),
        ("train_dataloader = dict(dataset=dict(metainfo=dict(classes=True)))", "CocoDatasetConfig.classes must be"),
        ("model = dict(roi_head=dict(bbox_head=dict(fc_out_channels='x')))", "fc_out_channels must be int of at least 1, not 'x'"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_taken_is_reported_and_the_rest_goes_on(
    tmp_path: Path, text: str, says: str
) -> None:
    assert says in notes(imported(tmp_path, text))


@pytest.mark.parametrize("begin", ["'x'", "None", "[1]"])
def test_a_cosine_that_begins_nowhere_begins_at_once(tmp_path: Path, begin: str) -> None:
    text = f"param_scheduler = [dict(type='CosineAnnealingLR', begin={begin}, eta_min='y', T_max=3)]"

    assert CosineConfig(warmup_iters=0) == imported(tmp_path, text).trainer.schedule


def test_a_step_whose_type_is_no_text_is_reported(tmp_path: Path) -> None:
    found = imported(tmp_path, "test_dataloader = dict(dataset=dict(pipeline=[dict(type=dict())]))")

    assert "a step of a pipeline is a dict with a type" in notes(found)
    assert isinstance(found.trainer.schedule, MultiStepConfig)


@pytest.mark.parametrize(
    "neck", ["num_outs=10**9", "type='Net', out_channels=4, num_outs=10**9", "type='FPN', num_outs=-5"]
)
def test_a_pyramid_of_countless_levels_costs_nothing(tmp_path: Path, neck: str) -> None:
    try:
        imported(tmp_path, f"model = dict(neck=dict({neck}))")
    except ConfigError as error:
        assert "num_outs" in str(error)  # noqa: PT017
