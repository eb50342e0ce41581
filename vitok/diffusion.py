"""Diffusion and flow matching: schedule, training targets, samplers (DDIM, Euler), classifier-free guidance (section 2.3).

A model is any function of (noised latents (B, L, c), times (B,), labels (B,)). Time is 0 for data and 1000 for noise, whatever the
schedule's length and the objective.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vitok import config
from vitok.errors import UsageError

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
TIME_RANGE = 1000.0  # a model's times go from 0 to this


class TrainingPair(NamedTuple):
    """A training example: noised latents, times, and the target of the prediction."""

    noised: Tensor  # (B, L, c)
    times: Tensor  # (B,) from 0 to 1000
    target: Tensor  # (B, L, c)


class Objective(ABC):
    """The target of the prediction, and the sampler that leads from noise to data."""

    @abstractmethod
    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> TrainingPair:
        """Return a training example of latents (B, L, c) of deviation 1, normal noise of that shape, and numbers (B,) uniform in [0, 1)
        that give the times.
        """

    @abstractmethod
    def path(self, steps: int, device: torch.device) -> "Sampler":
        """Return a sampler of that many steps. Raises `UsageError` for an impossible number."""


class Sampler(ABC):
    """A sampler. Its steps are tensors on the device, so that no step waits for the host."""

    times: Tensor  # (steps,) from 1000 towards 0

    @abstractmethod
    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        """Return the latents after a step."""


class NoisePrediction(Objective):
    """Prediction of the noise of a schedule with linear variances (Ho et al. 2020) at uniform times; DDIM is the sampler."""

    def __init__(self, cfg: config.Diffusion, spacing: str = "leading") -> None:
        self.count, self.spacing = cfg.timesteps, spacing
        betas = torch.linspace(cfg.beta_first, cfg.beta_last, cfg.timesteps, dtype=torch.float64)
        self.signal = torch.cumprod(1 - betas, 0)  # alpha-bar: the variance of the data's share
        self.near = self.signal  # the same, on the latents' device

    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> TrainingPair:
        """Return latents noised at a uniform time of the schedule; the target is the noise."""
        numbers = (uniform.double() * self.count).long().clamp_max(self.count - 1)
        if self.near.device != latents.device:  # once: the host would wait for every copy
            self.near = self.signal.to(latents.device)
        signal = self.near[numbers].float()[:, None, None]
        return TrainingPair(signal.sqrt() * latents + (1 - signal).sqrt() * noise, self._times(numbers), noise)

    def path(self, steps: int, device: torch.device) -> "DDIMSampler":
        """Return a DDIM sampler. Raises `UsageError` for more steps than the schedule has."""
        if not 1 <= steps <= self.count:
            raise UsageError(f"{steps} steps: a schedule of {self.count} has 1 to {self.count}")
        if self.spacing == "leading":
            numbers = torch.arange(steps).flip(0) * (self.count // steps)
        else:
            numbers = torch.arange(steps, 0, -1, dtype=torch.float64).mul(self.count / steps).round().long() - 1
        return DDIMSampler(self.signal, numbers, self._times(numbers), device)

    def _times(self, numbers: Tensor) -> Tensor:
        """Scale steps of the schedule to times from 0 to 1000."""
        return numbers.float() * (TIME_RANGE / self.count)


class DDIMSampler(Sampler):
    """Deterministic DDIM (Song et al. 2020, equation 12, eta = 0). Each step leads to the next of the chosen times, the last one to
    data.
    """

    def __init__(self, signal: Tensor, numbers: Tensor, times: Tensor, device: torch.device) -> None:
        after = torch.cat([signal[numbers[1:]], torch.ones(1, dtype=torch.float64)])
        here = signal[numbers]
        # x0 = (x - sqrt(1 - here) e) / sqrt(here) for a prediction e, then sqrt(after) x0 + sqrt(1 - after) e: a factor of x, one of e.
        of_latents = (after / here).sqrt()
        of_noise = (1 - after).sqrt() - of_latents * (1 - here).sqrt()
        self.of_latents, self.of_noise = of_latents.float().to(device), of_noise.float().to(device)
        self.times = times.to(device)

    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        """Return the latents after a step, given the predicted noise."""
        return self.of_latents[number] * latents + self.of_noise[number] * prediction


class FlowMatching(Objective):
    """Prediction of the velocity noise - data on a straight path (Lipman et al. 2023, Liu et al. 2023); Euler is the sampler."""

    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> TrainingPair:
        """Return latents interpolated with noise; the target is the velocity."""
        share = uniform.float()[:, None, None]
        return TrainingPair((1 - share) * latents + share * noise, uniform.float() * TIME_RANGE, noise - latents)

    def path(self, steps: int, device: torch.device) -> "EulerSampler":
        """Return an Euler sampler. Raises `UsageError` for less than one step."""
        if steps < 1:
            raise UsageError(f"{steps} steps: it takes 1 at least")
        return EulerSampler(steps, device)


class EulerSampler(Sampler):
    """Euler's method in equal steps from noise to data."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.times = torch.arange(steps, 0, -1, device=device).float() * (TIME_RANGE / steps)
        self.size = 1.0 / steps

    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        """Return the latents after a step, given the predicted velocity."""
        return latents - self.size * prediction


def build_objective(cfg: config.Diffusion, spacing: str = "leading") -> Objective:
    """Return the objective of a config. `spacing` is that of DDIM's steps."""
    return FlowMatching() if cfg.objective == "flow" else NoisePrediction(cfg, spacing)


def with_guidance(model: Model, unknown: int, scale: float) -> Model:
    """Return a model with classifier-free guidance (Ho and Salimans 2022): unconditional + scale * (conditional - unconditional).

    Both predictions come from one doubled batch. `unknown` is the label of no class. At scale 1 the model itself is returned. Raises
    `UsageError` for a scale below 0.
    """
    if scale < 0:
        raise UsageError(f"guidance of {scale:g}: it must be 0 or more (1: none)")
    if scale == 1:
        return model

    def predict(latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        both = model(latents.repeat(2, 1, 1), times.repeat(2), torch.cat([labels, torch.full_like(labels, unknown)]))
        conditional, unconditional = both.float().chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return predict


def sample_steps(model: Model, path: Sampler, noise: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Yield the latents (B, L, c) float32 after each step, starting from normal noise; the last ones are the sample."""
    latents = noise
    for number in range(len(path.times)):
        latents = path.step(number, latents, model(latents, path.times[number].expand(len(latents)), labels).float())
        yield latents
