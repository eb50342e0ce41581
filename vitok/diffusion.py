"""What a generator learns, and how samples are drawn from it: the schedule, the targets, DDIM, Euler, guidance (section 2.3).

A model is any function of (noised latents (B, L, c), times (B,), labels (B,)). Time is 0 for data and 1000 for noise, whatever
the schedule's length and the objective.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vitok import config
from vitok.errors import UsageError

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
SPAN = 1000.0  # of the times that a model is given


class Pair(NamedTuple):
    noised: Tensor  # (B, L, c)
    times: Tensor  # (B,) as the model is given them
    target: Tensor  # (B, L, c)


class Objective(ABC):
    """What is predicted, and the path on which it leads back from noise to data."""

    @abstractmethod
    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> Pair:
        """Latents (B, L, c) of deviation 1, normal noise of the same shape, and numbers (B,), uniform in [0, 1), for the times."""

    @abstractmethod
    def path(self, steps: int, device: torch.device) -> "Path":
        """The steps of a sampler. Raises `UsageError` for a number that cannot be."""


class Path(ABC):
    """A sampler's steps: tensors on the device, so that no step waits for the host."""

    times: Tensor  # (steps,) as the model is given them

    @abstractmethod
    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        """The latents after one step."""


class Noise(Objective):
    """The noise of a schedule with linear variances (Ho et al. 2020), predicted at uniform times with an L2 loss; DDIM leads back."""

    def __init__(self, cfg: config.Diffusion, spacing: str = "leading") -> None:
        self.count, self.spacing = cfg.timesteps, spacing
        betas = torch.linspace(cfg.beta_first, cfg.beta_last, cfg.timesteps, dtype=torch.float64)
        self.signal = torch.cumprod(1 - betas, 0)  # alpha-bar: the variance of what is left of the data
        self.near = self.signal  # the same, where latents are

    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> Pair:
        numbers = (uniform.double() * self.count).long().clamp_max(self.count - 1)
        if self.near.device != latents.device:  # once: the host would wait for every copy
            self.near = self.signal.to(latents.device)
        signal = self.near[numbers].float()[:, None, None]
        return Pair(signal.sqrt() * latents + (1 - signal).sqrt() * noise, self._times(numbers), noise)

    def path(self, steps: int, device: torch.device) -> "DDIM":
        if not 1 <= steps <= self.count:
            raise UsageError(f"{steps} steps: a schedule of {self.count} has 1 to {self.count}")
        if self.spacing == "leading":
            numbers = torch.arange(steps).flip(0) * (self.count // steps)
        else:
            numbers = torch.arange(steps, 0, -1, dtype=torch.float64).mul(self.count / steps).round().long() - 1
        return DDIM(self.signal, numbers, self._times(numbers), device)

    def _times(self, numbers: Tensor) -> Tensor:
        return numbers.float() * (SPAN / self.count)


class DDIM(Path):
    """Deterministic DDIM (Song et al. 2020, equation 12, eta = 0). Every step leads to the next of the chosen times, the last to data."""

    def __init__(self, signal: Tensor, numbers: Tensor, times: Tensor, device: torch.device) -> None:
        after = torch.cat([signal[numbers[1:]], torch.ones(1, dtype=torch.float64)])
        here = signal[numbers]
        # x0 = (x - sqrt(1 - here) e) / sqrt(here) for a prediction e, then sqrt(after) x0 + sqrt(1 - after) e: a factor of x, one of e.
        of_latents = (after / here).sqrt()
        of_noise = (1 - after).sqrt() - of_latents * (1 - here).sqrt()
        self.of_latents, self.of_noise = of_latents.float().to(device), of_noise.float().to(device)
        self.times = times.to(device)

    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        return self.of_latents[number] * latents + self.of_noise[number] * prediction


class Flow(Objective):
    """The velocity noise - data of the straight path between them (Lipman et al. 2023, Liu et al. 2023); Euler leads back."""

    def pair(self, latents: Tensor, noise: Tensor, uniform: Tensor) -> Pair:
        share = uniform.float()[:, None, None]
        return Pair((1 - share) * latents + share * noise, uniform.float() * SPAN, noise - latents)

    def path(self, steps: int, device: torch.device) -> "Euler":
        if steps < 1:
            raise UsageError(f"{steps} steps: it takes 1 at least")
        return Euler(steps, device)


class Euler(Path):
    """Equal steps of Euler's method from noise to data."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.times = torch.arange(steps, 0, -1, device=device).float() * (SPAN / steps)
        self.size = 1.0 / steps

    def step(self, number: int, latents: Tensor, prediction: Tensor) -> Tensor:
        return latents - self.size * prediction


def objective(cfg: config.Diffusion, spacing: str = "leading") -> Objective:
    return Flow() if cfg.objective == "flow" else Noise(cfg, spacing)


def guided(model: Model, unknown: int, scale: float) -> Model:
    """Classifier-free guidance (Ho and Salimans 2022): unconditional + scale * (conditional - unconditional), in one doubled batch.
    `unknown` is the label of no class. At scale 1 it is the model itself. Raises `UsageError` below 0."""
    if scale < 0:
        raise UsageError(f"guidance of {scale:g}: it must be 0 or more (1: none)")
    if scale == 1:
        return model

    def predict(latents: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        both = model(latents.repeat(2, 1, 1), times.repeat(2), torch.cat([labels, torch.full_like(labels, unknown)]))
        conditional, unconditional = both.float().chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return predict


def walk(model: Model, path: Path, noise: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """The latents after each step, from normal noise (B, L, c) on. float32; the last are the sample."""
    latents = noise
    for number in range(len(path.times)):
        latents = path.step(number, latents, model(latents, path.times[number].expand(len(latents)), labels).float())
        yield latents
