import time
from pathlib import Path

import numpy as np
import pytest

from vitok.config import Data
from vitok.data.corpora.corpus import open_corpora
from vitok.data.loading import blocks as tasks
from vitok.data.loading import loader
from vitok.data.loading.loader import RejectedSamples, Source, prepare_source
from vitok.data.sample import Rejection
from vitok.errors import VitokError

pytestmark = pytest.mark.usefixtures("cluster")

POOL, FRESH = Data(pool=40, validation_crops=3), Data(validation_crops=1)


@pytest.fixture(scope="module", params=[POOL, FRESH], ids=["pool", "fresh"])
def source(request: pytest.FixtureRequest, photos: Path, cluster: str) -> Source:
    return prepare_source(open_corpora(str(photos)), request.param, 16)


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
    seen = images(prepare_source(open_corpora(str(photos)), POOL, 16), 0, 10)
    epochs = [np.unique(epoch.reshape(40, -1), axis=0) for epoch in (seen[:5], seen[5:])]
    assert len(epochs[0]) == 40
    assert np.array_equal(*epochs)
    assert not np.array_equal(seen[:5], seen[5:])


def test_bad_files_are_replaced_and_counted(broken_photos: Path) -> None:
    corpora = open_corpora(str(broken_photos))
    source = prepare_source(corpora, Data(pool=60, validation_crops=2), 16)
    batches = list(prepare_source(corpora, Data(), 16).batches(seed=0, batch_size=8, start=0, steps=4))
    streamed = frozenset[Rejection]().union(*(batch.rejected for batch in batches))
    assert all(len(batch.images) == 8 for batch in batches)
    reasons = {"cut.jpg": "truncated", "empty.png": "empty", "text.webp": "not an image"}
    assert {rejection.name: rejection.reason for rejection in source.rejected} == reasons
    trained = set(corpora.parts[0][1].train.index()["name"].to_pylist())
    assert {rejection.name for rejection in streamed} == set(reasons) & trained


def test_held_out_views_come_once_each(source: Source) -> None:
    batches = list(source.validation_batches(2))
    assert sum(len(batch.images) for batch in batches) == source.views == source.data.validation_crops


def test_nothing_to_decode_is_one_error(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.jpg").write_bytes(b"no jpeg")
    with pytest.raises(VitokError, match="none of 20 samples"):
        prepare_source(open_corpora(str(tmp_path)), POOL, 16)


def test_clips_stream_with_their_labels(cluster: str) -> None:
    """Every clip of an epoch once, at the size and length of the recipe, the classes mixed."""
    source = prepare_source(open_corpora("sample-motion"), Data(smallest_crop=0.5), 32, frames=8)
    batches = list(source.batches(seed=0, batch_size=24, start=0, steps=4))
    assert all(batch.images.shape == (24, 8, 32, 32, 3) and not batch.rejected for batch in batches)
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    assert np.bincount(labels).tolist() == [12] * 8
    assert len(set(labels[:24].tolist())) > 4
    moved = np.abs(np.diff(batches[0].images.astype(int), axis=1)).mean(axis=(1, 2, 3, 4))
    assert (moved > 0.5).all()
    held = list(source.validation_batches(10))
    assert [len(batch.images) for batch in held] == [10, 10, 10, 2]
    assert np.array_equal(held[2].images, list(source.validation_batches(10))[2].images)


@pytest.mark.parametrize("world", [1, 3, 5])
def test_ranks_share_the_held_out_batches_out(cluster: str, world: int) -> None:
    source = prepare_source(open_corpora("sample-motion"), Data(), 16, frames=2)
    parts = [list(source.validation_batches(7, rank, world)) for rank in range(world)]
    whole = list(source.validation_batches(7))
    assert len(whole) == 5 and sum(map(len, parts)) == 5
    for number, batch in enumerate(whole):
        assert np.array_equal(batch.images, parts[number % world][number // world].images)


@pytest.mark.long
def test_images_and_videos_mix_by_weight(photos: Path, cluster: str) -> None:
    """An image among videos is a still; the schedule is exact and the same for any number of workers."""
    mixed = open_corpora(f"0.25*{photos} + 0.75*sample-motion")
    source = prepare_source(mixed, Data(smallest_crop=0.5), 16, frames=4)

    def stills(rank: int = 0, world: int = 1) -> np.ndarray:
        found = [b.images for b in source.batches(seed=0, batch_size=100, start=0, steps=10, rank=rank, world=world)]
        return np.stack([(images == images[:, :1]).all(axis=(1, 2, 3, 4)) for images in found])

    whole = stills()
    assert whole.sum() == 250
    assert np.array_equal(np.concatenate([stills(rank, 2) for rank in range(2)], axis=1), whole)
    assert source.views == 1 + 32


def test_a_shard_that_vanishes_is_counted_and_training_goes_on(photos: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    corpora = open_corpora(str(folder))
    source = prepare_source(corpora, Data(), 16)
    gone = corpora.parts[0][1].train.name(3, 0)
    (folder / gone).unlink()
    batches = list(source.batches(seed=0, batch_size=11, start=0, steps=2))
    assert {(r.name, r.reason) for batch in batches for r in batch.rejected} == {(gone, "vanished")}
    assert all(len(batch.images) == 11 for batch in batches)


def test_more_than_the_share_stops_the_run() -> None:
    rejected = RejectedSamples(0.05)
    bad = [Rejection(f"{n}.jpg", "truncated" if n % 3 else "empty", "") for n in range(20)]
    for n in range(10):  # ten stop no run, however few samples there were
        rejected.add(frozenset([bad[n]]), 1, 10_000)
    with pytest.raises(VitokError, match=r"11 of 22 samples cannot be used \(7 truncated; 4 empty; .*data\.max_rejected = 0\.05"):
        rejected.add(frozenset([bad[10]]), 1, 10_000)
    calm = RejectedSamples(0.05)
    for n in range(20):
        calm.add(frozenset([bad[n], bad[0]]), 100, 10_000)
    assert calm.reasons() == {"truncated": 13, "empty": 7}


def test_what_was_known_to_be_unusable_is_told_and_not_held_against_a_run() -> None:
    bad = [Rejection(f"{n}.jpg", "empty", "") for n in range(26)]
    rejected = RejectedSamples(0.05, frozenset(bad[:15]))
    for one in bad[:25]:
        rejected.add(frozenset([one]), 1, 10_000)
    assert rejected.reasons() == {"empty": 25}
    with pytest.raises(VitokError, match="11 of 37 samples"):
        rejected.add(frozenset([bad[25]]), 1, 10_000)


def test_batches_do_not_depend_on_how_they_are_cut_into_blocks_and_plans(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = prepare_source(open_corpora(str(photos)), FRESH, 16)
    whole = images(source, 0, 13)
    monkeypatch.setattr(loader, "IMAGES", 24)  # tasks of three batches, the last of one
    assert np.array_equal(images(source, 0, 13), whole)
    monkeypatch.setattr(loader, "IMAGES", 1)  # of one batch
    monkeypatch.setattr(tasks, "STORE_SHARE", 1 << 40)  # in plans of four
    assert tasks.plan_length(100, 1) == tasks.FEWEST
    assert np.array_equal(images(source, 0, 13), whole)


def test_ranks_share_the_object_stores_and_the_cpus(cluster: str) -> None:
    whole, share = tasks.plan_length(1 << 20, 1), tasks.plan_length(1 << 20, 4)
    assert tasks.largest_block(4) == tasks.largest_block(1) // 4
    assert tasks.FEWEST <= share < whole


def test_blocks_larger_than_ray_datas_own_limit_stay_whole() -> None:
    rows = [block["x"].shape for block in tasks.stream(lambda n: {"x": np.full((50, 1 << 22), n, np.uint8)}, 2, 50 << 22)]
    assert rows == [(50, 1 << 22)] * 2  # 210 MB each; Ray Data cuts above 192 MB


def test_what_is_left_early_stops_working(tmp_path: Path) -> None:
    def make(number: int) -> tasks.Columns:
        (tmp_path / str(number)).touch()
        time.sleep(0.05)
        return {"x": np.array([number])}

    blocks = tasks.stream(make, 10_000, 1 << 20)
    assert [int(next(blocks)["x"][0]) for _ in range(3)] == [0, 1, 2]
    blocks.close()  # pyright: ignore[reportAttributeAccessIssue]
    time.sleep(0.3)  # what was running ends
    made = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) == made < 100
