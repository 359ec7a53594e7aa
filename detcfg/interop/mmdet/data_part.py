"""Data loaders, datasets and pipelines as detcfg's `data`."""

from __future__ import annotations

from typing import Any, Final, cast

from attrs import define, evolve

from detcfg.data.base import DatasetConfig
from detcfg.data.concat import ConcatDatasetConfig
from detcfg.data.config import DataConfig
from detcfg.data.transforms.base import TransformConfig
from detcfg.interop.mmdet.classes import COCO_FORMAT, placeholders
from detcfg.interop.mmdet.components import short_name
from detcfg.interop.mmdet.data import Location, Node, cloned, is_list, is_number, is_tuple
from detcfg.interop.mmdet.pipeline_part import BY_ITSELF, PipelineTranslator
from detcfg.interop.mmdet.translate import Spot, Translator

ABOUT_READING: Final = (
    "test_mode",
    "backend_args",
    "file_client_args",
    "serialize_data",
    "lazy_init",
    "max_refetch",
    "return_classes",
    "ignore_keys",
    "verify_meta",
)
"""Keys of a dataset about how files are read."""
OF_PROCESSES: Final = ("num_workers", "persistent_workers", "prefetch_factor", "pin_memory", "drop_last")
OF_BATCHES: Final = ("batch_size", "sampler", "batch_sampler")
"""Keys of a loader."""
WITH_NAMES: Final = ("VOCDataset", "LVISV1Dataset")
"""Datasets besides COCO's whose classes detcfg knows."""
ABOUT_ACCESS: Final = ("backend_args", "file_client_args")
"""Keys about files that are not on the disk."""


@define
class Split:
    """The dataset and its transforms, as the loader of one split has them."""

    dataset: DatasetConfig | None
    transforms: tuple[TransformConfig, ...]
    with_mask: bool = False
    times: int = 1
    """How often the data is repeated in an epoch."""
    oversample_thr: float = 0.0
    """Of a `ClassBalancedDataset`."""


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
        """The names in the checkpoint; None if it has none that fit."""
        self.root: object = data.get("data_root")
        self.pipelines = PipelineTranslator(translator)

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
                note = (
                    "an experiment has data for training and for validation, and one of them is missing here"
                )
                self.record.unsupported(
                    f"{name}_dataloader", self.data.locations.get(f"{name}_dataloader"), note
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
            "oversample_thr": train.oversample_thr,
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
        """The fields of `DataConfig` that a loader gives."""
        if not isinstance(loader, Node):
            return {}
        names = {"batch_size": "batch_size" if split == "train" else "val_batch_size"}
        if split == "train":
            names |= {name: name for name in ("num_workers", "drop_last", "pin_memory")}
        found: dict[str, Any] = {}
        for key, value in loader.items():
            path, location = f"{split}_dataloader.{key}", loader.locations.get(key)
            if key == "dataset":
                continue
            if key in names and isinstance(value, bool | int):
                found[names[key]] = value
                self.record.carried(path, location, f"data.{names[key]}")
            elif key in ("num_workers", "drop_last", "pin_memory"):
                self.record.defaulted(path, location, "validation goes by what training says")
            elif key in ("persistent_workers", "prefetch_factor"):
                self.record.defaulted(path, location, "detcfg keeps its workers")
            elif not self._sampler(key, value, path, location, split, found):
                self.record.unsupported(path, location, "detcfg's loader has no such setting")
        if split == "train" and "batch_sampler" not in loader:
            found["group_by_aspect_ratio"] = False
        return found

    def _as_in_validation(self, test: object, val: object) -> None:
        """The loader of validation tests too: what the two say otherwise is lost."""
        if not (isinstance(test, Node) and isinstance(val, Node)):
            return
        for key, value in test.items():
            path, location = f"test_dataloader.{key}", test.locations.get(key)
            if key == "dataset":
                continue
            if key in OF_PROCESSES or (key in OF_BATCHES and value == val.get(key)):
                self.record.defaulted(path, location, "the loader of validation tests too")
            else:
                note = "detcfg tests with the loader of validation, which does not say so"
                self.record.unsupported(path, location, note)

    def _sampler(  # noqa: PLR0917 - a key of a loader: its path, value and location
        self, key: str, value: Any, path: str, location: Location | None, split: str, found: dict[str, Any]
    ) -> bool:
        kind = value.get("type") if isinstance(value, Node) else value
        name = short_name(kind) if isinstance(kind, str) else kind
        if key == "sampler" and name in ("DefaultSampler", "InfiniteSampler"):
            self.record.defaulted(path, location, "training shuffles, validation goes in order")
            return True
        if key == "batch_sampler" and name in ("AspectRatioBatchSampler", None):
            if split == "train":
                found["group_by_aspect_ratio"] = name is not None
            self.record.carried(path, location, "data.group_by_aspect_ratio")
            return True
        return False

    # Datasets

    def _split(self, loader: Node, path: str) -> Split:
        dataset: Any = loader.get("dataset")
        if not isinstance(dataset, Node):
            return Split(None, ())
        times, steps, balance = 1, list[Any](), 0.0
        here = f"{path}.dataset"
        while isinstance(dataset.get("dataset"), Node):
            kind = dataset.get("type")
            location = dataset.locations.get("type")
            name = short_name(kind) if isinstance(kind, str) else ""
            if name == "RepeatDataset":
                given: Any = dataset.get("times", 1)
                times *= given if type(given) is int and given > 0 else 1
                note = "epochs, milestones and intervals count the data once, and are multiplied"
                self.record.carried(f"{here}.times", dataset.locations.get("times", location), note)
            elif name == "MultiImageMixDataset":
                steps = [*_list(dataset.get("pipeline")), *steps]
            elif name == "ClassBalancedDataset" and is_number(share := dataset.get("oversample_thr")):
                balance = float(share)
                where = dataset.locations.get("oversample_thr", location)
                self.record.carried(f"{here}.oversample_thr", where, "data.oversample_thr")
            else:
                self.record.unsupported(here, location, f"detcfg has no {name}; the dataset inside is used")
            dataset = dataset["dataset"]
            here += ".dataset"
        parts = [part for part in _list(dataset.get("datasets")) if isinstance(part, Node)]
        first = parts[0] if parts else dataset
        pipeline = [*_list(first.get("pipeline", dataset.get("pipeline"))), *steps]
        masks = any(isinstance(step, Node) and bool(step.get("with_mask")) for step in pipeline)
        transforms = self.pipelines.translated(pipeline, f"{here}.pipeline")
        found = self._joined(dataset, parts, here) if parts else self._dataset(dataset, here)
        return Split(found, transforms, masks, times, balance)

    def _joined(self, node: Node, parts: list[Node], path: str) -> DatasetConfig | None:
        """Several datasets as one, if they have the same classes; else the first."""
        made: list[DatasetConfig] = []
        for index, part in enumerate(parts):
            here = f"{path}.datasets.{index}"
            if _told(part) != _told(parts[0]):
                note = "the images of all datasets go through the first one's transforms, and these differ"
                self.record.unsupported(f"{here}.pipeline", part.locations.get("pipeline"), note)
            found = self._dataset(self._unwrapped(part, here), here)
            if found is not None:
                made.append(found)
        if len({found.classes for found in made}) > 1:
            note = (
                "datasets that are put together have the same classes, and these have not: the first is used"
            )
            self.record.unsupported(path, node.locations.get("type"), note)
            return made[0]
        for key in (key for key in node if key not in ("type", "datasets")):
            where = node.locations.get(key)
            if key in ABOUT_READING or key == "pipeline":
                self.record.defaulted(f"{path}.{key}", where, "detcfg's datasets need not be told")
            else:
                self.record.unsupported(f"{path}.{key}", where, "detcfg's datasets have no such setting")
        return ConcatDatasetConfig(classes=made[0].classes, datasets=tuple(made)) if made else None

    def _unwrapped(self, node: Node, path: str) -> Node:
        """The dataset inside of wrappers, which cannot stand in a list."""
        while isinstance(node.get("dataset"), Node):
            note = "a dataset among others is taken as it is; the dataset inside is used"
            self.record.unsupported(path, node.locations.get("type"), note)
            node = node["dataset"]
        return node

    def _dataset(self, node: Node, path: str) -> DatasetConfig | None:
        made = cast("Node", cloned(node))
        kind: Any = made.get("type")
        name = short_name(kind) if isinstance(kind, str) else ""
        for key in ("pipeline", *ABOUT_READING):
            if key in made:
                location, value = made.locations.get(key), made.drop(key)
                if key == "pipeline":
                    continue
                if key in ABOUT_ACCESS and value is not None:
                    self.record.unsupported(f"{path}.{key}", location, "detcfg reads files from the disk")
                else:
                    self.record.defaulted(f"{path}.{key}", location, "detcfg's datasets need not be told")
        self._flatten(made, path)
        if name in COCO_FORMAT:
            made["type"] = "CocoDataset"
            if "classes" not in made and (names := self._names(name, path, node.locations.get("type"))):
                made["classes"] = names
        elif "classes" not in made and name not in WITH_NAMES:
            made["classes"] = list(self.classes or placeholders(self.num_classes or 1))
        found = self.translator.component(made, (DatasetConfig,), Spot(path, "", node.locations.get("type")))
        return found if isinstance(found, DatasetConfig) else None

    def _names(self, dataset: str, path: str, location: Location | None) -> list[str]:
        names = COCO_FORMAT[dataset]
        if names:
            return list(names)
        if names is None:
            return []
        if self.classes is not None:
            self.record.carried(f"{path}.metainfo.classes", location, "from the checkpoint")
            return list(self.classes)
        note = f"the names of {dataset}'s classes are in MMDetection's code; write them into `classes`"
        self.record.unsupported(f"{path}.metainfo.classes", location, note)
        return list(placeholders(self.num_classes or 1))

    def _flatten(self, node: Node, path: str) -> None:
        """The items of a dataset's inner dicts as fields of the dataset."""
        meta: Any = node.drop("metainfo") if "metainfo" in node else None
        if isinstance(meta, Node):
            for key in meta:
                if str(key).lower() == "classes":
                    names: Any = meta[key]
                    node.put("classes", [names] if isinstance(names, str) else names, meta.locations.get(key))
                else:
                    note = "detcfg needs no more than the classes' names"
                    self.record.defaulted(f"{path}.metainfo.{key}", meta.locations.get(key), note)
        for outer, names in (
            (
                "data_prefix",
                {"img": "img_prefix", "img_path": "img_prefix", "sub_data_root": "sub_data_root"},
            ),
            ("filter_cfg", {"filter_empty_gt": "filter_empty_gt", "min_size": "min_size"}),
        ):
            inner: Any = node.drop(outer) if outer in node else None
            for key, value in inner.items() if isinstance(inner, Node) else ():
                location = inner.locations.get(key)
                if key in names:
                    text = value.rstrip("/") if isinstance(value, str) else value
                    node.put(names[key], "." if text == "" and names[key] == "img_prefix" else text, location)
                else:
                    note = "detcfg's datasets have no such setting"
                    self.record.unsupported(f"{path}.{outer}.{key}", location, note)
        self._relative(node)
        short = node.get("type")
        if isinstance(short, str) and short_name(short) == "VOCDataset":
            for key in ("sub_data_root", "img_prefix"):
                if key in node:
                    self.record.carried(f"{path}.data_prefix.{key}", node.locations.get(key), "data_root")
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


def _steps(loader: object) -> list[Any]:
    """The pipeline of a loader's dataset, without what packs samples."""
    dataset: Any = loader.get("dataset") if isinstance(loader, Node) else None
    while isinstance(dataset, Node) and isinstance(dataset.get("dataset"), Node):
        dataset = dataset["dataset"]
    steps: list[Any] = _list(dataset.get("pipeline")) if isinstance(dataset, Node) else []
    return [step for step in steps if _kind(step) not in BY_ITSELF]


def _told(dataset: Node) -> list[Any]:
    """The steps of a dataset's pipeline that tell transforms."""
    return [step for step in _list(dataset.get("pipeline")) if _kind(step) not in BY_ITSELF]


def _kind(step: Any) -> str:
    return short_name(str(step.get("type"))) if isinstance(step, Node) else ""


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
    if dataset.classes == classes:
        return dataset
    if isinstance(dataset, ConcatDatasetConfig):
        inner = tuple(_with_classes(part, classes) for part in dataset.datasets)
        return evolve(dataset, classes=classes, datasets=inner)
    return evolve(dataset, classes=classes)
