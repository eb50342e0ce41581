"""`vitok info`: what a tokenizer costs."""

import json
from typing import Annotated

import tyro

from vitok.errors import UsageError


def info(
    variant: tyro.conf.Positional[str | None] = None, /, *, channels: int | None = None, size: int = 256, frames: int = 1,
    sizes: bool = False, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """What a tokenizer costs: `vitok info S-B/16 --channels 16`, or the table of sizes: `vitok info --sizes`.

    Args:
        variant: ENCODER-DECODER/PATCH or ENCODER-DECODER/STRIDExPATCH, as in S-B/16 or S-B/4x8.
        channels: c, latent channels a token.
        size: Side of the square input, pixels.
        frames: Frames of the input; an image is a video of one.
        sizes: The table of tower sizes (Table 1) instead of a variant.
        as_json: Print JSON for programs.
    """
    from dataclasses import asdict

    from vitok import accounting, variants
    from vitok.study.tables import show

    if sizes:
        rows = [
            {key: value for key, value in asdict(row).items() if key not in ("params", "macs")}
            | {"params_m": round(row.params / 1e6, 3), "gmacs": round(row.macs / 1e9, 3)}
            for row in accounting.sizes()
        ]
        print(json.dumps(rows, indent=2)) if as_json else show("Towers, with 16 x 16 patches at 256 tokens", tuple(rows[0]), rows)
        return
    if variant is None:
        raise UsageError(f"name a variant, {variants.GRAMMAR}, or ask for --sizes")
    if channels is None:
        raise UsageError(f"{variant}: say how many latent channels, as in --channels 16")
    cfg = variants.tokenizer(variant, channels=channels, size=size, frames=frames)
    import torch

    from vitok.models.tokenizer import Tokenizer

    with torch.device("meta"):
        price = accounting.measure(Tokenizer(cfg), torch.empty(1, 3, frames, size, size))
    row = {
        "variant": variants.name(cfg), "channels": channels, "size": size, "frames": frames, "tokens": cfg.tokens, "E": cfg.floats,
        "compression": cfg.compression, "params_m": round(price.params / 1e6, 3), "encoder_params_m": round(price.encoder_params / 1e6, 3),
        "decoder_params_m": round(price.decoder_params / 1e6, 3), "gmacs": round(price.macs / 1e9, 3),
    }  # fmt: skip
    if as_json:
        print(json.dumps(row, indent=2))
    else:
        print("\n".join(f"{key:<17} {value}" for key, value in row.items()))
