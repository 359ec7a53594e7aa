"""Import a config and its checkpoint to files: what `detcfg import-mmdet` does."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection
from keyword import iskeyword
from pathlib import Path

from attrs import evolve, frozen

from detcfg.config.base import ConfigError
from detcfg.config.load import experiment_names
from detcfg.experiment import ExperimentConfig, load_experiment
from detcfg.interop.mmdet.checkpoint import Converted, Weights, convert, read_checkpoint
from detcfg.interop.mmdet.experiment import Imported, import_config
from detcfg.interop.mmdet.read import Source, read_config
from detcfg.interop.mmdet.write import write_experiment


@frozen(kw_only=True)
class Result:
    """What was imported, and where it lies."""

    imported: Imported
    experiment: Path
    converted: Converted | None = None
    weights: Path | None = None
    """The folder of the converted checkpoint."""


def import_mmdet(
    config: Path | None,
    *,
    checkpoint: Path | None = None,
    out: Path | None = None,
    weights: Path | None = None,
    config_root: Path | None = None,
    trust: bool = False,
    force: bool = False,
    modules: Collection[str] = (),
) -> Result:
    """Write the experiment of a config, and what fits it of a checkpoint.

    Args:
        config: The config; None: the one that the checkpoint holds.
        checkpoint: A .pth file.
        out: The experiment's file; None: `experiments/NAME.py`.
        weights: The folder of the converted checkpoint; None: `runs/NAME`.
        config_root: MMDetection's folder of configs, for `mmdet::` names.
        trust: Run what is more than plain data as Python.
        force: Write over a file that is there.
        modules: Where to look for components besides detcfg.

    Raises:
        ConfigError: Something cannot be read or written, or contradicts itself.
    """
    read = None if checkpoint is None else read_checkpoint(checkpoint)
    source = _source(config, read, config_root, trust=trust)
    imported = import_config(source, modules=modules, classes=None if read is None else read.classes)
    out = out or Path("experiments", f"{experiment_name(source.path)}.py")
    if out.suffix != ".py":
        raise ConfigError(f"--out {out}: an experiment is a .py file.")
    if out.exists() and not force:
        raise ConfigError(f"{out} is there already. Choose another --out, or write over it with --force.")
    text = write_experiment(imported, known_experiments(out.stem))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    if read is None:
        return Result(imported=imported, experiment=out)
    if imported.missing:
        names = ", ".join(dict.fromkeys(missing.name for missing in imported.missing))
        raise ConfigError(
            f"{out} is written, with stubs for {names}. Fill them in; then convert the checkpoint with "
            "detcfg.interop.mmdet.checkpoint.convert(read_checkpoint(FILE), load_experiment(NAME), FOLDER)."
        )
    folder = weights or Path("runs", out.stem)
    converted = convert(read, load_experiment(out), folder)
    return Result(imported=imported, experiment=out, converted=converted, weights=folder)


def known_experiments(but: str = "") -> dict[str, ExperimentConfig]:
    """The experiments that another may inherit from, by name; broken ones are left out."""
    found: dict[str, ExperimentConfig] = {}
    for name in experiment_names():
        if name == but:
            continue
        try:
            found[name] = load_experiment(name)
        except ConfigError:
            continue
    return found


def experiment_name(path: Path) -> str:
    """A file's name as a module's: `dh_faster_rcnn_r50_fpn_1x_coco`."""
    name = re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_").lower() or "imported"
    return f"{name}_" if iskeyword(name) else f"_{name}" if name[0].isdecimal() else name


def _source(config: Path | None, weights: Weights | None, root: Path | None, *, trust: bool) -> Source:
    if config is not None:
        return read_config(config, config_root=root, trust=trust)
    if weights is None:
        raise ConfigError("Give a config, or --checkpoint with a file that holds one.")
    text = weights.config_text
    if text is None:
        raise ConfigError(f"{weights.path} holds no config. Give the config's file besides.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{weights.path.stem}.py")
        path.write_text(text, encoding="utf-8")
        return evolve(read_config(path, config_root=root, trust=trust), path=weights.path)
