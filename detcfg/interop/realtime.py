"""The published weights of D-FINE, DEIM and RT-DETRv2 to a folder that detcfg reads: what `detcfg import-weights` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from attrs import evolve, frozen
from torch import Tensor

from detcfg.config import ConfigError
from detcfg.config.base import did_you_mean
from detcfg.config.moved import SHIPPED_FOLDER
from detcfg.data.classes import COCO_CLASSES
from detcfg.detectors.rtdetr import RTDETRConfig
from detcfg.engine.checkpoint import BEST, save_experiment, save_weights
from detcfg.experiment import ExperimentConfig, load_experiment
from detcfg.interop.pickles import CheckpointError
from detcfg.interop.torch_files import TensorRecord, read_torch_file

NAMES: Final = (
    *(f"dfine_{size}" for size in "nsmlx"),
    *(f"deim_dfine_{size}" for size in "ns"),
    *(f"rtdetrv2_r{depth}" for depth in (18, 34, 50, 101)),
)
"""The experiments whose references publish weights."""
PLACES: Final = (("ema", "module"), ("model",), ())
"""Where the references keep weights: averaged ones first, and the whole file if it is a bare state dict."""
COMPUTED: Final = ("decoder.anchors", "decoder.valid_mask", "encoder.pos_embed")
"""What begins so follows from the size of the images, and is no weight."""
SCORES: Final = "decoder.enc_score_head.weight"
"""Has a row a class."""
CLASS_HEADS: Final = ("decoder.enc_score_head.", "decoder.dec_score_head.", "decoder.denoising_class_embed.")
"""What depends on the classes."""


@frozen(kw_only=True)
class Result:
    """What a checkpoint was found to be, and where it lies now."""

    name: str
    """The experiment whose model it is."""
    experiment: ExperimentConfig
    folder: Path
    tensors: int
    """Tensors that were taken."""
    notes: tuple[str, ...]
    """What the person should know."""


def import_weights(
    checkpoint: Path, out: Path | None = None, classes: tuple[str, ...] = (), *, name: str = ""
) -> Result:
    """Write the weights as safetensors, with the experiment's JSON beside them.

    Args:
        checkpoint: A .pth file as D-FINE, DEIM and RT-DETRv2 publish or train it. It is never unpickled.
        out: The folder; None: `runs/NAME`.
        classes: The names of your classes; () for COCO's. Where there are others than the file knows, the layers that
            predict classes stay new.
        name: The experiment; "" for the one that has these names and shapes.

    Raises:
        ConfigError: It is of none of these models, or of classes that have to be named.
    """
    state, notes = published_state(checkpoint)
    known = len(state[SCORES]) if SCORES in state else 0
    if name and name not in NAMES:
        raise ConfigError(f"{name!r} is no experiment with published weights. {did_you_mean(name, NAMES)}")
    fits = [n for n in ([name] if name else NAMES) if _has_shapes(n, state, known)]
    if not fits:
        raise ConfigError(
            f"{checkpoint} is of no {name or 'model that is here'}: {name or ', '.join(NAMES)}. Its names or shapes are "
            f"others, such as {', '.join(sorted(state)[:2])}."
        )
    chosen = _by_file_name(fits, checkpoint)
    if len(fits) > 1:
        notes.append(
            f"{' and '.join(fits)} have the same weights; by its name the file is {chosen}. --experiment decides."
        )
    names = classes or (COCO_CLASSES if known == len(COCO_CLASSES) else ())
    if not names:
        raise ConfigError(
            f"{checkpoint} knows {known} classes. Name them, or your own: --classes bolt,nut,washer"
        )
    given = load_experiment(SHIPPED_FOLDER / f"{chosen}.py")
    train, val = (evolve(cast("Any", part), classes=names) for part in (given.data.train, given.data.val))
    experiment = evolve(given, data=evolve(given.data, train=train, val=val)).resolved()
    tensors, taken = _completed(experiment, state, same_classes=len(names) == known)
    if len(names) != known:
        notes.append(
            f"It knows {known} classes and you name {len(names)}: the layers that predict classes are new."
        )
    folder = out or Path("runs", chosen)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(tensors, folder / BEST)
    save_experiment(experiment, folder)
    return Result(name=chosen, experiment=experiment, folder=folder, tensors=taken, notes=tuple(notes))


def published_state(checkpoint: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file by name, without those that follow from the size of images; and which were chosen.

    Raises:
        CheckpointError: It cannot be read, or holds no tensors.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}.")
    file = read_torch_file(checkpoint)
    for place in PLACES:
        found: object = file.value
        for key in place:
            found = cast("dict[str, object]", found).get(key) if isinstance(found, dict) else None
        items = cast("dict[object, object]", found).items() if isinstance(found, dict) else ()
        tensors = {
            str(name).removeprefix("module."): file.tensor(value)
            for name, value in items
            if isinstance(value, TensorRecord) and not str(name).removeprefix("module.").startswith(COMPUTED)
        }
        if tensors:
            notes = ["The weights are the averaged ones (EMA)."] if place == PLACES[0] else []
            return {name: tensor for name, tensor in tensors.items() if tensor is not None}, notes
    raise CheckpointError(f"{checkpoint} holds no tensors under 'model' or 'ema.module'.")


def _has_shapes(name: str, state: Mapping[str, Tensor], num_classes: int) -> bool:
    """Whether the experiment's model with so many classes has these tensors; those of denoising may be gone."""
    config = load_experiment(SHIPPED_FOLDER / f"{name}.py").model
    width, last = state.get("encoder.input_proj.0.conv.weight"), "decoder.dec_score_head.{}.weight"
    if not num_classes or width is None or not isinstance(config, RTDETRConfig):
        return False
    layers = config.decoder.num_layers
    if config.encoder.hidden_dim != len(width) or (last.format(layers - 1) in state) == (
        last.format(layers) in state
    ):
        return False  # most models need not be built
    with torch.device("meta"):
        model = evolve(config, num_classes=num_classes).build()
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    missing = [key for key in shapes if key not in state and "denoising" not in key]
    return not missing and all(shapes.get(key) == tensor.shape for key, tensor in state.items())


def _by_file_name(fits: list[str], checkpoint: Path) -> str:
    """DEIM's model has D-FINE's weights, and another activation."""
    deim = "deim" in checkpoint.name.lower()
    return next((name for name in fits if name.startswith("deim") == deim), fits[0])


def _completed(
    experiment: ExperimentConfig, state: Mapping[str, Tensor], *, same_classes: bool
) -> tuple[dict[str, Tensor], int]:
    """All tensors of the experiment's model, those that the file has not as they begin; and how many it has."""
    torch.default_generator.manual_seed(experiment.trainer.seed)
    built = experiment.model.build().state_dict()
    taken = {
        name: tensor for name, tensor in state.items() if same_classes or not name.startswith(CLASS_HEADS)
    }
    return {**built, **taken}, len(taken)
