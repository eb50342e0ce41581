import pytest
import torch
import torch.nn.functional as F

from vitok.config import variants
from vitok.errors import UsageError
from vitok.models.bottleneck import Posterior
from vitok.models.tokenizer import Tokenizer, TubeletEmbedding, TubeletUnembedding


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("patch", [4, 8, 16])
def test_shapes_for_every_tubelet(stride: int, patch: int) -> None:
    model = Tokenizer.from_variant(f"N-N/{stride}x{patch}", channels=6, size=32, frames=4)
    video = torch.rand(2, 3, 4, 32, 32)
    out = model(video)
    tokens = (4 // stride) * (32 // patch) ** 2
    assert out.pixels.shape == video.shape
    assert out.posterior.mean.shape == (2, tokens, 6)
    assert model.config.floats == tokens * 6
    assert model.decode(model.encode(video).sample()).shape == video.shape


def test_an_image_is_a_video_of_one_frame() -> None:
    model = Tokenizer.from_variant("N-N/8", channels=4, size=32)
    image = torch.rand(2, 3, 32, 32)
    as_image, as_video = model(image, sample=False), model(image.unsqueeze(2), sample=False)
    assert torch.equal(as_image.pixels, as_video.pixels.squeeze(2))
    assert as_image.pixels.shape == image.shape


def test_tubelets_are_the_convolutions_they_stand_for() -> None:
    """float64: equal but for the order of sums."""
    torch.manual_seed(0)
    embed = TubeletEmbedding(3, 10, (2, 4, 4), stride=(2, 4, 4)).double()
    pixels = torch.randn(2, 3, 4, 8, 12, dtype=torch.float64)
    expected = F.conv3d(pixels, embed.weight, embed.bias, stride=(2, 4, 4))
    assert torch.allclose(embed(pixels), expected.flatten(2).transpose(1, 2), atol=1e-12)

    unembed = TubeletUnembedding(10, 3, (2, 4, 4), stride=(2, 4, 4)).double()
    tokens = torch.randn(2, 2 * 2 * 3, 10, dtype=torch.float64)
    volume = tokens.transpose(1, 2).unflatten(2, (2, 2, 3))
    expected = F.conv_transpose3d(volume, unembed.weight, unembed.bias, stride=(2, 4, 4))
    assert torch.allclose(unembed(tokens, (2, 2, 3)), expected, atol=1e-12)


def test_other_sizes_interpolate_the_table() -> None:
    model = Tokenizer.from_variant("N-N/8", channels=4, size=32)
    assert model(torch.rand(1, 3, 48, 64)).pixels.shape == (1, 3, 48, 64)
    config = variants.tokenizer("S-B/16", channels=16, size=512)
    assert (config.grid, config.table_grid) == ((1, 32, 32), (1, 16, 16))


def test_pixels_that_do_not_divide_are_refused() -> None:
    model = Tokenizer.from_variant("N-N/2x8", channels=4, size=32, frames=2)
    with pytest.raises(UsageError, match=r"1x32x32.*2x8x8"):
        model(torch.rand(1, 3, 32, 32))


def test_kl_equals_torch_distributions() -> None:
    posterior = Posterior.from_moments(torch.randn(2, 5, 8))
    normal = torch.distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    unit = torch.distributions.Normal(torch.zeros_like(posterior.mean), torch.ones_like(posterior.mean))
    assert torch.allclose(posterior.kl(), torch.distributions.kl_divergence(normal, unit), atol=1e-5)


def test_samples_have_the_posteriors_moments() -> None:
    posterior = Posterior(torch.full((1, 1, 200_000), 3.0), torch.full((1, 1, 200_000), -2.0))
    draw = posterior.sample()
    assert draw.mean().item() == pytest.approx(3.0, abs=0.01)  # 0.37 / sqrt(200,000) = 0.0008 is one deviation
    assert draw.std().item() == pytest.approx(torch.tensor(-1.0).exp().item(), abs=0.01)


def test_gradients_reach_every_parameter() -> None:
    model = Tokenizer.from_variant("N-N/2x8", channels=4, size=32, frames=2)
    out = model(torch.rand(2, 3, 2, 32, 32))
    (out.pixels.square().mean() + out.posterior.kl().mean()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_bf16_agrees_with_float32() -> None:
    """bf16 carries 8 bits: 2^-8 relative a rounding, a few roundings deep."""
    torch.manual_seed(0)
    model, pixels = Tokenizer.from_variant("T-M/8", channels=16, size=32), torch.rand(4, 3, 32, 32) * 2 - 1
    exact = model(pixels, sample=False).pixels
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(pixels, sample=False).pixels
    assert (rounded.float() - exact).norm() / exact.norm() < 0.03
