"""ViTok (section 2.2): tubelets -> encoder -> Gaussian bottleneck -> decoder -> pixels.

Two variants (A.4): Latent ViTok has a code of l learned tokens, which both towers place behind the patches. The decoder of a nested code
can reconstruct from its first tokens alone.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitok import config
from vitok.config import variants
from vitok.errors import UsageError
from vitok.models.blocks import Transformer, TransformerBlock
from vitok.models.bottleneck import Posterior
from vitok.models.rope import TokenGrid
from vitok.models.tokens import LatentTokens, MaskTokens, PatchTokens


class TubeletEmbedding(nn.Conv3d):
    """Embedding of tubelets: pixels (B, 3, T, H, W) -> tokens (B, L, D).

    The kernel of this 3D convolution equals its stride, so that it is one matrix product, several times faster than conv3d on CPUs and in
    bf16 on GPUs.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base class's name)
        """Embed pixels (B, 3, T, H, W) as tokens (B, L, D)."""
        q, p, _ = self.kernel_size
        patches = rearrange(input, "b ch (t q) (y p) (x r) -> b (t y x) (ch q p r)", q=q, p=p, r=p)
        return F.linear(patches, self.weight.flatten(1), self.bias)


class TubeletUnembedding(nn.ConvTranspose3d):
    """Transposed convolution to pixels as one matrix product: tokens (B, L, D) on a grid (t, y, x) -> pixels (B, 3, T, H, W)."""

    def forward(self, input: Tensor, grid: TokenGrid) -> Tensor:  # noqa: A002  # pyright: ignore[reportIncompatibleMethodOverride]
        """Project tokens (B, L, D) of a grid (t, y, x) to pixels (B, 3, T, H, W)."""
        q, p, _ = self.kernel_size
        t, y, x = grid
        assert self.bias is not None
        bias = self.bias.repeat_interleave(q * p * p)
        patches = F.linear(input, self.weight.flatten(1).t(), bias)
        return rearrange(patches, "b (t y x) (ch q p r) -> b ch (t q) (y p) (x r)", t=t, y=y, x=x, q=q, p=p, r=p)


class PositionTable(nn.Module):
    """A learned row for each token of a grid, interpolated for other grids.

    It is a module of its own, so that ZeRO-3, which gathers parameters module by module, finds it.
    """

    def __init__(self, grid: TokenGrid, width: int) -> None:
        super().__init__()
        self.grid = grid
        self.rows = nn.Parameter(torch.empty(1, grid[0] * grid[1] * grid[2], width))

    def forward(self, tokens: Tensor, grid: TokenGrid) -> Tensor:
        """Add the positions of a grid (t, y, x) to tokens (B, L, D)."""
        if grid == self.grid:
            return tokens + self.rows
        t, y, x = self.grid
        table = rearrange(self.rows, "1 (t y x) d -> 1 d t y x", t=t, y=y, x=x)
        table = F.interpolate(table.float(), size=grid, mode="trilinear", align_corners=False)
        return tokens + rearrange(table, "1 d t y x -> 1 (t y x) d")


class Encoder(nn.Module):
    """The encoder: pixels (B, 3, T, H, W) on a grid (t, y, x) of patches -> posterior over latents (B, L, c)."""

    def __init__(self, cfg: config.TokenizerConfig) -> None:
        super().__init__()
        width, kernel = cfg.encoder.width, (cfg.stride, cfg.patch, cfg.patch)
        self.embed = TubeletEmbedding(3, width, kernel, stride=kernel)
        self.positions = PositionTable(cfg.table_grid, width)
        self.extra = cfg.latent_tokens
        self.latents = LatentTokens(cfg.latent_tokens, width) if cfg.latent_tokens else None
        self.transformer = Transformer(cfg.encoder)
        self.to_moments = nn.Linear(width, 2 * cfg.channels)

    def forward(self, pixels: Tensor, grid: TokenGrid) -> Posterior:
        """Encode pixels (B, 3, T, H, W)."""
        x = self.positions(self.embed(pixels), grid)
        x = x if self.latents is None else self.latents(x)
        x = self.transformer(x, grid, self.extra)
        return Posterior.from_moments(self.to_moments(x[:, -self.extra :]))  # the latent tokens alone, or all (-0)


class Decoder(nn.Module):
    """The decoder: latents (B, L, c) -> pixels on a grid (t, y, x) of patches.

    A nested code may have fewer than L tokens; `kept` (B,) says how many first tokens of each sample are used.
    """

    def __init__(self, cfg: config.TokenizerConfig) -> None:
        super().__init__()
        width, kernel = cfg.decoder.width, (cfg.stride, cfg.patch, cfg.patch)
        self.extra = cfg.latent_tokens
        self.masking = MaskTokens(cfg.channels) if cfg.shortest else None
        self.from_latent = nn.Linear(cfg.channels, width)
        self.patches = PatchTokens(width) if cfg.latent_tokens else None
        self.transformer = Transformer(cfg.decoder)
        self.unembed = TubeletUnembedding(width, 3, kernel, stride=kernel)

    def forward(self, latents: Tensor, grid: TokenGrid, kept: Tensor | None = None) -> Tensor:
        """Decode latents (B, L, c) to pixels (B, 3, T, H, W)."""
        count = math.prod(grid)
        x = self.from_latent(latents if self.masking is None else self.masking(latents, self.extra or count, kept))
        x = x if self.patches is None else self.patches(x, grid)
        return self.unembed(self.transformer(x, grid, self.extra)[:, :count], grid)


class Reconstruction(NamedTuple):
    """Reconstructed pixels and the posterior. Both this and the posterior are tuples, in which DeepSpeed looks for the tensors of an
    output.
    """

    pixels: Tensor  # as the input: (B, 3, T, H, W) or (B, 3, H, W)
    posterior: Posterior


class Tokenizer(nn.Module):
    """The auto-encoder ViTok. Pixels are (B, 3, T, H, W) in [-1, 1]; an image may leave T out."""

    def __init__(self, cfg: config.TokenizerConfig) -> None:
        super().__init__()
        self.config = cfg
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)
        self._initialise()

    @classmethod
    def from_variant(cls, variant: str, *, channels: int, size: int = 256, frames: int = 1) -> "Tokenizer":
        """Return an untrained tokenizer of a named variant, as in Tokenizer.from_variant("S-B/16", channels=16)."""
        return cls(variants.tokenizer(variant, channels=channels, size=size, frames=frames))

    def grid(self, pixels: Tensor) -> TokenGrid:
        """Return the patches along (t, y, x) of pixels (B, 3, T, H, W). Raises `UsageError` if tubelets do not divide them."""
        t, y, x = pixels.shape[2:]
        q, p = self.config.stride, self.config.patch
        if t % q or y % p or x % p:
            raise UsageError(f"pixels of {t}x{y}x{x} (frames, height, width) are not divisible by tubelets of {q}x{p}x{p}")
        return t // q, y // p, x // p

    def encode(self, pixels: Tensor) -> Posterior:
        """Encode pixels (B, 3, T, H, W) or (B, 3, H, W) to a posterior over latents (B, L, c)."""
        pixels = pixels.unsqueeze(2) if pixels.ndim == 4 else pixels
        return self.encoder(pixels, self.grid(pixels))

    def decode(self, latents: Tensor, grid: TokenGrid | None = None, kept: Tensor | None = None) -> Tensor:
        """Decode latents (B, L, c) to pixels (B, 3, T, H, W) of a grid (t, y, x) of patches, the config's if not given.

        A nested code may be cut to (B, l, c) with l from 1 to L; of each sample the first `kept` (B,) tokens, int64, are used. Raises
        `UsageError` for tokens that do not make a code, and for `kept` with a code that is not nested.
        """
        grid = grid or self.config.grid
        given, whole = latents.shape[1], math.prod(self.config.code_of(grid))
        if not self.config.shortest and (kept is not None or given != whole):
            problem = "kept" if kept is not None else f"{given} token(s)"
            raise UsageError(
                f"{problem}: the code of {variants.variant_name(self.config)} is not nested, all its {whole} tokens are needed"
            )
        if not 1 <= given <= whole:
            raise UsageError(f"{given} tokens: a code of {variants.variant_name(self.config)} has 1 to {whole}")
        return self.decoder(latents, grid, kept)

    def forward(self, pixels: Tensor, noise: Tensor | None = None, sample: bool = True, kept: Tensor | None = None) -> Reconstruction:
        """Encode, sample (or take the mean) and decode. `noise` (B, L, c) is standard normal, drawn if not given; `kept` is that of
        `decode`.
        """
        video = pixels.unsqueeze(2) if pixels.ndim == 4 else pixels
        posterior = self.encode(video)
        latents = posterior.sample(noise) if sample else posterior.mean
        output = self.decode(latents, self.grid(video), kept)
        return Reconstruction(output.squeeze(2) if pixels.ndim == 4 else output, posterior)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Initialise so that pixels pass through an untrained model nearly unchanged.

        Matrices are Xavier; the tubelets' convolutions are orthogonal, scaled to the size of what the blocks add (input) and of a
        photograph's pixels (output); the output of each branch is scaled by the tower's depth, as in GPT-2. In a trial at laptop scale (p =
        8, c = 64, 1,000 steps of 16; branches scaled by 0.3) rPSNR rose from 24.8 to 31.4 dB.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Linear | nn.Conv3d | nn.ConvTranspose3d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for convolution, gain in ((self.encoder.embed, 3.0), (self.decoder.unembed, 0.3)):
            nn.init.orthogonal_(convolution.weight.view(convolution.weight.shape[0], -1), gain)
        for tower in (self.encoder.transformer, self.decoder.transformer):
            for block in tower.modules():
                if isinstance(block, TransformerBlock):
                    block.attention.projection.weight.div_(math.sqrt(2 * len(tower.blocks)))
                    block.mlp.down.weight.div_(math.sqrt(2 * len(tower.blocks)))
        nn.init.normal_(self.encoder.positions.rows, std=0.02)
        # A code that starts with noise as large as its signal teaches the decoder little: begin at a deviation of
        # exp(-1.5) and let the KL term find its level.
        nn.init.zeros_(self.encoder.to_moments.weight[self.config.channels :])
        nn.init.constant_(self.encoder.to_moments.bias[self.config.channels :], -3.0)
