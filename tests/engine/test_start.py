"""A recipe for a longer training or larger batches is said before the first step."""

from __future__ import annotations

from attrs import evolve

from detcfg.data.transforms import RandomFlipConfig
from detcfg.engine.start import doubts
from detcfg.experiment import ExperimentConfig
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.schedules import ConstantConfig
from tests.support.tiny import experiment


def said(given: ExperimentConfig, images: int = 16, total: int = 1000) -> str:
    return "\n".join(doubts(given, images, total))


def test_a_moving_average_that_is_slower_than_the_training_is_said() -> None:
    slow, quick = (experiment(ema=EMAConfig(momentum=momentum, gamma=100)) for momentum in (0.0001, 0.01))

    assert "reaches back 6,899 steps and the training has 1,000" in said(slow)
    assert said(quick) == ""
    assert said(slow, total=20_000) == ""


def test_a_learning_rate_for_other_batches_is_said_where_it_is_not_scaled() -> None:
    given = experiment(base_batch_size=128, auto_scale_lr=False)

    assert "meant for 128 images a step, and there are 8" in said(given, images=8)
    assert said(given, images=64) == ""
    assert said(experiment(base_batch_size=128), images=8) == ""


def test_transforms_and_a_learning_rate_that_are_never_reached_are_said() -> None:
    given = experiment(schedule=ConstantConfig(warmup_iters=500))
    late = evolve(given, data=evolve(given.data, switch_epoch=9, switch_transforms=(RandomFlipConfig(),)))

    assert "takes 500 steps and the training has 500" in said(late, total=500)
    assert "follows epoch 9, and there are 2 epochs" in said(late)
    assert said(given) == ""
