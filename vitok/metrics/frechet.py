"""The Fréchet distance between two Gaussians: FID on the FID Inception (Heusel et al. 2017), FVD on I3D, else FD-network.

The distance is |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)). The last trace is the sum of the square roots of the eigenvalues of S1
S2, which are those of L^T S2 L for any S1 = L L^T: a symmetric matrix, whose eigenvalues are real and cheap. L comes from Cholesky with
pivoting, which works for a singular S1 (fewer samples than dimensions) too: L then has fewer columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg
from scipy.linalg import lapack

from vitok.errors import VitokError
from vitok.metrics.moments import Gaussian, Moments


def frechet_distance(one: Gaussian, other: Gaussian, population: bool = False) -> float:
    """Return the Fréchet distance between two Gaussians. Raises `VitokError` if they have different dimensions.

    With `population`, covariances are divided by the count, as StyleGAN-V's FVD has them, instead of count - 1. Rounding leaves about 1e-8
    of the traces times the dimensions: the distance of equal sets is not exactly 0 and may be negative.
    """
    if one.mean.shape != other.mean.shape:
        raise VitokError(f"features of {len(one.mean)} and of {len(other.mean)} dimensions have no distance")
    shrink = [(g.count - 1) / g.count if population and g.count else 1.0 for g in (one, other)]
    first, second = (g.covariance * factor for g, factor in zip((one, other), shrink, strict=True))
    shift = one.mean - other.mean
    return float(shift @ shift + first.trace() + second.trace() - 2 * _trace_of_root(first, second))


def _trace_of_root(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return tr((S1 S2)^(1/2))."""
    factor, order, rank, _ = lapack.dpstrf(first.numpy(), lower=1)  # pyright: ignore[reportAttributeAccessIssue]
    lower = np.tril(factor)[:, :rank]
    lower[order - 1] = lower.copy()  # rows as they were before pivoting: first = lower @ lower.T
    root = torch.from_numpy(lower)
    eigenvalues = linalg.eigvalsh((root.T @ second @ root).numpy(), check_finite=False)
    return float(np.sqrt(eigenvalues.clip(0)).sum())


@dataclass(frozen=True)
class Extrapolation:
    """The Fréchet distance at an infinite number of samples (Chong and Forsyth 2020): the intercept of a line through FD against 1 /
    count.
    """

    value: float
    counts: tuple[int, ...]
    distances: tuple[float, ...]


def extrapolate(parts: Sequence[Moments], reference: Gaussian, population: bool = False) -> Extrapolation:
    """Extrapolate the Fréchet distance from growing unions of `parts`, disjoint random parts of the samples, from a fifth of all on."""
    union, counts, distances = Moments(), list[int](), list[float]()
    for number, part in enumerate(parts, 1):
        union.merge(part)
        if 5 * number >= len(parts):
            counts.append(union.count)
            distances.append(frechet_distance(union.gaussian(), reference, population))
    slope_and_intercept = np.polyfit(1 / np.array(counts), distances, 1)
    return Extrapolation(float(slope_and_intercept[1]), tuple(counts), tuple(distances))
