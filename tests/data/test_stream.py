from pathlib import Path

import numpy as np
import pytest

from vitok.config import Data
from vitok.data.corpora import open_corpus
from vitok.data.stream import Source, prepare
from vitok.errors import VitokError

pytestmark = pytest.mark.usefixtures("cluster")

POOL, FRESH = Data(pool=40, validation_crops=3), Data(validation_crops=1)


@pytest.fixture(scope="module", params=[POOL, FRESH], ids=["pool", "fresh"])
def source(request: pytest.FixtureRequest, photos: Path, cluster: str) -> Source:
    return prepare(open_corpus(str(photos)), request.param, 16)


def images(source: Source, start: int, steps: int, **options: int) -> np.ndarray:
    return np.stack([batch.images for batch in source.batches(seed=5, batch_size=8, start=start, steps=steps, **options)])


def test_the_order_is_a_function_of_the_seed(source: Source) -> None:
    first = images(source, 0, 12)
    assert first.shape == (12, 8, 16, 16, 3) and first.dtype == np.uint8
    assert np.array_equal(first, images(source, 0, 12))
    other = np.stack([batch.images for batch in source.batches(seed=6, batch_size=8, start=0, steps=12)])
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("start", [1, 5, 7, 11])
def test_a_resumed_run_sees_what_it_had_not_seen(source: Source, start: int) -> None:
    """Five batches make an epoch of the pool: the starts lie within and on the borders of epochs."""
    assert np.array_equal(images(source, start, 12), images(source, 0, 12)[start:])


def test_workers_cut_the_same_batches(source: Source) -> None:
    shares = [images(source, 2, 9, rank=rank, world=2) for rank in range(2)]
    assert np.array_equal(np.concatenate(shares, axis=1), images(source, 2, 9))


def test_an_epoch_of_the_pool_shows_every_crop_once(photos: Path) -> None:
    seen = images(prepare(open_corpus(str(photos)), POOL, 16), 0, 10)
    epochs = [np.unique(epoch.reshape(40, -1), axis=0) for epoch in (seen[:5], seen[5:])]
    assert len(epochs[0]) == 40
    assert np.array_equal(*epochs)
    assert not np.array_equal(seen[:5], seen[5:])


def test_bad_files_are_replaced_and_counted(broken_photos: Path) -> None:
    corpus = open_corpus(str(broken_photos))
    source = prepare(corpus, Data(pool=60, validation_crops=2), 16)
    batches = list(prepare(corpus, Data(), 16).batches(seed=0, batch_size=8, start=0, steps=4))
    streamed = frozenset[str]().union(*(batch.rejected for batch in batches))
    assert all(len(batch.images) == 8 for batch in batches)
    bad = {"cut.jpg", "empty.png", "text.webp"}
    assert {name.split(":")[0] for name in source.rejected} == bad
    assert {name.split(":")[0] for name in streamed} == bad & set(corpus.train)


def test_held_out_views_come_once_each(source: Source) -> None:
    batches = list(source.validation_batches(2))
    count = len(source.corpus.validation) * source.data.validation_crops
    assert sum(len(batch.images) for batch in batches) == count


def test_nothing_to_decode_is_one_error(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(b"no jpeg")
    with pytest.raises(VitokError, match="none of 18 photographs"):
        prepare(open_corpus(str(tmp_path)), POOL, 16)
