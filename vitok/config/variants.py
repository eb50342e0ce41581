"""Names of variants and their configs (Table 1).

"S-B/16": encoder Small, decoder Base, p = 16. "S-B/4x8": q = 4, p = 8. "S-B/16+L64": 64 latent tokens; "S-B/16+M32": a nested code, masked
down to 32 tokens (A.4).
"""

import re
from typing import Any

from pydantic import ValidationError

from vitok.config import TokenizerConfig, Tower
from vitok.config.overrides import describe_error, unflatten
from vitok.errors import UsageError

SIZES = {
    # For CPUs: the paper's proportions at a width that two cores train in minutes (N: in a test's seconds).
    "N": Tower(width=48, blocks=1, heads=1),
    "T": Tower(width=96, blocks=2, heads=2),
    "M": Tower(width=96, blocks=3, heads=2),
    "W": Tower(width=192, blocks=4, heads=4),
    # Table 1.
    "S": Tower(width=768, blocks=6, heads=12),
    "B": Tower(width=768, blocks=12, heads=12),
    "L": Tower(width=1152, blocks=24, heads=16),
}

TIME_FREQUENCIES = 256  # dimensions of a DiT's sinusoidal time embedding (Peebles and Xie 2023)

# DiT's (Peebles and Xie 2023); N, T and M for CPUs.
DITS = {
    "N": Tower(width=48, blocks=2, heads=1),
    "T": Tower(width=96, blocks=4, heads=2),
    "M": Tower(width=192, blocks=4, heads=4),
    "S": Tower(width=384, blocks=12, heads=6),
    "B": Tower(width=768, blocks=12, heads=12),
    "L": Tower(width=1024, blocks=24, heads=16),
    "XL": Tower(width=1152, blocks=28, heads=16),
}

GRAMMAR = (
    "ENCODER-DECODER/PATCH or ENCODER-DECODER/STRIDExPATCH, as in S-B/16 or S-B/4x8; behind it +L64 for 64 latent tokens, +M32 for a code "
    f"that is masked down to 32, or both, as in S-B/16+L64+M32; sizes: {', '.join(SIZES)}, or (WIDTHxBLOCKSxHEADS), as in S-(384x44x6)/16"
)

# The convolutional trunks that LPIPS reads: (output channels, kernel, stride, padding) of a convolution with
# its ReLU, (kernel, stride) of a max pooling, "tap" where a feature map is taken.
PERCEPTUAL: dict[str, tuple[tuple[int, ...] | str, ...]] = {
    "alexnet": (
        (64, 11, 4, 2), "tap", (3, 2), (192, 5, 1, 2), "tap", (3, 2),
        (384, 3, 1, 1), "tap", (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap",
    ),
    "vgg16": (
        *[(64, 3, 1, 1)] * 2, "tap", (2, 2), *[(128, 3, 1, 1)] * 2, "tap", (2, 2), *[(256, 3, 1, 1)] * 3, "tap", (2, 2),
        *[(512, 3, 1, 1)] * 3, "tap", (2, 2), *[(512, 3, 1, 1)] * 3, "tap",
    ),
}  # fmt: skip

LAST_SIDE, MOST_CHANNELS = 4, 512  # last side and most channels of the discriminator's feature maps (Karras et al. 2019)


def discriminator_channels(size: int, base: int) -> list[int]:
    """Return the discriminator's channels at sides size, size / 2, ..., 4: 2 * base / side, at most 512."""
    levels = (size // LAST_SIDE).bit_length()
    return [min(MOST_CHANNELS, 2 * base // (size >> level)) for level in range(levels)]


def variant_settings(variant: str) -> dict[str, Any]:
    """Return the settings of a `config.Tokenizer` that a variant's name fixes, by dotted key. Raises `UsageError` for a bad name."""
    match = re.fullmatch(r"([^-/]+)-([^-/]+)/(?:(\d+)x)?(\d+)(?:\+L([1-9]\d*))?(?:\+M([1-9]\d*))?", variant)
    encoder, decoder = (_tower(match[number], SIZES) for number in (1, 2)) if match else (None, None)
    if not match or not encoder or not decoder:
        raise UsageError(f"unknown variant {variant!r}: a name is {GRAMMAR}")
    towers = {"encoder": encoder, "decoder": decoder}
    return {f"{part}.{key}": value for part, tower in towers.items() for key, value in tower.model_dump().items()} | {
        "patch": int(match[4]), "stride": int(match[3] or 1), "latent_tokens": int(match[5] or 0), "shortest": int(match[6] or 0),
    }  # fmt: skip


def tokenizer(variant: str, *, channels: int, size: int = 256, frames: int = 1) -> TokenizerConfig:
    """Return the config of a variant. Raises `UsageError` for a bad name, with the grammar, or a bad value."""
    given = {"channels": channels, "size": size, "frames": frames}
    try:
        return TokenizerConfig.model_validate(unflatten(variant_settings(variant) | given))
    except ValidationError as error:
        raise UsageError(f"{variant}: {describe_error(error)}") from None


def dit(variant: str) -> Tower:
    """Return the tower of a DiT's name: "DiT-L", "DiT-(768x24x12)". Raises `UsageError` for an unknown name."""
    kind, _, size = variant.partition("-")
    tower = _tower(size, DITS)
    if kind != "DiT" or not tower:
        known = ", ".join(f"DiT-{name}" for name in DITS)
        raise UsageError(f"unknown generator {variant!r}: there are {known}, and DiT-(WIDTHxBLOCKSxHEADS)")
    return tower


def _tower(text: str, known: dict[str, Tower]) -> Tower | None:
    """Return the tower of a size, or of "(WIDTHxBLOCKSxHEADS)"; None for an unknown size. Raises `UsageError` for impossible numbers."""
    numbers = re.fullmatch(r"\((\d+)x(\d+)x(\d+)\)", text)
    if not numbers:
        return known.get(text)
    try:
        return Tower(width=int(numbers[1]), blocks=int(numbers[2]), heads=int(numbers[3]))
    except ValidationError as error:
        raise UsageError(f"{text}: {describe_error(error)}") from None


def parse_generator(variant: str) -> tuple[Tower, str]:
    """Split "DiT-L/S-B/16" into the DiT's tower and the name of the tokenizer's variant, which is not checked. Raises `UsageError`."""
    size, _, latents = variant.partition("/")
    tower = dit(size)
    if not latents:
        raise UsageError(f"{variant}: say on which tokenizer's latents, as in {variant.rstrip('/')}/S-B/16")
    return tower, latents


def dit_name(tower: Tower) -> str:
    """Return the name of a DiT's tower."""
    return f"DiT-{_size_name(tower, DITS)}"


def _size_name(tower: Tower, known: dict[str, Tower]) -> str:
    """Return the name of a tower's size; a tower without one is written as "(WIDTHxBLOCKSxHEADS)"."""
    return next((size for size, other in known.items() if other == tower), f"({tower.width}x{tower.blocks}x{tower.heads})")


def variant_name(config: TokenizerConfig) -> str:
    """Return the name of a tokenizer's variant."""
    stride = f"{config.stride}x" if config.stride > 1 else ""
    latent = f"+L{config.latent_tokens}" if config.latent_tokens else ""
    nested = f"+M{config.shortest}" if config.shortest else ""
    return f"{_size_name(config.encoder, SIZES)}-{_size_name(config.decoder, SIZES)}/{stride}{config.patch}{latent}{nested}"
