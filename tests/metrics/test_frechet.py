"""Moments against numpy on all samples; the Fréchet distance against scipy's matrix root, torch-fidelity and the formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from vitok.errors import VitokError
from vitok.metrics.frechet import extrapolate, frechet_distance
from vitok.metrics.moments import Moments


def samples(count: int, width: int, seed: int, rank: int | None = None) -> torch.Tensor:
    """float32, correlated, far from zero, as pooled features are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(rank or width, width, generator=generator) * torch.logspace(0, -3, width)
    return (torch.randn(count, rank or width, generator=generator) @ mix + 3 + 0.1 * seed).float()


def moments(features: torch.Tensor, sizes: list[int] | None = None) -> Moments:
    found = Moments()
    for part in features.split(sizes or len(features)):
        found.add(part)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=6), st.integers(0, 5))
def test_moments_in_any_pieces_are_those_of_the_whole(sizes: list[int], merged: int) -> None:
    features = samples(sum(sizes) + 1, 7, seed=1)
    parts = [moments(part) for part in features.split([*sizes, 1])]
    total = Moments()
    for part in parts[merged:] + parts[:merged]:
        total.merge(part)
    found, exact = total.gaussian(), features.double().numpy()
    assert found.count == len(features)
    np.testing.assert_allclose(found.mean.numpy(), exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(exact, rowvar=False), rtol=1e-9, atol=1e-14)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """The sum of squares minus the square of the sum would lose all of them here."""
    features = samples(3000, 5, seed=0).double() + 1e7
    exact = np.cov((features - 1e7).numpy(), rowvar=False)
    np.testing.assert_allclose(moments(features, [1] * 3000).gaussian().covariance.numpy(), exact, rtol=1e-6)


def test_memory_does_not_grow_with_the_samples() -> None:
    found = Moments()
    for _ in range(40):
        found.add(torch.zeros(500, 3))
        assert sum(map(len, found.waiting)) < 512
    assert found.gaussian().count == 20_000


def test_distance_equals_scipys_matrix_root_and_torch_fidelity() -> None:
    one, other = samples(900, 64, seed=0), samples(1100, 64, seed=2)
    ours = frechet_distance(moments(one).gaussian(), moments(other).gaussian())
    a, b = (np.cov(x.double().numpy(), rowvar=False) for x in (one, other))
    shift = one.double().mean(0).numpy() - other.double().mean(0).numpy()
    root = linalg.sqrtm(a @ b)
    assert ours == pytest.approx(float(shift @ shift + np.trace(a + b - 2 * root.real)), rel=1e-8)
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(x) for x in (one, other)), verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)  # its mean is in float32


@pytest.mark.parametrize(("count", "rank"), [(20, None), (500, 8)])
def test_singular_covariances(count: int, rank: int | None) -> None:
    """Fewer samples than dimensions, or features that depend on each other: `sqrtm` is off there; the distance of a set
    moved by v is |v|^2 whatever its covariance, that to itself is 0, and it does not depend on the order."""
    features = samples(count, 64, seed=0, rank=rank)
    one, size = moments(features).gaussian(), float(moments(features).gaussian().covariance.trace())
    assert abs(frechet_distance(one, one)) < 1e-6 * size
    moved = moments(features.double() + 2.0).gaussian()
    assert frechet_distance(one, moved) == pytest.approx(64 * 4.0, abs=1e-6 * size)
    other = moments(samples(count, 64, seed=3, rank=rank)).gaussian()
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-6)


def test_commuting_covariances_have_a_closed_form() -> None:
    """Scaled by k: |m|^2 (k - 1)^2 + tr(S) (k - 1)^2."""
    features = samples(40, 64, seed=0).double()
    one, scaled = moments(features).gaussian(), moments(3 * features).gaussian()
    expected = 4 * float(one.mean.square().sum() + one.covariance.trace())
    assert frechet_distance(one, scaled) == pytest.approx(expected, rel=1e-8)


def test_population_covariance_is_style_gans() -> None:
    one, other = samples(30, 16, seed=0).double(), samples(50, 16, seed=1).double()
    ours = frechet_distance(moments(one).gaussian(), moments(other).gaussian(), population=True)
    a, b = (np.cov(x.numpy(), rowvar=False, ddof=0) for x in (one, other))
    shift = (one.mean(0) - other.mean(0)).numpy()
    assert ours == pytest.approx(float(shift @ shift + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)), rel=1e-8)


def test_two_samples_are_needed() -> None:
    with pytest.raises(VitokError, match=r"1 sample\(s\): a covariance takes two"):
        moments(samples(1, 4, seed=0)).gaussian()
    assert moments(samples(2, 4, seed=0)).gaussian().count == 2


def test_extrapolation_removes_the_bias_of_few_samples() -> None:
    """Two sets of one distribution: their distance is 0, which only infinitely many samples would show."""
    reference = moments(samples(40_000, 16, seed=0)).gaussian()
    features = samples(2000, 16, seed=0, rank=None)
    drawn = torch.randn(2000, 16, generator=torch.Generator().manual_seed(9))
    root = torch.from_numpy(linalg.sqrtm(reference.covariance.numpy()).real)
    features = drawn.double() @ root + reference.mean
    found = extrapolate([moments(features[k::10]) for k in range(10)], reference)
    assert found.counts == tuple(200 * k for k in range(2, 11))
    assert found.distances[0] > 2 * found.distances[-1] > 0
    assert abs(found.value) < 0.5 * found.distances[-1]
