"""How a detector is trained."""

from __future__ import annotations

from typing import Literal, Self

from attrs import field, frozen, validators

from detcfg.config import Config, ConfigError
from detcfg.recipe.amp import Amp
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import OptimizerConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig, ScheduleConfig


@frozen(kw_only=True)
class ClipGradConfig(Config):
    """Scale all gradients down together where their norm is above `max_norm`."""

    max_norm: float = field(default=35.0, validator=validators.gt(0))
    """The norm that the gradients may have together."""
    norm_type: float = 2.0
    """Which p-norm is meant."""


@frozen(kw_only=True)
class TrainerConfig(Config):
    """How a detector is trained; the defaults are MMDetection's 1x schedule."""

    epochs: int = field(default=12, validator=validators.ge(1))
    """How often all images are seen."""
    optimizer: OptimizerConfig = SGDConfig()
    """How gradients change the weights."""
    schedule: ScheduleConfig = MultiStepConfig()
    """How the learning rate changes."""
    clip_grad: ClipGradConfig | None = None
    """How gradients are bounded; None: not at all."""
    accumulate: int = field(default=1, validator=validators.ge(1))
    """Batches whose gradients are averaged for one step."""
    amp: Amp = "none"
    """Compute in half precision where that is safe; fp16 scales the loss so that no gradient vanishes."""
    channels_last: bool = True
    """Lay out the channels of a pixel side by side in memory: quicker convolutions, the same
    values but for rounding."""
    keep_memory: bool = True
    """On the CPU, keep freed memory for the next step rather than return it to the system, which would clear it
    each time (glibc; quicker steps, and somewhat more memory where the sizes of images vary)."""
    compile: bool = False
    """Compile backbone and neck (`torch.compile`): a minute for each shape of a batch, and quicker steps on a
    GPU. On a CPU it gains little."""
    compile_size_divisor: int = field(default=128, validator=validators.ge(1))
    """Where `compile` is on: batches are padded to a multiple of this, so that there are few shapes."""
    ema: EMAConfig | None = None
    """Evaluate and keep a moving average of the weights, too."""
    sharding: Literal["none", "fsdp"] = "none"
    """What each of several processes keeps of the weights, gradients and the optimizer's state: none: all of
    it; fsdp: its share, for models that do not fit one GPU otherwise (torch 2.9; not with amp=fp16)."""

    auto_scale_lr: bool = True
    """Multiply the learning rate by the images in a step over `base_batch_size`."""
    base_batch_size: int = field(default=16, validator=validators.ge(1))
    """The images in a step that `optimizer.lr` is meant for."""

    load_from: str | None = None
    """Start from these weights of a whole detector (.pth, .safetensors); its backbone's `pretrained` is
    then not read."""
    load_partial: bool = False
    """Take from `load_from` what fits, rather than refuse what does not fit as a whole."""

    seed: int = 0
    """Decides the first weights, the order of the images and whatever is drawn at random."""
    deterministic: bool = False
    """On a GPU, use slower operators that give the same result each time."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; auto: a GPU if there is one."""

    max_skipped: int = field(default=100, validator=validators.ge(0))
    """Images that may turn out unreadable before the run stops, where the dataset's `drop_invalid` lets
    others take their place."""

    val_interval: int = field(default=1, validator=validators.ge(1))
    """Evaluate after every so many epochs, and after the last."""
    save_best: str = "bbox_AP"
    """The metric, greater is better, whose best checkpoint is kept as `best`."""
    log_interval: int = field(default=50, validator=validators.ge(1))
    """Steps between lines in the log."""
    checkpoint_interval: int = field(default=1000, validator=validators.ge(1))
    """Steps between checkpoints within an epoch."""

    def wired(self) -> Self:
        if self.sharding == "fsdp" and self.amp == "fp16":
            raise ConfigError(
                "sharding is 'fsdp' and amp is 'fp16', but each process would scale its share of the gradients by "
                "itself. Set amp to bf16, which needs no scaling, or sharding to none."
            )
        return self
