"""The transformer block of ViTok and DiT: pre-norm attention with RoPE and SwiGLU, as in Llama (sections 2.2, 2.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitok import config
from vitok.models.rope import rotary_tables, rotate


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary positions: tokens (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend among tokens (B, L, D), whose rotation tables `cos` and `sin` are (L, head_width / 2)."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, head_width)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.projection(y.transpose(1, 2).reshape(batch, length, width))


class SwiGLU(nn.Module):
    """The gated MLP down(silu(gate(x)) * up(x)): tokens (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden)  # one matrix product for both
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, L, D) one by one."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class TransformerBlock(nn.Module):
    """A pre-norm transformer block: tokens (B, L, D) -> (B, L, D)."""

    def __init__(self, tower: config.Tower) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(tower.width)
        self.attention = RotaryAttention(tower.width, tower.heads)
        self.mlp_norm = nn.LayerNorm(tower.width)
        self.mlp = SwiGLU(tower.width, tower.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Apply attention and MLP to tokens (B, L, D)."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


class BlockStack(nn.ModuleList):
    """Blocks applied one after the other, with activation checkpointing. Each takes tokens (B, L, D) and the further inputs of
    `forward`.
    """

    recompute = 0.0  # share of the blocks that are recomputed in the backward pass

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """Apply all blocks to tokens (B, L, D)."""
        for number, block in enumerate(self):
            if torch.is_grad_enabled() and config.is_recomputed(number, self.recompute):
                x = checkpoint(block, x, *inputs, use_reentrant=False)
            else:
                x = block(x, *inputs)
        return x


class Transformer(nn.Module):
    """Blocks and a final norm: tokens (B, L, D) -> (B, L, D), for a grid (t, y, x) of patches followed by `extra` tokens."""

    def __init__(self, tower: config.Tower) -> None:
        super().__init__()
        self.head_width = tower.head_width
        self.blocks = BlockStack(TransformerBlock(tower) for _ in range(tower.blocks))
        self.norm = nn.LayerNorm(tower.width)

    def forward(self, x: Tensor, grid: tuple[int, int, int], extra: int = 0) -> Tensor:
        """Apply the tower to tokens (B, t * y * x + extra, D)."""
        return self.norm(self.blocks(x, *rotary_tables(grid, self.head_width, x.device, extra)))


def configure_blocks(model: nn.Module, recompute: float, compiled: bool) -> None:
    """Set activation checkpointing and compilation of a model's blocks. Blocks of one width share one compilation."""
    for module in model.modules():
        if isinstance(module, BlockStack):
            module.recompute = recompute
            if compiled:
                for block in module:
                    block.compile()
