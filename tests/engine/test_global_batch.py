"""Two processes have the gradients of one that has all their images, whatever head learns from them.

The models are the shipped experiments', with all that is drawn at random taken out: samplers take all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor, nn

from detcfg.engine import distributed
from detcfg.layers.norm import BATCH_NORMS
from detcfg.structures import Targets
from tests.support.experiments import NAMES, experiment
from tests.support.processes import finished, members
from tests.support.small import SIDE, narrow, objects

OTHERS: Final = {
    "c4",
    "cascade_mask_rcnn",
    "centernet_r18",
    "dc5",
    "dcn",
    "dcnv2",
    "detectors",
    "deim_dfine_n",
    "deim_dfine_s",
    "dfine_l",
    "dfine_m",
    "dfine_n_bccd",
    "dfine_n_demo",
    "dfine_s",
    "dfine_x",
    "double_head_bccd",
    "double_head_demo",
    "dyhead",
    "gcnet",
    "giou",
    "gn",
    "gn_ws",
    "groie",
    "hrnet",
    "mask_rcnn_nuclei",
    "nas_fpn",
    "pafpn",
    "pvt",
    "regnet",
    "res2net",
    "resnest",
    "resnext",
    "rtdetrv2_r101",
    "rtdetrv2_r34",
    "rtdetrv2_r50",
    "swin",
    "tridentnet",
}
"""Experiments whose heads and losses are those of others."""
BY_SHARE: Final = {
    "grid_rcnn": "boxes are moved at random",
    "pisa": "positives rank among those of their own process",
    "pisa_retinanet": "positives rank among those of their own process",
    "point_rend": "points are drawn at random",
}
"""They agree only where one process has all objects. The docs name them."""
SINGLE: Final = {"rtmdet", "tood", "vfnet", "yolof", "yolox"}
"""Experiments whose heads compute in float32 whatever their weights are. The others compute in float64, where
rounding does not decide which of two proposals is the better one."""


def drawing_nothing(name: str) -> nn.Module:
    """An experiment's narrow model in training, without chance and without looks at the batch."""
    torch.manual_seed(0)
    everything = {"num": 10**6, "pos_fraction": 0.5, "neg_pos_ub": -1.0, "num_denoising": 0}
    everything |= {"dropout": 0.0, "ffn_drop": 0.0, "attn_drop": 0.0}
    config = narrow(experiment(name).model, **everything, max_per_img=20, depth=18)
    model: nn.Module = evolve(config, num_classes=3).build().train()
    for part in model.modules():
        if isinstance(part, BATCH_NORMS):  # SyncBN has a test of its own
            part.eval()
    return model if name in SINGLE else model.double()


def gradients(
    of: nn.Module, model: nn.Module, images: list[Tensor], targets: list[Targets]
) -> dict[str, Tensor]:
    """Of the parameters `of` a model that may be wrapped, after one pass."""
    of.zero_grad()
    torch.manual_seed(1)
    losses: dict[str, Tensor] = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in of.named_parameters() if p.grad is not None}


@frozen
class Step:
    """A batch, the model before it, and the gradients that the whole batch gives."""

    counts: Sequence[int]
    """Objects in each image."""
    model: nn.Module
    images: list[Tensor]
    targets: list[Targets]
    expected: dict[str, Tensor]

    @classmethod
    def taken(cls, model: nn.Module, counts: Sequence[int]) -> Step:
        """Take the step in this process."""
        targets = [objects(count, SIDE) for count in counts]
        chance = torch.Generator().manual_seed(sum(counts))
        images = [torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8, generator=chance) for _ in targets]
        before = copy.deepcopy(model)  # some count what they have seen
        return cls(counts, before, images, targets, gradients(model, model, images, targets))

    def compare(self) -> None:
        """In one of the processes that share out the batch: have the gradients of the whole."""
        mine = slice(distributed.rank(), distributed.rank() + 1)
        wrapped = distributed.wrap_ddp(self.model)
        found = gradients(self.model, wrapped, self.images[mine], self.targets[mine])
        largest = max(float(gradient.abs().max()) for gradient in self.expected.values())
        assert found.keys() == self.expected.keys()
        for name, gradient in self.expected.items():
            message = f"{name}, {self.counts} objects"
            torch.testing.assert_close(
                found[name], gradient, rtol=1e-5, atol=1e-5 * max(1.0, largest), msg=message
            )


@pytest.mark.parametrize("name", sorted(set(NAMES) - OTHERS))
def test_the_gradients_of_two_processes_are_those_of_one(tmp_path: Path, name: str) -> None:
    model = drawing_nothing(name)
    steps = [
        Step.taken(model, counts)
        for counts in ((2, 0), (0, 0), (2, 1))
        if counts != (2, 1) or name not in BY_SHARE
    ]

    def work() -> None:
        for step in steps:
            step.compare()

    finished(members(2, work, tmp_path / "meet"))
