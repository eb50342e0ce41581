"""What a training step shows of its latents: is the code used, and by how many channels?"""

import torch
import torch.distributed as dist
from torch import Tensor

from vitok.models.bottleneck import Posterior
from vitok.train.engine import Place

ACTIVE = 0.01  # variance of the posterior's mean over the data, above which a channel carries something (Burda et al. 2016)


@torch.no_grad()
def statistics(posterior: Posterior, place: Place) -> dict[str, float]:
    """Over all samples and tokens of a batch, of all ranks (a collective): mean and deviation of the sampled latents, the KL
    divergence of each channel (nats), and the number of channels that carry something."""
    mean, variance = posterior.mean.flatten(0, 1), posterior.log_variance.flatten(0, 1).exp()
    sums: Tensor = torch.stack([mean.mean(0), mean.square().mean(0), variance.mean(0), posterior.kl().flatten(0, 1).mean(0)])
    if place.world > 1:
        dist.all_reduce(sums)
        sums /= place.world
    center, square, noise, kl = sums.cpu()
    active = (square - center.square() > ACTIVE).sum()
    whole = center.mean()
    values = {
        "latent/mean": float(whole), "latent/std": float((square + noise).mean().sub(whole.square()).clamp_min(0).sqrt()),
        "latent/active_channels": float(active),
    }  # fmt: skip
    return values | {f"latent_kl/{channel:03d}": float(value) for channel, value in enumerate(kl)}
