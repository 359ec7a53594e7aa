"""A component of your own, held against the contract of its kind: `check_component(MyCoderConfig())` in a test.

It looks at shapes, types, devices, the order of inputs, inputs that are empty, and gradients, whatever the kind
promises; each base class says what that is. Kinds: box coder, assigner, sampler, anchor generator, backbone, neck,
optimizer, schedule and dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn

from detcfg.backbones.base import BackboneConfig
from detcfg.backbones.maps import difference
from detcfg.backbones.meta import weights_on_meta
from detcfg.boxes.anchors.anchor_generator import AnchorGeneratorConfig
from detcfg.boxes.anchors.point_generator import MlvlPointGeneratorConfig
from detcfg.boxes.assigners.base import IGNORED, NEGATIVE, AssignerConfig, Assignment
from detcfg.boxes.coders.base import BBoxCoderConfig
from detcfg.boxes.coders.distance_point import DistancePointBBoxCoderConfig
from detcfg.boxes.geometry import centres
from detcfg.boxes.samplers.base import PriorPredictions, PriorScorer, SamplerConfig
from detcfg.config import Config
from detcfg.data.base import DatasetConfig
from detcfg.errors import DetcfgError
from detcfg.necks.base import NeckConfig
from detcfg.recipe.optimizers import OptimizerConfig
from detcfg.recipe.schedules import ScheduleConfig
from detcfg.structures import Targets

SIZE: Final = (192, 256)
"""(height, width) of images, in pixels."""
SAMPLES: Final = 3
"""Images of a dataset that are read."""


class ContractError(DetcfgError, AssertionError):
    """A component does something else than the base of its kind promises."""


def check_component(config: Config) -> None:
    """Hold a component against the contract of its kind, with inputs at random.

    Args:
        config: Whatever surrounds it would fill in has to be given: a neck's `in_channels` and `in_strides`, an
            anchor generator's `strides`.

    Raises:
        ContractError: It breaks the contract; the message says which part.
        ConfigError: A value is missing or wrong.
        TypeError: There is no contract for this kind.

    >>> from detcfg.boxes.coders.tblr import TBLRBBoxCoderConfig
    >>> check_component(TBLRBBoxCoderConfig(normalizer=2.0))
    """
    resolved = config.resolved()
    for family, check in CHECKS.items():
        if isinstance(resolved, family):
            before = torch.default_generator.get_state()
            torch.default_generator.manual_seed(0)
            try:
                check(resolved)
            finally:
                torch.default_generator.set_state(before)
            return
    kinds = ", ".join(family.__name__ for family in CHECKS)
    raise TypeError(f"check_component has no contract for {type(config).__name__}. It knows {kinds}.")


def _expect(config: Config, what: str, *, holds: bool) -> None:
    if not holds:
        raise ContractError(f"{type(config).__name__}: {what}")


def _expect_tensor(
    config: Config, name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    found = (
        f"a tensor of shape {tuple(value.shape)} and {value.dtype} on {value.device}"
        if isinstance(value, Tensor)
        else repr(value)
    )
    _expect(
        config,
        f"{name} has to be a tensor of shape {shape} and {dtype} on cpu, and is {found}",
        holds=isinstance(value, Tensor)
        and tuple(value.shape) == shape
        and value.dtype == dtype
        and value.device.type == "cpu",
    )


def _boxes(count: int) -> Tensor:
    """(count, 4) of 8 to 72 pixels a side, within the image."""
    corners = torch.rand(count, 2) * torch.tensor([SIZE[1] - 72.0, SIZE[0] - 72.0])
    return torch.cat([corners, corners + 8 + 64 * torch.rand(count, 2)], dim=1)


def _targets(count: int) -> Targets:
    """So many objects, of which the last is ignored where there are several."""
    ignored = torch.arange(count) == count - 1 if count > 1 else None
    return Targets(boxes=_boxes(count), labels=torch.arange(count) % 3, ignored=ignored)


def _check_coder(config: BBoxCoderConfig) -> None:
    for count in (7, 0):
        priors = _boxes(count)
        boxes = priors + torch.rand(count, 4) * 4 - 2
        if isinstance(config, DistancePointBBoxCoderConfig):  # whose priors are points
            priors = centres(priors)
        code = config.encode(priors, boxes)
        _expect_tensor(config, "encode(priors, boxes)", code, (count, config.encode_size), torch.float32)
        back = config.decode(priors, code)
        _expect_tensor(config, "decode(priors, deltas)", back, (count, 4), torch.float32)
        close = torch.allclose(back, boxes, atol=0.05)
        _expect(config, "decode(priors, encode(priors, boxes)) has to give the boxes back", holds=close)
        order = torch.randperm(count)
        same = torch.allclose(config.decode(priors[order], code[order]), back[order], atol=1e-4)
        _expect(config, "decode has to give priors in another order their boxes in that order", holds=same)
        pred = code.detach().clone().requires_grad_()
        boxes = config.decode(priors, pred, max_shape=SIZE)
        _expect(config, "decode has to pass a gradient to the deltas", holds=boxes.requires_grad)
        (gradient,) = torch.autograd.grad(boxes.sum(), pred)
        _expect(config, "the gradient of decode has to be finite", holds=bool(gradient.isfinite().all()))


def _check_assigner(config: AssignerConfig) -> None:
    if not config.assigns_anchors:
        raise TypeError(
            f"{type(config).__name__} has no assign_anchors: it goes by more than boxes, as the head that calls it knows."
        )
    for priors_count, count in ((60, 5), (60, 0), (0, 5), (0, 0)):
        priors, targets = _boxes(priors_count), _targets(count)
        if min(priors_count, count):
            priors[:count] = targets.boxes + torch.rand(count, 4)
        found = config.assign_anchors(priors, targets, (priors_count,))
        name = f"of {priors_count} priors and {count} objects "
        _expect_tensor(config, f"{name}gt_indices", found.gt_indices, (priors_count,), torch.int64)
        _expect_tensor(config, f"{name}max_overlaps", found.max_overlaps, (priors_count,), torch.float32)
        within = (found.gt_indices >= IGNORED) & (found.gt_indices < len(targets.not_ignored))
        _expect(
            config,
            f"{name}gt_indices has to count the objects that are not ignored, or be NEGATIVE or IGNORED",
            holds=bool(within.all()),
        )
        order = torch.randperm(priors_count)
        again = config.assign_anchors(priors[order], targets, (priors_count,))
        _expect(
            config,
            f"{name}assign_anchors has to give priors in another order what it gave them",
            holds=again.gt_indices.equal(found.gt_indices[order]),
        )


class _Scorer(PriorScorer):
    """A head that scores by the prior's place."""

    def sample_losses(self, priors: Tensor, labels: Tensor | None) -> Tensor:
        del labels
        return priors[:, 0]

    def predict(self, priors: Tensor) -> PriorPredictions:
        return PriorPredictions(
            scores=priors[:, 0] / SIZE[1], boxes=priors.clone(), background_losses=priors[:, 0]
        )


def _check_sampler(config: SamplerConfig) -> None:
    scorer = _Scorer() if config.needs_scorer else None
    for priors_count, count in ((60, 5), (60, 0), (0, 5), (0, 0)):
        priors, targets = _boxes(priors_count), _targets(count)
        objects = targets.not_ignored
        choices = torch.randint(IGNORED, len(objects), (priors_count,))
        assignment = Assignment(gt_indices=choices, max_overlaps=torch.rand(priors_count))
        found = config.sample(assignment, priors, targets, scorer=scorer)
        added = len(objects) if config.adds_objects else 0
        all_priors, assigned = (
            torch.cat([objects.boxes[:added], priors]),
            torch.cat([torch.arange(added), choices]),
        )
        name = f"of {priors_count} priors and {count} objects "
        for kind, indices in (("pos_inds", found.pos_inds), ("neg_inds", found.neg_inds)):
            _expect_tensor(config, name + kind, indices, (len(indices),), torch.int64)
            _expect(config, f"{name}{kind} has to rise", holds=bool((indices.diff() > 0).all()))
        right = (assigned[found.pos_inds] >= 0).all() and (assigned[found.neg_inds] == NEGATIVE).all()
        _expect(
            config, f"{name}positives have to be assigned an object, negatives NEGATIVE", holds=bool(right)
        )
        objects_of = assigned[found.pos_inds]
        fields = (
            ("pos_priors", found.pos_priors, all_priors[found.pos_inds]),
            ("neg_priors", found.neg_priors, all_priors[found.neg_inds]),
            ("pos_is_gt", found.pos_is_gt, found.pos_inds < added),
            ("pos_assigned_gt_inds", found.pos_assigned_gt_inds, objects_of),
            ("pos_gt_bboxes", found.pos_gt_bboxes, objects.boxes[objects_of]),
            ("pos_gt_labels", found.pos_gt_labels, objects.labels[objects_of]),
        )
        for kind, value, expected in fields:
            _expect_tensor(config, name + kind, value, tuple(expected.shape), expected.dtype)
            _expect(config, f"{name}{kind} is not that of pos_inds and neg_inds", holds=value.equal(expected))
        if (most := config.max_samples) is not None:
            _expect(
                config, f"{name}there are more than max_samples", holds=found.num_pos + found.num_neg <= most
            )


def _check_anchors(config: AnchorGeneratorConfig | MlvlPointGeneratorConfig) -> None:
    sizes = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in config.strides]
    priors = config.grid_priors(sizes)
    flags = config.valid_flags(sizes, SIZE)
    _expect(config, "grid_priors has to give a tensor a level", holds=len(priors) == len(sizes) == len(flags))
    width = priors[0].shape[-1]
    _expect(config, "priors have to be boxes (A, 4) or points (A, 2)", holds=width in (2, 4))
    for level, (height, columns) in enumerate(sizes):
        count = height * columns * config.num_base_priors[level]
        _expect_tensor(config, f"grid_priors of level {level}", priors[level], (count, width), torch.float32)
        _expect(config, "priors have to be finite", holds=bool(priors[level].isfinite().all()))
        _expect_tensor(config, f"valid_flags of level {level}", flags[level], (count,), torch.bool)
        _expect(config, "priors of cells within the image have to be valid", holds=bool(flags[level].all()))
    half = config.grid_priors(sizes, device="meta", dtype=torch.float16)
    kept = all(level.dtype == torch.float16 and level.is_meta for level in half)
    _expect(config, "grid_priors has to give the device and dtype that are asked for", holds=kept)


def _check_backbone(config: BackboneConfig) -> None:
    with weights_on_meta():
        model = config.build().eval()
        features = model(torch.empty(2, 3, *SIZE))
        skipped = int(config.gives_image)
    _check_maps(config, model, features[skipped:], config.feature_channels, config.feature_strides)


def _check_neck(config: NeckConfig) -> None:
    with weights_on_meta():
        model = config.build().eval()
        inputs = [
            torch.empty(2, channels, SIZE[0] // stride, SIZE[1] // stride)
            for channels, stride in zip(config.in_channels, config.in_strides, strict=True)
        ]
        images = [torch.empty(2, 3, *SIZE)] if config.reads_image else []
        features = model((*images, *inputs))
    _check_maps(config, model, features, config.feature_channels, config.feature_strides)


def _check_maps(
    config: Config, model: nn.Module, features: Any, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """On the meta device: what is made elsewhere does not go with the rest, as on a GPU."""
    _expect(config, "forward has to give a tuple of feature maps", holds=isinstance(features, tuple))
    found = difference(features, channels, strides, SIZE)
    _expect(config, found, holds=not found)
    for index, x in enumerate(features):
        kept = len(x) == 2 and x.dtype == torch.float32 and x.is_meta
        _expect(
            config, f"map {index} of 2 images has to be float32, of 2 images and on their device", holds=kept
        )
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        return
    total = torch.stack([x.sum() for x in features]).sum()
    gradients: Any = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    unused = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
    _expect(config, f"no feature map depends on the parameter {(unused or [''])[0]}", holds=not unused)


def _check_optimizer(config: OptimizerConfig) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    model[0].requires_grad_(requires_grad=False)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = config.optimizer(model, lr_scale=0.5)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trained = [p for p in model.parameters() if p.requires_grad]
    _expect(
        config,
        "it has to hold what requires a gradient, and nothing else",
        holds=held == {id(p) for p in trained},
    )
    rates = all({"lr", "initial_lr"} <= group.keys() for group in optimizer.param_groups)
    _expect(config, "each group has to have lr and initial_lr, which schedules go by", holds=rates)
    whole = config.optimizer(model).param_groups
    scaled = zip(optimizer.param_groups, whole, strict=True)
    halved = all(abs(a["initial_lr"] - b["initial_lr"] / 2) < 1e-9 for a, b in scaled)
    _expect(config, "lr_scale has to multiply the learning rate of every group", holds=halved)
    loss = model(torch.rand(2, 3, 4, 4)).square().sum()
    for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
        parameter.grad = gradient
    optimizer.step()
    moved = [not now.equal(was) for now, was in zip(model.parameters(), before, strict=True)]
    _expect(config, "a step has to change what is trained, and nothing else", holds=moved[:2] == [False] * 2)
    _expect(config, "a step has to change the weights", holds=any(moved[2:]))


def _check_schedule(config: ScheduleConfig) -> None:
    steps, epochs = 10, 12
    factors = [config.factor(step, steps, steps * epochs) for step in range(steps * epochs)]
    finite = all(0 <= factor < float("inf") for factor in factors)
    _expect(config, f"factors have to be finite and at least 0, and are {factors}", holds=finite)
    again = [config.factor(step, steps, steps * epochs) for step in reversed(range(steps * epochs))]
    _expect(
        config,
        "a factor has to be a function of the step alone: a resumed run asks once",
        holds=again[::-1] == factors,
    )


def _check_dataset(config: DatasetConfig) -> None:
    from detcfg.evaluation.coco import CocoEvaluator

    dataset = config.dataset()
    _expect(config, "its classes have to be the config's", holds=tuple(dataset.classes) == config.classes)
    evaluator = CocoEvaluator(dataset)  # refuses annotations and categories that do not fit
    for index in range(min(len(dataset), SAMPLES)):
        sample, info, targets = dataset[index], dataset.info(index), dataset.targets(index)
        image, count = sample.image, len(sample.targets)
        name = f"sample {index}: "
        _expect_tensor(config, f"{name}image", image.as_subclass(Tensor), (3, *image.shape[1:]), torch.uint8)
        _expect(config, f"{name}its info has to be that of info({index})", holds=sample.info == info)
        _expect_tensor(config, f"{name}boxes", sample.targets.boxes, (count, 4), torch.float32)
        _expect_tensor(config, f"{name}labels", sample.targets.labels, (count,), torch.int64)
        labels = sample.targets.labels
        within = bool(((labels >= 0) & (labels < len(dataset.classes))).all())
        _expect(config, f"{name}labels have to count the classes", holds=within)
        same = targets.labels.equal(labels) and len(targets.boxes) == count
        _expect(config, f"{name}targets({index}) has to give the same objects", holds=same)
        known = info.image_id in set(evaluator.truth.image_ids)
        _expect(config, f"{name}ground_truth() has no image {info.image_id!r}", holds=known)


CHECKS: Final[dict[type[Config], Callable[[Any], None]]] = {
    BBoxCoderConfig: _check_coder,
    AssignerConfig: _check_assigner,
    SamplerConfig: _check_sampler,
    AnchorGeneratorConfig: _check_anchors,
    MlvlPointGeneratorConfig: _check_anchors,
    BackboneConfig: _check_backbone,
    NeckConfig: _check_neck,
    OptimizerConfig: _check_optimizer,
    ScheduleConfig: _check_schedule,
    DatasetConfig: _check_dataset,
}
"""By kind, what holds a component of it."""
