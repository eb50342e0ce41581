"""LPIPS (Zhang et al. 2018), version 0.1: distances of normalised features of a fixed network, weighted by channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.config import variants
from vitok.config.training import SMALLEST
from vitok.errors import UsageError

# ImageNet's mean and deviation, for pixels in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """LPIPS on "alexnet" or "vgg16". Its weights come from `networks.weights`; they are never trained.

    State: trunk.<i>.weight (O, I, k, k), trunk.<i>.bias (O,) for the i-th convolution; heads.<j> (O,) for the j-th tap.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str) -> None:
        super().__init__()
        self.layers = variants.PERCEPTUAL[network]
        self.network, self.trunk, self.heads, channels = network, nn.ModuleList(), nn.ParameterList(), 3
        for layer in self.layers:
            if layer == "tap":
                self.heads.append(nn.Parameter(torch.zeros(channels)))
            elif len(layer) == 4:
                out, kernel, stride, padding = (int(n) for n in layer)
                self.trunk.append(nn.Conv2d(channels, out, kernel, stride, padding))
                channels = out
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return unit-length features (B, C, h, w) at each tap, of images (B, 3, H, W) in [-1, 1]. Raises `UsageError` for images that are
        too small.
        """
        smallest = SMALLEST[self.network]
        if min(images.shape[-2:]) < smallest:
            raise UsageError(f"LPIPS on {self.network} needs images of {smallest} pixels or more, not {tuple(images.shape[-2:])}")
        x, taps, convolutions = (images - self.shift) / self.scale, [], iter(self.trunk)
        for layer in self.layers:
            if layer == "tap":
                # The square root's slope is infinite at 0 and dead features are exactly 0: the clamp cuts it there.
                length = x.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt()
                taps.append(x / (length + 1e-10))
            elif len(layer) == 4:
                x = F.relu(next(convolutions)(x))
            else:
                x = F.max_pool2d(x, int(layer[0]), int(layer[1]))
        return taps

    def forward(self, images: Tensor, reference: Tensor) -> Tensor:
        """Return the distances (B,) between two batches (B, 3, H, W) in [-1, 1].

        It runs in float32 whatever the autocast around it: in bf16 the gradients of the normalisation overflow. The reference gets no
        gradient and costs no backward pass.
        """
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                target = self.features(reference.float())
            total = torch.zeros(len(images), device=images.device)
            for ours, theirs, head in zip(self.features(images.float()), target, self.heads, strict=True):
                total = total + torch.einsum("bchw,c->bhw", (ours - theirs).square(), head).mean((1, 2))
            return total
