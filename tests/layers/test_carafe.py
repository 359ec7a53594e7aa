"""CARAFE puts each enlarged cell together from the cells around it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.heads.mask.fcn_mask_head import FCNMaskHeadConfig
from detcfg.layers.carafe import CARAFEUpsampleConfig, reassembled


def by_definition(features: Tensor, kernels: Tensor, scale: int) -> Tensor:
    images, channels, height, width = features.shape
    groups, taps = kernels.shape[1:3]
    reach = (round(taps**0.5) - 1) // 2
    found = torch.zeros(images, channels, scale * height, scale * width)
    for n, c, y, x in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        group = c // (channels // groups)
        for tap in range(taps):
            row = y // scale + tap // (2 * reach + 1) - reach
            column = x // scale + tap % (2 * reach + 1) - reach
            if 0 <= row < height and 0 <= column < width:
                found[n, c, y, x] += kernels[n, group, tap, y, x] * features[n, c, row, column]
    return found


@pytest.mark.parametrize(("side", "groups", "scale"), [(3, 1, 2), (5, 2, 2), (3, 2, 3)])
def test_a_cell_is_the_sum_that_its_kernel_says(side: int, groups: int, scale: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 3, 4, generator=generator)
    kernels = torch.randn(2, groups, side**2, scale * 3, scale * 4, generator=generator)
    found = reassembled(features, kernels, scale)
    torch.testing.assert_close(found, by_definition(features, kernels, scale), atol=1e-5, rtol=1e-5)


def test_the_weights_of_a_kernel_sum_to_one_so_that_even_maps_stay_even_inside() -> None:
    layer = CARAFEUpsampleConfig(up_kernel=3, compressed_channels=4).build_for(6, 6)
    torch.nn.init.normal_(layer.content_encoder.weight)
    enlarged = layer(torch.full((1, 6, 5, 7), 2.0))
    assert enlarged.shape == (1, 6, 10, 14)
    torch.testing.assert_close(enlarged[..., 2:-2, 2:-2], torch.full((1, 6, 6, 10), 2.0))


def test_its_kernels_learn() -> None:
    layer = CARAFEUpsampleConfig(compressed_channels=4).build_for(6, 6)
    layer(torch.randn(1, 6, 4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_a_mask_head_may_be_enlarged_by_it() -> None:
    config = FCNMaskHeadConfig(
        num_classes=3,
        in_channels=8,
        roi_feat_size=14,
        conv_out_channels=8,
        upsample_cfg=CARAFEUpsampleConfig(),
    )
    assert config.resolved().mask_size == 28
    assert config.build()(torch.randn(2, 8, 14, 14)).shape == (2, 3, 28, 28)


def test_a_kernel_without_a_middle_and_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="up_kernel is 4"):
        CARAFEUpsampleConfig(up_kernel=4).resolved()
    with pytest.raises(ConfigError, match="up_group is 4, which does not divide the 6 channels"):
        CARAFEUpsampleConfig(up_group=4).build_for(6, 6)
