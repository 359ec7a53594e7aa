from collections.abc import Sequence
from enum import Enum
from typing import TypeVar

from torch import nn

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
