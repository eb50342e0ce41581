"""DINOv2 (Oquab et al. 2024): the self-supervised ViT whose class token FD-DINOv2 compares (Stein et al. 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.errors import VitokError
from vitok.models.features.output import Features

SIDE, PATCH, HEAD_WIDTH, EPSILON = 224, 14, 64, 1e-6
GRID, TRAINED_GRID = SIDE // PATCH, 37  # patches a side: here, and in the positions (of 518 pixels)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for pixels in [0, 1]


class DINOv2(nn.Module):
    """`state` has the keys of Meta's dinov2_vitl14_pretrain.pth, for ViT-S, B or L without registers; its tensors are used, not
    copied. Raises `VitokError` for other keys and shapes."""

    PREPARED = (
        "uint8, antialiased bicubic resize to 224 x 224 in float32 (torch), neither clamped nor rounded, / 255, "
        f"less the mean {MEAN}, by the deviation {DEVIATION}"
    )

    positions: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width = state["cls_token"].shape[-1] if "cls_token" in state else HEAD_WIDTH  # without it refused below
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        with torch.device("meta"):
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.mask_token = nn.Parameter(torch.empty(1, width))  # of the training
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED_GRID**2, width))
            self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
            self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
            self.norm = nn.LayerNorm(width, EPSILON)
        own = self.state_dict()
        if wrong := sorted(state.keys() ^ own.keys()) or [name for name in own if own[name].shape != state[name].shape]:
            raise VitokError(f"weights of DINOv2 with {wrong[0]!r} missing, unknown or misshapen: they are of another network")
        self.load_state_dict(state, assign=True)
        self.requires_grad_(False).eval()
        self.register_buffer("positions", resized(self.pos_embed), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> the network's input (B, 3, 224, 224)."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        return (x / 255 - self.mean) / self.deviation

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, H, W) uint8 -> pooled (B, D), the class token after the last norm; no logits."""
        patches = self.patch_embed["proj"](self.prepare(images)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.positions
        return Features(self.norm(self.blocks(x)[:, 0]), None)


class Block(nn.Module):
    """Pre-norm attention and MLP, each scaled per channel before it is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = MLP(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)  # each (B, heads, L, head width)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def resized(positions: Tensor) -> Tensor:
    """Positions of the class token and of 37 x 37 patches (1, 1 + 37 * 37, D) -> of 16 x 16 (1, 1 + 16 * 16, D). Meta's code asks
    for 16.1 patches, which moves every sample a little; the features that others publish have that."""
    grid = positions[:, 1:].unflatten(1, (TRAINED_GRID, TRAINED_GRID)).permute(0, 3, 1, 2)
    scale = (GRID + 0.1) / TRAINED_GRID
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    assert grid.shape[2:] == (GRID, GRID)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
