"""What the guide for MMDetection's users says is so."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import attrs
import pytest
import torch
from attrs import evolve

from detcfg import load_experiment
from detcfg.backbones.resnet import ResNetConfig
from detcfg.catalogue import components
from detcfg.cli.main import run
from detcfg.config import ConfigError
from detcfg.config.diff import diff
from detcfg.config.load import load
from detcfg.config.override import override_all
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.engine.trainer import Trainer
from detcfg.experiment import ExperimentConfig
from detcfg.interop.mmdet.checkpoint import convert, read_checkpoint
from detcfg.interop.mmdet.data import Node
from detcfg.interop.mmdet.experiment import Imported, import_config
from detcfg.interop.mmdet.read import read_config
from detcfg.interop.mmdet.record import Status
from detcfg.interop.mmdet.survey import Verdict, survey
from detcfg.interop.mmdet.translate import translate_model
from detcfg.interop.mmdet.write import write_experiment
from detcfg.necks.fpn import FPNConfig
from detcfg.recipe.config import TrainerConfig
from tests.support.small_configs import RUN, TWO_STAGE, write_config

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


MINE: Final = """
from attrs import frozen
from torch import nn

from detcfg.necks.fpn import FPNConfig


@frozen(kw_only=True)
class MyNeckConfig(FPNConfig):
    alpha: float = 0.5

    def build(self) -> nn.Module:
        return nn.Identity()
"""


def mine(tmp_path: Path) -> str:
    """A module of the user's own, with a neck."""
    name = f"mine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MINE)
    sys.path.insert(0, str(tmp_path))
    try:
        importlib.import_module(name)
    finally:
        sys.path.remove(str(tmp_path))
    return name


def _registry(tmp_path: Path) -> None:
    module = mine(tmp_path)
    found = {component.cls.__name__ for component in components([module])}
    assert {"FPNConfig", "DoubleHeadRoIHeadConfig", "MyNeckConfig"} <= found
    assert "MyNeckConfig" not in {component.cls.__name__ for component in components()}


def _type(tmp_path: Path) -> None:
    for name, keys in (
        ("FPN", {"num_outs", "add_extra_convs"}),
        ("DoubleHeadRoIHead", {"reg_roi_scale_factor"}),
    ):
        (component,) = [c for c in components() if c.cls.__name__ == f"{name}Config"]
        assert keys <= set(attrs.fields_dict(component.cls))
    assert isinstance(cast("Any", imported(tmp_path).model).neck, FPNConfig)


def _base(_: Path) -> None:
    bases = type(load_experiment("double_head")).__mro__
    assert type(load_experiment("faster_rcnn")) in bases


def _merge(_: Path) -> None:
    from detcfg.experiments import double_head

    head = evolve(double_head.Model().roi_head, reg_roi_scale_factor=1.5)
    assert head.bbox_head == double_head.Model().roi_head.bbox_head


def _delete(tmp_path: Path) -> None:
    kept = imported(tmp_path, "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=101))")
    assert cast("Any", kept.model).backbone == ResNetConfig(depth=101)


def _variables(_: Path) -> None:
    from detcfg.experiments import faster_rcnn

    assert isinstance(faster_rcnn.Model().neck, FPNConfig)


def _custom_imports(tmp_path: Path) -> None:
    found = imported(tmp_path, "custom_imports = dict(imports=['mine.necks'])")
    (entry,) = [e for e in found.record.entries if e.path == "custom_imports"]
    assert "from … import …" in entry.note
    module = mine(tmp_path)
    source = read_config(tmp_path / "x.py")
    source.data["model"]["neck"]["type"] = "MyNeck"
    ported = import_config(source, modules=[module])
    assert not ported.missing
    assert type(cast("Any", ported.model).neck).__name__ == "MyNeckConfig"


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
    page = imported(tmp_path, "model = dict(backbone=dict(init_cfg=dict(checkpoint='open-mmlab://x')))")
    assert any("download open-mmlab://x" in e.note for e in page.record.of(Status.UNSUPPORTED))


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
    assert entry.note == "MyHook: detcfg has no hooks; override a method of its trainer in a subclass"
    row = next(line for line in TEXT.splitlines() if line.startswith("| other hooks"))
    named = set(re.findall(r"`(\w+)`", row)) - {"TrainerConfig", "build"}
    assert named == {"losses", "backward", "update", "validate"}
    assert all(callable(getattr(Trainer, name)) for name in named)
    assert inspect.signature(TrainerConfig.build).return_annotation == "Trainer"


def _command_line(_: Path) -> None:
    changed = override_all(load_experiment("faster_rcnn"), ["model.backbone.depth=101"])
    assert cast("Any", changed.model).backbone.depth == 101


def pipeline(tmp_path: Path, steps: str) -> Imported:
    """With a training pipeline of these steps, between reading and packing."""
    both = f"[_base_.train_pipeline[0], _base_.train_pipeline[1], {steps}, _base_.train_pipeline[-1]]"
    return imported(tmp_path, f"train_dataloader = dict(dataset=dict(pipeline={both}))")


def transforms(found: Imported) -> list[str]:
    assert found.data is not None
    return [type(config).__name__ for config in found.data.train_transforms]


def _pipelines(tmp_path: Path) -> None:
    found = imported(tmp_path)
    assert found.data is not None
    assert transforms(found) == ["ResizeConfig", "RandomFlipConfig"]
    assert len(found.data.val_transforms) == 1
    found = pipeline(tmp_path, "dict(type='Normalize', mean=[0, 0, 0], std=[1, 1, 1])")
    assert transforms(found) == []
    assert not list(found.record.of(Status.UNSUPPORTED))


def _choice(tmp_path: Path) -> None:
    flip, crop = "dict(type='RandomFlip', prob=1.0)", "dict(type='RandomCrop', crop_size=(9, 9))"
    choice = f"dict(type='RandomChoice', transforms=[[{flip}], [{crop}, {flip}]])"
    found = pipeline(tmp_path, choice)
    assert found.data is not None
    (transform,) = cast("Any", found.data.train_transforms)
    assert [type(option).__name__ for option in transform.transforms] == ["RandomFlipConfig", "ComposeConfig"]


def _mosaic(tmp_path: Path) -> None:
    steps = "dict(type='Mosaic'), dict(type='MixUp'), dict(type='RandomFlip', prob=0.5)"
    found = pipeline(tmp_path, steps)
    assert transforms(found) == ["RandomFlipConfig"]
    assert [e.note.partition(":")[0] for e in found.record.of(Status.UNSUPPORTED)] == ["Mosaic", "MixUp"]


def _wrapped(tmp_path: Path, wrapper: str) -> Imported:
    inner = "dataset=_base_.train_dataloader.dataset"
    text = wrapper.replace("INNER", inner)
    return imported(tmp_path, f"train_dataloader = dict(dataset=dict(_delete_=True, {text}))")


def _repeated(tmp_path: Path) -> None:
    once = imported(tmp_path).trainer
    often = _wrapped(tmp_path, "type='RepeatDataset', times=3, INNER").trainer
    assert (often.epochs, often.val_interval) == (3 * once.epochs, 3 * once.val_interval)
    milestones = [cast("Any", trainer.schedule).milestones for trainer in (once, often)]
    assert milestones[1] == tuple(3 * epoch for epoch in milestones[0])


def _joined(tmp_path: Path) -> None:
    one = "_base_.train_dataloader.dataset"
    found = _wrapped(tmp_path, f"type='ConcatDataset', datasets=[{one}, {one}]")
    assert found.data is not None
    assert isinstance(found.data.train, ConcatDatasetConfig)
    assert len(found.data.resolved().train.classes) == 3


def _balanced(tmp_path: Path) -> None:
    found = _wrapped(tmp_path, "type='ClassBalancedDataset', oversample_thr=1e-3, INNER")
    assert found.data is not None
    assert found.data.oversample_thr == 0.001


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
    "a pipeline's steps": _pipelines,
    "`RandomChoice`": _choice,
    "`Mosaic`": _mosaic,
    "`RepeatDataset": _repeated,
    "`ConcatDataset`": _joined,
    "`ClassBalancedDataset`": _balanced,
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


# The sentences before and between

PROSE: Final = re.sub(
    r"```.*?```|<table>.*?</table>", "", TEXT.partition("## What is called what")[0], flags=re.DOTALL
)
NAME: Final = "dh_faster_rcnn_r50_fpn_1x_coco"
STUB: Final = "model = dict(neck=dict(_delete_=True, type='MyNeck', alpha=0.5))"


def run_command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(["import-mmdet", *arguments])
    assert not stopped.value.code


def checkpoint_of(found: Imported, path: Path, **more: object) -> None:
    with torch.device("meta"):
        state = found.experiment.resolved().model.build().state_dict()
    tensors = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in state.items()}
    torch.save({"state_dict": tensors, **more}, path)


def _writes(tmp_path: Path) -> None:
    config = write_config(tmp_path, "double_head").rename(tmp_path / "dh-faster-rcnn_r50_fpn_1x_coco.py")
    checkpoint_of(import_config(read_config(config)), tmp_path / "dh-faster-rcnn.pth")
    run_command(config.name, "--checkpoint", "dh-faster-rcnn.pth")
    assert isinstance(load_experiment(tmp_path / "experiments" / f"{NAME}.py"), ExperimentConfig)
    files = {path.name for path in (tmp_path / "runs" / NAME).iterdir()}
    assert files == {"best.safetensors", "experiment.json"}


def _needs_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path, "faster_rcnn")
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('mmdet', 'mmcv', 'mmengine'))\n"
        "from pathlib import Path\n"
        "from detcfg.interop.mmdet.command import import_mmdet\n"
        f"import_mmdet(Path({str(config)!r}), out=Path({str(tmp_path / 'written.py')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=GUIDE.parents[2], check=True)
    assert (tmp_path / "written.py").is_file()


def _runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(f"{TWO_STAGE}{RUN}\nimport os\nos.environ['GUIDE_RAN'] = 'yes'\n")
    line = path.read_text().splitlines().index("import os") + 1
    with pytest.raises(ConfigError, match=rf"x\.py:{line}: .*--trust"):
        read_config(path)
    assert "GUIDE_RAN" not in os.environ
    try:
        assert "model" in read_config(path, trust=True).data
        assert os.environ["GUIDE_RAN"] == "yes"
    finally:
        del os.environ["GUIDE_RAN"]


def _table(tmp_path: Path) -> None:
    found = imported(tmp_path, "custom_hooks = [dict(type='MyHook')]")
    for status in Status:
        assert list(found.record.of(status))
    assert "custom_hooks.0 (line 2)" in write_experiment(found, {})


def _stubs(tmp_path: Path) -> None:
    text = write_experiment(imported(tmp_path, STUB), {})
    assert "class MyNeckConfig(" in text
    assert "alpha: float = 0.5" in text


def _survey(tmp_path: Path) -> None:
    write_config(tmp_path, "faster_rcnn")
    (tmp_path / "stub.py").write_text(f"_base_ = 'faster_rcnn.py'\n{STUB}\n")
    before = sorted(tmp_path.rglob("*"))
    found = survey(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert {row.path.name: row.verdict for row in found.rows}["stub.py"] is Verdict.MISSING
    assert found.most_used()[0][:2] == ("MyNeck", 1)


def _styles(tmp_path: Path) -> None:
    three = imported(tmp_path)
    (tmp_path / "pure.py").write_text("with read_base():\n    from ._base_ import *\n")
    assert import_config(read_config(tmp_path / "pure.py")).model == three.model
    dumped = "\n".join(f"{key} = {value!r}" for key, value in read_config(tmp_path / "x.py").data.items())
    (tmp_path / "resolved.py").write_text(dumped)
    again = import_config(read_config(tmp_path / "resolved.py"))
    assert (again.model, again.data, again.trainer) == (three.model, three.data, three.trainer)
    old = dumped.replace("train_cfg = {", "unused = {") + "\ntotal_epochs = 7\n"
    (tmp_path / "old.py").write_text(old)
    assert import_config(read_config(tmp_path / "old.py")).trainer.epochs == 7


def _config_inside(tmp_path: Path) -> None:
    meta = {"cfg": TWO_STAGE + RUN, "dataset_meta": {"classes": ("bolt", "nut", "washer")}}
    checkpoint_of(imported(tmp_path), tmp_path / "epoch_12.pth", meta=meta)
    run_command("--checkpoint", "epoch_12.pth")
    assert load_experiment(tmp_path / "experiments" / "epoch_12.py").data.classes == ("bolt", "nut", "washer")


def _derived_values(_: Path) -> None:
    assert not re.search("in_channels|roi_feat_size|num_classes", block("detcfg"))
    experiment = load_experiment("double_head")
    head = cast("Any", experiment.resolved().model).roi_head.bbox_head
    assert (head.in_channels, head.roi_feat_size, head.num_classes) == (256, 7, 80)
    for name, wrong in (("in_channels", 128), ("roi_feat_size", 14), ("num_classes", 3)):
        override = override_all(experiment, [f"model.roi_head.bbox_head.{name}={wrong}"])
        with pytest.raises(ConfigError, match=rf"{name} is {wrong}, but"):
            override.resolved()


def _defaults(_: Path) -> None:
    head = cast("Any", load_experiment("double_head").resolved().model).roi_head.bbox_head
    assert head.bbox_coder.target_stds == (0.1, 0.1, 0.2, 0.2)
    assert (head.conv_out_channels, head.fc_out_channels) == (1024, 1024)
    assert not re.search("coder|out_channels", block("detcfg"))


SENTENCES: Final[dict[str, Callable[[Path], None]]] = {
    "writes `experiments/": _writes,
    "Neither MMDetection nor mmcv": _needs_nothing,
    "Nothing in the config or the checkpoint is run": _runs_nothing,
    "A table says": _table,
    "A component that detcfg lacks": _stubs,
    "`detcfg import-mmdet --survey": _survey,
    "Configs of 2.x and 3.x": _styles,
    "A checkpoint that holds its config": _config_inside,
    "`in_channels`, `roi_feat_size` and": _derived_values,
    "The coder's": _defaults,
}


def test_each_sentence_has_its_test() -> None:
    text = " ".join(line for line in PROSE.splitlines() if not line.startswith("#"))
    sentences = re.split(r"(?<=\.) +(?=[A-Z`])", " ".join(text.split()))
    assert len(sentences) == len(SENTENCES)
    assert all(found.startswith(claim) for found, claim in zip(sentences, SENTENCES, strict=True))


@pytest.mark.parametrize("claim", SENTENCES)
def test_what_a_sentence_says_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: str) -> None:
    monkeypatch.chdir(tmp_path)
    SENTENCES[claim](tmp_path)
