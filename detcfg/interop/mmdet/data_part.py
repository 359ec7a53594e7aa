"""Data loaders, datasets and pipelines as detcfg's `data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from attrs import define, evolve

from detcfg.data.base import DatasetConfig
from detcfg.data.config import DataConfig
from detcfg.data.transforms.base import TransformConfig
from detcfg.interop.mmdet.classes import COCO_FORMAT, placeholders
from detcfg.interop.mmdet.components import short_name
from detcfg.interop.mmdet.data import Node, Place, cloned, is_list, is_tuple
from detcfg.interop.mmdet.translate import Spot, Translator

BY_ITSELF: Final = {
    "LoadImageFromFile": "datasets read images themselves",
    "LoadAnnotations": "datasets read annotations themselves",
    "PackDetInputs": "samples need no packing",
    "Normalize": "the model does so",
}
"""Steps of a pipeline that detcfg does without being told."""
ABOUT_READING: Final = (
    "test_mode",
    "backend_args",
    "file_client_args",
    "serialize_data",
    "lazy_init",
    "max_refetch",
    "return_classes",
)
"""Keys of a dataset about how files are read."""
OF_PROCESSES: Final = ("num_workers", "persistent_workers", "prefetch_factor", "pin_memory", "drop_last")
OF_BATCHES: Final = ("batch_size", "sampler", "batch_sampler")
"""Keys of a loader."""
ABOUT_ACCESS: Final = ("backend_args", "file_client_args")
"""Those about another place than the disk."""


@define
class Split:
    """What the loader of one split says."""

    dataset: DatasetConfig | None
    transforms: tuple[TransformConfig, ...]
    with_mask: bool = False
    times: int = 1
    """How often the data is repeated in an epoch."""


class DataTranslator:
    """Translates the data of a config in the 3.x dialect."""

    def __init__(
        self,
        translator: Translator,
        data: Node,
        num_classes: int | None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.translator, self.record = translator, translator.record
        self.data, self.num_classes = data, num_classes
        self.classes = classes if classes is not None and len(classes) == num_classes else None
        """What the checkpoint says."""
        self.root: object = data.get("data_root")

    def translated(self) -> tuple[DataConfig | None, int]:
        """The data, if there is any to train on, and how often an epoch of MMDetection repeats it."""
        loaders = {name: self.data.get(f"{name}_dataloader") for name in ("train", "val", "test")}
        splits = {
            name: self._split(loader, f"{name}_dataloader")
            for name, loader in loaders.items()
            if isinstance(loader, Node)
        }
        train, val = splits.get("train"), splits.get("val") or splits.get("test")
        if train is None or val is None or train.dataset is None or val.dataset is None:
            for name in splits:
                note = "an experiment has data to learn from and to be judged on, and one of them is missing here"
                self.record.unsupported(
                    f"{name}_dataloader", self.data.places.get(f"{name}_dataloader"), note
                )
            return None, 1
        test = splits.get("test")
        values = self._loader("train", loaders["train"]) | self._loader("val", loaders["val"])
        self._as_in_validation(loaders["test"], loaders["val"])
        classes = train.dataset.classes
        values |= {
            "train": train.dataset,
            "val": _with_classes(val.dataset, classes),
            "with_mask": train.with_mask,
            "train_transforms": train.transforms,
            "val_transforms": val.transforms,
        }
        made = self.translator.made(DataConfig, values, Spot("train_dataloader", "data"))
        if test is not None and test.dataset is not None:
            other = _with_classes(test.dataset, classes)
            if other != made.val:
                made = evolve(made, test=other)
            if _steps(loaders["test"]) != _steps(loaders["val"]) and "val" in splits:
                note = "detcfg tests with the transforms of validation, and these differ"
                self.record.unsupported("test_dataloader.dataset.pipeline", None, note)
        return made, train.times

    # Loaders

    def _loader(self, split: str, loader: object) -> dict[str, Any]:
        """Fields of `DataConfig` that a loader says."""
        if not isinstance(loader, Node):
            return {}
        names = {"batch_size": "batch_size" if split == "train" else "val_batch_size"}
        if split == "train":
            names |= {name: name for name in ("num_workers", "drop_last", "pin_memory")}
        found: dict[str, Any] = {}
        for key, value in loader.items():
            path, place = f"{split}_dataloader.{key}", loader.places.get(key)
            if key == "dataset":
                continue
            if key in names and isinstance(value, bool | int):
                found[names[key]] = value
                self.record.carried(path, place, f"data.{names[key]}")
            elif key in ("num_workers", "drop_last", "pin_memory"):
                self.record.defaulted(path, place, "validation goes by what training says")
            elif key in ("persistent_workers", "prefetch_factor"):
                self.record.defaulted(path, place, "detcfg keeps its workers")
            elif not self._sampler(key, value, path, place, split, found):
                self.record.unsupported(path, place, "detcfg's loader has no such setting")
        if split == "train" and "batch_sampler" not in loader:
            found["group_by_aspect_ratio"] = False
        return found

    def _as_in_validation(self, test: object, val: object) -> None:
        """The loader of validation tests too: what the two say otherwise is lost."""
        if not (isinstance(test, Node) and isinstance(val, Node)):
            return
        for key, value in test.items():
            path, place = f"test_dataloader.{key}", test.places.get(key)
            if key == "dataset":
                continue
            if key in OF_PROCESSES or (key in OF_BATCHES and value == val.get(key)):
                self.record.defaulted(path, place, "the loader of validation tests too")
            else:
                note = "detcfg tests with the loader of validation, which does not say so"
                self.record.unsupported(path, place, note)

    def _sampler(  # noqa: PLR0917 - one place of a loader
        self, key: str, value: Any, path: str, place: Place | None, split: str, found: dict[str, Any]
    ) -> bool:
        kind = value.get("type") if isinstance(value, Node) else value
        name = short_name(kind) if isinstance(kind, str) else kind
        if key == "sampler" and name in ("DefaultSampler", "InfiniteSampler"):
            self.record.defaulted(path, place, "training shuffles, validation goes in order")
            return True
        if key == "batch_sampler" and name in ("AspectRatioBatchSampler", None):
            if split == "train":
                found["group_by_aspect_ratio"] = name is not None
            self.record.carried(path, place, "data.group_by_aspect_ratio")
            return True
        return False

    # Datasets

    def _split(self, loader: Node, path: str) -> Split:
        dataset: Any = loader.get("dataset")
        if not isinstance(dataset, Node):
            return Split(None, ())
        times, steps = 1, list[Any]()
        here = f"{path}.dataset"
        while isinstance(dataset.get("dataset"), Node):
            kind = dataset.get("type")
            place = dataset.places.get("type")
            name = short_name(kind) if isinstance(kind, str) else ""
            if name == "RepeatDataset":
                given: Any = dataset.get("times", 1)
                times *= given if type(given) is int and given > 0 else 1
                note = "epochs, milestones and intervals count the data once, and are multiplied"
                self.record.carried(f"{here}.times", dataset.places.get("times", place), note)
            elif name == "MultiImageMixDataset":
                steps = [*_list(dataset.get("pipeline")), *steps]
            else:
                self.record.unsupported(here, place, f"detcfg has no {name}; the dataset inside is used")
            dataset = dataset["dataset"]
            here += ".dataset"
        pipeline = [*_list(dataset.get("pipeline")), *steps]
        masks = any(isinstance(step, Node) and bool(step.get("with_mask")) for step in pipeline)
        transforms = self._pipeline(pipeline, f"{here}.pipeline")
        return Split(self._dataset(dataset, here), transforms, masks, times)

    def _dataset(self, node: Node, path: str) -> DatasetConfig | None:
        made = cast("Node", cloned(node))
        kind: Any = made.get("type")
        name = short_name(kind) if isinstance(kind, str) else ""
        for key in ("pipeline", *ABOUT_READING):
            if key in made:
                place, value = made.places.get(key), made.drop(key)
                if key == "pipeline":
                    continue
                if key in ABOUT_ACCESS and value is not None:
                    self.record.unsupported(f"{path}.{key}", place, "detcfg reads files from the disk")
                else:
                    self.record.defaulted(f"{path}.{key}", place, "detcfg's datasets need not be told")
        self._flatten(made, path)
        if name in COCO_FORMAT:
            made["type"] = "CocoDataset"
            if "classes" not in made and (names := self._names(name, path, node.places.get("type"))):
                made["classes"] = names
        elif "classes" not in made and name != "VOCDataset":
            made["classes"] = list(self.classes or placeholders(self.num_classes or 1))
        found = self.translator.component(made, (DatasetConfig,), Spot(path, "", node.places.get("type")))
        return found if isinstance(found, DatasetConfig) else None

    def _names(self, dataset: str, path: str, place: Place | None) -> list[str]:
        names = COCO_FORMAT[dataset]
        if names:
            return list(names)
        if names is None:
            return []
        if self.classes is not None:
            self.record.carried(f"{path}.metainfo.classes", place, "from the checkpoint")
            return list(self.classes)
        note = f"the names of {dataset}'s classes are in MMDetection's code; write them into `classes`"
        self.record.unsupported(f"{path}.metainfo.classes", place, note)
        return list(placeholders(self.num_classes or 1))

    def _flatten(self, node: Node, path: str) -> None:
        """The dicts of a dataset as its own fields."""
        meta: Any = node.drop("metainfo") if "metainfo" in node else None
        if isinstance(meta, Node):
            for key in meta:
                if str(key).lower() == "classes":
                    names: Any = meta[key]
                    node.put("classes", [names] if isinstance(names, str) else names, meta.places.get(key))
                else:
                    note = "detcfg needs no more than the classes' names"
                    self.record.defaulted(f"{path}.metainfo.{key}", meta.places.get(key), note)
        for outer, names in (
            (
                "data_prefix",
                {"img": "img_prefix", "img_path": "img_prefix", "sub_data_root": "sub_data_root"},
            ),
            ("filter_cfg", {"filter_empty_gt": "filter_empty_gt", "min_size": "min_size"}),
        ):
            inner: Any = node.drop(outer) if outer in node else None
            for key, value in inner.items() if isinstance(inner, Node) else ():
                place = inner.places.get(key)
                if key in names:
                    text = value.rstrip("/") if isinstance(value, str) else value
                    node.put(names[key], text, place)
                else:
                    note = "detcfg's datasets have no such setting"
                    self.record.unsupported(f"{path}.{outer}.{key}", place, note)
        self._relative(node)
        short = node.get("type")
        if isinstance(short, str) and short_name(short) == "VOCDataset":
            if "sub_data_root" in node:
                place = node.places.get("sub_data_root")
                self.record.carried(f"{path}.data_prefix.sub_data_root", place, "data_root")
            _voc(node)

    def _relative(self, node: Node) -> None:
        """Paths that repeat the folder of the data, as 2.x wrote them, begin there."""
        root: Any = node.get("data_root") or self.root
        if not isinstance(root, str):
            return
        for key in ("ann_file", "img_prefix"):
            value: Any = node.get(key)
            if isinstance(value, str) and value.startswith(root) and value != root:
                node[key] = value[len(root) :].strip("/")
                node.setdefault("data_root", root)
        if isinstance(node.get("data_root"), str) and node["data_root"] != "/":
            node["data_root"] = node["data_root"].rstrip("/")

    # Pipelines

    def _pipeline(self, steps: Sequence[Any], path: str) -> tuple[TransformConfig, ...]:
        made: list[TransformConfig] = []
        for index, step in enumerate(steps):
            if not isinstance(step, Node) or not isinstance(step.get("type"), str):
                self.record.unsupported(f"{path}.{index}", None, "a step of a pipeline is a dict with a type")
                continue
            name, place = short_name(step["type"]), step.places.get("type")
            here = f"{path}.{index}"
            if name in BY_ITSELF:
                self.record.defaulted(here, place, f"{name}: {BY_ITSELF[name]}")
            elif name == "Pad" and set(step) <= {"type", "size_divisor", "pad_val"}:
                self.record.defaulted(here, place, "Pad: the model does so")
            elif name == "RandomFlip" and step.get("prob", step.get("flip_ratio")) in (0, 0.0, None):
                self.record.defaulted(here, place, "RandomFlip: it never flips")
            else:
                found = self.translator.component(step, (TransformConfig,), Spot(here, "", place))
                if isinstance(found, TransformConfig):
                    made.append(found)
        return tuple(made)


def _steps(loader: object) -> list[Any]:
    """The pipeline of a loader's dataset, without what packs samples."""
    dataset: Any = loader.get("dataset") if isinstance(loader, Node) else None
    while isinstance(dataset, Node) and isinstance(dataset.get("dataset"), Node):
        dataset = dataset["dataset"]
    steps: list[Any] = _list(dataset.get("pipeline")) if isinstance(dataset, Node) else []
    return [s for s in steps if not isinstance(s, Node) or str(s.get("type")) not in BY_ITSELF]


def _list(value: object) -> list[Any]:
    return list(value) if is_list(value) or is_tuple(value) else []


def _voc(node: Node) -> None:
    """VOC's folders are in `data_root` here; MMDetection has them below `img_prefix`."""
    prefix: Any = node.drop("img_prefix") if "img_prefix" in node else ""
    sub_data = node.drop("sub_data_root") if "sub_data_root" in node else prefix
    listed: Any = node.get("ann_file")
    if isinstance(sub_data, str) and sub_data and isinstance(listed, str) and listed.startswith(sub_data):
        node["ann_file"] = listed[len(sub_data) :].strip("/")
    if isinstance(sub_data, str) and sub_data:
        root: Any = node.get("data_root")
        node["data_root"] = f"{root}/{sub_data}".strip("/") if isinstance(root, str) else sub_data


def _with_classes(dataset: DatasetConfig, classes: tuple[str, ...]) -> DatasetConfig:
    """The classes of training, where the dataset itself was given none."""
    return dataset if dataset.classes == classes else evolve(dataset, classes=classes)
