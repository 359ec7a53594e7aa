"""NAS-FPN, the cells that it is made of, and the head that goes with it."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve
from torch import tensor
from torch.testing import assert_close

from detcfg.config import ConfigError
from detcfg.detectors.base import DetDataPreprocessorConfig
from detcfg.detectors.batch_augments import BatchFixedSizePadConfig
from detcfg.experiments import nas_fpn
from detcfg.heads.anchor_based.retina_sepbn_head import RetinaSepBNHeadConfig
from detcfg.layers.merge_cells import GlobalPoolingCell, SumCell, resized
from detcfg.layers.norm import BNConfig
from detcfg.necks.fpn import FPNConfig
from detcfg.necks.nas_fpn import NASFPNConfig
from tests.support import zoo
from tests.support.dense import batch, built, features, objects


def test_a_map_shrinks_by_the_maxima_of_its_parts() -> None:
    x = torch.arange(24.0).reshape(1, 1, 4, 6)

    assert resized(x, (2, 3)).flatten().tolist() == [7, 9, 11, 19, 21, 23]
    assert_close(resized(x, (8, 12))[..., ::2, ::2], x)


def test_parts_that_do_not_come_out_even_are_filled_with_zeros_around() -> None:
    x = -torch.ones(1, 1, 3, 5)

    shrunk = resized(x, (2, 3))

    # 4 x 6 with zeros below and on the right.
    assert shrunk.flatten().tolist() == [-1, -1, 0, 0, 0, 0]


def test_a_pooling_cell_weighs_the_first_map_by_the_mean_of_the_second() -> None:
    cell = GlobalPoolingCell(2, with_out_conv=False)
    first, second = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)

    out = cell(first, second, (4, 4))

    weight = second.mean((2, 3)).sigmoid()[0]
    assert_close(out[0, 1], second[0, 1] + weight[1] * first[0, 1])


def test_a_cell_activates_before_it_convolves() -> None:
    cell = SumCell(1)
    torch.nn.init.zeros_(cell.out_conv.conv.weight)
    cell.out_conv.conv.weight.data[..., 1, 1] = 1.0

    out = cell(tensor([[[[1.0, -5.0]]]]), tensor([[[[2.0, 3.0]]]]), (1, 2))

    assert out.flatten().tolist() == [3.0, 0.0]


def test_five_levels_come_out_and_no_other_number() -> None:
    config = NASFPNConfig(
        in_channels=(4, 8, 16), in_strides=(8, 16, 32), out_channels=8, stack_times=2, norm_cfg=BNConfig()
    )
    levels = config.build()(tuple(torch.randn(2, 2**i, 2 ** (7 - i), 2 ** (7 - i)) for i in (2, 3, 4)))

    assert [tuple(x.shape[1:]) for x in levels] == [(8, 2**i, 2**i) for i in (5, 4, 3, 2, 1)]
    assert config.feature_strides == (8, 16, 32, 64, 128)
    with pytest.raises(ConfigError, match="num_outs is 6"):
        evolve(config, num_outs=6).resolved()


def test_levels_share_convolutions_and_have_norms_of_their_own() -> None:
    head = built(RetinaSepBNHeadConfig(stacked_convs=2))
    losses = head.loss(features(), batch(), [objects((20.0, 30.0, 100.0, 90.0)), objects()])
    torch.stack(list(losses.values())).sum().backward()

    names = [name for name, _ in head.named_parameters() if name.startswith("cls_convs")]
    assert sum(name.endswith("conv.weight") for name in names) == 2
    assert sum(name.endswith("bn.weight") for name in names) == 2 * 5
    assert all(p.grad is not None for p in head.parameters())


def test_the_parameters_with_an_ordinary_pyramid_are_mmdetections() -> None:
    neck = FPNConfig(start_level=1, add_extra_convs="on_input", no_norm_on_lateral=True, norm_cfg=BNConfig())
    zoo.check_state_dict("nas_fpn/retinanet_r50_fpn_crop640-50e_coco.py", nas_fpn.Model(neck=neck))


def test_batches_have_a_fixed_size_in_training_only() -> None:
    preprocessor = DetDataPreprocessorConfig(
        batch_augments=(BatchFixedSizePadConfig(size=(96, 128), img_pad_value=7),)
    ).build()
    plain = preprocessor([torch.zeros(3, 50, 60, dtype=torch.uint8)])
    targets = [objects()]

    padded, _ = preprocessor.train().augmented(plain, targets)

    assert padded.tensor.shape == (1, 3, 96, 128)
    assert padded.padded_sizes == ((96, 128),)
    assert padded.sizes == ((50, 60),)
    assert_close(padded.tensor[..., :64, :64], plain.tensor)
    assert (padded.tensor[..., 64:, :] == 7).all()
    assert preprocessor.eval().augmented(plain, targets)[0] is plain
