"""How many detections count is a setting, and objects beyond their number are said to be out of reach."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from detcfg.config import ConfigError
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.errors import DetcfgError
from detcfg.evaluation.coco import CocoEvaluator, evaluate_files
from tests.evaluation.test_coco import random_world
from tests.evaluation.test_lvis import random_world as random_lvis
from tests.support.coco_files import write_crowded


@pytest.fixture
def crowded(tmp_path: Path) -> tuple[Path, Path]:
    return write_crowded(tmp_path)


def test_all_are_found_where_enough_detections_count(crowded: tuple[Path, Path]) -> None:
    default = evaluate_files(*crowded)
    assert default["bbox_AR100"] == pytest.approx(103 / 303)
    more = evaluate_files(*crowded, max_dets=(300, 1, 100))
    assert list(more)[6:9] == ["bbox_AR1", "bbox_AR100", "bbox_AR300"]
    assert more["bbox_AP"] == more["bbox_AR300"] == pytest.approx(1)
    assert more["bbox_AR100"] == default["bbox_AR100"]
    assert more["bbox_ARs"] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limits", [(1, 2, 3), (2, 5, 300)])
def test_other_limits_are_those_of_pycocotools(tmp_path: Path, seed: int, limits: tuple[int, ...]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = random_world(seed)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "gt.json")
        reference: Any = COCOeval(coco, coco.loadRes(str(tmp_path / "dt.json")), "bbox")
        reference.params.maxDets = list(limits)
        reference.evaluate()
        reference.accumulate()
    numbers = evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json", max_dets=limits)

    precision, recall = reference.eval["precision"], reference.eval["recall"]
    last = precision[..., 0, -1]
    assert numbers["bbox_AP"] == pytest.approx(last[last > -1].mean(), abs=1e-12)
    for place, limit in enumerate(limits):
        values = recall[..., 0, place]
        assert numbers[f"bbox_AR{limit}"] == pytest.approx(values[values > -1].mean(), abs=1e-12)


def test_the_fast_backend_takes_the_limits_too(crowded: tuple[Path, Path]) -> None:
    pytest.importorskip("hotcoco")
    evaluator = CocoEvaluator.from_files(*crowded, "bbox", max_dets=(50, 200))
    default = evaluator.compute()
    evaluator.backend = "hotcoco"
    evaluator.merge({})
    assert evaluator.compute() == pytest.approx(default, abs=1e-12)


def test_what_is_out_of_reach_is_said_with_the_remedy(crowded: tuple[Path, Path]) -> None:
    lost = CocoEvaluator.from_files(*crowded, "bbox").out_of_reach()
    assert (lost.objects, lost.lost, lost.most, lost.limit) == (303, 200, 300, 100)
    assert str(lost) == (
        "200 of 303 objects (66.0%) are out of reach: there are up to 300 of a class in an image, and 100 detections "
        "count. Raise max_dets, and with it the detections that the model gives."
    )
    assert not str(CocoEvaluator.from_files(*crowded, "bbox", max_dets=(300,)).out_of_reach())
    assert not str(CocoEvaluator(DemoDatasetConfig(num_images=2).dataset()).out_of_reach())


def test_crowds_are_not_out_of_reach_for_they_need_not_be_found(crowded: tuple[Path, Path]) -> None:
    data = json.loads(crowded[0].read_text())
    for annotation in data["annotations"][:150]:
        annotation["iscrowd"] = 1
    crowded[0].write_text(json.dumps(data))
    assert CocoEvaluator.from_files(*crowded, "bbox").out_of_reach().lost == 50


def test_lvis_stays_with_its_own_rule(tmp_path: Path) -> None:
    truth, _ = random_lvis(0)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text("[]")
    evaluator = CocoEvaluator.from_files(tmp_path / "gt.json", tmp_path / "dt.json", "bbox", max_dets=(7,))
    assert evaluator.max_dets == (300,)
    assert "bbox_AR300" in evaluator.compute()


@pytest.mark.parametrize("limits", [(), (0, 10), (-1,)])
def test_a_limit_of_nothing_is_refused(limits: tuple[int, ...]) -> None:
    demo = DemoDatasetConfig(num_images=2)
    with pytest.raises(DetcfgError, match="one or several numbers from 1 on"):
        CocoEvaluator(demo.dataset(), max_dets=limits)
    with pytest.raises(ConfigError, match=r"max_dets must be tuple\[int of at least 1"):
        DataConfig(train=demo, val=demo, max_dets=limits).resolved()
