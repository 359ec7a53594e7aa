"""A training from the command line to its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from PIL import Image

from detcfg.data.lvis import LVISV1DatasetConfig
from detcfg.engine.checkpoint import BEST, LAST, load_training
from detcfg.engine.files import RunError
from detcfg.engine.log import JSON_NAME
from detcfg.engine.run import run_training
from detcfg.engine.weights import load_model, load_weights
from detcfg.errors import DetcfgError
from tests.support.tiny import Experiment, experiment


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / JSON_NAME).read_text().splitlines()]


def test_a_training_leaves_checkpoints_a_log_and_its_experiment(tmp_path: Path) -> None:
    metrics = run_training(experiment(log_interval=1), tmp_path)
    log = lines(tmp_path)
    assert [entry["step"] for entry in log if entry["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    judged = [entry for entry in log if entry["kind"] == "val"]
    assert [entry["epoch"] for entry in judged] == [1, 2]
    assert judged[-1]["bbox_AP"] == metrics["bbox_AP"]
    assert judged[-1]["val_loss"] > 0
    assert load_training(tmp_path / LAST).progress["epoch"] == 2
    assert list(tmp_path.glob("tensorboard/events*"))
    model, saved = load_model(tmp_path, allow=["tests"])
    assert saved == experiment(log_interval=1).resolved()
    assert all(
        torch.equal(tensor, load_weights(tmp_path / BEST)[name])
        for name, tensor in model.state_dict().items()
    )


def test_two_trainings_of_one_seed_end_in_the_same_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_training(experiment(epochs=1), tmp_path / name)
    first, second = (load_weights(tmp_path / name / LAST) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_that_holds_a_training_is_not_overwritten(tmp_path: Path) -> None:
    run_training(experiment(epochs=1), tmp_path)
    with pytest.raises(DetcfgError, match="--resume"):
        run_training(experiment(epochs=1), tmp_path)


def on_lvis(folder: Path, **trainer: Any) -> Experiment:
    """The tiny experiment on two images in LVIS's format, with a rare class and a frequent one."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2):
        Image.new("RGB", (64, 64)).save(folder / "images" / f"{number}.png")
        address = f"http://images.cocodataset.org/images/{number}.png"
        size: dict[str, Any] = {"id": number, "coco_url": address, "height": 64, "width": 64}
        images.append({**size, "neg_category_ids": [], "not_exhaustive_category_ids": []})
        annotations.append(
            {"id": number, "image_id": number, "category_id": number, "bbox": [9, 9, 30, 30], "area": 900}
        )
    categories = [{"id": i, "name": name, "frequency": name[0]} for i, name in ((1, "rare"), (2, "frequent"))]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (folder / "all.json").write_text(text)
    data = LVISV1DatasetConfig(data_root=str(folder), ann_file="all.json", classes=("rare", "frequent"))
    given = experiment(**trainer)
    return evolve(given, data=evolve(given.data, train=data, val=data))


def test_the_best_weights_on_lvis_may_be_those_of_the_highest_ap_of_rare_classes(tmp_path: Path) -> None:
    metrics = run_training(on_lvis(tmp_path / "data", epochs=1, save_best="bbox_APr"), tmp_path / "run")
    assert (tmp_path / "run" / BEST).is_file()
    assert load_training(tmp_path / "run" / LAST).progress["best"] == metrics["bbox_APr"]


def test_a_metric_that_the_data_has_not_is_refused_before_a_weight_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a weight was allocated")

    given = on_lvis(tmp_path / "data", save_best="bbox_AR100")
    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    with pytest.raises(RunError) as error:
        run_training(given, tmp_path / "run")
    assert str(error.value) == (
        "trainer.save_best='bbox_AR100' is no metric of this run. Did you mean 'bbox_AR300'? It has bbox_AP, "
        "bbox_AP50, bbox_AP75, bbox_APs, bbox_APm, bbox_APl, bbox_APr, bbox_APc, bbox_APf, bbox_AR300, bbox_ARs, "
        "bbox_ARm, bbox_ARl."
    )
