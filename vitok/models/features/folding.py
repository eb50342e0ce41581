"""Folding of batch norms into convolutions: in inference the two are one affine map."""

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]


def folded_convolution(
    state: StateDict, weight: str, norm: str, eps: float, stride: int = 1, padding: int | tuple[int, int] = 0, groups: int = 1
) -> nn.Conv2d:
    """Return the convolution `weight` ("layer.weight") with the batch norm `norm` ("layer.bn") folded into it, in float64."""
    kernel = state[weight].double()
    gain, bias, mean, variance = (state[f"{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var"))
    scale = gain / (variance + eps).sqrt()
    out, inputs, *size = kernel.shape
    layer = nn.Conv2d(inputs * groups, out, (size[0], size[1]), stride, padding, groups=groups)
    with torch.no_grad():
        layer.weight.copy_(kernel * scale.view(-1, 1, 1, 1))
        assert layer.bias is not None
        layer.bias.copy_(bias - mean * scale)
    return layer.requires_grad_(False)
