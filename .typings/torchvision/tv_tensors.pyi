from enum import Enum

from torch import Tensor

class TVTensor(Tensor): ...

class Image(TVTensor):
    def __init__(self, data: Tensor) -> None: ...

class Mask(TVTensor):
    def __init__(self, data: Tensor) -> None: ...

class BoundingBoxFormat(Enum):
    XYXY = ...

class BoundingBoxes(TVTensor):
    format: BoundingBoxFormat
    canvas_size: tuple[int, int]
    def __init__(self, data: Tensor, *, format: BoundingBoxFormat, canvas_size: tuple[int, int]) -> None: ...

def wrap(wrappee: Tensor, *, like: TVTensor) -> TVTensor: ...
