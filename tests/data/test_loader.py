"""A loader is what plain loops, Lightning and Accelerate expect, and each iteration is the next epoch."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor
from torch.utils.data import DataLoader

from detcfg.config import ConfigError
from detcfg.data.config import DataConfig
from detcfg.data.demo import DemoDatasetConfig
from detcfg.data.errors import DataError, ReadingError
from detcfg.data.loader import Batch, Loader
from detcfg.data.transforms import RandomFlipConfig
from tests.support.coco_files import write

PAGE = Path(__file__).parents[2] / "detcfg" / "docs" / "own_loop.md"
BLOCKS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))


def config(**values: Any) -> DataConfig:
    train = DemoDatasetConfig(num_images=8, image_size=(32, 40), max_objects=2)
    data = DataConfig(
        train=train,
        val=evolve(train, split="val"),
        train_transforms=(RandomFlipConfig(prob=0.5),),
        val_transforms=(),
        num_workers=0,
    )
    return evolve(data, **values)


def order(batches: Any) -> list[list[Any]]:
    return [[info.image_id for info in batch.infos] for batch in batches]


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Whether the batches have the same pixels and objects."""
    pairs = zip(first, second, strict=True)
    return all(
        len(a) == len(b)
        and all(map(torch.equal, a.images, b.images))
        and all(torch.equal(x.boxes, y.boxes) for x, y in zip(a.targets, b.targets, strict=True))
        for a, b in pairs
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_iteration_is_the_next_epoch(num_workers: int) -> None:
    loader = config(num_workers=num_workers).train_loader(seed=3)
    own = [list(loader) for _ in range(3)]
    asked = [list(loader.epoch(epoch)) for epoch in range(3)]
    loader.close()

    assert all(same(a, b) for a, b in zip(own, asked, strict=True))
    assert order(own[0]) != order(own[1]) != order(own[2])
    assert sorted(index for ids in order(own[1]) for index in ids) == list(range(8))


def test_the_same_images_are_transformed_otherwise_in_each_epoch() -> None:
    loader = config(batch_size=1).train_loader()
    seen: dict[object, set[bytes]] = {}
    for _ in range(6):
        for batch in loader:
            seen.setdefault(batch.infos[0].image_id, set()).add(batch.images[0].numpy().tobytes())
    assert sum(len(images) > 1 for images in seen.values()) >= 6


def test_an_epoch_that_is_asked_for_is_followed_by_the_next() -> None:
    loader = config().train_loader()
    whole = [order(loader.epoch(epoch)) for epoch in range(7)]
    assert order(loader.epoch(5, start=2)) == whole[5][2:]
    assert order(loader) == whole[6]
    loader.batches.set_epoch(2)
    assert order(loader) == whole[2]
    assert len(loader) == 4


def test_an_epoch_that_was_left_is_followed_by_the_next() -> None:
    loader = config().train_loader()
    whole = [order(loader.epoch(epoch)) for epoch in range(2)]
    loader = config().train_loader()
    assert order([next(iter(loader))]) == whole[0][:1]
    assert order(loader) == whole[1]


def test_a_loader_in_order_gives_the_same_each_time() -> None:
    loader = config().val_loader()
    assert same(list(loader), list(loader))
    assert order(loader) == [[i] for i in range(8)]


def test_a_loader_is_torchs_and_batches_move_to_a_device() -> None:
    loader = config().train_loader()
    assert isinstance(loader, DataLoader)
    batch = next(iter(loader))
    moved = batch.to("meta")
    assert all(image.is_meta for image in moved.images)
    assert all(target.boxes.is_meta for target in moved.targets)
    assert moved.infos == batch.infos


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_is_named_whatever_makes_the_batches(tmp_path: Path, num_workers: int) -> None:
    source = write(tmp_path)
    (tmp_path / "c.png").write_bytes(b"nothing")
    loader = config(train=source, val=source, num_workers=num_workers).val_loader()
    for again in (
        loader,
        DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn),
    ):
        with pytest.raises(DataError) as caught:
            list(again)
        assert str(caught.value).startswith(f"{tmp_path}/c.png: this is not an image of a known format")
        assert "Traceback" not in str(caught.value)
    loader.close()

    lenient = evolve(source, drop_invalid=True)
    loader = config(train=lenient, val=lenient, num_workers=num_workers, batch_size=3).train_loader()
    (batch,) = loader
    loader.close()
    assert len(batch) == 3
    assert [problem.partition(":")[0] for problem in batch.problems] == [f"{tmp_path}/c.png"]


def test_what_a_worker_raises_is_the_message_alone() -> None:
    told = "Caught ReadingError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File\n"
    assert (
        str(ReadingError(f"{told}detcfg.data.errors.ReadingError: a.png: it is\nbroken: no.\n"))
        == "a.png: it is\nbroken: no."
    )
    assert str(ReadingError("a.png: broken.")) == "a.png: broken."


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, from where Python imports."""
    for name, text in BLOCKS.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("small", None)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "library"),
    [("plain", "torch"), ("with_lightning", "lightning"), ("with_accelerate", "accelerate")],
)
def test_the_page_runs_as_it_stands_and_sees_the_epochs_in_turn(
    page: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    pytest.importorskip(library)
    small: Any = importlib.import_module("small")
    loader: Loader = small.experiment.data.train_loader(seed=0)
    expected = [ids for epoch in range(2) for ids in order(loader.epoch(epoch))]

    detector = type(small.experiment.model.build())
    seen: list[list[Tensor]] = []
    whole = detector.loss

    def loss(self: Any, images: list[Tensor], targets: Any) -> dict[str, Tensor]:
        seen.append(images)
        found: dict[str, Tensor] = whole(self, images, targets)
        return found

    monkeypatch.setattr(detector, "loss", loss)
    runpy.run_path(str(page / f"{name}.py"))

    batches = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
    assert len(seen) == len(expected) == 4
    for images, batch in zip(seen, batches, strict=True):
        assert all(torch.equal(a.cpu(), b) for a, b in zip(images, batch.images, strict=True))


def test_other_transforms_take_over_from_an_epoch_on() -> None:
    late = config(
        train_transforms=(RandomFlipConfig(prob=0.0),),
        switch_epoch=2,
        switch_transforms=(RandomFlipConfig(prob=1.0),),
    )
    plain = [batch.images for batch in config(train_transforms=()).train_loader().epoch(2)]
    before, after = [
        [batch.images for batch in part.train_loader().epoch(2)]
        for part in (evolve(late, switch_epoch=3), late)
    ]

    for wanted, same_way, mirrored in zip(plain, before, after, strict=True):
        assert all(map(torch.equal, wanted, same_way))
        assert all(torch.equal(x.flip(-1), y) for x, y in zip(wanted, mirrored, strict=True))


def test_transforms_of_the_end_without_an_epoch_are_an_error() -> None:
    with pytest.raises(ConfigError, match="switch_epoch does not say"):
        config(switch_transforms=(RandomFlipConfig(),)).resolved()
