from torch import Tensor, nn

def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor: ...
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor: ...
def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = ...,
    sampling_ratio: int = ...,
    aligned: bool = ...,
) -> Tensor: ...
def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = ...,
    stride: int | tuple[int, int] = ...,
    padding: int | tuple[int, int] = ...,
    dilation: int | tuple[int, int] = ...,
    mask: Tensor | None = ...,
) -> Tensor: ...

class FrozenBatchNorm2d(nn.Module):
    def __init__(self, num_features: int, eps: float = ...) -> None: ...
