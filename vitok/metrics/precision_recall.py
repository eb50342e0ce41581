"""Precision and recall (Kynkäänniemi et al. 2019): the share of samples of one set that lie among the other's neighbours."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NEIGHBOUR, LARGEST, ROWS = 3, 50_000, 4000  # the k of k-NN; samples of a set at most; rows of distances at once
SEED = 2020


class PrecisionRecall(NamedTuple):
    precision: float  # of the outputs: how many look real
    recall: float  # of the references: how many are within reach


def chosen(count: int) -> np.ndarray:
    """The samples that take part: all, of a large set 50,000 at random."""
    if count <= LARGEST:
        return np.arange(count)
    return np.sort(np.random.RandomState(SEED).choice(count, LARGEST, replace=False))


def precision_recall(outputs: np.ndarray, references: np.ndarray) -> PrecisionRecall:
    """Features (N, D) and (M, D), float32."""
    x, y = torch.from_numpy(outputs), torch.from_numpy(references)
    return PrecisionRecall(_share(x, y, _radii(y)), _share(y, x, _radii(x)))


def _radii(features: Tensor) -> Tensor:
    """Each sample's distance to its k-th neighbour; the first is itself."""
    return torch.cat([torch.cdist(part, features).kthvalue(NEIGHBOUR + 1).values for part in features.split(ROWS)])


def _share(samples: Tensor, manifold: Tensor, radii: Tensor) -> float:
    inside = torch.cat([(torch.cdist(part, manifold) <= radii).any(1) for part in samples.split(ROWS)])
    return float(inside.float().mean())
