"""What the guide for MMDetection's users says is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import pytest
import torch
from attrs import evolve

from detcfg import load_experiment
from detcfg.backbones.resnet import ResNetConfig
from detcfg.catalogue import components
from detcfg.config import ConfigError
from detcfg.config.diff import diff
from detcfg.config.load import load
from detcfg.config.override import override_all
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.checkpoint import convert, read_checkpoint
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.experiment import Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.translate import translate_model
from detcfg.necks.fpn import FPNConfig
from tests.interop.small_configs import RUN, TWO_STAGE

GUIDE: Final = Path(__file__).parents[2] / "detcfg" / "docs" / "from_mmdetection.md"
TEXT: Final = GUIDE.read_text(encoding="utf-8")


def block(first: str) -> str:
    """The code block whose first line this is."""
    found = re.search(rf"```python\n# {first}\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def imported(tmp_path: Path, text: str = "") -> Imported:
    (tmp_path / "_base_.py").write_text(TWO_STAGE + RUN)
    path = tmp_path / "x.py"
    path.write_text(f"_base_ = '_base_.py'\n{text}\n")
    return import_config(read_config(path))


def test_the_config_before_is_the_experiment_after(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    (configs / "faster_rcnn").mkdir(parents=True)
    (configs / "double_heads").mkdir()
    base = TWO_STAGE.replace("num_classes=3", "num_classes=80")
    (configs / "faster_rcnn" / "faster-rcnn_r50_fpn_1x_coco.py").write_text(base)
    before = configs / "double_heads" / "dh.py"
    before.write_text(block("mmdetection"))
    found = translate_model(cast("Node", read_config(before).data["model"]))
    (tmp_path / "after.py").write_text(block("detcfg"))
    after = load(tmp_path / "after.py", ExperimentConfig).resolved()
    assert [d.path for d in diff(after.model, found.complete.resolved())] == [""]
    assert [d.path for d in diff(after, load_experiment("double_head").resolved())] == ["", "model"]


def _registry(_: Path) -> None:
    found = {component.cls.__name__ for component in components()}
    assert {"FPNConfig", "DoubleHeadRoIHeadConfig"} <= found


def _type(tmp_path: Path) -> None:
    assert isinstance(cast("Any", imported(tmp_path).model).neck, FPNConfig)


def _base(_: Path) -> None:
    bases = type(load_experiment("double_head")).__mro__
    assert type(load_experiment("faster_rcnn")) in bases


def _merge(_: Path) -> None:
    from experiments import double_head

    head = evolve(double_head.Model().roi_head, reg_roi_scale_factor=1.5)
    assert head.bbox_head == double_head.Model().roi_head.bbox_head


def _delete(tmp_path: Path) -> None:
    kept = imported(tmp_path, "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=101))")
    assert cast("Any", kept.model).backbone == ResNetConfig(depth=101)


def _variables(_: Path) -> None:
    from experiments import faster_rcnn

    assert isinstance(faster_rcnn.Model().neck, FPNConfig)


def _custom_imports(tmp_path: Path) -> None:
    found = imported(tmp_path, "custom_imports = dict(imports=['mine.necks'])")
    (entry,) = [e for e in found.record.entries if e.path == "custom_imports"]
    assert "from … import …" in entry.note


def _derived(_: Path) -> None:
    wrong = override_all(load_experiment("faster_rcnn"), ["model.rpn_head.in_channels=128"])
    with pytest.raises(ConfigError, match=r"in_channels is 128, but .* makes it 256"):
        wrong.resolved()


def _settings(tmp_path: Path) -> None:
    model = cast("Any", imported(tmp_path).model)
    assert model.rpn_head.assigner.pos_iou_thr == 0.7
    assert model.roi_head.sampler.num == 512


def _test_settings(tmp_path: Path) -> None:
    found = imported(tmp_path, "model = dict(test_cfg=dict(rcnn=dict(score_thr=0.2)))")
    assert cast("Any", found.model).roi_head.test_cfg.score_thr == 0.2


def _channels(tmp_path: Path) -> None:
    found = imported(tmp_path, "model = dict(data_preprocessor=dict(bgr_to_rgb=False))")
    assert found.model.data_preprocessor.channel_order == "bgr"


def _pretrained(tmp_path: Path) -> None:
    assert cast("Any", imported(tmp_path).model).backbone.pretrained == "ResNet50_Weights.IMAGENET1K_V1"


def _training(tmp_path: Path) -> None:
    trainer = imported(tmp_path, "optim_wrapper = dict(type='AmpOptimWrapper')").trainer
    assert (trainer.optimizer.lr, trainer.amp) == (0.01, "fp16")
    assert trainer.clip_grad is not None
    assert trainer.schedule.warmup_iters == 250


def _ema(tmp_path: Path) -> None:
    found = imported(tmp_path, "custom_hooks = [dict(type='EMAHook', momentum=0.001)]")
    assert found.trainer.ema is not None
    assert found.trainer.ema.momentum == 0.001


def _hooks(tmp_path: Path) -> None:
    trainer = imported(tmp_path).trainer
    assert (trainer.save_best, trainer.log_interval) == ("bbox_AP", 25)


def _other_hooks(tmp_path: Path) -> None:
    found = imported(tmp_path, "custom_hooks = [dict(type='MyHook')]")
    (entry,) = [e for e in found.record.entries if e.path == "custom_hooks.0"]
    assert entry.note == "MyHook: detcfg has no hooks; override the trainer's method"


def _command_line(_: Path) -> None:
    changed = override_all(load_experiment("faster_rcnn"), ["model.backbone.depth=101"])
    assert cast("Any", changed.model).backbone.depth == 101


def _misspelt(tmp_path: Path) -> None:
    wrong = block("detcfg").replace("num_convs", "num_conv")
    (tmp_path / "wrong.py").write_text(wrong)
    with pytest.raises(ConfigError, match=r"wrong\.py:\d+: .*no field 'num_conv'. Did you mean 'num_convs'"):
        load(tmp_path / "wrong.py", ExperimentConfig)


def _checkpoint(tmp_path: Path) -> None:
    experiment = load_experiment("double_head")
    with torch.device("meta"):
        state = experiment.resolved().model.build().state_dict()
    assert "roi_head.bbox_head.fc_cls.weight" in state
    tensors = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in state.items()}
    torch.save({"state_dict": tensors}, tmp_path / "x.pth")
    assert convert(read_checkpoint(tmp_path / "x.pth"), experiment, tmp_path / "run").report.complete


CLAIMS: Final[dict[str, Callable[[Path], None]]] = {
    "registry": _registry,
    "`type='FPN'`": _type,
    "`_base_": _base,
    "a dict that merges": _merge,
    "`_delete_": _delete,
    "`{{_base_": _variables,
    "`custom_imports`": _custom_imports,
    "`in_channels`": _derived,
    "`train_cfg.rpn": _settings,
    "`test_cfg.rcnn`": _test_settings,
    "`data_preprocessor": _channels,
    "`init_cfg": _pretrained,
    "`optim_wrapper`": _training,
    "`EMAHook`": _ema,
    "`CheckpointHook`": _hooks,
    "other hooks": _other_hooks,
    "`--cfg-options": _command_line,
    "a misspelt key": _misspelt,
    "a checkpoint": _checkpoint,
}


def test_each_row_of_the_table_has_its_test() -> None:
    table = TEXT.partition("## What is called what")[2]
    rows = [line[2:] for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(CLAIMS)
    assert all(row.startswith(claim) for row, claim in zip(rows, CLAIMS, strict=True))


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_the_table_says_is_so(tmp_path: Path, claim: str) -> None:
    CLAIMS[claim](tmp_path)
