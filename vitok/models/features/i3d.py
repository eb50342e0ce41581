"""I3D of FVD (Unterthiner et al. 2019), as the TorchScript file that StyleGAN-V and LARP measure with.

TorchScript is a program. Whoever hands the file over has checked that it is the known one: see `metrics.weights`.
"""

import io

import torch
from torch import Tensor, nn

from vitok.models.features.output import Features

FRAMES = 10  # fewer leave nothing to pool after three halvings of time


class I3D(nn.Module):
    PREPARED = "uint8, x / 127.5 - 1, the file's own bilinear resize to 224 x 224"

    def __init__(self, program: bytes) -> None:
        super().__init__()
        self.program = torch.jit.load(io.BytesIO(program), map_location="cpu").eval()

    def forward(self, clips: Tensor) -> Features:
        """Clips (B, 3, T, H, W) uint8 -> pooled (B, 400), the outputs before the softmax."""
        return Features(self.program(clips.float() / 127.5 - 1, rescale=False, resize=True, return_features=True), None)
