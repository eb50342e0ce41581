"""I3D of FVD (Unterthiner et al. 2019), as the TorchScript file that StyleGAN-V and LARP measure with.

TorchScript is a program. The caller has checked that the file is the known one: see `networks.weights`.
"""

import io

import torch
from torch import Tensor, nn

from vitok.models.features.output import NetworkFeatures

FRAMES = 10  # fewer leave nothing to pool after three halvings of time


class I3D(nn.Module):
    """The I3D network in the bytes of its TorchScript file."""

    PREPARED = "uint8, x / 127.5 - 1, the file's own bilinear resize to 224 x 224"

    def __init__(self, program: bytes) -> None:
        super().__init__()
        self.program = torch.jit.load(io.BytesIO(program), map_location="cpu").eval()

    def forward(self, clips: Tensor) -> NetworkFeatures:
        """Return the features of clips (B, 3, T, H, W) uint8: pooled (B, 400), the outputs before the softmax."""
        return NetworkFeatures(self.program(clips.float() / 127.5 - 1, rescale=False, resize=True, return_features=True), None)
