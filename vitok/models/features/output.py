"""What a feature network gives of a batch of images."""

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    pooled: Tensor  # (B, D) float32
    logits: Tensor | None  # (B, K) float32, of networks that classify
