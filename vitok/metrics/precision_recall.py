"""Precision and recall (Kynkäänniemi et al. 2019): the share of samples of one set that lie within the other's neighbourhoods."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NEIGHBOUR, LARGEST, ROWS = 3, 50_000, 4000  # k of k-NN; largest set; rows of distances at once
SEED = 2020


class PrecisionRecall(NamedTuple):
    """Precision and recall of a set of outputs against a set of references, both in [0, 1]."""

    precision: float  # share of the outputs that lie among the references
    recall: float  # share of the references that lie among the outputs


def choose_samples(count: int) -> np.ndarray:
    """Return the numbers of the samples that take part: all, or a random 50,000 of a larger set."""
    if count <= LARGEST:
        return np.arange(count)
    return np.sort(np.random.RandomState(SEED).choice(count, LARGEST, replace=False))


def precision_recall(outputs: np.ndarray, references: np.ndarray) -> PrecisionRecall:
    """Return precision and recall of features (N, D) and (M, D), float32."""
    x, y = torch.from_numpy(outputs), torch.from_numpy(references)
    return PrecisionRecall(_share(x, y, _radii(y)), _share(y, x, _radii(x)))


def _radii(features: Tensor) -> Tensor:
    """Return each sample's distance to its k-th neighbour, not counting itself."""
    return torch.cat([torch.cdist(part, features).kthvalue(NEIGHBOUR + 1).values for part in features.split(ROWS)])


def _share(samples: Tensor, manifold: Tensor, radii: Tensor) -> float:
    """Return the share of samples that lie within the radius of any reference sample."""
    inside = torch.cat([(torch.cdist(part, manifold) <= radii).any(1) for part in samples.split(ROWS)])
    return float(inside.float().mean())
