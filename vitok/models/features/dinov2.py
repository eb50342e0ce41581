"""DINOv2 (Oquab et al. 2024): the self-supervised ViT whose class token FD-DINOv2 compares (Stein et al. 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.errors import VitokError
from vitok.models.features.output import NetworkFeatures

SIDE, PATCH, HEAD_WIDTH, EPSILON = 224, 14, 64, 1e-6
GRID, TRAINED_GRID = SIDE // PATCH, 37  # patches a side: at 224 pixels, and in training (518 pixels)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for pixels in [0, 1]


class DINOv2(nn.Module):
    """DINOv2 with the weights `state`, which has the keys of Meta's dinov2_vitl14_pretrain.pth, for ViT-S, B or L without registers.

    The tensors are used, not copied. Raises `VitokError` for other keys or shapes.
    """

    PREPARED = (
        "uint8, antialiased bicubic resize to 224 x 224 in float32 (torch), neither clamped nor rounded, / 255, "
        f"less the mean {MEAN}, by the deviation {DEVIATION}"
    )

    positions: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        width = state["cls_token"].shape[-1] if "cls_token" in state else HEAD_WIDTH  # a state without it is refused below
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        with torch.device("meta"):
            self.cls_token = nn.Parameter(torch.empty(1, 1, width))
            self.mask_token = nn.Parameter(torch.empty(1, width))  # used in training alone
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + TRAINED_GRID**2, width))
            self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
            self.blocks = nn.Sequential(*(DINOv2Block(width) for _ in range(depth)))
            self.norm = nn.LayerNorm(width, EPSILON)
        own = self.state_dict()
        if wrong := sorted(state.keys() ^ own.keys()) or [name for name in own if own[name].shape != state[name].shape]:
            raise VitokError(f"weights of DINOv2 with {wrong[0]!r} missing, unknown or misshapen: they are of another network")
        self.load_state_dict(state, assign=True)
        self.requires_grad_(False).eval()
        self.register_buffer("positions", resized_positions(self.pos_embed), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Convert images (B, 3, H, W) uint8 to the network's input (B, 3, 224, 224)."""
        x = F.interpolate(images.float(), (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        return (x / 255 - self.mean) / self.deviation

    def forward(self, images: Tensor) -> NetworkFeatures:
        """Return the features of images (B, 3, H, W) uint8: pooled (B, D), the class token after the last norm; no logits."""
        patches = self.patch_embed["proj"](self.prepare(images)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.positions
        return NetworkFeatures(self.norm(self.blocks(x)[:, 0]), None)


class DINOv2Block(nn.Module):
    """Pre-norm attention and MLP, each scaled per channel before it is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPSILON)
        self.attn = DINOv2Attention(width)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, EPSILON)
        self.mlp = DINOv2MLP(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to tokens (B, L, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2Attention(nn.Module):
    """Multi-head self-attention: tokens (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among tokens (B, L, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)  # each (B, heads, L, head width)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DINOv2MLP(nn.Module):
    """MLP with GELU, four times as wide: tokens (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, L, D) one by one."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale tokens (B, L, D) by channel."""
        return x * self.gamma


def resized_positions(positions: Tensor) -> Tensor:
    """Resize the positions of the class token and 37 x 37 patches (1, 1 + 37 * 37, D) to 16 x 16 patches (1, 1 + 16 * 16, D).

    Meta's code asks for 16.1 patches, which shifts every sample a little; published features include this shift.
    """
    grid = positions[:, 1:].unflatten(1, (TRAINED_GRID, TRAINED_GRID)).permute(0, 3, 1, 2)
    scale = (GRID + 0.1) / TRAINED_GRID
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    assert grid.shape[2:] == (GRID, GRID)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
