"""`detcfg import-weights` turns published weights into a folder that the other commands take."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor

from detcfg.cli.main import run
from detcfg.config import ConfigError
from detcfg.data.classes import COCO_CLASSES
from detcfg.engine.weights import load_model
from detcfg.interop.realtime import import_weights
from tests.support.experiments import experiment


def published(name: str, num_classes: int = 80) -> dict[str, Tensor]:
    """A state dict as the references save it: with anchors, and each tensor other than at first."""
    model: Any = experiment(name).model
    state: dict[str, Tensor] = evolve(model, num_classes=num_classes).build().state_dict()
    state = {key: x + 1 if x.is_floating_point() else x for key, x in state.items()}
    return {**state, "decoder.anchors": torch.zeros(1, 2000, 4), "decoder.valid_mask": torch.ones(1, 2000, 1)}


def test_averaged_weights_are_taken_and_load_as_a_whole(tmp_path: Path) -> None:
    path, state = tmp_path / "dfine_n_coco.pth", published("dfine_n")
    wrong = {key: torch.zeros_like(x) for key, x in state.items()}
    torch.save({"model": wrong, "ema": {"module": state, "updates": 7}, "last_epoch": 3}, path)
    result = import_weights(path, tmp_path / "run")
    model, saved = load_model(tmp_path / "run")

    assert result.name == "dfine_n"
    assert saved.data.classes == COCO_CLASSES
    assert all(torch.equal(x, state[key]) for key, x in model.state_dict().items())
    assert any("EMA" in note for note in result.notes)
    assert any("dfine_n and deim_dfine_n" in note for note in result.notes)


@pytest.mark.parametrize("name", ["deim_dfine_n", "rtdetrv2_r18"])
def test_the_experiment_is_known_by_weights_and_file(tmp_path: Path, name: str) -> None:
    path, state = tmp_path / f"{name}_coco.pth", published(name)
    del state["decoder.denoising_class_embed.weight"]
    torch.save({"model": state}, path)

    assert import_weights(path, tmp_path / "run").name == name


def test_with_other_classes_the_heads_stay_new_and_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = tmp_path / "dfine_n_coco.pth", published("dfine_n")
    torch.save({"model": state}, path)
    with pytest.raises(SystemExit) as done:
        run(["import-weights", str(path), "--out", str(tmp_path / "run"), "--classes", "bolt,nut"])
    found = load_model(tmp_path / "run")[0].state_dict()

    assert done.value.code == 0
    assert "It knows 80 classes and you name 2" in capsys.readouterr().out
    assert torch.equal(
        found["decoder.pre_bbox_head.layers.2.bias"], state["decoder.pre_bbox_head.layers.2.bias"]
    )
    assert found["decoder.dec_score_head.2.weight"].shape == (2, 128)
    torch.testing.assert_close(
        found["decoder.enc_score_head.bias"], torch.full((2,), -4.5951), atol=1e-4, rtol=0
    )


def test_unknown_classes_are_to_be_named_and_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": published("dfine_n", 7)}, path)
    with pytest.raises(ConfigError, match="knows 7 classes"):
        import_weights(path)
    with pytest.raises(ConfigError, match="is of no dfine_s"):
        import_weights(path, name="dfine_s")
    with pytest.raises(ConfigError, match="Did you mean 'dfine_n'"):
        import_weights(path, name="dfine-n")
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(ConfigError, match="of no model that is here"):
        import_weights(path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('it ran')",))


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "harmful.pth"
    torch.save({"model": {"weight": torch.zeros(3)}, "args": Harmful()}, path)
    with pytest.raises(SystemExit, match="it ran"):
        torch.load(path, weights_only=False, pickle_module=pickle)
    with pytest.raises(ConfigError, match="of no model that is here"):
        import_weights(path)
