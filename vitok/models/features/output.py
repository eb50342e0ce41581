"""The output of a feature network."""

from typing import NamedTuple

from torch import Tensor


class NetworkFeatures(NamedTuple):
    """Features of a batch of images or clips."""

    pooled: Tensor  # (B, D) float32
    logits: Tensor | None  # (B, K) float32; None for networks without classes
