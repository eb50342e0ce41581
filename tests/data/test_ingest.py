"""Ingest: the same result however often it was killed; what is left out is counted; what comes out streams."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitok.config import Data
from vitok.data.corpora import ingested, webdataset
from vitok.data.corpora.corpus import open_corpora, open_corpus, open_source
from vitok.data.corpora.splits import Rows
from vitok.data.ingest import ingest, inspect
from vitok.data.ingest import ingest as ingestion
from vitok.data.ingest.ingest import IngestOptions
from vitok.data.loading.loader import prepare_source
from vitok.data.loading.order import epoch_order
from vitok.errors import UsageError, VitokError

pytestmark = pytest.mark.usefixtures("cluster")
SMALL = IngestOptions(shard_mb=1, group_rows=4, part_samples=8)


def quiet(*_: object) -> None: ...


@pytest.fixture(scope="module")
def library(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twenty photographs, two exact copies, one small one, three broken ones."""
    root = tmp_path_factory.mktemp("library")
    originals = sorted(photos.iterdir())
    for n in range(40):
        path = root / ("cat", "dog")[n % 2] / f"{n:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        with Image.open(originals[n % 12]) as image:
            image.rotate(n).resize((90 + n, 70 + n)).save(path, quality=90)
    for n in (0, 1):
        shutil.copy(root / "cat" / "02.jpg", root / "dog" / f"copy{n}.jpg")
    Image.new("RGB", (30, 20), "red").save(root / "cat" / "small.png")
    (root / "cat" / "cut.jpg").write_bytes((root / "cat" / "00.jpg").read_bytes()[:1500])
    (root / "dog" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "text.png").write_text("not a picture")
    return root


def test_ingested_is_the_source_without_what_is_unusable(library: Path, tmp_path: Path) -> None:
    options = IngestOptions(min_side=32, max_side=100, validation=0.2, shard_mb=1, group_rows=4, part_samples=8)
    manifest = ingestion.ingest(open_corpus(str(library)), str(tmp_path / "out"), options, quiet)
    reasons = {reason: entry["count"] for reason, entry in manifest["rejected"].items()}
    assert reasons == {"filtered: small": 1, "truncated": 1, "empty": 1, "not an image": 1}
    assert manifest["duplicates"] == 2 and sum(manifest["counts"].values()) == 40 and manifest["samples_read"] == 46
    assert 2 <= manifest["counts"]["validation"] <= 16
    corpus = open_corpus(str(tmp_path / "out"))
    assert (corpus.layout, corpus.classes, corpus.fingerprint) == ("ingested", ("cat", "dog"), manifest["fingerprint"])
    for split in (corpus.train, corpus.validation):
        assert split.units is not None
        for unit, rows in enumerate(split.units.tolist()):
            for row in range(rows):
                sample = split.get(unit, row)
                assert sample.name.startswith(corpus.classes[sample.label]) or sample.name == "cat/02.jpg"
                original = (library / sample.name).read_bytes()
                with Image.open(library / sample.name) as image:
                    assert (sample.data == original) == (max(image.size) <= 100)
    assert not (tmp_path / "out" / "_work").exists()
    assert inspect.verify(str(tmp_path / "out")) == []


def test_what_comes_out_streams_every_sample_once_an_epoch(library: Path, tmp_path: Path) -> None:
    manifest = ingestion.ingest(open_corpus(str(library)), str(tmp_path / "out"), SMALL, quiet)
    source = prepare_source(open_corpora(str(tmp_path / "out")), Data(smallest_crop=1.0), 16)
    count = manifest["counts"]["train"]
    batches = list(source.batches(seed=0, batch_size=count, start=0, steps=2))
    labels = [np.bincount(batch.labels) for batch in batches if batch.labels is not None]
    assert np.array_equal(*labels) and labels[0].sum() == count
    shown = [np.unique(batch.images.reshape(count, -1).mean(1).round(3)) for batch in batches]
    assert all(len(one) > 0.8 * count for one in shown)


def test_what_is_held_out_is_not_trained_on(library: Path, tmp_path: Path) -> None:
    shutil.copytree(library / "cat", tmp_path / "source" / "train" / "cat")
    shutil.copytree(library / "cat", tmp_path / "source" / "val" / "cat", ignore=shutil.ignore_patterns("1*", "2*"))
    manifest = ingestion.ingest(open_corpus(str(tmp_path / "source")), str(tmp_path / "out"), SMALL, quiet)
    corpus = open_corpus(str(tmp_path / "out"))
    hashes = [set(part) for part in ({split.get(u, r).data for u, n in enumerate(split.units.tolist()) for r in range(n)}
                                     for split in (corpus.train, corpus.validation) if split.units is not None)]  # fmt: skip
    assert not hashes[0] & hashes[1] and manifest["duplicates"] == manifest["counts"]["validation"] > 5


def test_the_error_of_a_task_is_one_line() -> None:
    def task(n: int) -> int:
        raise VitokError("part cannot be written: No space left on device")

    with pytest.raises(VitokError, match=r"^part cannot be written: No space left on device; the same command goes on"):
        list(ingestion.run_tasks(task, [0]))


def test_another_ingest_is_not_overwritten(library: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    first = ingestion.ingest(open_corpus(str(library)), out, SMALL, quiet)
    assert ingestion.ingest(open_corpus(str(library)), out, SMALL, quiet) == first  # nothing left to do
    with pytest.raises(UsageError, match="other options or content"):
        ingestion.ingest(open_corpus(str(library)), out, IngestOptions(min_side=50), quiet)
    with pytest.raises(UsageError, match="not empty"):
        ingestion.ingest(open_corpus(str(library)), str(library), SMALL, quiet)


def test_too_much_that_is_broken_stops_it(library: Path, tmp_path: Path) -> None:
    for n in range(12):
        (tmp_path / f"{n}.jpg").write_bytes(b"no picture")
    shutil.copytree(library / "cat", tmp_path / "cat")
    with pytest.raises(VitokError, match=r"13 of 34 samples cannot be used.*--max-rejected"):
        ingestion.ingest(open_corpus(str(tmp_path)), str(tmp_path.parent / "never"), SMALL, quiet)


@pytest.mark.long
def test_killed_twice_it_comes_to_the_same(library: Path, cluster: str, tmp_path: Path) -> None:
    options = IngestOptions(shard_mb=1, group_rows=4, part_samples=1)
    whole = ingestion.ingest(open_corpus(str(library)), str(tmp_path / "whole"), options, quiet)
    command = [
        sys.executable, "-c", "from vitok.cli import main; main()", "data", "ingest", str(library), str(tmp_path / "killed"),
        "--shard-mb", "1", "--group-rows", "4", "--part-samples", "1",
    ]  # fmt: skip
    rng = random.Random(0)
    for _ in range(2):
        done = set((tmp_path / "killed").rglob("part-*.json")) if (tmp_path / "killed").exists() else set[Path]()
        process = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": cluster}, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < ends:
            if (tmp_path / "killed").exists() and set((tmp_path / "killed").rglob("part-*.json")) - done:
                break
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still at work
    result = subprocess.run(command, env=os.environ | {"RAY_ADDRESS": cluster}, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "killed" / "manifest.json").read_text())
    assert manifest == whole
    for shard in manifest["shards"]:
        assert (tmp_path / "killed" / shard["file"]).read_bytes() == (tmp_path / "whole" / shard["file"]).read_bytes()
    assert inspect.verify(str(tmp_path / "killed")) == []


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_more_parts_than_a_task_can_open_are_merged_and_come_to_the_same(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: float
) -> None:
    options = IngestOptions(shard_mb=1, group_rows=4, part_samples=2, validation=validation)
    manifests: list[dict[str, object]] = []
    seen: Counter[str] = Counter()
    for fan in (256, 3):
        monkeypatch.setattr(ingest, "FAN", fan)
        target = str(tmp_path / str(fan))
        manifests.append(ingestion.ingest(open_corpus(str(library)), target, options, lambda stage, *_: seen.update([stage])))
    assert manifests[0] == manifests[1]
    assert seen["merges"] >= 9  # 46 samples in ten parts or so: four groups, or three and one
    for shard in sorted((tmp_path / "3").glob("*.parquet")):
        assert shard.read_bytes() == (tmp_path / "256" / shard.name).read_bytes()


def test_a_range_of_hashes_is_found_in_the_pieces_that_hold_some() -> None:
    pieces = [ingest.Piece(0, 100, ("a",)), ingest.Piece(100, 200, ("b", "c"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "rows", lambda uri, *_: uri)
        found = {(low, high): ingest.collect(pieces, low, high) for low, high in ((0, 100), (99, 101), (100, 101))}
    assert found == {(0, 100): ["a"], (99, 101): ["a", "b", "c"], (100, 101): ["b", "c"]}


def test_tars_too_large_to_be_indexed_are_ingested_one_by_one(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [path for path in sorted(library.rglob("*.*")) if path.name != "small.png"]
    for number in range(5):
        with tarfile.open(tmp_path / f"{number:05d}.tar", "w") as tar:
            for n, path in enumerate(pictures[number::5]):
                tar.add(path, f"{number}/{n}{path.suffix}")
                label = tarfile.TarInfo(f"{number}/{n}.cls")
                label.size = 1
                tar.addfile(label, BytesIO(b"1" if path.parent.name == "dog" else b"0"))
    (tmp_path / "00005.tar").write_bytes((tmp_path / "00000.tar").read_bytes()[:4000])
    options = IngestOptions(shard_mb=1, group_rows=4, part_samples=8, validation=0.3)
    uri = str(tmp_path / "{00000..00005}.tar")
    indexed = ingestion.ingest(open_source(uri), str(tmp_path / "indexed"), options, quiet)
    monkeypatch.setattr(webdataset, "MOST_MEMBERS", 3)
    with pytest.raises(UsageError, match="more than 3 samples in 6 tars: run `vitok data ingest` first"):
        open_corpus(uri)
    source = open_source(uri)
    assert isinstance(source, webdataset.Unindexed) and len(source.train) == 5 and len(source.validation) == 1
    walked = ingestion.ingest(source, str(tmp_path / "walked"), options, quiet)
    assert [walked[key] for key in ("fingerprint", "counts", "duplicates", "classes")] == [
        indexed[key] for key in ("fingerprint", "counts", "duplicates", "classes")
    ]
    assert {reason: entry["count"] for reason, entry in walked["rejected"].items()} == {
        reason: entry["count"] for reason, entry in indexed["rejected"].items()
    }
    assert sum(walked["counts"].values()) == 40 and walked["classes"] == ["0", "1"]
    with pytest.raises(UsageError, match="is one tar of more than 3 samples"):
        open_source(str(tmp_path / "00000.tar"))


def test_450_million_images_open_and_are_put_in_order(tmp_path: Path) -> None:
    shards = [{"file": f"train-{n:05d}.parquet", "split": "train", "rows": 5100} for n in range(88_235)]
    shards.append({"file": "validation.parquet", "split": "validation", "rows": 50_001})
    stated = {"version": 1, "kind": "image", "classes": [], "fingerprint": "f", "group_rows": 32, "shards": shards}
    (tmp_path / "manifest.json").write_text(json.dumps(stated))
    found = ingested.found(str(tmp_path), [(str(shard["file"]), 1) for shard in shards])
    assert (len(found.train), len(found.validation)) == (449_998_500, 50_001)
    assert isinstance(found.train, Rows) and found.train.table.nbytes < 300e6
    order = epoch_order(len(found.train), found.train.units, found.train.window, 0, 0)
    unit, row = order.at(len(found.train) - 1)
    assert row < found.train.units[unit] and order.at(0) != (unit, row)


def test_verify_finds_every_kind_of_damage(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = ingestion.ingest(open_corpus(str(library)), str(out), SMALL, quiet)
    shard = out / manifest["shards"][0]["file"]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert inspect.verify(str(out)) == [f"{shard.name}: its content has changed"]
    shard.write_bytes(data[:-1])
    assert "bytes instead of" in inspect.verify(str(out))[0]
    shard.unlink()
    (out / "stray.parquet").write_bytes(b"x")
    assert inspect.verify(str(out)) == [f"{shard.name}: vanished", "stray.parquet: not in the manifest"]
