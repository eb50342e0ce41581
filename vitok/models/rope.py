"""3D axial rotary position embedding (section 2.2): each head is split over t, y and x, and each part is rotated by its axis."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

THETA = 1e4
TokenGrid = tuple[int, int, int]  # along (t, y, x)


def axis_split(head_width: int) -> tuple[int, int, int]:
    """Return the dimensions of a head for (t, y, x): a third each in steps of eight, the rest for t. 64 -> 16/24/24, 72 -> 24/24/24."""
    space = -(-head_width // 24) * 8
    return head_width - 2 * space, space, space


def angles(positions: Tensor, head_width: int) -> Tensor:
    """Return rotation angles (L, head_width / 2), radians, of token positions (L, 3) given as (t, y, x)."""
    parts: list[Tensor] = []
    for axis, width in enumerate(axis_split(head_width)):
        frequency = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width)
        parts.append(positions[:, axis, None].double() * frequency)
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=64)
def rotary_tables(grid: TokenGrid, head_width: int, device: torch.device, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Return cosine and sine (L + extra, head_width / 2), float32, for the tokens of a grid in row-major order and `extra` tokens behind
    it.

    The extra tokens lie one after the other behind the last frame, at (t, 0, 0), (t + 1, 0, 0) and so on.
    """
    with torch.inference_mode(False):  # cached tensors must serve training too, even if inference asked first
        positions = torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid))
        behind = F.pad(torch.arange(grid[0], grid[0] + extra, device=device).unsqueeze(1), (0, 2))  # (extra, 3)
        angle = angles(torch.cat([positions, behind]), head_width)
        return angle.cos().float(), angle.sin().float()


@lru_cache(maxsize=64)
def grid_sinusoids(grid: TokenGrid, width: int, device: torch.device) -> Tensor:
    """Return absolute positions (L, width), float32: cosines and sines of the same angles, over the whole width instead of a head's."""
    with torch.inference_mode(False):
        angle = angles(torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid)), width)
        return torch.cat([angle.cos(), angle.sin()], dim=1).float()


def sequence_sinusoids(count: int, width: int) -> Tensor:
    """Return absolute positions (count, width), float32, along one axis."""
    frequency = THETA ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(count).unsqueeze(1) * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate dimension i of x (B, heads, L, head_width) against dimension i + head_width / 2."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
