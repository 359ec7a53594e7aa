from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")

class InterpolationMode(Enum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"

class Transform(nn.Module):
    def __call__(self, inputs: T, /) -> T: ...

class RandomHorizontalFlip(Transform):
    def __init__(self, p: float = ...) -> None: ...

class RandomVerticalFlip(Transform):
    def __init__(self, p: float = ...) -> None: ...

class GaussianBlur(Transform):
    def __init__(self, kernel_size: int | Sequence[int], sigma: float | Sequence[float] = ...) -> None: ...

class ColorJitter(Transform):
    def __init__(
        self, brightness: float = ..., contrast: float = ..., saturation: float = ..., hue: float = ...
    ) -> None: ...

class RandomPhotometricDistort(Transform):
    def __init__(
        self,
        brightness: tuple[float, float] = ...,
        contrast: tuple[float, float] = ...,
        saturation: tuple[float, float] = ...,
        hue: tuple[float, float] = ...,
        p: float = ...,
    ) -> None: ...

class RandomIoUCrop(Transform):
    def __init__(self, min_scale: float = ..., *, sampler_options: Sequence[float] | None = ...) -> None: ...

class RandomZoomOut(Transform):
    def __init__(
        self,
        fill: Mapping[type[Tensor], float | Sequence[float]] = ...,
        side_range: Sequence[float] = ...,
        p: float = ...,
    ) -> None: ...
