"""The Gaussian bottleneck (section 2.1): a mean and a log-variance for every channel of every token."""

from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents, both tensors (B, L, c), float32."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """From what the encoder emits, (B, L, 2c). float32, since exp of a bf16 log-variance has two digits;
        clamped, so that one wild token cannot overflow the loss."""
        mean, log_variance = moments.float().chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """z = mean + std * noise, (B, L, c). `noise` is standard normal; drawn from torch's generator if not given."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """KL divergence from the unit Gaussian for each element, (B, L, c), nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)
