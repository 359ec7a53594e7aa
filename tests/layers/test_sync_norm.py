"""Batch norms that train together see one batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from detcfg.layers.norm import SyncBNConfig
from tests.support.processes import members


def test_shares_of_a_batch_are_normalised_as_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = torch.randn(5, 3, 4, 6) * 2 + 30
    target = torch.randn(5, 3, 4, 6)
    one = nn.BatchNorm2d(3)
    nn.init.normal_(one.weight)
    nn.init.normal_(one.bias)
    norm = SyncBNConfig().build_for(3)
    norm.load_state_dict(one.state_dict())
    joined = batch.clone().requires_grad_()
    expected = [one(joined) for _ in range(2)][1]
    (expected * target).sum().backward()

    def work() -> None:
        mine = slice(0, 2) if dist.get_rank() == 0 else slice(2, 5)  # uneven
        share = batch[mine].clone().requires_grad_()
        found = [norm(share) for _ in range(2)][1]
        (found * target[mine]).sum().backward()
        torch.testing.assert_close(found, expected[mine], rtol=1e-5, atol=1e-5)
        assert share.grad is not None
        assert joined.grad is not None
        torch.testing.assert_close(share.grad, joined.grad[mine], rtol=1e-5, atol=1e-5)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(norm.state_dict()[name], value, rtol=1e-5, atol=1e-5)
        for own, whole in zip(norm.parameters(), one.parameters(), strict=True):
            assert own.grad is not None
            dist.all_reduce(own.grad)
            torch.testing.assert_close(own.grad, whole.grad, rtol=1e-5, atol=1e-4)

    processes = members(2, work, tmp_path / "meet")
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
