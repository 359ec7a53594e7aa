"""The feed-forward network of a transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from detcfg.layers.activation import GELUConfig
from detcfg.layers.ffn import FFN

X, IDENTITY = torch.randn(2, 5, 4), torch.randn(2, 5, 4)


def test_it_is_two_linear_layers_with_an_activation_between_and_a_shortcut() -> None:
    ffn = FFN(4, 16, act_cfg=GELUConfig()).eval()
    first, last = (layer for layer in ffn.modules() if isinstance(layer, nn.Linear))
    inner = last(F.gelu(first(X)))

    torch.testing.assert_close(X + inner, ffn(X))
    torch.testing.assert_close(IDENTITY + inner, ffn(X, identity=IDENTITY))


def test_without_a_shortcut_neither_input_is_added() -> None:
    ffn = FFN(4, 16, act_cfg=GELUConfig()).eval()
    plain = FFN(4, 16, act_cfg=GELUConfig(), add_identity=False).eval()
    plain.load_state_dict(ffn.state_dict())

    torch.testing.assert_close(ffn(X) - X, plain(X), atol=1e-6, rtol=1e-5)
    assert torch.equal(plain(X), plain(X, identity=IDENTITY))


def test_further_layers_are_as_wide_as_the_hidden_one() -> None:
    ffn = FFN(4, 16, num_fcs=3)
    assert [(fc.in_features, fc.out_features) for fc in ffn.modules() if isinstance(fc, nn.Linear)] == [
        (4, 16),
        (16, 16),
        (16, 4),
    ]


def test_a_dropped_sample_is_its_identity() -> None:
    torch.manual_seed(0)
    ffn = FFN(4, 16, drop_path=0.5).train()
    x = torch.randn(64, 4)
    unchanged = (ffn(x) == x).all(dim=1)

    assert 0 < unchanged.sum() < 64
