"""Architecture of a tokenizer (section 2.2)."""

import math
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LONGEST = 2**63  # of integers: what torch and files hold


class FrozenConfig(BaseModel):
    """Base of all configs: immutable; unknown fields, and numbers that are not finite or have no 64 bits, raise an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, int) and not -LONGEST <= value < LONGEST:
                raise ValueError(f"{name} = {value} is beyond what 64 bits hold")
        return self


class Tower(FrozenConfig):
    """One transformer: an encoder, a decoder or a DiT."""

    width: int = Field(gt=0, le=1 << 20, description="hidden dimension")
    blocks: int = Field(gt=0, le=10_000, description="transformer blocks")
    heads: int = Field(gt=0, le=1 << 16, description="attention heads")

    @property
    def head_width(self) -> int:
        """Dimension of one attention head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden dimension of the SwiGLU: exactly 8/3 of the width, as in Llama.

        If that is no whole number (a DiT-L of 1024), it is the next multiple of 16.
        """
        return self.width * 8 // 3 if self.width % 3 == 0 else -(-self.width * 8 // 48) * 16

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must divide by its {self.heads} heads")
        if self.head_width % 8 or self.head_width < 24 or self.head_width == 32:
            raise ValueError(
                f"a head of {self.head_width} cannot be split over three RoPE axes: take a multiple of 8, from 24 on, other than 32"
            )
        return self


class TokenizerConfig(FrozenConfig):
    """The auto-encoder (section 2.2) and its variants of A.4: pixels (3, frames, size, size) -> L tokens of c channels -> pixels."""

    encoder: Tower
    decoder: Tower
    patch: int = Field(gt=0, description="p: side of a tubelet, pixels")
    stride: int = Field(default=1, gt=0, description="q: length of a tubelet, frames")
    channels: int = Field(gt=0, le=1 << 16, description="c: latent channels per token")
    size: int = Field(default=256, gt=0, le=1 << 16, description="side of the square input, pixels")
    frames: int = Field(default=1, gt=0, le=1 << 16, description="T: frames of the input; an image is a video of one")
    latent_tokens: int = Field(
        default=0, ge=0, le=1 << 20, description="l: latent tokens kept in place of the patches' (A.4); 0: the simple variant"
    )
    shortest: int = Field(
        default=0, ge=0, description="fewest tokens of a nested code that training keeps, masked from the end (A.4); 0: not nested"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.size % self.patch:
            raise ValueError(f"size {self.size} is not divisible by the patch {self.patch}")
        if self.frames % self.stride:
            raise ValueError(f"{self.frames} frame(s) are not divisible by the temporal stride {self.stride}")
        if self.shortest > self.tokens:
            raise ValueError(f"shortest {self.shortest} is more than the {self.tokens} tokens of the whole code")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along (t, y, x)."""
        side = self.size // self.patch
        return self.frames // self.stride, side, side

    @property
    def table_grid(self) -> tuple[int, int, int]:
        """Rows of the learned position table along (t, y, x).

        Above 256 pixels the table of 256 is interpolated: Table 3 prints the same 129.0 M for S-B/16 at 512p as Table 2 at 256p.
        """
        side = min(self.size, max(256 // self.patch, 1) * self.patch) // self.patch
        return self.frames // self.stride, side, side

    @property
    def patches(self) -> int:
        """Number of patches: the tokens that pixels are embedded as and reconstructed from."""
        return math.prod(self.grid)

    @property
    def tokens(self) -> int:
        """L: the number of tokens of the code."""
        return self.latent_tokens or self.patches

    @property
    def sequence(self) -> int:
        """Number of tokens in both towers: the patches' and the latent ones behind them."""
        return self.patches + self.latent_tokens

    @property
    def code(self) -> tuple[int, int, int]:
        """The grid of the code, as a DiT sees it."""
        return self.code_of(self.grid)

    def code_of(self, grid: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the grid of the code for another grid of patches. The number of latent tokens does not depend on the pixels."""
        return (self.latent_tokens, 1, 1) if self.latent_tokens else grid

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that training draws for a nested code: the shortest, its doublings below L (A.4: a power of two), and L."""
        doublings = (self.shortest << number for number in range(self.tokens.bit_length()))
        return (*(length for length in doublings if length < self.tokens), self.tokens) if self.shortest else ()

    @property
    def floats(self) -> int:
        """E = L * c (equation 2)."""
        return self.tokens * self.channels

    @property
    def compression(self) -> float:
        """Compression: T * H * W * 3 / E (section 3.1)."""
        return 3 * self.frames * self.size**2 / self.floats
