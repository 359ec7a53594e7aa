"""Swin attends within windows, shifted at every other block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from detcfg.backbones.pretrained import load_pretrained
from detcfg.backbones.swin import (
    SwinTransformer,
    SwinTransformerConfig,
    from_windows,
    relative_position_index,
    rolled_mask,
    windows,
)
from detcfg.config import ConfigError

SMALL = SwinTransformerConfig(
    embed_dims=8,
    depths=(2, 2, 1),
    num_heads=(2, 2, 4),
    strides=(4, 2, 2),
    out_indices=(0, 1, 2),
    window_size=4,
)


def randomised(model: SwinTransformer) -> SwinTransformer:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def torchvisions(model: nn.Module) -> dict[str, Tensor]:
    """Weights of torchvision's Swin under the authors' names."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if parts[:2] == ["features", "0"]:
            found[f"patch_embed.{'proj' if parts[2] == '0' else 'norm'}.{parts[3]}"] = tensor
        elif parts[0] == "features" and int(parts[1]) % 2:  # a stage
            rest = ".".join(parts[3:]).replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
            value = tensor.view(49, 49) if rest.endswith("relative_position_index") else tensor
            found[f"layers.{int(parts[1]) // 2}.blocks.{parts[2]}.{rest}"] = value
        elif parts[0] == "features":
            found[f"layers.{int(parts[1]) // 2 - 1}.downsample.{'.'.join(parts[2:])}"] = tensor
        elif parts[0] == "norm":
            found[f"norm3.{parts[1]}"] = tensor
    return found


def test_weights_of_the_authors_give_torchvisions_features(tmp_path: Path) -> None:
    from torchvision.models import swin_t

    torch.manual_seed(0)
    theirs = swin_t(weights=None).eval()
    path = tmp_path / "swin_t.pth"
    torch.save({"model": torchvisions(theirs)}, path)
    config = SwinTransformerConfig(out_indices=(3,), pretrained=str(path))
    ours = config.build().eval()
    report = load_pretrained(ours, config)
    assert report is not None
    assert len(report.matched) == len(ours.state_dict())

    x = torch.randn(1, 3, 228, 252)  # torchvision does not roll a map of one window; here each has four
    expected = theirs.norm(theirs.features(x)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_table_of_positions_is_resized_to_another_window(tmp_path: Path) -> None:
    path = tmp_path / "swin.pth"
    torch.save(randomised(SMALL.build()).state_dict(), path)
    config = evolve(SMALL, window_size=7, pretrained=str(path))
    report = load_pretrained(config.build(), config)

    assert report is not None
    assert {name.rpartition(".")[2] for name in report.mismatched} == {"relative_position_index"}


def test_windows_and_back_is_the_map() -> None:
    x = torch.randn(2, 8, 12, 3)
    cut = windows(x, 4)
    assert torch.equal(cut[1, 4].view(4, 4, 3), x[1, 4:8, 4:8])
    assert torch.equal(from_windows(cut, 4, 8, 12), x)


def test_the_bias_depends_on_the_offset_of_key_and_query_alone() -> None:
    index = relative_position_index(3).view(3, 3, 3, 3)
    offsets: dict[int, set[tuple[int, int]]] = {}
    for qy, qx, ky, kx in torch.cartesian_prod(*[torch.arange(3)] * 4).tolist():
        offsets.setdefault(int(index[qy, qx, ky, kx]), set()).add((qy - ky, qx - kx))

    assert all(len(found) == 1 for found in offsets.values())
    assert sorted(offsets) == list(range(25))


def test_tokens_that_only_rolling_brought_together_do_not_see_each_other() -> None:
    side, shift = 4, 2
    place = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"), -1)
    rolled = windows(place.roll((-shift, -shift), (0, 1))[None], side)[0].float()
    apart = rolled_mask(8, 8, side, torch.device("cpu")) != 0

    near = (rolled[:, :, None] - rolled[:, None, :]).abs().amax(-1) < side
    assert torch.equal(apart, ~near)


@pytest.mark.parametrize(
    "changes", [{}, {"use_abs_pos_embed": True}, {"out_indices": (1,)}, {"patch_norm": False}]
)
def test_channels_and_strides_are_known_before_there_are_weights(changes: dict[str, Any]) -> None:
    config = evolve(SMALL, **changes)
    with torch.device("meta"):
        features = config.build()(torch.empty(1, 3, 64, 128))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    assert tuple(64 // f.shape[2] for f in features) == config.feature_strides


def test_recomputing_activations_changes_no_gradient() -> None:
    plain = randomised(evolve(SMALL, drop_path_rate=0.0).build()).train()
    recomputing = evolve(SMALL, drop_path_rate=0.0, with_cp=True).build()
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 32, 48)

    for model in (plain, recomputing):
        sum(f.square().mean() for f in model(x)).backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_frozen_stages_train_nothing() -> None:
    model = evolve(SMALL, frozen_stages=1, use_abs_pos_embed=True).build().train()
    held = {".".join(name.split(".")[:2]) for name, p in model.named_parameters() if not p.requires_grad}

    assert held == {
        "absolute_pos_embed",
        "patch_embed.projection",
        "patch_embed.norm",
        "stages.0",
        "norm0.weight",
        "norm0.bias",
    }
    assert not model.stages[0].training
    assert model.stages[1].training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": (2, 2)}, r"num_heads has 2 values \(2, 2\), but depths has 3"),
        ({"patch_size": 2}, r"strides\[0\] is 4, but patch_size is 2"),
        ({"num_heads": (3, 2, 4)}, "num_heads has 3, which does not divide 8 channels"),
        ({"out_indices": (3,)}, r"out_indices is \(3,\): name stages from 0 to 2"),
        ({"frozen_stages": 4}, "frozen_stages is 4: give -1 to 3"),
    ],
)
def test_values_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(SMALL, **changes).resolved()
