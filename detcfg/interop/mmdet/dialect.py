"""Configs of MMDetection 2.x in the shape of 3.x, so that the rest reads one dialect."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from detcfg.interop.mmdet.data import Location, Node, cloned, is_list, is_tuple

FORMATTING: Final = ("DefaultFormatBundle", "ImageToTensor", "Collect", "ToTensor", "WrapFieldsToLists")
"""Steps of 2.x pipelines that only pack what the others made."""
LOOP_KEYS: Final = ("max_epochs", "max_iters", "val_interval", "by_epoch", "val_begin", "type")
"""Keys of the `train_cfg` of 3.x that says how long to train; in 2.0 a top-level one was the model's."""


def modern(data: Node) -> Node:
    """A copy in 3.x's shape; one that has it already stays as it is."""
    made: Node = cloned(data)
    model: Any = made.get("model")
    if isinstance(model, Node):
        _model(made, model)
    for step in (_optimizer, _schedule, _length, _data, _hooks):
        step(made)
    return made


def _move(source: Node, key: str, target: Node, name: str) -> None:
    if key in source:
        location = source.locations.get(key)
        target.put(name, source.drop(key), location)


def _model(data: Node, model: Node) -> None:
    for key in ("train_cfg", "test_cfg"):
        settings: Any = data.get(key)
        if isinstance(settings, Node) and settings and not set(settings) & set(LOOP_KEYS):
            _move(data, key, model, key)
    backbone: Any = model.get("backbone")
    if isinstance(backbone, Node) and "pretrained" in model:
        if model["pretrained"] is None or "init_cfg" in backbone:
            model.drop("pretrained")
        else:
            _move(model, "pretrained", backbone, "pretrained")


def _optimizer(data: Node) -> None:
    if "optimizer" not in data or "optim_wrapper" in data:
        return
    wrapper = Node()
    location = data.locations.get("optimizer")
    half: Any = data.drop("fp16") if "fp16" in data else None
    wrapper.put("type", "AmpOptimWrapper" if half else "OptimWrapper", location)
    optimizer: Any = data.drop("optimizer")
    if isinstance(optimizer, Node):
        _move(optimizer, "paramwise_cfg", wrapper, "paramwise_cfg")
    wrapper.put("optimizer", optimizer, location)
    config: Any = data.drop("optimizer_config") if "optimizer_config" in data else None
    if isinstance(config, Node):
        _move(config, "grad_clip", wrapper, "clip_grad")
        _move(config, "cumulative_iters", wrapper, "accumulative_counts")
    data.put("optim_wrapper", wrapper, location)


def _schedule(data: Node) -> None:
    policy: Any = data.get("lr_config")
    if not isinstance(policy, Node) or "param_scheduler" in data:
        return
    location = data.locations.get("lr_config")
    data.drop("lr_config")
    made: list[Node] = []
    if policy.get("warmup") is not None:
        kind = {"linear": "LinearLR", "constant": "ConstantLR"}.get(policy["warmup"], str(policy["warmup"]))
        values = {
            "type": kind,
            "start_factor": policy.get("warmup_ratio", 0.1),
            "by_epoch": bool(policy.get("warmup_by_epoch", False)),
            "begin": 0,
            "end": policy.get("warmup_iters", 0),
        }
        made.append(_node(values, location))
    by_epoch = policy.get("by_epoch", True)
    kind = str(policy.get("policy", "")).lower()
    if kind == "step":
        steps: Any = policy.get("step", [])
        milestones = steps if is_list(steps) or is_tuple(steps) else [steps]
        values = {"type": "MultiStepLR", "by_epoch": by_epoch, "milestones": milestones}
        made.append(_node({**values, "gamma": policy.get("gamma", 0.1)}, location))
    elif kind == "cosineannealing":
        values = {"type": "CosineAnnealingLR", "by_epoch": by_epoch, "begin": 0}
        ratio, minimum = policy.get("min_lr_ratio"), policy.get("min_lr")
        values |= {"eta_min_ratio": ratio} if minimum is None else {"eta_min": minimum}
        made.append(_node(values, location))
    elif kind not in ("", "fixed"):
        made.append(_node({**policy, "type": kind}, location))
    data.put("param_scheduler", made, location)


def _length(data: Node) -> None:
    runner: Any = data.get("runner")
    loop: Any = data.get("train_cfg")
    if isinstance(loop, Node) and set(loop) & set(LOOP_KEYS):
        return
    found = Node()
    if isinstance(runner, Node):
        for key in ("max_epochs", "max_iters"):
            _move(runner, key, found, key)
        data.drop("runner")
    _move(data, "total_epochs", found, "max_epochs")
    if "max_epochs" in data and "max_epochs" not in found:
        found.take("max_epochs", data, data["max_epochs"])
    evaluation: Any = data.get("evaluation")
    if isinstance(evaluation, Node):
        _move(evaluation, "interval", found, "val_interval")
        hooks = _inner(data, "default_hooks")
        _move(evaluation, "save_best", _inner(hooks, "checkpoint"), "save_best")
        if evaluation.get("metric") in ("mAP", "recall"):  # VOC's; COCO's are called bbox and segm
            evaluation.put("type", "VOCMetric", evaluation.locations.get("metric"))
        data.put("val_evaluator", evaluation, data.locations.get("evaluation"))
        data.drop("evaluation")
    if found:
        data.put("train_cfg", found, next(iter(found.locations.values()), None))


def _hooks(data: Node) -> None:
    for old, name in (("log_config", "logger"), ("checkpoint_config", "checkpoint")):
        config: Any = data.get(old)
        if isinstance(config, Node):
            hook = _inner(_inner(data, "default_hooks"), name)
            _move(config, "interval", hook, "interval")
            data.drop(old)
    _move(data, "resume_from", data, "resume")
    if "seed" in data:
        _move(data, "seed", _inner(data, "randomness"), "seed")


def _inner(node: Node, key: str) -> Node:
    if not isinstance(node.get(key), Node):
        node.put(key, Node(), None)
    found: Node = node[key]
    return found


def _node(values: dict[str, Any], location: Location | None) -> Node:
    return Node(values, {} if location is None else dict.fromkeys(values, location))


# Data


def _data(data: Node) -> None:
    old: Any = data.get("data")
    if not isinstance(old, Node) or "train_dataloader" in data:
        return
    location = data.locations.get("data")
    data.drop("data")
    for split in ("train", "val", "test"):
        dataset: Any = old.get(split)
        if is_list(dataset):
            dataset = _node({"type": "ConcatDataset", "datasets": dataset}, location)
        if not isinstance(dataset, Node):
            continue
        loader = Node()
        of_split: Any = old.get(f"{split}_dataloader")
        for source in (old, of_split if isinstance(of_split, Node) else Node()):
            for name, key in (("samples_per_gpu", "batch_size"), ("workers_per_gpu", "num_workers")):
                if name in source and (split == "train" or source is not old or key == "num_workers"):
                    loader.take(name, source, source[name])
                    _move(loader, name, loader, key)
        pipeline: Any = data.get(f"{split}_pipeline")
        loader.put("dataset", _dataset(dataset, pipeline), old.locations.get(split))
        if split == "train":
            loader.put("sampler", _node({"type": "DefaultSampler", "shuffle": True}, location), location)
            loader.put("batch_sampler", _node({"type": "AspectRatioBatchSampler"}, location), location)
            _preprocessor(data, loader["dataset"])
        data.put(f"{split}_dataloader", loader, old.locations.get(split))


def _dataset(dataset: Node, pipeline: Any) -> Node:
    if is_list(files := dataset.get("ann_file")) and dataset.get("type") != "ConcatDataset":
        return _dataset(_several(dataset, files), pipeline)
    if "classes" in dataset:
        _move(dataset, "classes", _inner(dataset, "metainfo"), "classes")
    if "img_prefix" in dataset:
        _move(dataset, "img_prefix", _inner(dataset, "data_prefix"), "img")
    if "filter_empty_gt" in dataset:
        _move(dataset, "filter_empty_gt", _inner(dataset, "filter_cfg"), "filter_empty_gt")
    inner: Any = dataset.get("dataset")
    if isinstance(inner, Node):
        dataset.put("dataset", _dataset(inner, pipeline), dataset.locations.get("dataset"))
    datasets: Any = dataset.get("datasets")
    if is_list(datasets):
        dataset["datasets"] = [_dataset(one, pipeline) if isinstance(one, Node) else one for one in datasets]
    steps: Any = dataset.get("pipeline", pipeline if inner is None else None)
    if is_list(steps) or is_tuple(steps):
        where = dataset.locations.get("pipeline")
        dataset.put("pipeline", list(_steps(cloned(list(steps)))), where)
    return dataset


def _several(dataset: Node, files: list[Any]) -> Node:
    """A dataset of several annotation files: in 3.x one of several datasets."""
    prefixes: Any = dataset.get("img_prefix")
    parts: list[Node] = []
    for index, file in enumerate(files):
        part: Node = cloned(dataset)
        part["ann_file"] = file
        if is_list(prefixes):
            part["img_prefix"] = prefixes[index] if index < len(prefixes) else ""
        if "separate_eval" in part:
            part.drop("separate_eval")
        parts.append(part)
    made = Node()
    made.put("type", "ConcatDataset", dataset.locations.get("type"))
    made.put("datasets", parts, dataset.locations.get("ann_file"))
    return made


def _steps(steps: list[Any]) -> Iterable[Any]:
    """The steps of a pipeline, those inside test-time augmentation too."""
    for step in steps:
        kind = step.get("type") if isinstance(step, Node) else None
        if kind in FORMATTING:
            continue
        if kind == "MultiScaleFlipAug":
            inner = [s for s in step.get("transforms", []) if isinstance(s, Node)]
            for one in _steps(inner):
                if one.get("type") == "Resize" and "scale" not in one and "img_scale" in step:
                    one.put("scale", step["img_scale"], step.locations.get("img_scale"))
                if one.get("type") != "RandomFlip":  # 2.x flips there only where `flip` says so
                    yield one
            continue
        if isinstance(step, Node) and kind == "Resize":
            _resize(step)
        if isinstance(step, Node) and kind == "RandomFlip":
            _move(step, "flip_ratio", step, "prob")
        yield step


def _resize(step: Node) -> None:
    """One step of 2.x was three in 3.x."""
    _move(step, "img_scale", step, "scale")
    step.setdefault("keep_ratio", True)
    mode: Any = step.drop("multiscale_mode") if "multiscale_mode" in step else "range"
    scales: Any = step.get("scale")
    if is_list(scales) and len(scales) == 1:
        step["scale"] = scales[0]
    elif is_list(scales) and all(is_tuple(scale) or is_list(scale) for scale in scales):
        if mode == "value":
            step["type"] = "RandomChoiceResize"
            _move(step, "scale", step, "scales")
        else:
            step["type"] = "RandomResize"
    elif "ratio_range" in step:
        step["type"] = "RandomResize"


def _preprocessor(data: Node, dataset: Node) -> None:
    """`Normalize` and `Pad` of the training pipeline become the model's preprocessor."""
    model: Any = data.get("model")
    while isinstance(dataset.get("dataset"), Node) and "pipeline" not in dataset:
        dataset = dataset["dataset"]
    steps: Any = dataset.get("pipeline")
    if not isinstance(model, Node) or not is_list(steps) or "data_preprocessor" in model:
        return
    made = Node({"type": "DetDataPreprocessor"})
    for step in steps:
        if isinstance(step, Node) and step.get("type") == "Normalize":
            for old, new in (("mean", "mean"), ("std", "std"), ("to_rgb", "bgr_to_rgb")):
                if old in step:
                    made.put(new, step[old], step.locations.get(old))
        if isinstance(step, Node) and step.get("type") == "Pad" and "size_divisor" in step:
            made.put("pad_size_divisor", step["size_divisor"], step.locations.get("size_divisor"))
    model.put("data_preprocessor", made, next(iter(made.locations.values()), None))
