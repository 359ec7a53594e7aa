"""TOOD's head: the alignment of scores and boxes."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from detcfg.heads.anchor_based.task_decomposition import TaskDecomposition
from detcfg.heads.anchor_based.tood_head import TOODHeadConfig, normed_alignment, sample_at
from detcfg.heads.dense.levels import geometric_mean
from detcfg.layers.epochs import set_epoch
from tests.support.dense import batch, built, features, objects

ONE = objects((20.0, 30.0, 100.0, 90.0))


def test_the_gradient_of_the_geometric_mean_is_finite_for_impossible_scores() -> None:
    logits = torch.tensor([-500.0, 0.0], requires_grad=True)

    mean = geometric_mean(logits, torch.tensor([-500.0, 0.0]))
    gradient = torch.autograd.grad(mean.sum(), logits)[0]

    assert_close(mean, torch.tensor([0.0, 0.5]))
    assert_close(gradient, torch.tensor([0.0, 0.125]))  # z * (1 - sigmoid(x)) / 2


def test_each_channel_is_read_at_its_own_offset() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 2, 3, 4)
    offsets = torch.zeros(1, 4, 3, 4)
    offsets[:, 0] = 1  # the first channel one row below
    offsets[:, 3] = 0.5  # the second half a column to the right

    read = sample_at(maps, offsets)

    assert read[0, 0, 0].tolist() == [4, 5, 6, 7]
    assert read[0, 1, 0, :3].tolist() == [0.5, 1.5, 2.5]


def test_a_decomposition_is_the_reduction_of_weighed_layers() -> None:
    torch.manual_seed(0)
    decomposition = TaskDecomposition(8, 3, 2)
    layers = torch.randn(2, 24, 4, 5)
    mean = layers.mean((2, 3), keepdim=True)
    weights = decomposition.layer_attention(mean).repeat_interleave(8, dim=1)

    expected = torch.nn.functional.conv2d(
        layers * weights, decomposition.reduction_conv.conv.get_parameter("weight")
    )
    assert_close(decomposition(layers, mean), expected.relu())


def test_the_first_epochs_have_an_assigner_and_a_loss_of_their_own() -> None:
    early, late, other = (
        built(TOODHeadConfig(stacked_convs=2)),
        built(TOODHeadConfig(stacked_convs=2)),
        built(TOODHeadConfig(stacked_convs=2, initial_epoch=0)),
    )
    set_epoch(late, 4)

    losses = [head.loss(features(1), batch(1), [ONE]) for head in (early, late, other)]

    assert_close(losses[1], losses[2])
    assert losses[0]["loss_cls"] != losses[1]["loss_cls"]


def test_the_best_aligned_anchor_of_an_object_learns_its_best_overlap() -> None:
    objects_ = torch.tensor([0, 0, 2])
    metrics, overlaps = torch.tensor([0.2, 0.1, 0.3]), torch.tensor([0.5, 0.8, 0.6])

    assert_close(normed_alignment(objects_, metrics, overlaps, 3), torch.tensor([0.8, 0.4, 0.6]))
