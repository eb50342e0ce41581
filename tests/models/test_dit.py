"""Against DiT's printed figures, torch's counter, and the formulas written out."""

import copy
from typing import TypeVar

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitok.config import variants
from vitok.costs import flops
from vitok.models.blocks import configure_blocks
from vitok.models.dit import DiT, DiTBlock, TimeEmbedding
from vitok.models.rope import grid_sinusoids, rotary_tables

CPU = torch.device("cpu")
CLASSES, CHANNELS = 10, 4
Inputs = tuple[Tensor, Tensor, Tensor]
M = TypeVar("M", bound=nn.Module)


def perturbed(module: M, deviation: float = 0.1) -> M:
    """A fresh DiT predicts zero whatever it is given; this one does not."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=deviation)
    return module


def small(grid: tuple[int, int, int] = (1, 4, 4), classes: int = CLASSES) -> DiT:
    torch.manual_seed(0)
    return perturbed(DiT(variants.DITS["N"], CHANNELS, grid, classes))


def inputs(tokens: int = 16) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, tokens, CHANNELS, generator=generator), torch.tensor([999.0, 400.0, 0.0]), torch.tensor([0, 9, 4])


@pytest.mark.parametrize(("size", "classes"), [*((size, 1000) for size in variants.DITS), ("S", 0)])
def test_costs_by_arithmetic_by_hooks_and_by_torchs_counter(size: str, classes: int) -> None:
    """torch counts two FLOPs a multiply-add and none for LayerNorm; apart from that all three must agree exactly."""
    tower = variants.DITS[size]
    with torch.device("meta"):
        model, batch = DiT(tower, CHANNELS, (1, 16, 16), classes), (torch.empty(1, 256, CHANNELS), torch.empty(1))
        with FlopCounterMode(display=False) as counter:
            cost = flops.count_generator(model, *batch, torch.zeros(1, dtype=torch.long))
    assert cost == flops.generator_cost(tower, 256, CHANNELS, classes)
    assert counter.get_total_flops() == 2 * (cost.macs - flops.MACS_PER_NORM_ELEMENT * 256 * tower.width * (2 * tower.blocks + 1))


def test_xl_is_as_large_as_dits() -> None:
    """DiT-XL/2 (Peebles and Xie 2023, table 4): 675 M, 118.64 Gflops, which are multiply-adds, on 256 tokens of 16 numbers each."""
    cost = flops.generator_cost(variants.DITS["XL"], 256, 16, 1000)
    assert cost.params / 1e6 == pytest.approx(675, rel=1e-3)
    assert cost.macs / 1e9 == pytest.approx(118.64, rel=1e-3)


def test_a_fresh_model_predicts_zero_and_its_blocks_are_the_identity() -> None:
    torch.manual_seed(0)
    model = DiT(variants.DITS["N"], CHANNELS, (1, 4, 4), CLASSES)
    assert not model(*inputs()).any()
    x, condition = torch.randn(3, 16, 48), torch.randn(3, 48)
    for block in model.blocks:
        assert torch.equal(block(x, condition, *rotary_tables((1, 4, 4), 48, CPU)), x)


def test_a_fresh_model_is_dits() -> None:
    """Deviations within five standard errors of 1 / sqrt(2 n)."""
    torch.manual_seed(0)
    model = DiT(variants.DITS["S"], CHANNELS, (1, 4, 4), 1000)
    assert model.labels is not None
    xavier = (2 / (384 + 3 * 384)) ** 0.5
    qkv = model.get_parameter("blocks.0.attention.qkv.weight")
    expected = [(model.time.inner.weight, 0.02), (model.labels.weight, 0.02), (qkv, xavier)]
    for weight, deviation in expected:
        assert weight.std().item() == pytest.approx(deviation, rel=5 / (2 * weight.numel()) ** 0.5)
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_the_label_and_the_time_matter() -> None:
    model, (latents, times, labels) = small(), inputs()
    known = model(latents, times, labels)
    for others in ((latents, times, torch.full((3,), CLASSES)), (latents, times, (labels + 1) % CLASSES), (latents, times + 7, labels)):
        assert ((model(*others) - known).abs().amax(dim=(1, 2)) > 1e-3).all()


def test_the_label_of_no_class_is_the_last() -> None:
    model, (latents, times, _) = small(), inputs()
    assert model.labels is not None and len(model.labels.weight) == CLASSES + 1
    before = model(latents, times, torch.full((3,), CLASSES))
    with torch.no_grad():
        model.labels.weight[:CLASSES] += 1  # of every class; that of none stays
    assert torch.equal(model(latents, times, torch.full((3,), CLASSES)), before)
    with pytest.raises(IndexError):
        model(latents, times, torch.full((3,), CLASSES + 1))


def test_an_unconditional_model_ignores_labels() -> None:
    model, (latents, times, labels) = small(classes=0), inputs()
    assert torch.equal(model(latents, times, labels), model(latents, times, labels + 1000))
    assert not any("labels" in name for name in model.state_dict())


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    """A few roundings of float32: products of other shapes may sum in another order."""
    model, batch = small(), inputs()
    order = torch.tensor([2, 0, 1])
    together = model(*batch)
    assert torch.allclose(model(*(part[order] for part in batch)), together[order], rtol=0, atol=5e-6)
    alone = torch.cat([model(*(part[i : i + 1] for part in batch)) for i in range(3)])
    assert torch.allclose(alone, together, rtol=0, atol=5e-6)


def test_a_video_differs_by_its_shape_alone() -> None:
    image, video, batch = small((1, 8, 8)), small((4, 4, 4)), inputs(64)
    video.load_state_dict(image.state_dict())
    assert video(*batch).shape == (3, 64, CHANNELS)
    assert (video(*batch) - image(*batch)).abs().max() > 1e-3  # the same tokens at other positions
    assert not torch.equal(rotary_tables((4, 4, 4), 48, CPU)[0], rotary_tables((1, 8, 8), 48, CPU)[0])


def test_gradients_reach_every_parameter() -> None:
    model = small()
    model(*inputs()).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_recomputed_blocks_have_the_same_gradients() -> None:
    kept, again = small(), small()
    configure_blocks(again, 1.0, False)
    for model in (kept, again):
        model(*inputs()).square().mean().backward()
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)


def angles(grid: tuple[int, int, int]) -> Tensor:
    """Of 24 pairs (L, 24), a third to each axis."""
    positions = [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]
    return torch.tensor([[p[i // 8] * 10_000 ** (-(i % 8) / 8) for i in range(24)] for p in positions], dtype=torch.float64)


def turned(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """RoPE of x (B, heads, L, 48) as a product of complex numbers; pair i is i and i + 24."""
    pairs = torch.complex(x[..., :24], x[..., 24:]) * torch.exp(1j * angles(grid))
    return torch.cat([pairs.real, pairs.imag], dim=-1)


def normal(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_a_block_is_the_formula() -> None:
    """float64; the rotations come as float32, 6e-8 away."""
    tower, grid = variants.Tower(width=96, blocks=1, heads=2), (2, 3, 2)
    torch.manual_seed(0)
    block = perturbed(DiTBlock(tower)).double()
    x, condition = torch.randn(3, 12, 96, dtype=torch.float64), torch.randn(3, 96, dtype=torch.float64)
    weights = dict(block.named_parameters())

    def linear(name: str, values: Tensor) -> Tensor:
        product = torch.einsum("...i,oi->...o", values, weights[f"{name}.weight"])
        return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product

    modulation = linear("modulation", condition)[:, None]
    shift1, scale1, gate1, shift2, scale2, gate2 = (modulation[..., 96 * i : 96 * (i + 1)] for i in range(6))
    qkv = linear("attention.qkv", normal(x) * (1 + scale1) + shift1)
    q, k, v = (qkv[..., 96 * i : 96 * (i + 1)].reshape(3, 12, 2, 48).transpose(1, 2) for i in range(3))
    scores = torch.einsum("bhqd,bhkd->bhqk", turned(q, grid), turned(k, grid)) / 48**0.5
    attended = torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), v).reshape(3, 12, 96)
    middle = x + gate1 * linear("attention.projection", attended)
    both = linear("mlp.gate_up", normal(middle) * (1 + scale2) + shift2)
    gate, up = both[..., :256], both[..., 256:]
    expected = middle + gate2 * linear("mlp.down", gate * torch.sigmoid(gate) * up)
    assert torch.allclose(block(x, condition, *rotary_tables(grid, 48, CPU)), expected, rtol=0, atol=1e-6 * expected.abs().max().item())


def test_a_model_is_its_parts() -> None:
    """Labels and times add up to the condition, whose SiLU modulates the blocks and the end. The same operations: equal but for sums."""
    model, (latents, times, labels) = small(), inputs()
    assert model.labels is not None
    condition = model.time(times) + model.labels.weight[labels]
    condition = condition * torch.sigmoid(condition)
    angle = angles((1, 4, 4)).float()
    x = model.embed(latents) + torch.cat([angle.cos(), angle.sin()], dim=1)
    for block in model.blocks:
        x = block(x, condition, *rotary_tables((1, 4, 4), 48, CPU))
    modulation = model.modulation(condition)[:, None]
    expected = model.output(normal(x) * (1 + modulation[..., 48:]) + modulation[..., :48])
    assert torch.allclose(model(latents, times, labels), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("tower", variants.DITS.values(), ids=variants.DITS)
def test_every_token_has_a_position_of_its_own(tower: variants.Tower) -> None:
    known = grid_sinusoids((4, 16, 16), tower.width, CPU)
    assert known.shape == (1024, tower.width) and len(known.unique(dim=0)) == 1024


def test_times_are_embedded_as_everywhere() -> None:
    """Angles reach 1000 radians, whose float32 is 3e-5 apart, of frequencies that are rounded a few times."""
    module, seen = TimeEmbedding(48), []
    module.inner.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    times = torch.tensor([0.0, 1.0, 4.0, 500.5, 999.0, 1000.0])
    module(times)
    exponents = torch.arange(128, dtype=torch.float64) / 128
    angles = times.double()[:, None] * 10_000.0**-exponents
    assert torch.allclose(seen[0].double(), torch.cat([angles.cos(), angles.sin()], dim=1), rtol=0, atol=2e-4)
    theirs = get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.allclose(seen[0], theirs, rtol=0, atol=2e-4)


def test_latents_are_normalised_and_restored() -> None:
    """The roundings of a quotient and a product."""
    model, latents = small(), torch.tensor([3.0, -1.0, 0.0, 20.0]) + torch.tensor([2.0, 0.1, 1.0, 5.0]) * torch.randn(500, 16, CHANNELS)
    with torch.no_grad():
        model.mean.copy_(latents.mean(dim=(0, 1)))
        model.std.copy_(latents.std(dim=(0, 1)))
    seen = model.normalised(latents)
    assert torch.allclose(seen.mean(dim=(0, 1)), torch.zeros(CHANNELS), atol=1e-5)
    assert torch.allclose(seen.std(dim=(0, 1)), torch.ones(CHANNELS), atol=1e-5)
    assert torch.allclose(model.restored(seen), latents, rtol=0, atol=5e-6)
    other = small()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(other.normalised(latents), seen)


def test_bf16_agrees_with_float32() -> None:
    """bf16 carries 8 bits: 2^-8 relative a rounding, a few roundings deep."""
    model, batch = small(), inputs()
    exact = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*batch)
    assert (rounded.float() - exact).norm() / exact.norm() < 0.03
