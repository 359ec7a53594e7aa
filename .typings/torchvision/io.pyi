from enum import Enum

from torch import Tensor

class ImageReadMode(Enum):
    RGB = "RGB"

def read_file(path: str) -> Tensor: ...
def decode_jpeg(input: Tensor, mode: ImageReadMode = ...) -> Tensor: ...
