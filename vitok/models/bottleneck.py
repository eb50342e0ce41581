"""The Gaussian bottleneck (section 2.1): a mean and a log-variance for each channel of each token."""

from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """A diagonal Gaussian over latents; both tensors are (B, L, c) float32."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """Return the posterior of the encoder's output (B, L, 2c).

        It is float32, since exp of a bf16 log-variance has two digits, and clamped, so that one extreme token cannot overflow the loss.
        """
        mean, log_variance = moments.float().chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """Sample latents (B, L, c): mean + std * noise. `noise` is standard normal; torch's generator draws it if not given."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """Return the KL divergence (B, L, c) from the unit Gaussian, in nats, for each element."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)
