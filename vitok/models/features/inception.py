"""The Inception of FID: the 2015 TensorFlow network that Heusel et al. 2017 chose, with weights as torch-fidelity converted them.

It is not torchvision's: other weights, 1008 classes, pooling without the padding, TensorFlow 1's resize.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.errors import VitokError
from vitok.models.features.folding import StateDict, folded_convolution
from vitok.models.features.output import NetworkFeatures

SIDE, EPSILON = 299, 1e-3
STEM = (
    ("Conv2d_1a_3x3", 2, 0),
    ("Conv2d_2a_3x3", 1, 0),
    ("Conv2d_2b_3x3", 1, 1),
    "pool",
    ("Conv2d_3b_1x1", 1, 0),
    ("Conv2d_4a_3x3", 1, 0),
    "pool",
)
# A block's branches, each a chain of convolutions on the block's input; "/2" has stride 2; two at the end are two outputs.
A = ("branch1x1", "branch5x5_1 branch5x5_2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3")
B = ("branch3x3/2", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3/2")
C = ("branch1x1", "branch7x7_1 branch7x7_2 branch7x7_3", "branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 branch7x7dbl_5")
D = ("branch3x3_1 branch3x3_2/2", "branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4/2")
E = ("branch1x1", "branch3x3_1 branch3x3_2a,branch3x3_2b", "branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a,branch3x3dbl_3b")
BLOCKS = (
    ("Mixed_5b", A, "mean"), ("Mixed_5c", A, "mean"), ("Mixed_5d", A, "mean"), ("Mixed_6a", B, "max/2"),
    ("Mixed_6b", C, "mean"), ("Mixed_6c", C, "mean"), ("Mixed_6d", C, "mean"), ("Mixed_6e", C, "mean"),
    ("Mixed_7a", D, "max/2"), ("Mixed_7b", E, "mean"), ("Mixed_7c", E, "max"),
)  # fmt: skip


class Inception(nn.Module):
    """`state` has the keys of torch-fidelity's weights-inception-2015-12-05-6726825d.pth. Raises `VitokError` for other keys."""

    PREPARED = "uint8, TensorFlow 1's bilinear resize to 299 x 299, (x - 128) / 128"

    def __init__(self, state: StateDict) -> None:
        super().__init__()
        try:
            self.stem = nn.ModuleList(
                nn.MaxPool2d(3, 2) if isinstance(part, str) else self._layer(state, part[0], part[1], part[2]) for part in STEM
            )
            self.blocks = nn.ModuleList(Block(self, state, *block) for block in BLOCKS)
            self.head: Tensor
            self.register_buffer("head", state["fc.weight"])
        except KeyError as error:
            raise VitokError(f"weights of the FID Inception without {error}: they are of another network") from None
        self.to(memory_format=torch.channels_last).eval()

    def _layer(self, state: StateDict, name: str, stride: int, padding: int | tuple[int, int]) -> nn.Conv2d:
        return folded_convolution(state, f"{name}.conv.weight", f"{name}.bn", EPSILON, stride, padding)

    def forward(self, images: Tensor) -> NetworkFeatures:
        """Images (B, 3, H, W) uint8 -> pooled (B, 2048) for FID, KID, precision and recall; logits (B, 1008) without their
        bias, from which TensorFlow's graph, and so the Inception Score, takes its classes."""
        x = (resize(images.float()) - 128) / 128
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = layer(x) if isinstance(layer, nn.MaxPool2d) else F.relu(layer(x), inplace=True)
        for block in self.blocks:
            x = block(x)
        pooled = x.mean((2, 3))
        return NetworkFeatures(pooled, pooled @ self.head.T)


class Block(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, whole: Inception, state: StateDict, name: str, branches: tuple[str, ...], pooling: str) -> None:
        super().__init__()

        def layer(text: str) -> nn.Conv2d:
            key, _, stride = f"{name}.{text}".partition("/")
            height, width = state[f"{key}.conv.weight"].shape[2:]
            padding = 0 if stride else (height // 2, width // 2)
            return whole._layer(state, key, int(stride or 1), padding)

        self.chains = nn.ModuleList(
            nn.ModuleList(nn.ModuleList(layer(one) for one in link.split(",")) for link in branch.split()) for branch in branches
        )
        self.kind, _, self.stride = pooling.partition("/")
        self.after = None if self.stride else layer("branch_pool")

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for chain in self.chains:
            y = [x]
            for link in chain:  # pyright: ignore[reportGeneralTypeIssues]
                y = [F.relu(layer(y[0]), inplace=True) for layer in link]
            outputs += y
        if self.after is None:
            return torch.cat([*outputs, F.max_pool2d(x, 3, 2)], 1)
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if self.kind == "mean" else F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*outputs, F.relu(self.after(pooled), inplace=True)], 1)


def resize(images: Tensor) -> Tensor:
    """TensorFlow 1's bilinear resize (B, C, H, W) -> (B, C, 299, 299): output i looks at i * (input / output), corner to corner,
    without smoothing. As two matrix products."""
    rows, columns = (_weights(length, images) for length in images.shape[2:])
    return rows @ images @ columns.T


def _weights(length: int, like: Tensor) -> Tensor:
    """(299, length): what each output takes of the inputs. The positions are rounded to float32, as TensorFlow's are."""
    place = torch.arange(SIDE, dtype=torch.float32, device=like.device) * torch.tensor(length / SIDE, dtype=torch.float32)
    low = place.long()
    share = (place - low).unsqueeze(1)
    identity = torch.eye(length, dtype=like.dtype, device=like.device)
    return identity[low] * (1 - share) + identity[(low + 1).clamp_max(length - 1)] * share
