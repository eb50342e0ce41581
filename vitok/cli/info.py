"""`vitok info`: what a tokenizer costs, and a generator."""

import json
from typing import Annotated, Any

import tyro

from vitok.errors import UsageError


def info(
    variant: tyro.conf.Positional[str | None] = None, /, *, channels: int | None = None, size: int = 256, frames: int = 1,
    classes: int = 1000, sizes: bool = False, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:  # fmt: skip
    """Show what a tokenizer costs: `vitok info S-B/16 --channels 16`, a generator on its latents: `vitok info DiT-L/S-B/16 --channels 16`,
    or the tables of sizes: `vitok info --sizes`. A GMAC is 1e9 multiply-adds, of one forward pass of one sample;
    a training step of it takes 6 GFLOPs: two a multiply-add, forward and twice that backward.

    Args:
        variant: ENCODER-DECODER/PATCH or ENCODER-DECODER/STRIDExPATCH, as in S-B/16 or S-B/4x8; behind it +L64 for 64 latent tokens, +M32
            for a code that is masked down to 32 (A.4); with DiT-SIZE/ before it, a generator.
        channels: c, latent channels a token.
        size: Side of the square input, pixels.
        frames: Frames of the input; an image is a video of one.
        classes: That a generator is conditioned on; 0: none.
        sizes: The tables of the sizes of towers (Table 1) and of DiTs instead of a variant.
        as_json: Print JSON for programs.
    """
    from dataclasses import asdict

    from vitok.config import variants
    from vitok.console.tables import show
    from vitok.costs import flops

    if sizes:
        towers = [
            {key: value for key, value in asdict(row).items() if key not in ("params", "macs")} | _millions(row.params, row.macs)
            for row in flops.tower_sizes()
        ]
        dits = [
            {"name": variants.dit_name(tower), "width": tower.width, "blocks": tower.blocks, "heads": tower.heads}
            | _millions(*flops.generator_cost(tower, 256, 16, 1000))
            for tower in variants.DITS.values()
        ]
        if as_json:
            print(json.dumps(towers + dits, indent=2))
        else:
            show("Towers, with 16 x 16 patches at 256 tokens", tuple(towers[0]), towers)
            print()
            show("DiTs of 1000 classes, on 256 tokens x 16", tuple(dits[0]), dits)
        return
    if variant is None:
        raise UsageError(f"name a variant, {variants.GRAMMAR}, one of a generator, as in DiT-L/S-B/16, or ask for --sizes")
    if channels is None:
        raise UsageError(f"{variant}: say how many latent channels, as in --channels 16")
    if classes < 0:
        raise UsageError(f"--classes {classes}: it must be 0 or more (0: no condition)")
    row = (_generator if variant.startswith("DiT") else _tokenizer)(variant, channels, size, frames, classes)
    if as_json:
        print(json.dumps(row, indent=2))
    else:
        print("\n".join(f"{key:<17} {value}" for key, value in row.items()))


def _tokenizer(variant: str, channels: int, size: int, frames: int, _: int) -> dict[str, Any]:
    from vitok.config import variants
    from vitok.costs import flops

    cfg = variants.tokenizer(variant, channels=channels, size=size, frames=frames)
    import torch

    from vitok.models.tokenizer import Tokenizer

    with torch.device("meta"):
        price = flops.count_tokenizer(Tokenizer(cfg), torch.empty(1, 3, frames, size, size))
    return {
        "variant": variants.variant_name(cfg), "channels": channels, "size": size, "frames": frames, "tokens": cfg.tokens, "E": cfg.floats,
        "compression": cfg.compression, "params_m": round(price.params / 1e6, 3), "encoder_params_m": round(price.encoder_params / 1e6, 3),
        "decoder_params_m": round(price.decoder_params / 1e6, 3), "gmacs": round(price.macs / 1e9, 3),
    }  # fmt: skip


def _generator(variant: str, channels: int, size: int, frames: int, classes: int) -> dict[str, Any]:
    """Return the costs of the DiT alone: its tokenizer has encoded every sample before, and does not train."""
    from vitok.config import variants
    from vitok.costs import flops

    tower, latents = variants.parse_generator(variant)
    cfg = variants.tokenizer(latents, channels=channels, size=size, frames=frames)
    import torch

    from vitok.models.dit import DiT

    with torch.device("meta"):
        inputs = torch.empty(1, cfg.tokens, channels), torch.empty(1), torch.zeros(1, dtype=torch.long)
        price = flops.count_generator(DiT(tower, channels, cfg.code, classes), *inputs)
    return {
        "variant": f"{variants.dit_name(tower)}/{variants.variant_name(cfg)}", "channels": channels, "size": size, "frames": frames,
        "tokens": cfg.tokens, "E": cfg.floats, "classes": classes,
    } | _millions(*price) | {"training_gflops": round(6 * price.macs / 1e9, 3)}  # fmt: skip


def _millions(params: int, macs: int) -> dict[str, float]:
    return {"params_m": round(params / 1e6, 3), "gmacs": round(macs / 1e9, 3)}
