"""Latents that are encoded once: the same as encoding on the fly, whatever kills the build; batches without replay."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.latent_sets import SIZE, VIEWS, encoder, whole
from vitok.config import Latents
from vitok.data.corpora.corpus import Corpora, open_corpora
from vitok.data.latents import loader
from vitok.data.latents.build import build, key, plan_sets
from vitok.data.latents.dataset import LatentSet
from vitok.data.latents.encode import LatentEncoder
from vitok.data.latents.loader import LatentBatch, LatentSource
from vitok.data.loading.loader import open_reader
from vitok.storage import filesystem

pytestmark = pytest.mark.usefixtures("cluster", "small_shards")

BUILD = """
import sys, time
import ray
from tests.data.latent_sets import VIEWS, cut, encoder
from vitok.data.latents.build import build
from vitok.data.corpora.corpus import open_corpora
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
with cut():
    build(open_corpora(sys.argv[2]), VIEWS, 32, 1, [encoder(), encoder(1)], sys.argv[3], progress=lambda *_: time.sleep(0.1))
"""


def contents(found: LatentSet) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(found.folder).iterdir())}


def stored(found: LatentSet) -> dict[str, np.ndarray]:
    """Every row of every shard, in order."""
    tables = [pq.read_table(Path(found.folder) / file) for file, _ in found.shards]
    whole = {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in ("view", "mirrored", "label")}
    for name in ("mean", "log_variance"):
        cells = b"".join(cell for table in tables for cell in table[name].to_pylist())
        whole[name] = np.frombuffer(cells, "<f2").reshape(-1, found.tokens, found.channels)
    return whole


def on_the_fly(corpora: Corpora, views: Latents, frames: int, tokenizer: LatentEncoder) -> dict[str, np.ndarray]:
    decoder = open_reader(corpora, "train", views.data(), SIZE, frames)
    found: dict[str, list[Any]] = {"view": [], "mirrored": [], "label": [], "mean": [], "log_variance": []}
    encode = tokenizer.open(torch.device("cpu"))
    for view in range(sum(decoder.counts) * views.crops):
        (decoded,) = decoder.views([view])
        if decoded.pixels is None:
            continue
        for mirrored in (False, True)[: 1 + views.flip]:
            pixels = decoded.pixels[..., ::-1, :] if mirrored else decoded.pixels
            with torch.inference_mode():
                posterior = encode(torch.from_numpy(pixels.copy())[None])
            row = (view, mirrored, decoded.label, posterior.mean[0].numpy(), posterior.log_variance[0].numpy())
            for name, value in zip(found, row, strict=True):
                found[name].append(value)
    return {name: np.stack(column) for name, column in found.items()}


def assert_equal(found: LatentSet, expected: dict[str, np.ndarray]) -> None:
    rows = stored(found)
    for name in ("view", "mirrored", "label"):
        assert np.array_equal(rows[name], expected[name])
    for name in ("mean", "log_variance"):
        # Encoded one by one here, in batches there: sums of another order, that may round to the neighbour in fp16.
        other = expected[name].astype("<f2")
        one = np.maximum(np.spacing(np.abs(other)), np.spacing(np.abs(rows[name]))).astype(np.float64)
        assert np.all(np.abs(rows[name].astype(np.float64) - other) <= one + 1e-6)
        assert np.mean(rows[name] == other) > 0.99


def same(one: list[LatentBatch], other: list[LatentBatch]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x.arrays().values(), y.arrays().values(), strict=True)
    )


def test_the_cached_are_those_encoded_on_the_fly(corpora: Corpora, pair: list[LatentSet]) -> None:
    found = pair[0]
    assert_equal(found, on_the_fly(corpora, VIEWS, 1, encoder()))
    assert (found.views, found.rows, found.grid, found.channels) == (66, 132, (1, 4, 4), 4)
    assert [rows for _, rows in found.shards] == [32] * 4 + [4] and not found.rejected
    sizes = [pq.read_metadata(Path(found.folder) / "shard-00000.parquet").row_group(n).num_rows for n in range(7)]
    assert sizes == [5] * 6 + [2]


def test_statistics_are_those_of_all_rows(pair: list[LatentSet]) -> None:
    for found in pair:
        rows = stored(found)
        mean, log_variance = (rows[name].astype(np.float64).reshape(-1, found.channels) for name in ("mean", "log_variance"))
        assert np.allclose(found.mean, mean.mean(0), rtol=1e-6, atol=1e-9)
        assert np.allclose(found.std, np.sqrt(mean.var(0) + np.exp(log_variance).mean(0)), rtol=1e-6)
        assert list(found.counts) == np.bincount(rows["label"], minlength=3).tolist()
        assert found.classes == ("cat", "dog", "owl") and found.unlabelled == 0


@pytest.mark.long
def test_bf16_without_mirrors_and_the_centre_alone(flat: LatentSet, photos: Path) -> None:
    rows, corpora = stored(flat), open_corpora(str(photos))
    assert rows["view"].tolist() == list(range(11)) and not rows["mirrored"].any() and set(rows["label"]) == {-1}
    half, full = (
        on_the_fly(corpora, flat.latents, 1, encoder(precision=precision))["mean"].astype("<f2") for precision in ("bf16", "fp32")
    )
    assert np.allclose(rows["mean"], half, atol=0.05)  # bf16 has eight bits, and batches their own order of sums
    assert not np.array_equal(rows["mean"], full)
    assert "centre crop" in flat.about


@pytest.mark.long
def test_killed_at_work_it_comes_to_the_same(corpora: Corpora, library: Path, pair: list[LatentSet], cluster: str, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    command = [sys.executable, "-c", BUILD, cluster, str(library), str(root)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    ends = time.monotonic() + 120
    while len({path.parent for path in root.rglob("shard-*.parquet")}) < 2 and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("shard-*.parquet")}
    (next(root.iterdir()) / "shard-00004.parquet.partial-1-1").write_bytes(b"cut")
    both = [encoder(), encoder(1)]
    plans = plan_sets(corpora, VIEWS, SIZE, 1, both, str(root))
    began = min(plan.written for plan in plans) * 16
    assert began > 0 and all(0 < plan.missing < plan.bytes for plan in plans)
    said: list[tuple[int, int, int]] = []
    found = build(corpora, VIEWS, SIZE, 1, both, str(root), progress=lambda *numbers: said.append(numbers))
    assert said[-1] == (66, 66, 66 - began)
    assert [contents(one) for one in found] == [contents(one) for one in pair]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_what_is_finished_is_not_built_again(corpora: Corpora, pair: list[LatentSet], library: Path) -> None:
    again = build(corpora, VIEWS, SIZE, 1, [encoder(), encoder(1)], str(library.parent / "pair"), progress=lambda *_: pytest.fail("again"))
    assert again == pair
    plans = plan_sets(corpora, VIEWS, SIZE, 1, [encoder(), encoder(5)], str(library.parent / "pair"))
    assert [(plan.finished, plan.missing, plan.bytes) for plan in plans] == [(True, 0, 132 * 256), (False, 132 * 256, 132 * 256)]


def test_the_key_is_of_all_that_decides() -> None:
    base = encoder()
    keys = {
        key(base, "f", VIEWS, 32, 1), key(encoder(1), "f", VIEWS, 32, 1), key(encoder(precision="bf16"), "f", VIEWS, 32, 1),
        key(base, "g", VIEWS, 32, 1), key(base, "f", VIEWS, 64, 1), key(base, "f", VIEWS, 32, 2),
        *(key(base, "f", VIEWS.model_copy(update=change), 32, 1) for change in ({"crops": 2}, {"flip": False}, {"smallest_crop": 0.9})),
    }  # fmt: skip
    assert len(keys) == 9 and all(len(one) == 16 for one in keys)
    assert key(base, "f", VIEWS.model_copy(update={"max_rejected": 0.5}), 32, 1) in keys


@pytest.mark.parametrize("window", [1 << 30, 40 * 256], ids=["resident", "windows"])
def test_an_epoch_shows_every_row_once_in_an_order_of_its_own(pair: list[LatentSet], monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(loader, "WINDOW_BYTES", window)
    loader._layout.cache_clear()
    source, rows = pickle.loads(pickle.dumps(LatentSource(pair[0]))), stored(pair[0])
    number = {row.tobytes(): n for n, row in enumerate(rows["mean"])}
    assert len(number) == 132
    batches = whole(source, 0, 33)  # 8 x 33 = 264: two epochs, with a batch across their border
    seen = np.array([number[row.tobytes()] for batch in batches for row in batch.mean])
    assert sorted(seen[:132]) == sorted(seen[132:]) == list(range(132))
    assert not np.array_equal(seen[:132], seen[132:])
    assert np.array_equal(rows["log_variance"][seen], np.concatenate([batch.log_variance for batch in batches]))
    assert np.array_equal(rows["label"][seen], np.concatenate([batch.labels for batch in batches]))
    assert all(batch.mean.shape == (8, 16, 4) and batch.mean.dtype == np.float16 and len(batch) == 8 for batch in batches)
    assert not same(batches, whole(source, 0, 33, seed=4))
    for start in (1, 16, 17, 31):
        assert same(whole(source, start, 33), batches[start:])
    for world in (2, 8):
        shares = [whole(source, 5, 33, rank=rank, world=world) for rank in range(world)]
        for name in ("mean", "log_variance", "labels"):
            joined = [np.concatenate([part.arrays()[name] for part in parts]) for parts in zip(*shares, strict=True)]
            assert np.array_equal(joined, [batch.arrays()[name] for batch in batches[5:]])
    assert same(whole(source, 0, 2, batch_size=300)[1:], whole(source, 1, 2, batch_size=300))  # more than an epoch at once
    assert whole(source, 7, 7) == []
    loader._layout.cache_clear()


@pytest.mark.long
def test_what_cannot_be_decoded_is_left_out_and_counted(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    shutil.copytree(library, folder)
    good = (library / "cat" / "photo-00.jpg").read_bytes()
    for number in range(3):
        (folder / "dog" / f"bad-{number}.jpg").write_bytes(good[: len(good) // 2])
    corpora = open_corpora(str(folder))
    trained = set(corpora.parts[0][1].train.index()["name"].to_pylist())
    bad = {name for name in trained if "bad" in name}
    (found,) = build(corpora, VIEWS, SIZE, 1, [encoder()], str(tmp_path / "latents"))
    assert bad and {(one.name, one.reason) for one in found.rejected} == {(name, "truncated") for name in bad}
    assert found.rows == 12 * (len(trained) - len(bad)) == sum(found.counts) and found.views == 6 * len(trained)
    assert LatentSource(found).rejected == frozenset(found.rejected)
    assert_equal(found, on_the_fly(corpora, VIEWS, 1, encoder()))


@pytest.mark.long
def test_clips_with_a_stride_in_time_and_latent_tokens(tmp_path: Path) -> None:
    views, clips, latent = Latents(flip=True), encoder(variant="N-N/2x16", frames=4), encoder(variant="N-N/2x16+L5+M2", frames=4)
    corpora = open_corpora("sample-motion")
    found, other = build(corpora, views, SIZE, 4, [clips, latent], str(tmp_path))
    assert found.grid == (2, 2, 2) and found.rows == 192 and set(found.counts) == {24} and "4 frames at 8" in found.about
    assert_equal(found, on_the_fly(corpora, views, 4, clips))
    assert {batch.mean.shape for batch in whole(LatentSource(found), 0, 30)} == {(8, 8, 4)}
    assert other.grid == (5, 1, 1) == latent.grid(2 * SIZE, 8), "as many tokens whatever the pixels"
    assert_equal(other, on_the_fly(corpora, views, 4, latent))
    assert {batch.mean.shape for batch in whole(LatentSource(other), 0, 3)} == {(8, 5, 4)}


def test_files_are_whole_or_absent(pair: list[LatentSet]) -> None:
    assert {name for name, _ in filesystem.listing(pair[0].folder)} == {f"shard-{n:05d}.parquet" for n in range(5)} | {"manifest.json"}


def test_few_of_the_views_are_evenly_spread(corpora: Corpora, pair: list[LatentSet], tmp_path: Path) -> None:
    few = VIEWS.model_copy(update={"views": 8, "flip": False})
    (made,) = build(corpora, few, SIZE, 1, [encoder()], str(tmp_path))
    every, spread = stored(pair[0]), open_reader(corpora, "train", few.data(), SIZE, 1)
    chosen = np.arange(8) * pair[0].views // 8
    assert spread.samples().tolist() == (chosen // VIEWS.crops).tolist()
    assert made.about == f"{pair[0].about}, 8 of {pair[0].views} views, evenly spread"
    rows = np.flatnonzero(np.isin(every["view"], chosen) & ~every["mirrored"])
    assert_equal(made, {name: column[rows] for name, column in every.items()} | {"view": np.arange(8)})
