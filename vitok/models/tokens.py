"""Learned tokens of the variants of A.4. Each is a module of its own, so that ZeRO-3, which gathers parameters module by module,
finds it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.models.rope import TokenGrid, grid_sinusoids, sequence_sinusoids


class LatentTokens(nn.Module):
    """Appends l learned tokens to those of the patches: (B, L, D) -> (B, L + l, D). They are initialised as the sines of their position
    (A.4).
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(sequence_sinusoids(count, width).unsqueeze(0))

    def forward(self, patches: Tensor) -> Tensor:
        """Append the latent tokens to patches (B, L, D)."""
        return torch.cat([patches, self.rows.expand(len(patches), -1, -1)], dim=1)


class PatchTokens(nn.Module):
    """Prepends copies of one learned token, which become the patches of a grid (t, y, x), to the code: (B, l, D) -> (B, L + l, D).

    Each copy has the sines of its position added, as DiT's tokens have: from the rotation alone it learns far more slowly which patch it
    is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def forward(self, code: Tensor, grid: TokenGrid) -> Tensor:
        """Prepend the patch tokens of a grid (t, y, x) to a code (B, l, D)."""
        patches = self.row + grid_sinusoids(grid, self.row.shape[2], code.device)
        return torch.cat([patches.expand(len(code), -1, -1), code], dim=1)


class MaskTokens(nn.Module):
    """Puts one learned token in place of the missing tokens of a nested code: (B, l, c), l <= L -> (B, L, c).

    The token is initialised as the mean of the prior. The KL term covers all tokens: the encoder does not know which of them will be
    masked.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, code: Tensor, length: int, kept: Tensor | None) -> Tensor:
        """Extend a code (B, l, c) to `length` tokens. `kept` (B,) first tokens of each sample stay, the others are masked."""
        batch, given, _ = code.shape
        last = torch.full((batch,), given, device=code.device) if kept is None else kept.clamp(max=given)
        stays = torch.arange(length, device=code.device) < last.unsqueeze(1)  # (B, L)
        return torch.where(stays.unsqueeze(2), F.pad(code, (0, 0, 0, length - given)), self.row)
