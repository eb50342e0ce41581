"""Against diffusers' schedulers, textbook loops in float64, and data whose exact predictions are known."""

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from vitok import config, diffusion
from vitok.config import variants
from vitok.errors import UsageError
from vitok.models.dit import DiT

SCHEDULERS: Any = diffusers  # whose annotations are narrower than what it takes
CPU, META = torch.device("cpu"), torch.device("meta")
CFG = config.Diffusion()
LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 2e-2}
SPACINGS = ["leading", "trailing"]
ROUNDING = 1e-6  # four roundings of float32, 6e-8 each, of elements that reach four times the root mean square


def alpha_bars() -> list[float]:
    bars, product = [], 1.0
    for number in range(1000):
        product *= 1 - (1e-4 + (2e-2 - 1e-4) * number / 999)
        bars.append(product)
    return bars


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, in root mean squares of the other."""
    other = other.double()
    return ((one.double() - other).abs().max() / other.square().mean().sqrt()).item()


def smooth(latents: Tensor, time: float) -> Tensor:
    """A prediction that every element and the time have a part in."""
    return torch.sin(2 * latents + time / 100) + 0.3 * latents.roll(1, dims=-1).tanh()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ddim(latents: Tensor, prediction: Tensor, here: float, after: float) -> Tensor:
    """Song et al. 2020, equation 12, as it is written there, with sigma 0."""
    data = (latents - (1 - here) ** 0.5 * prediction) / here**0.5
    return after**0.5 * data + (1 - after) ** 0.5 * prediction


def test_the_schedule_is_ho_et_als() -> None:
    signal = diffusion.NoisePrediction(CFG).signal
    assert torch.allclose(signal, torch.tensor(alpha_bars(), dtype=torch.float64), rtol=1e-13, atol=0)
    for scheduler in (
        SCHEDULERS.DDPMScheduler(**LINEAR),
        SCHEDULERS.DDIMScheduler(**LINEAR),
    ):  # float32: a thousand factors, each rounded by up to 6e-8
        assert torch.allclose(signal, scheduler.alphas_cumprod.double(), rtol=1e-5, atol=0)


def test_noised_latents_are_diffusers() -> None:
    uniform = (torch.arange(1000) + 0.5) / 1000
    latents, noise = drawn(1000, 16, 4), drawn(1000, 16, 4, seed=1)
    pair = diffusion.NoisePrediction(CFG).pair(latents, noise, uniform)
    assert torch.equal(pair.times, torch.arange(1000.0)) and torch.equal(pair.target, noise)
    theirs = SCHEDULERS.DDPMScheduler(**LINEAR).add_noise(latents, noise, torch.arange(1000))
    assert apart(pair.noised, theirs) < 1e-5  # 1 - alpha-bar, 1e-4 at first, is a difference of float32, and alpha-bar rounded 1000 times
    bars = torch.tensor(alpha_bars(), dtype=torch.float64)[:, None, None]
    assert (
        apart(pair.noised, bars.sqrt() * latents + (1 - bars).sqrt() * noise) < 5e-6
    )  # ours is rounded once: by 3e-8, beside 1 - alpha-bar of 1e-4


def test_every_time_of_the_schedule_is_as_likely() -> None:
    noise = diffusion.NoisePrediction(CFG)
    uniform = (torch.arange(5000) + 0.5) / 5000
    assert noise.pair(drawn(5000, 1, 1), drawn(5000, 1, 1), uniform).times.long().bincount().tolist() == [5] * 1000
    ends = torch.tensor([0.0, 1 - 2**-24])  # the largest float32 below 1
    assert noise.pair(drawn(2, 1, 1), drawn(2, 1, 1), ends).times.tolist() == [0, 999]


def test_models_are_given_times_of_a_thousand_whatever_the_schedule() -> None:
    noise = diffusion.NoisePrediction(config.Diffusion(timesteps=100))
    assert noise.pair(drawn(2, 1, 1), drawn(2, 1, 1), torch.tensor([0.0, 0.995])).times.tolist() == [0, 990]
    assert noise.path(5, CPU).times.tolist() == [800, 600, 400, 200, 0]


def test_a_flow_is_the_straight_path() -> None:
    steps = torch.arange(1, 1001)
    latents, noise = drawn(1000, 16, 4), drawn(1000, 16, 4, seed=1)
    pair = diffusion.FlowMatching().pair(latents, noise, steps / 1000)
    assert torch.allclose(pair.times, steps.float()) and torch.equal(pair.target, noise - latents)
    scheduler = SCHEDULERS.FlowMatchEulerDiscreteScheduler()
    theirs = scheduler.scale_noise(latents, scheduler.timesteps.flip(0), noise)
    assert apart(pair.noised, theirs) < ROUNDING
    share = steps.double()[:, None, None] / 1000
    assert apart(pair.noised, (1 - share) * latents + share * noise) < ROUNDING


@pytest.mark.parametrize(("steps", "spacing"), [*((steps, s) for steps in (10, 50, 250, 1000) for s in SPACINGS), (7, "leading")])
def test_every_step_of_ddim_is_diffusers(steps: int, spacing: str) -> None:
    """As it comes, in float32, and with its schedule in float64. Not trailing steps that do not divide 1000: diffusers then steps to
    t - 1000 // steps, which is not the time that it goes on from."""
    rounded, exact = (SCHEDULERS.DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing=spacing) for _ in range(2))
    exact.alphas_cumprod = torch.tensor(alpha_bars(), dtype=torch.float64)
    exact.set_timesteps(steps)
    rounded.set_timesteps(steps)
    path = diffusion.NoisePrediction(CFG, spacing).path(steps, CPU)
    assert torch.equal(path.times, rounded.timesteps.float())
    latents = drawn(2, 16, 4)
    for number, time in enumerate(rounded.timesteps.tolist()):
        prediction = smooth(latents, time)
        ours = path.step(number, latents, prediction)
        theirs = exact.step(prediction.double(), time, latents.double(), return_dict=False)[0]
        assert apart(ours, theirs) < ROUNDING
        latents = rounded.step(prediction, time, latents, return_dict=False)[0]
        assert apart(ours, latents) < 2e-6  # the roundings of diffusers' alpha-bar


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 7, 10, 250, 300, 999, 1000])
def test_every_step_of_ddim_leads_to_the_next_chosen_time(steps: int, spacing: str) -> None:
    if spacing == "leading":
        times = [number * (1000 // steps) for number in reversed(range(steps))]
    else:
        times = [round(number * 1000 / steps) - 1 for number in range(steps, 0, -1)]
    bars = alpha_bars()
    path = diffusion.NoisePrediction(CFG, spacing).path(steps, CPU)
    assert path.times.tolist() == times
    latents = drawn(2, 16, 4)
    for number, time in enumerate(times):
        after = bars[times[number + 1]] if number + 1 < steps else 1.0
        prediction = smooth(latents, time)
        exact = ddim(latents.double(), prediction.double(), bars[time], after)
        assert apart(path.step(number, latents, prediction), exact) < ROUNDING
        latents = exact.float()


@pytest.mark.parametrize("steps", [10, 50])
def test_every_step_of_euler_is_diffusers(steps: int) -> None:
    """Of its own, diffusers' last sigma is 1 / 1000 and not 1 / steps: it is told the equal ones."""
    scheduler = SCHEDULERS.FlowMatchEulerDiscreteScheduler(shift=1)
    scheduler.set_timesteps(sigmas=[number / steps for number in range(steps, 0, -1)])
    path = diffusion.FlowMatching().path(steps, CPU)
    assert torch.allclose(path.times, scheduler.timesteps, rtol=1e-6, atol=0)
    latents = drawn(2, 16, 4)
    for number, time in enumerate(scheduler.timesteps):
        prediction = smooth(latents, time.item())
        ours = path.step(number, latents, prediction)
        assert apart(ours, latents.double() - prediction.double() / steps) < ROUNDING
        latents = scheduler.step(prediction, time, latents, return_dict=False)[0]
        assert apart(ours, latents) < ROUNDING


# Data N(MEAN, DEVIATION^2) in every element: what is noised is normal too, and the best predictions are linear in it.
MEAN, DEVIATION = 1.5, 0.5
BARS = torch.tensor(alpha_bars())


def best_noise(latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    bar = BARS[times.long()][:, None, None]
    return (1 - bar).sqrt() * (latents - bar.sqrt() * MEAN) / (bar * DEVIATION**2 + 1 - bar)


def best_velocity(latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    share = times[:, None, None] / 1000
    variance = ((1 - share) * DEVIATION) ** 2 + share**2
    return (share - (1 - share) * DEVIATION**2) / variance * (latents - (1 - share) * MEAN) - MEAN


@pytest.mark.parametrize(("objective", "model"), [("noise", best_noise), ("flow", best_velocity)])
def test_the_best_prediction_is_that_of_least_loss(objective: str, model: diffusion.Model) -> None:
    """Which ties the training pair to the sampler: error and prediction are uncorrelated to 5 / sqrt(400,000)."""
    latents, noise = MEAN + DEVIATION * drawn(4000, 100, 1), drawn(4000, 100, 1, seed=1)
    made = diffusion.build_objective(config.Diffusion.model_validate({"objective": objective}))
    pair = made.pair(latents, noise, torch.rand(4000, generator=torch.Generator().manual_seed(2)))
    prediction = model(pair.noised, pair.times, LABELS)
    error = pair.target - prediction
    for known in (torch.ones_like(error), prediction, pair.noised):
        assert abs((error * known).mean() / (error.square().mean() * known.square().mean()).sqrt()) < 5 / 400_000**0.5


@pytest.mark.parametrize(
    ("made", "model", "left"),
    [(diffusion.NoisePrediction(CFG), best_noise, alpha_bars()[-1] ** 0.5), (diffusion.FlowMatching(), best_velocity, 0.0)],
)
def test_the_best_prediction_leads_to_the_datas_distribution(made: diffusion.Objective, model: diffusion.Model, left: float) -> None:
    """From the quantiles of normal noise, which have no error of a sample. Where the schedule ends, 0.6 % of the data are left, which
    noise of mean 0 lacks: seen from the end, DEVIATION times that of the mean. Steps of first order are 1 / 1000 off, or twice that."""
    quantiles = torch.distributions.Normal(0, 1).icdf((torch.arange(20_000) + 0.5) / 20_000)
    noise = (quantiles / quantiles.std())[None, :, None]
    *_, sample = diffusion.sample_steps(model, made.path(1000, CPU), noise, LABELS)
    assert sample.mean().item() == pytest.approx(MEAN - DEVIATION * left * MEAN, abs=1e-4)
    assert sample.std().item() == pytest.approx(DEVIATION, abs=2e-3)


@pytest.mark.parametrize("steps", [50, 250])
def test_a_whole_walk_is_diffusers(steps: int) -> None:
    """Errors shrink with the spread of the samples, as they do with a trained model."""
    scheduler = SCHEDULERS.DDIMScheduler(**LINEAR, clip_sample=False)
    scheduler.set_timesteps(steps)
    latents = noise = drawn(4, 16, 4)
    *_, sample = diffusion.sample_steps(best_noise, diffusion.NoisePrediction(CFG).path(steps, CPU), noise, LABELS)
    for time in scheduler.timesteps:
        latents = scheduler.step(best_noise(latents, time.expand(4), LABELS), time, latents, return_dict=False)[0]
    assert apart(sample, latents) < 1e-5


LABELS = torch.tensor([3, 1, 4, 1])
UNKNOWN = 10


class Counted:
    """A model that every argument has a part in, and what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        self.calls.append((latents, times, labels))
        return torch.sin(latents * (1 + labels[:, None, None])) + times[:, None, None] / 1000


@pytest.mark.parametrize("scale", [0.0, 1.5, 4.0])
def test_guidance_is_two_passes_in_one(scale: float) -> None:
    model, latents, times = Counted(), drawn(4, 16, 4), torch.tensor([999.0, 500.0, 20.0, 0.0])
    guided = diffusion.with_guidance(model, UNKNOWN, scale)(latents, times, LABELS)
    (called,) = model.calls
    assert len(called[0]) == 8 and called[2].tolist() == [3, 1, 4, 1] + 4 * [UNKNOWN]
    conditional, unconditional = model(latents, times, LABELS), model(latents, times, torch.full((4,), UNKNOWN))
    assert apart(guided, unconditional + scale * (conditional - unconditional)) < ROUNDING


def test_without_guidance_nothing_is_doubled() -> None:
    model, latents, times = Counted(), drawn(4, 16, 4), torch.zeros(4)
    diffusion.with_guidance(model, UNKNOWN, 1.0)(latents, times, LABELS)
    assert [[given is ours for given, ours in zip(call, (latents, times, LABELS), strict=True)] for call in model.calls] == [[True] * 3]


@pytest.mark.parametrize(("scale", "batch"), [(1.0, 4), (1.5, 8)])
@pytest.mark.parametrize("objective", ["noise", "flow"])
def test_a_walk_calls_its_model_once_a_step(objective: str, scale: float, batch: int) -> None:
    model = Counted()
    path = diffusion.build_objective(config.Diffusion.model_validate({"objective": objective})).path(7, CPU)
    steps = list(diffusion.sample_steps(diffusion.with_guidance(model, UNKNOWN, scale), path, drawn(4, 16, 4), LABELS))
    assert [len(call[0]) for call in model.calls] == [batch] * 7 and len(steps) == 7
    assert [call[1].unique().tolist() for call in model.calls] == [[time] for time in path.times.tolist()]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: diffusion.with_guidance(Counted(), UNKNOWN, -0.5), r"guidance of -0\.5"),
        (lambda: diffusion.NoisePrediction(CFG).path(0, CPU), "0 steps.*1000 has 1 to 1000"),
        (lambda: diffusion.NoisePrediction(CFG).path(1001, CPU), "1001 steps.*1000"),
        (lambda: diffusion.FlowMatching().path(0, CPU), "0 steps"),
    ],
)
def test_what_cannot_be_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()


@pytest.mark.parametrize("objective", ["noise", "flow"])
def test_nothing_waits_for_the_host(objective: str) -> None:
    """On the meta device there are no values: reading one back (item, cpu, a condition on it) raises."""
    made = diffusion.build_objective(config.Diffusion.model_validate({"objective": objective}))
    with META:
        model = DiT(variants.DITS["N"], 4, (1, 4, 4), UNKNOWN)
        noise, labels = torch.empty(4, 16, 4), torch.zeros(4, dtype=torch.long)
        pair = made.pair(torch.empty(4, 16, 4), noise, torch.rand(4))
    *_, sample = diffusion.sample_steps(diffusion.with_guidance(model, UNKNOWN, 1.5), made.path(3, META), noise, labels)
    assert (sample.device, sample.shape, sample.dtype) == (META, noise.shape, torch.float32)
    assert pair.noised.device == META
    with pytest.raises(RuntimeError):
        sample.sum().item()
