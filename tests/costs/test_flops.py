"""Against the figures that the paper prints, against torch's own counter, and the arithmetic against the model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.recipes import tiny
from vitok import losses
from vitok.config import Recipe, variants
from vitok.costs import flops
from vitok.models.discriminator import Discriminator
from vitok.models.lpips import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.study import presets

CASES = [
    ("S-B/16", 16, 256, 1), ("S-L/16", 16, 256, 1), ("S-B/4x8", 16, 128, 16), ("S-B/16", 16, 512, 1), ("B-S/2x16", 4, 64, 4),
    ("S-B/16+L64", 16, 256, 1), ("S-B/16+L1024", 16, 256, 1), ("S-B/16+M32", 16, 256, 1), ("B-S/2x16+L48+M8", 4, 64, 4),
]  # fmt: skip


def model_cost(variant: str, channels: int, size: int, frames: int) -> flops.TokenizerCost:
    with torch.device("meta"):
        model = Tokenizer.from_variant(variant, channels=channels, size=size, frames=frames)
        return flops.count_tokenizer(model, torch.empty(1, 3, frames, size, size))


@pytest.mark.parametrize(("name", "params", "gmacs"), [("S", 43.3, 11.6), ("B", 85.8, 23.1), ("L", 383.7, 101.8)])
def test_table_1(name: str, params: float, gmacs: float) -> None:
    row = next(row for row in flops.tower_sizes() if row.name == name)
    assert (round(row.params / 1e6, 1), round(row.macs / 1e9, 1)) == (params, gmacs)


@pytest.mark.parametrize(
    ("case", "params", "gmacs"),
    [(CASES[0], 129.0, 34.8), (CASES[1], 426.8, 113.4), (CASES[3], 129.0, 160.8), (CASES[2], 129.6, 160.8)],
    ids=["table 2 S-B/16", "table 2 S-L/16", "table 3 S-B/16 at 512p", "table 4 S-B/4x8 (printed 129)"],
)
def test_tables_2_to_4(case: tuple[str, int, int, int], params: float, gmacs: float) -> None:
    cost = model_cost(*case)
    assert (round(cost.params / 1e6, 1), round(cost.macs / 1e9, 1)) == (params, gmacs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_arithmetic_equals_the_model(case: tuple[str, int, int, int]) -> None:
    variant, channels, size, frames = case
    assert flops.tokenizer_cost(variants.tokenizer(variant, channels=channels, size=size, frames=frames)) == model_cost(*case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_multiply_adds_equal_torchs_counter(case: tuple[str, int, int, int]) -> None:
    """torch counts two FLOPs a multiply-add and none for LayerNorm; apart from that the two must agree exactly."""
    variant, channels, size, frames = case
    cfg = variants.tokenizer(variant, channels=channels, size=size, frames=frames)
    norms = flops.MACS_PER_NORM_ELEMENT * cfg.sequence * sum(tower.width * (2 * tower.blocks + 1) for tower in (cfg.encoder, cfg.decoder))
    with torch.device("meta"):
        model, pixels = Tokenizer(cfg), torch.empty(1, 3, frames, size, size)
    with FlopCounterMode(display=False) as counter:
        model(pixels)
    assert counter.get_total_flops() == 2 * (flops.tokenizer_cost(cfg).macs - norms)


@pytest.mark.parametrize("trunk", ["alexnet", "vgg16"])
def test_lpips_multiply_adds_equal_torchs_counter(trunk: str) -> None:
    with torch.device("meta"):
        model, image = LPIPS(trunk), torch.empty(1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter:
        model.features(image)
    assert counter.get_total_flops() == 2 * flops.perceptual_macs(trunk, 64)


def test_the_papers_hours_come_out() -> None:
    """Appendix: stage 1 of S-B/16 at 256p takes 6 to 12 hours on eight H100s."""
    scale = presets.paper({})
    assert 6 <= flops.run_hours(scale.base, scale.resources) <= 12


@pytest.mark.parametrize("tuned", [None, "decoder", "all"])
def test_a_steps_flops_are_those_that_torch_counts(tuned: str | None) -> None:
    """Forward and backward of both stages, beside torch's own counter of products; LayerNorm, which it leaves out, is small here."""
    recipe = tiny(tokenizer__size=32, loss__lpips=1.0, loss__lpips_network="alexnet", batch_size=2)
    if tuned:
        recipe = Recipe.model_validate(recipe.model_dump() | {"gan": {"tuned": tuned, "base_channels": 128}, "start": "0"})
    model, perceptual, judge = Tokenizer(recipe.tokenizer), LPIPS("alexnet"), Discriminator(32, 128)
    model.encoder.requires_grad_(tuned != "decoder")
    pixels = torch.rand(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        output = model(pixels)
        loss = losses.stage1_loss(output, pixels, recipe.loss, perceptual)["loss"]
        if tuned:
            judge.requires_grad_(False)
            loss = loss + losses.hinge_generator(judge(output.pixels)[0])
            judge.requires_grad_(True)
        loss.backward()
        if tuned:
            losses.hinge_discriminator(*judge(pixels, output.pixels.detach())).backward()
    assert counter.get_total_flops() == pytest.approx(flops.step_flops(recipe), rel=0.05)
