"""PVT attends to a coarser map; its files of the authors load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.nn import functional as F

from detcfg.backbones.pretrained import load_pretrained
from detcfg.backbones.pvt import (
    AbsolutePositionEmbedding,
    PyramidVisionTransformer,
    PyramidVisionTransformerConfig,
    PyramidVisionTransformerV2Config,
    SpatialReductionAttention,
)
from detcfg.config import ConfigError

V1 = PyramidVisionTransformerConfig(
    embed_dims=8, num_layers=(1, 2, 1, 1), num_heads=(1, 2, 3, 4), pretrain_img_size=64, drop_path_rate=0.0
)
V2 = PyramidVisionTransformerV2Config(
    embed_dims=8, num_layers=(1, 2, 1, 1), num_heads=(1, 2, 3, 4), drop_path_rate=0.0
)
EITHER = pytest.mark.parametrize("config", [V1, V2], ids=["v1", "v2"])


def randomised(model: PyramidVisionTransformer) -> PyramidVisionTransformer:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def authors(model: PyramidVisionTransformer, *, class_token: bool) -> dict[str, Tensor]:
    """The model's weights as the authors' files have them."""
    found: dict[str, Tensor] = {"head.weight": torch.zeros(10, 32), "cls_token": torch.zeros(1, 1, 32)}
    for stage, parts in enumerate(model.layers, start=1):
        embed, layers, norm = parts.children()
        for name, tensor in embed.state_dict().items():
            found[f"patch_embed{stage}.{name.replace('projection', 'proj')}"] = tensor
        for name, tensor in norm.state_dict().items():
            found[f"norm{stage}.{name}"] = tensor
        blocks = [layer for layer in layers.children() if not isinstance(layer, AbsolutePositionEmbedding)]
        for index, block in enumerate(blocks):
            for name, tensor in block.state_dict().items():
                found |= {f"block{stage}.{index}.{k}": v for k, v in _theirs(name, tensor)}
        for layer in layers.children():
            if isinstance(layer, AbsolutePositionEmbedding):
                token = [torch.zeros(1, 1, layer.pos_embed.shape[2])] if class_token and stage == 4 else []
                found[f"pos_embed{stage}"] = torch.cat([*token, layer.pos_embed.detach()], 1)
    return found


def _theirs(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    if "in_proj_" in name:
        third = len(tensor) // 3
        leaf = name.rpartition("_")[2]
        return [(f"attn.q.{leaf}", tensor[:third]), (f"attn.kv.{leaf}", tensor[third:])]
    if name.startswith("ffn.layers."):
        number, leaf = name.split(".")[2:]
        module = {"0": "fc1", "3": "fc2", "4": "fc2", "1": "dwconv.dwconv"}[number]
        flat = tensor[:, :, 0, 0] if leaf == "weight" and module != "dwconv.dwconv" else tensor
        return [(f"mlp.{module}.{leaf}", flat)]
    return [(name.replace("attn.attn.out_proj", "attn.proj"), tensor)]


@EITHER
def test_files_of_the_authors_load_whole(tmp_path: Path, config: PyramidVisionTransformerConfig) -> None:
    theirs = randomised(config.build())
    path = tmp_path / "pvt.pth"
    torch.save(authors(theirs, class_token=True), path)
    config = evolve(config, pretrained=str(path))
    ours = config.build().eval()
    report = load_pretrained(ours, config)

    assert report is not None
    assert set(report.unexpected) == {"head.weight", "cls_token"}
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


@EITHER
def test_its_own_files_load_whole(tmp_path: Path, config: PyramidVisionTransformerConfig) -> None:
    path = tmp_path / "pvt.pth"
    torch.save({f"backbone.{k}": v for k, v in randomised(config.build()).state_dict().items()}, path)
    config = evolve(config, pretrained=str(path))
    ours = config.build()
    report = load_pretrained(ours, config)

    assert report is not None
    assert len(report.matched) == len(ours.state_dict())


def test_each_token_attends_to_the_coarser_map() -> None:
    torch.manual_seed(0)
    module = SpatialReductionAttention(V1, 1, 0.0).eval()
    assert module.sr is not None
    x = torch.randn(2, 8, 12, 16)

    coarse = module.norm(module.sr(x.movedim(-1, 1)).movedim(1, -1))
    assert coarse.shape == (2, 2, 3, 16)
    query, key, value = F.linear(x, module.attn.in_proj_weight, module.attn.in_proj_bias).chunk(3, -1)
    del key, value
    keys = F.linear(coarse, module.attn.in_proj_weight, module.attn.in_proj_bias)[..., 16:]
    heads: list[Tensor] = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        logits = query.flatten(1, 2)[..., part] @ keys.flatten(1, 2)[..., part].mT / 8**0.5
        heads.append(logits.softmax(-1) @ keys.flatten(1, 2)[..., 16:][..., part])
    expected = module.attn.out_proj(torch.cat(heads, -1)).view(2, 8, 12, 16)

    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(
    "config",
    [
        V1,
        V2,
        evolve(V2, out_indices=(1, 3)),
        evolve(V1, use_abs_pos_embed=False),
        evolve(V1, use_conv_ffn=True),
    ],
)
def test_channels_and_strides_are_known_before_there_are_weights(
    config: PyramidVisionTransformerConfig,
) -> None:
    with torch.device("meta"):
        features = config.build()(torch.empty(1, 3, 64, 128))

    assert tuple(f.shape[1] for f in features) == config.feature_channels
    assert tuple(64 // f.shape[2] for f in features) == config.feature_strides


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sr_ratios": (8, 4)}, r"sr_ratios has 2 values \(8, 4\), but num_stages is 4"),
        ({"out_indices": (4,)}, r"out_indices is \(4,\), but num_stages is 4"),
    ],
)
def test_values_that_do_not_go_together_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(V1, **changes).resolved()
