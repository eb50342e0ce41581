"""DiT (Peebles and Xie 2023) on a tokenizer's latents (section 2.3): one token a latent token, the tokenizer's Llama block with adaLN-zero.

Images and videos differ in the grid of their tokens alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok import config
from vitok.config.variants import TIME_FREQUENCIES
from vitok.models.blocks import BlockStack, RotaryAttention, SwiGLU
from vitok.models.rope import grid_sinusoids, rotary_tables

PERIOD = 1e4  # longest period of the time embedding (Peebles and Xie 2023)


class DiTBlock(nn.Module):
    """A pre-norm block with adaLN-zero: shift, scale and gate of both branches are linear in the condition, and zero at initialisation."""

    def __init__(self, tower: config.Tower) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(tower.width, elementwise_affine=False)
        self.attention = RotaryAttention(tower.width, tower.heads)
        self.mlp_norm = nn.LayerNorm(tower.width, elementwise_affine=False)
        self.mlp = SwiGLU(tower.width, tower.hidden)
        self.modulation = nn.Linear(tower.width, 6 * tower.width)

    def forward(self, x: Tensor, condition: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Apply the block to tokens (B, L, D) with a condition (B, D)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)  # (B, 1, D) each
        x = x + gate * self.attention(modulate(self.attention_norm(x), shift, scale), cos, sin)
        return x + mlp_gate * self.mlp(modulate(self.mlp_norm(x), mlp_shift, mlp_scale))


class TimeEmbedding(nn.Module):
    """Embedding of times (B,), from 0 to 1000, as (B, D): sines of geometric frequencies through an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(TIME_FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, times: Tensor) -> Tensor:
        """Embed times (B,)."""
        half = TIME_FREQUENCIES // 2
        frequencies = torch.exp(-math.log(PERIOD) / half * torch.arange(half, device=times.device, dtype=torch.float32))
        angles = times.float()[:, None] * frequencies
        return self.outer(F.silu(self.inner(torch.cat([angles.cos(), angles.sin()], dim=-1))))


class DiT(nn.Module):
    """Class-conditional DiT: noised latents (B, L, c), times (B,) and labels (B,) -> a prediction (B, L, c).

    It takes latents of mean 0 and deviation 1 in every channel; `mean` and `std` of the corpus's latents are part of its weights. The label
    `classes` stands for an unknown class. Without classes the model is unconditional and ignores labels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: config.Tower, channels: int, grid: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.width, self.head_width = tower.width, tower.head_width
        self.grid, self.classes, self.channels = grid, classes, channels
        self.embed = nn.Linear(channels, tower.width)
        self.time = TimeEmbedding(tower.width)
        self.labels = nn.Embedding(classes + 1, tower.width) if classes else None
        self.blocks = BlockStack(DiTBlock(tower) for _ in range(tower.blocks))
        self.norm = nn.LayerNorm(tower.width, elementwise_affine=False)
        self.modulation = nn.Linear(tower.width, 2 * tower.width)
        self.output = nn.Linear(tower.width, channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self._initialise()

    def forward(self, latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Predict noise or velocity (B, L, c) from noised latents (B, L, c), times (B,) and labels (B,)."""
        condition = self.time(times)
        if self.labels is not None:
            condition = condition + self.labels(labels)
        condition = F.silu(condition)
        # DiT's fixed positions beside RoPE, which encodes relative positions alone: training is faster with both.
        x = self.embed(latents) + grid_sinusoids(self.grid, self.width, latents.device)
        x = self.blocks(x, condition, *rotary_tables(self.grid, self.head_width, latents.device))
        shift, scale = self.modulation(condition).unsqueeze(1).chunk(2, dim=-1)
        return self.output(modulate(self.norm(x), shift, scale))

    def normalised(self, latents: Tensor) -> Tensor:
        """Normalise a tokenizer's latents (B, L, c) to mean 0 and deviation 1."""
        return (latents - self.mean) / self.std

    def restored(self, latents: Tensor) -> Tensor:
        """Invert `normalised`."""
        return latents * self.std + self.mean

    @torch.no_grad()
    def _initialise(self) -> None:
        """Initialise as DiT does: every block is the identity at first, and the prediction zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for weight in (self.time.inner.weight, self.time.outer.weight, *([self.labels.weight] if self.labels is not None else [])):
            nn.init.normal_(weight, std=0.02)
        for module in self.modules():
            if isinstance(module, DiTBlock | DiT):
                nn.init.zeros_(module.modulation.weight)
        nn.init.zeros_(self.output.weight)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x * (1 + scale) + shift."""
    return x * (1 + scale) + shift
