"""Inception Score, KID, precision and recall against torch-fidelity, from the same features, in pieces and out of order."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from vitok.metrics import kid, precision_recall
from vitok.metrics.feature_table import FeatureTable
from vitok.metrics.inception_score import InceptionScore


def features(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + 0.2 * seed


def pieces(count: int) -> list[np.ndarray]:
    """All numbers once, out of order."""
    return np.array_split(np.random.default_rng(0).permutation(count), 7)


def test_inception_score() -> None:
    logits = 3 * features(1003, 50, seed=0)
    whole, other = InceptionScore(1003, 50), InceptionScore(1003, 50)
    for number, piece in enumerate(pieces(1003)):
        (whole if number % 2 else other).add(piece, logits[piece])
    whole.merge(other)
    theirs = isc_features_to_metric(logits)
    assert whole.score().mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert whole.score().deviation == pytest.approx(theirs["inception_score_std"], rel=1e-9)
    assert whole.score().mean > 2


def kept(values: torch.Tensor, wanted: np.ndarray) -> FeatureTable:
    rows, other = (FeatureTable(len(values), wanted, values.shape[1]) for _ in range(2))
    for number, piece in enumerate(pieces(len(values))):
        (rows if number % 2 else other).add(piece, values[piece])
    rows.merge(other)
    return rows


def test_kernel_distance() -> None:
    outputs, references = features(1200, 24, seed=1), features(1100, 24, seed=0)
    drawn = kid.draw_subsets(1200, 1100)
    wanted = [np.unique(np.concatenate(part)) for part in zip(*drawn, strict=True)]
    ours = kid.kernel_distance(kept(outputs, wanted[0]), kept(references, wanted[1]), drawn)
    theirs = kid_features_to_metric(outputs, references, verbose=False)
    # They take the kernel's cube and sum a million of them in float32.
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert ours.deviation == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-3)


def test_precision_and_recall() -> None:
    outputs, references = features(300, 8, seed=2), features(400, 8, seed=0)
    ours = precision_recall.precision_recall(outputs.numpy(), references.numpy())
    theirs = prc_features_to_metric(outputs, references, verbose=False)
    assert ours == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-7)
    assert 0.1 < ours.recall < 0.9 and 0.1 < ours.precision < 0.9


def test_large_sets_are_thinned_to_a_fixed_choice() -> None:
    few = precision_recall.choose_samples(60_000)
    assert len(np.unique(few)) == 50_000 and np.array_equal(few, precision_recall.choose_samples(60_000))
    assert np.array_equal(precision_recall.choose_samples(50_000), np.arange(50_000))


def test_rows_that_never_came_are_left_out() -> None:
    rows = FeatureTable(10, np.arange(0, 10, 2), 1)
    rows.add(np.array([0, 1, 4]), torch.tensor([[1.0], [9.0], [3.0]]))
    assert rows.of(np.array([4, 2, 0])).tolist() == [[3.0], [1.0]]
