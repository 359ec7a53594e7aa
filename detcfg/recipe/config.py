"""How a detector is trained: the config of the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from attrs import frozen

from detcfg.config import Config, ConfigError
from detcfg.config.ranges import NonNegativeInt, PositiveFloat, PositiveInt, PositiveUnbounded, Seed
from detcfg.recipe.amp import Amp
from detcfg.recipe.ema import EMAConfig
from detcfg.recipe.optimizers import OptimizerConfig, SGDConfig
from detcfg.recipe.schedules import MultiStepConfig, ScheduleConfig

if TYPE_CHECKING:
    from detcfg.engine.trainer import Run, Trainer


@frozen(kw_only=True)
class ClipGradConfig(Config):
    """Gradient clipping by norm: all gradients are scaled down together where their norm is above `max_norm`."""

    max_norm: PositiveFloat = 35.0
    """The greatest norm of all gradients together."""
    norm_type: PositiveUnbounded = 2.0
    """The p of the p-norm."""


@frozen(kw_only=True)
class TrainerConfig(Config):
    """How a detector is trained; the defaults are MMDetection's 1x schedule."""

    epochs: PositiveInt = 12
    """Passes over the training images."""
    optimizer: OptimizerConfig = SGDConfig()
    """The optimizer, with its learning rate and weight decay."""
    schedule: ScheduleConfig = MultiStepConfig()
    """The schedule of the learning rate, warm-up included."""
    clip_grad: ClipGradConfig | None = None
    """Gradient clipping; None: none."""
    accumulate: PositiveInt = 1
    """Gradient accumulation: batches per optimizer step, whose gradients are averaged."""
    amp: Amp = "none"
    """Automatic mixed precision: compute in bf16 or fp16 where that is safe. fp16 scales the loss (`GradScaler`), so
    that small gradients do not underflow."""
    channels_last: bool = True
    """Keep weights and feature maps in `torch.channels_last`: quicker convolutions, the same values but for
    rounding."""
    keep_memory: bool = True
    """On the CPU, keep freed memory for the next step rather than return it to the system, which would clear it
    each time (glibc; quicker steps, and somewhat more memory where the sizes of images vary)."""
    compile: bool = False
    """Compile backbone and neck (`torch.compile`): a minute for each shape of a batch, and quicker steps on a
    GPU. On a CPU it gains little."""
    compile_size_divisor: PositiveInt = 128
    """Where `compile` is on: batches are padded to a multiple of this, so that there are few shapes."""
    ema: EMAConfig | None = None
    """An exponential moving average of the weights (EMA), which is what is evaluated and kept as the best."""
    sharding: Literal["none", "fsdp"] = "none"
    """`none`: DDP, a full replica on every rank. `fsdp`: FSDP2, with parameters, gradients and optimizer state sharded
    over the ranks, for models that do not fit one GPU otherwise (torch 2.9 or newer; not with amp=fp16)."""

    auto_scale_lr: bool = True
    """Linear scaling: multiply the learning rate by (images per step, over all ranks and accumulated batches) /
    `base_batch_size`."""
    base_batch_size: PositiveInt = 16
    """The images per step that `optimizer.lr` is meant for."""

    load_from: str | None = None
    """Start from these weights of a whole detector (.pth, .safetensors); its backbone's `pretrained` is
    then not read."""
    load_partial: bool = False
    """Take from `load_from` what fits, rather than refuse what does not fit as a whole."""

    seed: Seed = 0
    """Seeds the initial weights, the order of the images and all that is drawn at random."""
    deterministic: bool = False
    """On a GPU, use slower operators that give the same result each time."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; auto: a GPU if there is one."""

    max_skipped: NonNegativeInt = 100
    """Unreadable images after which the run stops, where the dataset's `drop_invalid` has others take their
    place."""

    val_interval: PositiveInt = 1
    """Epochs between validations; there is one after the last epoch, too."""
    save_best: str = "bbox_AP"
    """The metric, greater is better, by which the best weights are kept as `best.safetensors`: `bbox_AP`, `segm_AP50`,
    on LVIS `bbox_APr`, ... A name that the evaluator of `data.val` does not give is an error before training."""
    log_interval: PositiveInt = 50
    """Steps between lines in the log."""
    checkpoint_interval: PositiveInt = 1000
    """Steps between checkpoints within an epoch."""

    def wired(self) -> Self:
        if self.sharding == "fsdp" and self.amp == "fp16":
            raise ConfigError(
                "sharding is 'fsdp' and amp is 'fp16', but each process would scale its share of the gradients by "
                "itself. Set amp to bf16, which needs no scaling, or sharding to none."
            )
        return self

    def build(self, run: Run) -> Trainer:
        """The trainer of a run. A subclass that names its own trainer here is all that it takes to plug one in.

        Args:
            run: Whose `experiment.trainer` this config is, resolved.
        """
        return run.standard_trainer(self)
