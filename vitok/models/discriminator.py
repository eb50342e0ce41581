"""StyleGAN's discriminator (Karras et al. 2019): equalised learning rate, blurred downsampling, minibatch standard deviation.

Of clips it judges each frame as an image or, with 3D convolutions, the clip as a whole.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitok.config.variants import LAST_SIDE, discriminator_channels
from vitok.errors import UsageError

SLOPE, GAIN = 0.2, math.sqrt(2)  # slope of the leaky ReLU; gain of He's initialisation (Karras et al. 2019)
GROUP = 4  # samples in a group of the minibatch deviation


class EqualisedLayer(nn.Module):
    """A convolution (kernel > 0) or a linear layer with equalised learning rate.

    Weights are drawn from N(0, 1) and scaled by He's constant in each forward pass, so that Adam trains all layers at one speed. `dims` is
    2 or 3; kernels are odd; the size is kept.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 0, dims: int = 2, gain: float = GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *[kernel] * (dims if kernel else 0)))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = gain / math.sqrt(self.weight[0].numel())
        self.function = {0: F.linear, 2: F.conv2d, 3: F.conv3d}[dims if kernel else 0]
        self.padding = {"padding": kernel // 2} if kernel else {}

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer with scaled weights."""
        return self.function(x, self.weight * self.scale, self.bias, **self.padding)


class DownsamplingStage(nn.Module):
    """A stage from side r to r / 2: convolution, blur, convolution and mean of 2 x 2, as the original does at each resolution."""

    def __init__(self, inputs: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.first = EqualisedLayer(inputs, inputs, 3, dims)
        self.second = EqualisedLayer(inputs, outputs, 3, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Transform feature maps (B, C, [T,] r, r) to half the side."""
        x = F.leaky_relu(self.first(x), SLOPE)
        return F.leaky_relu(downsample(self.second(blur(x))), SLOPE)


class Discriminator(nn.Module):
    """Discriminator of images (B, 3, S, S) in [-1, 1] or, with `dims` 3, of clips (B, 3, T, S, S); it returns logits (B,).

    S is a power of two from 8 on. Each of several batches (real and fake) is judged on its own: the minibatch deviation must not mix them.
    `frames` is T: the length in time is halved with the sides until one is left. `base` is that of `config.Gan`. Raises `UsageError` for
    another size.
    """

    def __init__(self, size: int, base: int, dims: int = 2, frames: int = 1) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise UsageError(f"the discriminator halves its input down to {LAST_SIDE} pixels: size {size} is not a power of two from 8 on")
        self.dims, self.size = dims, size
        widths = discriminator_channels(size, base)
        self.from_rgb = EqualisedLayer(3, widths[0], 1, dims)
        self.stages = nn.ModuleList(DownsamplingStage(a, b, dims) for a, b in pairwise(widths))
        self.convolution = EqualisedLayer(widths[-1] + 1, widths[-1], 3, dims)
        depth = 1 if dims == 2 else -(-frames // 2 ** len(self.stages))
        self.dense = EqualisedLayer(widths[-1] * LAST_SIDE * LAST_SIDE * depth, widths[-1])
        self.logit = EqualisedLayer(widths[-1], 1, gain=1.0)

    def forward(self, *batches: Tensor, penalty: bool = False) -> tuple[Tensor, ...]:
        """Return the logits of each batch. With `penalty`, append R1 of the first one, computed here since DeepSpeed hooks outputs."""
        if not penalty:
            return tuple(map(self.logits, batches))
        real = batches[0].detach().requires_grad_()
        of_real = self.logits(real)
        return of_real, *map(self.logits, batches[1:]), gradient_penalty(of_real, real)

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (B,), float32 or wider, of one batch."""
        x = F.leaky_relu(self.from_rgb(pixels), SLOPE)
        for stage in self.stages:
            x = stage(x)
        x = torch.cat([x, minibatch_deviation(x)], dim=1)
        x = F.leaky_relu(self.convolution(x), SLOPE)
        x = F.leaky_relu(self.dense(x.flatten(1)), SLOPE)
        x = self.logit(x).flatten()
        return x.to(torch.promote_types(x.dtype, torch.float32))


def gradient_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Return R1 (Mescheder et al. 2018) without its weight: half the mean over samples of the squared gradient of their logit."""
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def blur(x: Tensor) -> Tensor:
    """Blur by the binomial filter 1 2 1 along height and width. The border is mirrored, so that a flat image stays flat."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=x.device, dtype=x.dtype) / 4
    kernel = (kernel[:, None] * kernel[None, :]).expand(x.shape[1], 1, 3, 3)
    flat = x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)
    out = F.conv2d(F.pad(flat, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])
    return out if x.ndim == 4 else out.unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def downsample(x: Tensor) -> Tensor:
    """Average over 2 x 2 pixels, and over two frames if there is more than one."""
    if x.ndim == 4:
        return F.avg_pool2d(x, 2)
    return F.avg_pool3d(x, (min(2, x.shape[2]), 2, 2), ceil_mode=True)


def minibatch_deviation(x: Tensor) -> Tensor:
    """Return the minibatch standard deviation as one more channel (Karras et al. 2018).

    It is one number for each group of up to four samples: the mean deviation over all features. In a batch of one it is 0.
    """
    size = len(x)
    group = next(n for n in range(min(GROUP, size), 0, -1) if size % n == 0)
    grouped = x.to(torch.promote_types(x.dtype, torch.float32)).view(group, size // group, *x.shape[1:])
    std = (grouped.var(0, correction=0) + 1e-8).sqrt() if group > 1 else torch.zeros_like(grouped[0])
    return std.flatten(1).mean(1).to(x.dtype).repeat(group).view(size, *[1] * (x.ndim - 1)).expand(size, 1, *x.shape[2:])
