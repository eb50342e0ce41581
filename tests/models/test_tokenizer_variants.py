"""Latent ViTok and Masked ViTok (A.4), alone and together; and the simple variant, which they leave as it was."""

import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor

from vitok import diffusion
from vitok.config import Diffusion
from vitok.config.variants import DITS
from vitok.errors import UsageError
from vitok.models.dit import DiT
from vitok.models.rope import angles, rotary_tables
from vitok.models.tokenizer import Tokenizer
from vitok.models.tokens import LatentTokens, MaskTokens

KINDS = ["N-N/8", "N-N/8+L5", "N-N/8+M4", "N-N/8+L6+M2", "N-N/2x8+L40+M3"]
NESTED = KINDS[2:]


def built(variant: str, **options: Any) -> Tokenizer:
    """With a mask that can be told from nothing."""
    torch.manual_seed(0)
    model = Tokenizer.from_variant(variant, **{"channels": 4, "size": 32, "frames": 2 if "x" in variant else 1} | options)
    if model.decoder.masking is not None:
        torch.nn.init.normal_(model.decoder.masking.row)
    return model.eval()


def pixels_for(model: Tokenizer, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, model.config.frames, 32, 32) * 2 - 1


@pytest.mark.parametrize("variant", KINDS)
def test_shapes(variant: str) -> None:
    model = built(variant)
    pixels = pixels_for(model)
    out = model(pixels)
    assert out.pixels.shape == pixels.shape
    assert out.posterior.mean.shape == (2, model.config.tokens, 4)
    assert model.decode(out.posterior.mean).shape == pixels.shape


@pytest.mark.parametrize("variant", ["N-N/8+L5", "N-N/8+L6+M2"])
def test_an_image_is_a_video_of_one_frame(variant: str) -> None:
    model = built(variant)
    video = pixels_for(model)
    kept = torch.tensor([2, 4]) if model.config.shortest else None
    image = model(video.squeeze(2), sample=False, kept=kept).pixels
    assert torch.equal(image, model(video, sample=False, kept=kept).pixels.squeeze(2))


@pytest.mark.parametrize("variant", ["N-N/8+L5", "N-N/8+M4", "N-N/8+L6+M2"])
def test_other_sizes(variant: str) -> None:
    """Latent tokens are as many whatever the pixels; a simple code grows with them."""
    model = built(variant)
    out = model(torch.rand(2, 3, 48, 64), sample=False, kept=torch.tensor([3, 4]) if model.config.shortest else None)
    assert out.pixels.shape == (2, 3, 48, 64)
    assert out.posterior.mean.shape[1] == (model.config.latent_tokens or 6 * 8)


@torch.no_grad()
@pytest.mark.parametrize("variant", NESTED)
def test_masking_is_replacement(variant: str) -> None:
    model = built(variant)
    code = torch.randn(3, model.config.tokens, 4)
    kept = torch.tensor([1, 3, model.config.tokens])
    replaced = code.clone()
    assert model.decoder.masking is not None
    for row, length in enumerate(kept.tolist()):
        replaced[row, length:] = model.decoder.masking.row
    assert torch.equal(model.decode(code, kept=kept), model.decode(replaced))
    assert torch.equal(model.decode(code, kept=torch.full((3,), model.config.tokens)), model.decode(code))


@torch.no_grad()
@pytest.mark.parametrize("variant", NESTED)
def test_a_shorter_code_is_a_masked_one(variant: str) -> None:
    model = built(variant)
    code = torch.randn(2, model.config.tokens, 4)
    for length in (1, model.config.tokens - 1):
        assert torch.equal(model.decode(code[:, :length]), model.decode(code, kept=torch.full((2,), length)))
    both = model.decode(code[:, :3], kept=torch.tensor([2, 9]))
    assert torch.equal(both, model.decode(code, kept=torch.tensor([2, 3])))


@pytest.mark.parametrize("variant", NESTED)
def test_what_is_masked_does_not_count(variant: str) -> None:
    model = built(variant)
    code = torch.randn(2, model.config.tokens, 4, requires_grad=True)
    kept = torch.tensor([2, 4])
    model.decode(code, kept=kept).square().sum().backward()
    assert code.grad is not None
    for gradient, length in zip(code.grad, kept.tolist(), strict=True):
        assert (gradient[:length].abs().sum(1) > 0).all() and not gradient[length:].any()


@pytest.mark.parametrize("variant", KINDS)
def test_gradients_reach_every_parameter(variant: str) -> None:
    model = built(variant)
    out = model(pixels_for(model), kept=torch.tensor([2, 4]) if model.config.shortest else None)
    (out.pixels.square().mean() + out.posterior.kl().mean()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    names = {name for name, _ in model.named_parameters()} - {name for name, _ in built("N-N/8").named_parameters()}
    latent = {"encoder.latents.rows", "decoder.patches.row"} if model.config.latent_tokens else set[str]()
    assert names == latent | ({"decoder.masking.row"} if model.config.shortest else set[str]())


def test_every_part_of_a_latent_code_sees_every_patch_and_is_seen_by_all() -> None:
    model = built("N-N/8+L5")
    pixels = pixels_for(model, 1).requires_grad_()
    for token in range(5):
        (gradient,) = torch.autograd.grad(model.encode(pixels).mean[0, token].sum(), pixels)
        assert (gradient.unfold(3, 8, 8).unfold(4, 8, 8).abs().sum((0, 1, 2, 5, 6)) > 0).all()
    code = torch.randn(1, 5, 4)
    moved = (model.decode(code) - model.decode(code.flip(1))).abs().unfold(3, 8, 8).unfold(4, 8, 8).sum((0, 1, 2, 5, 6))
    assert (moved > 1e-4).all(), "the decoder tells its tokens apart, and draws on them everywhere"


def test_latent_tokens_lie_behind_the_last_frame() -> None:
    patches = [(t, y, x) for t in range(2) for y in range(3) for x in range(4)]
    expected = angles(torch.tensor([*patches, (2, 0, 0), (3, 0, 0), (4, 0, 0)]), 48)
    cos, sin = rotary_tables((2, 3, 4), 48, torch.device("cpu"), 3)
    assert torch.equal(cos, expected.cos().float()) and torch.equal(sin, expected.sin().float())
    for ours, without in zip((cos, sin), rotary_tables((2, 3, 4), 48, torch.device("cpu")), strict=True):
        assert torch.equal(ours[:24], without)


def test_how_learned_tokens_begin() -> None:
    rows = LatentTokens(7, 6).rows[0]
    places = torch.arange(7.0)
    expected = [f(places * 1e4 ** (-i / 3)) for f in (torch.cos, torch.sin) for i in range(3)]
    assert torch.allclose(rows, torch.stack(expected, dim=1), atol=1e-6)
    assert not MaskTokens(4).row.any()


@pytest.mark.parametrize(
    ("variant", "tokens", "kept", "words"),
    [
        ("N-N/8", 15, None, r"15 token\(s\): the code of N-N/8 is not nested, all its 16 tokens are needed"),
        ("N-N/8+L5", 4, None, r"4 token\(s\): the code of N-N/8\+L5 is not nested, all its 5 tokens are needed"),
        ("N-N/8+L5", 5, 3, "kept: the code of"),
        ("N-N/8+L6+M2", 7, None, "7 tokens: a code of N-N/8.L6.M2 has 1 to 6"),
        ("N-N/8+M4", 0, None, "0 tokens: a code of N-N/8.M4 has 1 to 16"),
    ],
)
def test_tokens_that_make_no_code_are_refused(variant: str, tokens: int, kept: int | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        built(variant).decode(torch.zeros(1, tokens, 4), kept=None if kept is None else torch.tensor([kept]))


def test_the_simple_variant_is_as_it_was() -> None:
    """Names, what is drawn for them and what they sum to, as before there were others."""
    torch.manual_seed(7)
    model = Tokenizer.from_variant("T-M/2x8", channels=16, size=32, frames=4)
    assert hashlib.sha256(" ".join(model.state_dict()).encode()).hexdigest()[:16] == "7e6bf2013c873f56"
    assert torch.rand(1).item() == 0.5035868883132935
    assert sum(p.detach().double().abs().sum().item() for p in model.parameters()) == pytest.approx(32766.850400064486, rel=1e-6)
    pixels, grid = torch.rand(2, 3, 4, 32, 32), (2, 4, 4)
    encoder, decoder = model.encoder, model.decoder
    moments = encoder.to_moments(encoder.transformer(encoder.positions(encoder.embed(pixels), grid), grid))
    posterior = model.encode(pixels)
    assert torch.equal(posterior.mean, moments.chunk(2, dim=-1)[0])
    plain = decoder.unembed(decoder.transformer(decoder.from_latent(posterior.mean), grid), grid)
    assert torch.equal(model(pixels, sample=False).pixels, plain)


@torch.no_grad()
def test_a_dit_draws_latent_codes() -> None:
    """One dimension is a grid too."""
    model = built("N-N/8+L6+M2")
    cfg = model.config
    dit, path = DiT(DITS["N"], cfg.channels, cfg.code, 3), diffusion.build_objective(Diffusion(), "leading").path(3, torch.device("cpu"))
    noise = torch.randn(2, cfg.tokens, cfg.channels)
    *_, code = diffusion.sample_steps(diffusion.with_guidance(dit, 3, 1.5), path, noise, torch.tensor([1, 2]))
    assert model.decode(dit.restored(code)).shape == (2, 3, 1, 32, 32)
