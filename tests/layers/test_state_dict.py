"""The tensors of a checkpoint are held against those of a module by name and shape."""

from __future__ import annotations

import torch
from torch import nn

from detcfg.layers.state_dict import StateDictMatch


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_the_state_of_a_module_fits_it() -> None:
    match = StateDictMatch.of(module(), module().state_dict())
    assert match.complete
    assert match.matched == tuple(module().state_dict())
    assert str(match) == "7 tensors match, 0 missing, 0 unexpected, 0 of another shape"


def test_what_does_not_fit_is_named_with_both_shapes_and_not_loaded() -> None:
    into = module()
    bias = into.state_dict()["0.bias"].clone()
    tensors = {name: torch.full_like(tensor, 2) for name, tensor in module().state_dict().items()}
    tensors["0.bias"] = torch.ones(5)
    tensors["fc.weight"] = torch.ones(1)
    del tensors["1.weight"]
    match = StateDictMatch.of(into, tensors)
    assert (match.missing, match.unexpected, match.mismatched) == (("1.weight",), ("fc.weight",), ("0.bias",))
    assert not match.complete
    assert str(match) == (
        "5 tensors match, 1 missing (1.weight), 1 unexpected (fc.weight), 1 of another shape (0.bias: 5 for 3)"
    )
    match.load(into, tensors)
    loaded = into.state_dict()
    assert all((loaded[name] == 2).all() for name in match.matched)
    assert torch.equal(loaded["0.bias"], bias)
    assert (loaded["1.weight"] == 1).all()


def test_the_counters_of_batch_norms_are_never_missing() -> None:
    tensors = module().state_dict()
    del tensors["1.num_batches_tracked"]
    assert StateDictMatch.of(module(), tensors).complete


def test_of_many_names_three_are_given() -> None:
    tensors = {f"x{i}": torch.ones(()) for i in range(5)} | module().state_dict()
    assert "5 unexpected (x0, x1, x2 and 2 more)" in str(StateDictMatch.of(module(), tensors))
