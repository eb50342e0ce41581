"""StyleGAN's discriminator, part by part against something independent."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

from vitok import losses
from vitok.config.variants import discriminator_channels
from vitok.costs import flops
from vitok.errors import UsageError
from vitok.models.discriminator import Discriminator, EqualisedLayer, blur, downsample, minibatch_deviation


def test_the_size_is_that_of_the_papers() -> None:
    """23.1 M at 1024 pixels (Karras et al. 2018, Table 2: the same layers). Theirs grows, so it has a layer from RGB, of 3 + 1
    parameters a channel, at every resolution."""
    widths = discriminator_channels(1024, 8192)
    assert widths == [16, 32, 64, 128, 256, 512, 512, 512, 512]
    with torch.device("meta"):
        ours = sum(p.numel() for p in Discriminator(1024, 8192).parameters())
    assert ours + 4 * sum(widths[1:]) == 23_087_249


def test_the_blur_is_the_binomial_filter() -> None:
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = np.stack([[ndimage.convolve(c, kernel, mode="mirror") for c in image] for image in x.numpy()])
    np.testing.assert_allclose(blur(x).numpy(), expected, atol=1e-12)
    clip = torch.stack([x, 2 * x], dim=2)
    np.testing.assert_allclose(blur(clip)[:, :, 1].numpy(), 2 * expected, atol=1e-12)


def test_layers_learn_at_one_speed() -> None:
    """Weights are N(0, 1); what comes out of He's constant keeps the signal's size, and one step of Adam changes the output of
    a wide and a narrow layer alike."""
    torch.manual_seed(0)
    for layer, x in ((EqualisedLayer(64, 256, 3), torch.randn(8, 64, 16, 16)), (EqualisedLayer(4096, 512), torch.randn(64, 4096))):
        assert float(layer.weight.std()) == pytest.approx(1, rel=0.05)
        assert float(torch.nn.functional.relu(layer(x)).square().mean()) == pytest.approx(1, rel=0.15)
        expected = layer.function(x.double(), layer.weight.double() * layer.scale, **layer.padding)
        assert torch.allclose(layer(x).double(), expected, atol=1e-4)


def test_the_deviation_is_that_of_groups_of_four() -> None:
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    for j in range(2):  # samples j, j + 2, j + 4, j + 6
        group = x[j::2].numpy()
        expected = np.sqrt(group.var(0) + 1e-8).mean()
        np.testing.assert_allclose(minibatch_deviation(x)[j::2].numpy(), np.full((4, 1, 4, 4), expected), rtol=1e-6)
    assert float(minibatch_deviation(x[:1]).abs().max()) == 0 and minibatch_deviation(x[:6]).shape == (6, 1, 4, 4)


def test_batches_are_judged_each_among_its_own() -> None:
    torch.manual_seed(0)
    model, a, b = Discriminator(16, 64), torch.randn(4, 3, 16, 16), 3 * torch.randn(4, 3, 16, 16)
    both = model(a, b)
    assert torch.equal(both[0], model(a)[0]) and torch.equal(both[1], model(b)[0])
    assert not torch.allclose(model(torch.cat([a, b]))[0][:4], both[0])


@pytest.mark.parametrize(("dims", "frames"), [(2, 1), (3, 8), (3, 3)])
def test_its_multiply_adds_are_counted(dims: int, frames: int) -> None:
    model = Discriminator(32, 256, dims, frames)
    pixels = torch.randn(1, 3, 32, 32) if dims == 2 else torch.randn(1, 3, frames, 32, 32)
    with FlopCounterMode(display=False) as counter:
        assert model(pixels)[0].shape == (1,)
    assert counter.get_total_flops() == 2 * flops.discriminator_macs(32, 256, frames, dims == 3)


def test_halving_takes_means() -> None:
    x = torch.arange(2 * 4 * 4, dtype=torch.float64).view(1, 1, 2, 4, 4)
    assert downsample(x).shape == (1, 1, 1, 2, 2) and float(downsample(x)[0, 0, 0, 0, 0]) == float(x[0, 0, :, :2, :2].mean())
    assert downsample(x[:, :, 0]).shape == (1, 1, 2, 2)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UsageError, match="size 48 is not a power of two"):
        Discriminator(48, 64)


def test_r1_against_finite_differences() -> None:
    torch.manual_seed(0)
    model = Discriminator(8, 32).double()
    real = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    logits = model.logits(real)
    gradient = torch.zeros_like(real)
    for i in range(0, real[0].numel(), 7):
        for sample in range(2):
            step = torch.zeros_like(real).view(2, -1)
            step[sample, i] = 1e-5
            step = step.view_as(real)
            change = (model.logits(real + step) - model.logits(real - step)).sum() / 2e-5
            gradient.view(2, -1)[sample, i] = change.detach()
    (exact,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    seen = gradient != 0
    assert torch.allclose(exact[seen], gradient[seen], atol=1e-7, rtol=1e-6)
    _, _, penalty = model(real, real, penalty=True)
    assert float(penalty) == pytest.approx(float(0.5 * exact.square().flatten(1).sum(1).mean()), rel=1e-9)
    penalty.backward()  # it can be followed
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.endswith("bias"))


def test_hinge_losses_are_zero_where_they_should_be() -> None:
    assert float(losses.hinge_discriminator(torch.tensor([1.5, 1.0]), torch.tensor([-1.0, -3.0]))) == 0
    assert float(losses.hinge_discriminator(torch.tensor([0.0]), torch.tensor([0.5]))) == pytest.approx(0.5 * (1 + 1.5))
    assert float(losses.hinge_generator(torch.tensor([2.0, 4.0]))) == -3
