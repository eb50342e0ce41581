"""The order of samples: complete, repeatable, found anywhere without replay, and mixed as well as a global shuffle."""

import numpy as np
import pytest

from vitok.data.loading.order import PATTERN, Mixture, epoch_order

GROUPS = np.array([7, 1, 32, 5, 32, 32, 3, 20])


@pytest.mark.parametrize(("sizes", "window"), [(None, 1), (GROUPS, 1), (GROUPS, 3), (GROUPS, 100)])
def test_an_epoch_shows_every_sample_once(sizes: np.ndarray | None, window: int) -> None:
    count = 50 if sizes is None else int(sizes.sum())
    whole = range(count) if sizes is None else [(u, r) for u, n in enumerate(sizes.tolist()) for r in range(n)]
    epochs = [[epoch_order(count, sizes, window, 3, epoch).at(place) for place in range(count)] for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [[(n, 0) for n in whole] if sizes is None else sorted(whole)] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] == [epoch_order(count, sizes, window, 3, 0).at(place) for place in range(count)]


def classes_in_batches(labels: np.ndarray, batch: int) -> float:
    return float(np.mean([len(set(part)) for part in np.split(labels[: len(labels) // batch * batch], len(labels) // batch)]))


def test_a_corpus_sorted_by_class_is_mixed_as_by_a_global_shuffle() -> None:
    """100 classes of 128 samples, in order, batches of 64. The measure: different classes in a batch. The windows of foreign
    Parquet are the one order that is not a global shuffle's; ingested rows lie in random order before any of this."""
    labels, batch = np.repeat(np.arange(100), 128), 64
    expected = 100 * (1 - (1 - 1 / 100) ** batch)  # with replacement; without, a little more
    shuffled = classes_in_batches(np.random.default_rng(0).permutation(labels), batch)
    assert shuffled == pytest.approx(expected, rel=0.02)

    def mixed(stored: np.ndarray, sizes: np.ndarray | None, window: int) -> float:
        order, starts = epoch_order(len(stored), sizes, window, 0, 0), None if sizes is None else np.cumsum(sizes) - sizes
        places = [order.at(place) for place in range(len(stored))]
        return classes_in_batches(np.array([stored[unit if starts is None else starts[unit] + row] for unit, row in places]), batch)

    groups = np.full(400, 32)
    assert mixed(labels, None, 1) == pytest.approx(shuffled, rel=0.02)  # files, members of tars
    assert mixed(np.random.default_rng(1).permutation(labels), groups, 1) == pytest.approx(shuffled, rel=0.02)  # ingested
    assert mixed(labels, groups, 1) < 3  # what windows are for
    assert 7 < mixed(labels, groups, 8) < 9  # foreign Parquet, sorted: the classes of eight groups


def test_a_mixture_keeps_to_its_weights_and_misses_nothing() -> None:
    mixture = Mixture((0.7, 0.2, 0.1))
    drawn = [mixture.at(sample, seed=5) for sample in range(3 * PATTERN)]
    for corpus, weight in enumerate(mixture.weights):
        own = [number for of, number in drawn if of == corpus]
        assert own == list(range(round(3 * PATTERN * weight)))  # in order, without a gap
    assert [mixture.at(sample, seed=5) for sample in (2999, 1500)] == [drawn[2999], drawn[1500]]
    assert drawn[:PATTERN] != drawn[PATTERN : 2 * PATTERN]
    assert Mixture((1.0,)).at(123456789, 0) == (0, 123456789)


def test_weights_that_do_not_divide_come_close() -> None:
    counts = np.bincount([Mixture((1, 1, 1)).at(sample, 0)[0] for sample in range(PATTERN)])
    assert sorted(counts.tolist()) == [333, 333, 334]
