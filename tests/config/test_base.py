"""Given, resolved, built; and the slips that no type checker sees."""

from __future__ import annotations

from typing import Self

import pytest
from attrs import evolve, frozen

from detcfg.config import ConfigError
from tests.support import toy
from tests.support.toy import BodyConfig, ChildJob, HeadConfig, Job, Model, ModelConfig, WideHeadConfig


def test_resolving_fills_derived_fields_all_the_way_down() -> None:
    model = ModelConfig(num_classes=3, body=BodyConfig(depth=18), others=(HeadConfig(),)).resolved()

    assert (64, 512) == model.head.in_channels
    assert (64, 512) == model.others[0].in_channels
    assert 3 == model.others[0].num_classes


def test_resolving_twice_changes_nothing() -> None:
    once = Job().resolved()

    assert once == once.resolved()


def test_the_given_config_stays_given() -> None:
    model = ModelConfig(num_classes=3)
    model.resolved()

    assert "<derived>" == repr(model.head.in_channels)
    assert (64, 512) == evolve(model, body=BodyConfig(depth=18)).resolved().head.in_channels


def test_a_contradiction_names_both_fields_and_both_values_before_anything_is_built() -> None:
    toy.allocated.clear()

    with pytest.raises(ConfigError) as caught:
        ModelConfig(num_classes=3, head=HeadConfig(in_channels=(1,))).build()

    assert str(caught.value).startswith("head.in_channels is (1,), but body.channels makes it (256, 2048).")
    assert not toy.allocated


def test_a_contradiction_deep_inside_is_named_from_the_root() -> None:
    job = evolve(Job(), model=evolve(Job().model, head=HeadConfig(num_classes=7)))

    with pytest.raises(
        ConfigError, match=r"^model\.head\.num_classes is 7, but model\.num_classes makes it 5"
    ):
        job.resolved()


def test_a_given_value_that_agrees_is_welcome() -> None:
    model = ModelConfig(num_classes=3, head=HeadConfig(in_channels=(256, 2048))).resolved()

    assert (256, 2048) == model.head.in_channels


def test_a_value_left_open_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^HeadConfig\.in_channels is derived, and nothing around it"):
        HeadConfig(num_classes=3).build()


def test_an_error_raised_while_wiring_says_where() -> None:
    job = evolve(Job(), model=evolve(Job().model, head=HeadConfig(width=2000)))

    with pytest.raises(ConfigError, match=r"^model: head\.width is 2000"):
        job.resolved()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (HeadConfig(width="16"), r"^model\.head\.width must be int, not '16'"),  # type: ignore[arg-type]
        (HeadConfig(width=1.0), r"must be int, not 1\.0"),  # type: ignore[arg-type]
        (HeadConfig(width=True), r"must be int, not True"),
        (HeadConfig(mode="max"), r"must be one of 'sum', 'mean', not 'max'"),  # type: ignore[arg-type]
        (WideHeadConfig(extra=[1.0]), r"write a tuple, not a list"),  # type: ignore[arg-type]
        (BodyConfig(), r"^model\.head must be HeadConfig, not BodyConfig"),
    ],
)
def test_a_value_of_a_wrong_type_is_found_on_resolve(head: HeadConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolve(Job(), model=evolve(Job().model, head=head)).resolved()


def test_a_value_that_cannot_be_worked_with_is_an_error_with_its_place() -> None:
    @frozen(kw_only=True)
    class Odd(ModelConfig):
        share: int = 0

        @property
        def rest(self) -> int:
            return 100 % self.share

        def wired(self) -> Self:
            return evolve(super().wired(), num_classes=self.rest)

    with pytest.raises(
        ConfigError, match=r"Odd\.rest cannot be worked out: .*zero.* out of range \(.*:\d+\)"
    ):
        Odd(num_classes=1).resolved()


def test_an_int_is_a_float() -> None:
    assert 1 == HeadConfig(threshold=1, in_channels=(1,), num_classes=1).resolved().threshold


def test_a_misspelt_field_in_a_preset_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match=r"'haed', which nothing reads\. Did you mean 'head'\?"):

        @frozen(kw_only=True)
        class Typo(Model):  # pyright: ignore[reportUnusedClass]
            haed: HeadConfig = HeadConfig()


def test_an_unannotated_override_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="head needs an annotation"):

        @frozen(kw_only=True)
        class Unannotated(Model):  # pyright: ignore[reportUnusedClass]
            head = HeadConfig()


def test_a_forgotten_decorator_is_an_error() -> None:
    class Undecorated(Model):
        head: HeadConfig = HeadConfig()

    with pytest.raises(TypeError, match="not decorated"):
        Undecorated()


def test_configs_compare_by_value_and_hash() -> None:
    assert ChildJob() == ChildJob()
    assert 1 == len({ChildJob(), ChildJob()})
